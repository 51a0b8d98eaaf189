"""Maps of positions: tiling leaves no seams, passes agree, what is planted is found."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from histojax.config import Boosting, View
from histojax.datasets import synthetic
from histojax.extraction import loaded_encoders
from histojax.heatmap import sliding_window
from histojax.learners import trees
from tests import samples
from tests.heatmap import tiny


def tiled(extraction, tile, halo):
    """The tiny encoder with tiles of another size."""
    return tiny.encoder_set(extraction, dataclasses.replace(tiny.TINY, tile=tile, halo=halo))


def test_a_tiled_field_is_the_whole_one_and_a_halo_too_small_is_seen():
    rgb, extraction = samples.tissue(4, 192, 256), tiny.protocol(View(1.0, 80), View(1.0, 100))
    in_one, scored = tiny.descriptors_of(rgb, extraction, 32, 2, tiled(extraction, 4096, 32))
    in_tiles, same = tiny.descriptors_of(rgb, extraction, 32, 2)
    seams, _ = tiny.descriptors_of(rgb, extraction, 32, 2, tiled(extraction, 64, 0))
    assert scored.all()
    assert same.all()
    for name, expected in in_one.items():
        assert expected.shape == (6 * 8, 2, 19)
        np.testing.assert_allclose(in_tiles[name], expected, rtol=1e-4, atol=1e-4)
        assert abs(seams[name] - expected)[..., : tiny.LIGHT].max() > 0.05


@pytest.mark.slow
def test_views_by_scale_and_in_microns_are_mapped_beside_each_other():
    """Each as if the field had its pixel size, on one grid."""
    rgb, by_scale, in_microns = samples.tissue(4, 192, 256), View(1.0, 80), View(1.0, 48, mpp=0.5)
    both, scored = tiny.descriptors_of(rgb, tiny.protocol(by_scale, in_microns), 32, mpp=0.25)
    assert both["Tiny-1.0-80"].shape == both["Tiny-0.5mpp-48"].shape == (6 * 8, 1, 19)
    assert scored.all()
    alone, _ = tiny.descriptors_of(rgb, tiny.protocol(by_scale), 32)
    np.testing.assert_array_equal(both["Tiny-1.0-80"], alone["Tiny-1.0-80"])
    half = np.array(Image.fromarray(rgb).resize((128, 96), Image.Resampling.BICUBIC))
    small, _ = tiny.descriptors_of(half, tiny.protocol(View(1.0, 48)), 16)
    np.testing.assert_allclose(both["Tiny-0.5mpp-48"], small["Tiny-1.0-48"], rtol=0.02, atol=0.02)


def test_several_passes_for_lack_of_memory_give_the_same(monkeypatch):
    rgb, extraction = samples.tissue(5, 192, 256), tiny.protocol(View(1.0, 80), View(1.0, 100))
    at_once, _ = tiny.descriptors_of(rgb, extraction, 32, 2)
    monkeypatch.setattr(sliding_window, "_MEMORY_LIMIT", 1)
    several, _ = tiny.descriptors_of(rgb, extraction, 32, 2)
    for name, expected in at_once.items():
        first, second = np.split(several[name], 2)
        np.testing.assert_array_equal(np.concatenate([first, second], axis=1), expected)


def test_models_score_many_positions_at_once():
    calls = []

    def score(_, descriptors):
        calls.append(len(descriptors))
        return np.full((len(descriptors), 2), 0.5)

    rgb = samples.tissue(6, 192, 256)
    scores = tiny.scores_of(rgb, tiny.protocol(View(1.0, 64)), score, 8)
    assert sum(calls) == scores[..., 0].size == 768
    assert len(calls) <= 5  # One for each row of tiles, and one for the rest at the end.


def test_configurations_and_augmentations_are_averaged():
    rgb, views = samples.tissue(7, 192, 256), (View(1.0, 64), View(0.5, 64))

    def score(_, descriptors):
        dark = descriptors[..., tiny.LIGHT : tiny.LIGHT + 1].mean(axis=1) / 255
        return np.concatenate([dark, 1 - dark], axis=1)

    together = tiny.scores_of(rgb, tiny.protocol(*views), score, 32, augmentations=2)
    # The grid is the same, but the smallest crop of all decides whether a position has tissue.
    alone = [tiny.scores_of(rgb, tiny.protocol(view), score, 32, augmentations=2) for view in views]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)


def test_a_constant_field_gives_a_constant_map():
    rgb = np.full((192, 256, 3), (170, 110, 160), np.uint8)
    scores = tiny.scores_of(rgb, tiny.protocol(View(1.0, 64)), tiny.darkness, 32)
    assert np.isfinite(scores).all()
    assert np.ptp(scores[..., 1]) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_planted_square_is_found_where_it_is(scale):
    """Across the border of tiles too: the centre of the darkness above the median's."""
    extraction = tiny.protocol(View(scale, 40))
    for top, left in ((100, 250), (157, 101), (170, 163)):
        rgb = np.full((330, 410, 3), (200, 150, 200), np.uint8)
        rgb[top : top + 60, left : left + 60] = (90, 40, 130)
        dark = tiny.scores_of(rgb, extraction, tiny.darkness, 20)[..., 1]
        above = np.clip(dark - np.median(dark) - 0.01, 0, None)
        rows, columns = (20 * (np.arange(count) + 0.5) for count in dark.shape)
        centre = (above.sum(axis=1) @ rows / above.sum(), above.sum(axis=0) @ columns / above.sum())
        assert abs(centre[0] - (top + 30)) < 10
        assert abs(centre[1] - (left + 30)) < 10


def test_a_field_of_one_crop_has_a_map():
    rgb = samples.tissue(9, 64, 64)
    scores = tiny.scores_of(rgb, tiny.protocol(View(1.0, 64)), tiny.darkness, 16)
    assert scores.shape == (4, 4, 2)
    assert np.ptp(scores[..., 1]) < 1e-6  # All its positions have one window alone.


def planted(seed: int, side: int, quadrant: int) -> np.ndarray:
    """Normal tissue with one quadrant of a carcinoma, same stain: uint8 [2 side, 2 side, 3]."""
    rng = np.random.default_rng([seed, 5])
    field = synthetic.paint_field(rng, "Normal", 2 * side, 2 * side)
    lesion = synthetic.paint_field(rng, "Invasive", side, side)
    rows, columns = (slice(i * side, (i + 1) * side) for i in divmod(quadrant, 2))
    field.hematoxylin[rows, columns] = lesion.hematoxylin
    field.eosin[rows, columns] = lesion.eosin
    return synthetic.to_rgb(field)


def quadrant_means(score: np.ndarray) -> np.ndarray:
    rows, columns = (np.array_split(np.arange(count), 2) for count in score.shape)
    return np.array([np.nanmean(score[np.ix_(r, c)]) for r in rows for c in columns])


def test_the_map_finds_the_quadrant_of_the_lesion():
    """By random textures; docs/performance.md has VGG-16, trees and 40 fields."""
    extraction, images = tiny.protocol(View(1.0, 64)), []
    for label in ("Normal", "Invasive"):
        for seed in range(10):
            rgb = synthetic.render(label, seed, 128, 128)
            descriptors, _ = tiny.descriptors_of(rgb, extraction, 32)
            images.append(descriptors["Tiny-1.0-64"][:, 0].mean(axis=0))
    model = LogisticRegression(C=10, max_iter=2000)
    mean, deviation = np.mean(images, axis=0), np.std(images, axis=0)
    model.fit((np.array(images) - mean) / deviation, np.repeat([0, 1], 10))

    def score(_, descriptors):
        return model.predict_proba((descriptors.mean(axis=1) - mean) / deviation)

    hits = 0
    for seed in range(4):
        scores = tiny.scores_of(planted(seed, 128, seed), extraction, score, 32)
        hits += quadrant_means(scores[..., 1]).argmax() == seed
    assert hits == 4


@pytest.mark.slow
def test_forty_lesions_by_trees_and_vgg():
    """An ensemble of trees on untrained VGG-16: in how many of 40 fields the quadrant is found."""
    extraction = tiny.protocol(View(1.0, 96), encoders=("VGG",))
    encoder_set = loaded_encoders.load_encoders(extraction)
    images, labels = [], []
    for label, seed in itertools.product(("Normal", "Invasive"), range(30)):
        rgb = synthetic.render(label, 1000 + seed, 192, 192)
        descriptors, _ = tiny.descriptors_of(rgb, extraction, 48, 1, encoder_set)
        images.append(np.concatenate(list(descriptors.values())).mean(axis=0))
        labels.append(int(label == "Invasive"))
    images, labels = np.array(images, np.float32), np.array(labels)
    forest = []
    for fold in range(5):
        kept = np.arange(60) % 5 != fold
        parameters = trees.parameters(Boosting(rounds=40), 2, 0, fold, 48)
        forest.append(trees.fit(images[kept], labels[kept], parameters, 40))

    def score(_, descriptors):
        return np.mean(
            [trees.score(booster, descriptors).mean(axis=1) for booster in forest], axis=0
        )

    hits = []
    for seed in range(40):
        rgb = planted(seed, 192, seed % 4)
        scores = tiny.scores_of(rgb, extraction, score, 24, 2, encoder_set)
        hits.append(quadrant_means(scores[..., 1]).argmax() == seed % 4)
        print(seed, hits[-1], quadrant_means(scores[..., 1]).round(3), flush=True)
    assert sum(hits) >= 38
