"""Maps of places: tiles are the field's, what is planted is found, glass is not scored, seams are not seen."""

import dataclasses
import itertools
import json
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from histojax import encoders
from histojax.config import Boosting, Extraction, View
from histojax.datasets import synthetic
from histojax.encoders import CAFFE, Encoder, Tap
from histojax.errors import InputError
from histojax.extraction import loaded_encoders
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.heatmap import border_correction, heatmap, slide_scan, sliding_window, tile_features
from histojax.heatmap.heatmap import HeatmapOptions
from histojax.heatmap.slide_scan import Grid
from histojax.images import slide
from histojax.learners import boost
from histojax.ops import resize, stain
from tests import samples

# Two layers with the reach and the strides of a network, but in no time: 13 px to each side at most.
REACH = 32
TILES = {"Tiny": (128, REACH), "VGG": (768, 96)}
WHOLE = {"Tiny": (4096, REACH)}


class Tiny(nn.Module):
    """Brightness of the image, and random textures at two strides."""

    @nn.compact
    def __call__(self, images):
        normal = nn.initializers.normal(0.15)
        images = images[:, : images.shape[1] // 8 * 8, : images.shape[2] // 8 * 8]
        fine = nn.relu(
            nn.Conv(8, (5, 5), (4, 4), use_bias=False, kernel_init=normal, name="fine")(images / 64)
        )
        coarse = nn.relu(
            nn.Conv(8, (3, 3), (2, 2), use_bias=False, kernel_init=normal, name="coarse")(fine)
        )
        light = images.reshape(
            len(images), images.shape[1] // 8, 8, images.shape[2] // 8, 8, 3
        ).mean(axis=(2, 4))
        return {"fine": fine, "coarse": coarse, "light": light + 123.0}


TINY = Encoder(
    name="Tiny",
    module=Tiny(),
    outputs=(Tap("fine", 8, stride=4), Tap("coarse", 8, stride=8), Tap("light", 3, stride=8)),
    convention=dataclasses.replace(CAFFE, bgr=False),
    first_convolution="fine",
    first_convolution_padded=True,
    weight_file=None,
)
LIGHT = 16  # The first of the three channels of brightness.


def encoder_set(extraction: Extraction, name: str = "Tiny") -> loaded_encoders.EncoderSet:
    if name == "VGG":
        return loaded_encoders.load_encoders(extraction)
    variables = TINY.module.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    loaded = {"Tiny": LoadedEncoder(TINY, variables, "random, seed 0", "")}
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("work",))
    return loaded_encoders.EncoderSet(extraction, types.SimpleNamespace(mesh=mesh), loaded)


def protocol(
    *views: View, encoder: str = "Tiny", crop_mode: str = "shared", **others
) -> Extraction:
    """Of models whose crops were windows, unless told otherwise: then windows are shown to them as they are."""
    return Extraction(
        (encoder,), views, augmentations=2, weights="random", crop_mode=crop_mode, **others
    )


def descriptors(rgb, extraction, stride, augmentations=1, tiles=TILES):
    """Descriptors of all places that are scored, in order, by configuration; and where they are."""
    seen = {}

    def score(configuration, found):
        seen.setdefault(configuration, []).append(found)
        return np.zeros((len(found), 2))

    machine = encoder_set(extraction, extraction.encoders[0])
    with slide.open_slide(rgb) as field:
        grid = Grid(field.size, stride)
        arguments = machine, extraction.configurations, score, 2, grid, augmentations, tiles
        where = np.isfinite(sliding_window.mean_scores(field, "a", *arguments)[..., 0])
    return {name: np.concatenate(found) for name, found in seen.items()}, where


def map_of(rgb, extraction, score, stride, tiles=TILES, classes=2, augmentations=1):
    with slide.open_slide(rgb) as field:
        return sliding_window.mean_scores(
            field,
            "a",
            encoder_set(extraction),
            extraction.configurations,
            score,
            classes,
            Grid(field.size, stride),
            augmentations,
            tiles,
        )


def darkness(_, found):
    """Two scores that add up to one: how dark a place is, and how light."""
    dark = 1 - found[..., LIGHT].mean(axis=1) / 255
    return np.stack([1 - dark, dark], axis=1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_tiles_are_pieces_of_the_field_scaled_whole(scale):
    rgb = samples.tissue(0, 203, 171)
    whole = np.asarray(resize.downscale(rgb, scale))
    around = np.pad(whole, ((200, 200), (200, 200), (0, 0)), "symmetric")
    with slide.open_slide(rgb) as field:
        for top, left, height, width in (
            (0, 0, 64, 96),
            (-24, 17, 64, 96),
            (40, 30, 64, 96),
            (170, -90, 64, 96),
        ):
            found = slide_scan.tile(field, scale, (top, left), (height, width))
            wanted = around[200 + top : 200 + top + height, 200 + left : 200 + left + width]
            np.testing.assert_array_equal(found, wanted)


def test_a_small_field_is_normalised_as_an_image_is():
    rgb = samples.tissue(1, 192, 256)
    with slide.open_slide(rgb) as field:
        found = slide_scan.scan(field, 0.5)
        grid = Grid(field.size, 50)
        stains = slide_scan.stains(found, grid, np.ones(grid.shape, bool), Extraction())
    small = resize.downscale(rgb, 0.5)
    here = np.asarray(stains.normalizer.transform(small, stains.fitted)).astype(int)
    wanted = np.asarray(stain.normalize(small)).astype(int)
    assert found.sample.shape == (96, 128, 3)
    assert abs(here - wanted).max() <= 1
    assert (here == wanted).mean() > 0.99


def test_stains_of_a_large_field_come_from_a_sample_and_not_from_glass(monkeypatch):
    monkeypatch.setattr(slide_scan, "SAMPLE", 4000)
    monkeypatch.setattr(slide_scan, "TILE", 64)
    tissue = samples.tissue(2, 192, 160)
    with_glass = np.concatenate([tissue, np.full((192, 300, 3), 245, np.uint8)], axis=1)
    fits = []
    for rgb in (tissue, with_glass):
        with slide.open_slide(rgb) as field:
            found, grid = slide_scan.scan(field, 1.0), Grid(field.size, 32)
            np.testing.assert_array_equal(found.sample, rgb[:: found.step, :: found.step])
            fits.append(
                slide_scan.stains(
                    found, grid, slide_scan.tissue_shares(found, grid, 32) > 0.5, Extraction()
                )
            )
    assert found.step > 1
    cosine = np.sum(np.asarray(fits[0].fitted.vectors) * np.asarray(fits[1].fitted.vectors), axis=0)
    assert (cosine > 0.999).all()
    np.testing.assert_allclose(fits[0].fitted.factors, fits[1].fitted.factors, rtol=0.1)


def test_a_place_is_described_by_nine_windows_of_the_maps_of_the_whole_field():
    """Against the whole field through the network at once, by NumPy: crops of eight cells, corners on whole cells."""
    extraction, rgb = protocol(View(1.0, 64)), samples.tissue(3, 96, 128)
    found, where = descriptors(rgb, extraction, 32)
    assert where.all()

    machine = encoder_set(extraction).encoders["Tiny"]
    reflected = np.pad(stain.normalize(rgb), ((96, 96), (96, 96), (0, 0)), "symmetric")
    gains = sliding_window.crops.gains(
        sliding_window.crops.image_key(0, "a"), 0, extraction.gain_low, extraction.gain_high
    )
    maps = jax.jit(machine.encoder.maps)(machine.variables, stain.augment(reflected, gains)[None])
    for place, (row, column) in ((0, (0, 0)), (6, (1, 2)), (11, (2, 3))):
        crops = []
        for down, right in itertools.product((-16, 0, 16), repeat=2):
            top, left = (
                np.clip(32 * row - 16 + down, 0, 32) + 96,
                np.clip(32 * column - 16 + right, 0, 64) + 96,
            )
            windows = [
                np.asarray(maps[tap.layer])[0, top // tap.stride :, left // tap.stride :][
                    : 64 // tap.stride
                ]
                for tap in machine.encoder.outputs
            ]
            crops.append(
                np.concatenate([each[:, : len(each)].mean(axis=(0, 1)) for each in windows])
            )
        wanted = np.mean(np.array(crops, np.float64) ** 3, axis=0) ** (1 / 3)
        # The stains of both differ in the last bit, which changes a grey level here and there.
        np.testing.assert_allclose(
            found["Tiny-1.0-64-shared"][place, 0], wanted, rtol=2e-2, atol=2e-3 * wanted.max()
        )


def test_a_tiled_field_is_the_whole_one_and_a_halo_too_small_is_seen():
    rgb, extraction = samples.tissue(4, 192, 256), protocol(View(1.0, 80), View(1.0, 100))
    whole, where = descriptors(rgb, extraction, 32, 2, WHOLE)
    tiled, same = descriptors(rgb, extraction, 32, 2, TILES)
    seam, _ = descriptors(rgb, extraction, 32, 2, {"Tiny": (64, 0)})
    assert where.all()
    assert same.all()
    for name in whole:
        assert whole[name].shape == (6 * 8, 2, 19)
        np.testing.assert_allclose(tiled[name], whole[name], rtol=1e-4, atol=1e-4)
        assert abs(seam[name] - whole[name])[..., :LIGHT].max() > 0.05


def test_what_is_held_in_several_passes_is_the_same(monkeypatch):
    rgb, extraction = samples.tissue(5, 192, 256), protocol(View(1.0, 80), View(1.0, 100))
    at_once, _ = descriptors(rgb, extraction, 32, 2)
    monkeypatch.setattr(sliding_window, "HELD", 1)
    calls, _ = descriptors(rgb, extraction, 32, 2)
    for name in at_once:
        first, second = np.split(calls[name], 2)
        np.testing.assert_array_equal(np.concatenate([first, second], axis=1), at_once[name])


def test_models_are_asked_for_many_places_at_once():
    asked = []

    def score(_, found):
        asked.append(len(found))
        return np.full((len(found), 2), 0.5)

    scores = map_of(samples.tissue(6, 192, 256), protocol(View(1.0, 64)), score, 8)
    assert sum(asked) == scores[..., 0].size == 768
    assert len(asked) <= 5  # A time for each row of tiles, and for what is left at the end.


def test_configurations_and_augmentations_are_averaged():
    rgb, views = samples.tissue(7, 192, 256), (View(1.0, 64), View(0.5, 64))

    def score(_, found):
        dark = found[..., LIGHT : LIGHT + 1].mean(axis=1) / 255
        return np.concatenate([dark, 1 - dark], axis=1)

    together = map_of(rgb, protocol(*views), score, 32, augmentations=2)
    # The grid is the same, but whether a place has tissue is told by the smallest crop of all.
    alone = [map_of(rgb, protocol(view), score, 32, augmentations=2) for view in views]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)


def test_a_constant_field_gives_a_constant_map():
    rgb = np.full((192, 256, 3), (170, 110, 160), np.uint8)
    scores = map_of(rgb, protocol(View(1.0, 64)), darkness, 32)
    assert np.isfinite(scores).all()
    assert np.ptp(scores[..., 1]) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_planted_square_is_found_where_it_is(scale):
    """Across the border of tiles too: its centre, of the darkness above the median's, within a stride."""
    for top, left in ((100, 250), (157, 101), (170, 163)):
        rgb = np.full((330, 410, 3), (200, 150, 200), np.uint8)
        rgb[top : top + 60, left : left + 60] = (90, 40, 130)
        dark = map_of(rgb, protocol(View(scale, 40)), darkness, 20)[..., 1]
        above = np.clip(dark - np.median(dark) - 0.01, 0, None)
        rows, columns = (20 * (np.arange(count) + 0.5) for count in dark.shape)
        centre = (above.sum(axis=1) @ rows / above.sum(), above.sum(axis=0) @ columns / above.sum())
        assert abs(centre[0] - (top + 30)) < 10
        assert abs(centre[1] - (left + 30)) < 10


def test_what_the_border_of_a_crop_adds_is_added_to_windows():
    """Against crops by themselves, all over the field: their mean is that of the windows."""
    rgb = samples.tissue(11, 192, 256)
    as_they_are, _ = descriptors(rgb, protocol(View(1.0, 64)), 32)
    mended, _ = descriptors(rgb, protocol(View(1.0, 64), crop_mode="exact"), 32)
    machine = encoder_set(protocol(View(1.0, 64))).encoders["Tiny"]
    gains = sliding_window.crops.gains(sliding_window.crops.image_key(0, "a"), 0, 0.7, 1.3)
    seen = stain.augment(stain.normalize(rgb), gains)
    alone = [
        np.rot90(seen[top : top + 64, left : left + 64], turn)
        for top, left, turn in itertools.product((0, 43, 85, 128), (0, 48, 96, 144, 192), range(4))
    ]
    wanted = np.asarray(machine.encoder.descriptors(machine.variables, np.stack(alone))).mean(
        axis=0
    )
    spread = np.asarray(machine.encoder.descriptors(machine.variables, np.stack(alone))).std(axis=0)
    before = (
        np.asarray(as_they_are["Tiny-1.0-64-shared"][:, 0].mean(axis=0) - wanted)[:LIGHT]
        / spread[:LIGHT]
    )
    after = np.asarray(mended["Tiny-1.0-64"][:, 0].mean(axis=0) - wanted)[:LIGHT] / spread[:LIGHT]
    print(before, after)
    assert np.sqrt(np.mean(after**2)) < 0.5 * np.sqrt(np.mean(before**2))
    assert (mended["Tiny-1.0-64"] >= 0).all()


def test_the_border_is_measured_where_most_is_scored():
    scored = np.zeros((10, 20), bool)
    scored[2:9, 12:16] = True
    axes = slide_scan.Axis(320, 128, 3), slide_scan.Axis(640, 128, 5)
    corners, sides = border_correction.pieces(axes, 64, Grid((320, 640), 32), 1.0, scored, 2)
    assert sides == (128, 128)
    assert corners == [(128, 384), (192, 384)]
    corners, sides = border_correction.pieces(axes, 200, Grid((320, 640), 32), 1.0, scored, 1)
    assert sides == (224, 224)
    assert corners == [(96, 384)]


def test_glass_is_not_scored_and_not_looked_at():
    rgb = np.full((192, 640, 3), 245, np.uint8)
    rgb[:, :200] = samples.tissue(8, 192, 200)
    looked, found = [], tile_features.cells

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tile_features, "cells", lambda *a, **b: looked.append(len(a[1])) or found(*a, **b)
        )
        scores = map_of(rgb, protocol(View(1.0, 40)), darkness, 20)
        nothing = map_of(np.full_like(rgb, 245), protocol(View(1.0, 40)), pytest.fail, 20)
    assert np.isfinite(scores[:, :10]).all()
    assert np.isnan(scores[:, 12:]).all()
    assert np.isnan(nothing).all()
    assert sum(looked) <= 3 * 6  # Of 3 x 10 tiles, in pairs.


def test_a_field_smaller_than_a_crop_is_refused():
    with pytest.raises(
        InputError,
        match=r"array.* is 90 x 200 px, 45 x 100 at scale 0.5: smaller than the 48 px crop",
    ):
        map_of(samples.tissue(9, 200, 90), protocol(View(0.5, 48)), darkness, 20)


def test_a_field_of_one_crop_has_a_map():
    scores = map_of(samples.tissue(9, 64, 64), protocol(View(1.0, 64)), darkness, 16)
    assert scores.shape == (4, 4, 2)
    assert np.ptp(scores[..., 1]) < 1e-6  # All its places have but one window.


def test_a_field_of_another_pixel_size_is_resampled_piece_by_piece():
    rgb, extraction = samples.tissue(10, 120, 150), protocol(View(0.5, 48), target_mpp=1.0)
    with slide.open_slide(rgb) as field:
        for mpp in (0.3, 0.8):
            seen, factor = slide_scan.at_target(field, extraction, mpp)
            assert factor == pytest.approx(2 * mpp)
            whole = np.asarray(
                Image.fromarray(rgb).resize(seen.size[::-1], Image.Resampling.BICUBIC)
            ).astype(int)
            for top, left, height, width in (
                (0, 0, *seen.size),
                (7, 11, 40, 30),
                (3, 0, 20, seen.size[1]),
            ):
                piece = seen.read(top, left, height, width).astype(int)
                assert abs(piece - whole[top : top + height, left : left + width]).max() <= 1
        assert slide_scan.at_target(field, extraction, 0.5) == (field, 1.0)
        assert slide_scan.at_target(field, protocol(View(0.5, 48)), 0.3) == (field, 1.0)


def planted(
    seed: int, side: int, quadrant: int | None, back: str = "Normal", lesion: str = "Invasive"
) -> np.ndarray:
    """A field of one class, of which one quadrant is another's, under one stain: uint8 [2 side, 2 side, 3]."""

    def painted(rng, label, size):
        layout, field = (
            synthetic.LAYOUTS[label],
            synthetic.Field(rng, np.zeros((size, size)), np.zeros((size, size))),
        )
        synthetic.paint_stroma(field, layout)
        synthetic.paint_fat(field, layout)
        for part in ("ducts", "cords"):
            for _ in range(field.count(getattr(layout, part))):
                getattr(synthetic, part[:-1])(field, layout)
        loose = [field.place() for _ in range(field.count(layout.loose))]
        synthetic.paint_cells(
            field, [at for at in loose if not field.is_empty(at)], layout, cytoplasm=1.6
        )
        return field

    rng = np.random.default_rng([seed, 5])
    field = painted(rng, back, 2 * side)
    if quadrant is not None:
        other, (down, right) = painted(rng, lesion, side), divmod(quadrant, 2)
        here = np.s_[down * side : (down + 1) * side, right * side : (right + 1) * side]
        field.hematoxylin[here], field.eosin[here] = other.hematoxylin, other.eosin
    return synthetic.to_rgb(field)


def quadrant_means(carcinoma: np.ndarray) -> np.ndarray:
    rows, columns = (np.array_split(np.arange(count), 2) for count in carcinoma.shape)
    return np.array([np.nanmean(carcinoma[np.ix_(r, c)]) for r in rows for c in columns])


def test_the_map_finds_the_quadrant_of_the_lesion():
    """Models of whole images of both classes, by random textures; docs/performance.md has VGG-16, trees, 40 fields."""
    extraction, whole = protocol(View(1.0, 64)), []
    for label in ("Normal", "Invasive"):
        for seed in range(20):
            found, _ = descriptors(synthetic.render(label, seed, 128, 128), extraction, 32)
            whole.append(found["Tiny-1.0-64-shared"][:, 0].mean(axis=0))
    model = LogisticRegression(C=10, max_iter=2000)
    mean, deviation = np.mean(whole, axis=0), np.std(whole, axis=0)
    model.fit((np.array(whole) - mean) / deviation, np.repeat([0, 1], 20))

    def score(_, found):
        return model.predict_proba((found.mean(axis=1) - mean) / deviation)

    hits = 0
    for seed in range(4):
        scores = map_of(planted(seed, 128, seed), extraction, score, 32)
        hits += quadrant_means(scores[..., 1]).argmax() == seed
    assert hits == 4


@pytest.mark.slow
def test_forty_lesions_by_trees_and_vgg():
    """An ensemble as one would train it, on untrained VGG-16: in how many of 40 fields the quadrant is found."""
    extraction = protocol(View(1.0, 96), encoder="VGG")
    whole = {}
    for label, seed in itertools.product(("Normal", "Invasive"), range(30)):
        rgb = synthetic.render(label, 1000 + seed, 192, 192)
        whole[label, seed] = np.concatenate(
            list(descriptors(rgb, extraction, 48, 2)[0].values())
        ).mean(axis=0)
    labels = np.array([label == "Invasive" for label, _ in whole], int)
    boosting = Boosting(rounds=40)
    forest = [
        boost.fit(
            np.array(list(whole.values()), np.float32)[kept],
            labels[kept],
            boost.parameters(boosting, 2, 0, fold),
            40,
        )
        for fold in range(5)
        for kept in [np.arange(60) % 5 != fold]
    ]
    machine = encoder_set(extraction, "VGG")
    hits = []
    for seed in range(40):
        with slide.open_slide(planted(seed, 192, seed % 4)) as field:
            scores = sliding_window.mean_scores(
                field,
                str(seed),
                machine,
                extraction.configurations,
                lambda _, found: np.mean(
                    [boost.score(each, found).mean(axis=1) for each in forest], axis=0
                ),
                2,
                Grid(field.size, 24),
                2,
            )
        hits.append(quadrant_means(scores[..., 1]).argmax() == seed % 4)
        print(seed, hits[-1], quadrant_means(scores[..., 1]).round(3), flush=True)
    assert sum(hits) >= 38


def test_smoothing_knows_only_places_with_tissue():
    rng = np.random.default_rng(0)
    grid = rng.dirichlet((1, 1, 1), (7, 9)).transpose(2, 0, 1).astype(np.float32)
    grid[:, 2:4, 3:8] = np.nan
    found = heatmap._smoothed(grid, 0.8)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(grid))
    np.testing.assert_allclose(np.nansum(found, axis=0)[~np.isnan(grid[0])], 1, rtol=1e-6)
    row, column = 1, 4
    weights = np.exp(
        -((np.arange(7)[:, None] - row) ** 2 + (np.arange(9)[None] - column) ** 2) / (2 * 0.8**2)
    )
    weights[np.maximum(abs(np.arange(7)[:, None] - row), abs(np.arange(9)[None] - column)) > 3] = 0
    weights = np.where(np.isnan(grid[0]), 0, weights)
    wanted = (np.nan_to_num(grid) * weights).sum(axis=(1, 2)) / weights.sum()
    np.testing.assert_allclose(found[:, row, column], wanted, rtol=1e-5)
    np.testing.assert_array_equal(heatmap._smoothed(grid, 0), grid)


@pytest.fixture
def models(monkeypatch):
    """What stands for a bundle: places are carcinoma as they are dark. Tiles are small."""
    monkeypatch.setattr(sliding_window.mean_scores, "__defaults__", (TILES,))
    extraction = protocol(View(0.5, 32))
    made = types.SimpleNamespace(
        extraction=extraction,
        configurations=extraction.configurations,
        classes=("benign", "malignant"),
        positive=(1,),
        temperature=0.5,
        threshold=0.5,
        identity="abc",
        score=darkness,
    )
    return made, encoder_set(extraction)


def test_a_map_has_calibrated_probabilities_and_says_how_it_was_made(models):
    made, machine = models
    rgb = np.full((192, 256, 3), (200, 150, 200), np.uint8)
    shown = heatmap.map_image(
        made,
        rgb,
        HeatmapOptions(stride=32, augmentations=1, sigma=0, mpp=0.5),
        name="x",
        encoder_set=machine,
    )
    assert shown.grid.shape == (2, 6, 8)
    assert shown.grid.dtype == np.float32
    scores = map_of(rgb, made.extraction, darkness, 32)
    sharpened = scores**2 / (scores**2).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(shown.grid, np.moveaxis(sharpened, -1, 0), rtol=1e-2)
    np.testing.assert_allclose(shown.carcinoma, shown.grid[1], rtol=1e-5)
    assert (shown.stride, shown.window, shown.mpp, shown.size) == (32, 64, 0.5, (192, 256))
    assert (
        heatmap.map_image(made, rgb, encoder_set=machine).stride == 16
    )  # A quarter of 32 px at scale 0.5.
    assert json.loads(json.dumps(shown.made_with)) == shown.made_with


def test_a_resampled_map_lies_over_the_file(models):
    made, machine = models
    made.extraction = dataclasses.replace(made.extraction, target_mpp=1.0)
    machine = dataclasses.replace(machine, extraction=made.extraction)
    rgb = np.full((384, 512, 3), (200, 150, 200), np.uint8)
    rgb[100:200, 350:450] = (90, 40, 130)
    shown = heatmap.map_image(
        made, rgb, HeatmapOptions(stride=64, sigma=0, mpp=0.25), encoder_set=machine
    )
    assert shown.grid.shape == (2, 6, 8)
    assert shown.stride == pytest.approx(64)
    assert shown.window == pytest.approx(128)
    row, column = np.unravel_index(shown.grid[1].argmax(), (6, 8))
    assert abs(64 * (row + 0.5) - 150) <= 64
    assert abs(64 * (column + 0.5) - 400) <= 64


def test_wishes_that_make_no_sense_are_refused(models):
    made, machine = models
    for wish in (
        HeatmapOptions(stride=0),
        HeatmapOptions(augmentations=0),
        HeatmapOptions(sigma=-1.0),
        HeatmapOptions(sigma=float("nan")),
    ):
        with pytest.raises(InputError, match="expected a stride and augmentations of at least 1"):
            heatmap.map_image(made, samples.tissue(0, 100, 100), wish, encoder_set=machine)


def test_a_run_writes_maps_lists_failures_and_goes_on(models, tmp_path):
    made, machine = models
    images = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "small.png"]
    for path, (height, width) in zip(images, ((192, 256), (192, 256), (50, 200)), strict=True):
        Image.fromarray(samples.tissue(height, height, width)).save(path)
    (tmp_path / "c.png").write_text("no image")
    paths, out, options = (
        [*images, tmp_path / "c.png"],
        tmp_path / "out",
        HeatmapOptions(augmentations=1),
    )
    first = heatmap.map_images(made, paths, out, options, encoder_set=machine)
    assert first.mapped == ("a.png", "b.png")
    assert set(first.failed) == {"small.png", "c.png"}
    assert "2 images mapped, 2 could not be" in first.text(out)
    rows = (out / "failures.csv").read_text().splitlines()
    assert rows[0] == "image,cause"
    assert "smaller than the 32 px crop" in rows[1]
    assert {path.name for path in (out / "a").iterdir()} == {
        "grid.npy",
        "grid.json",
        "1-benign.png",
        "2-malignant.png",
        "carcinoma.png",
        "classes.png",
        "overview.html",
        "regions.geojson",
    }
    about = json.loads((out / "a" / "grid.json").read_text())
    grid = np.load(out / "a" / "grid.npy", allow_pickle=False)
    assert grid.shape == (2, *about["rows_columns"])
    assert about["size_px"] == [192, 256]
    assert about["first_place_px"] == [8, 8]
    assert json.loads((out / "a" / "regions.geojson").read_text())["type"] == "FeatureCollection"

    again = heatmap.map_images(made, paths, out, options, encoder_set=machine)
    assert (again.mapped, again.done_before) == ((), ("a.png", "b.png"))
    other = heatmap.map_images(
        made, paths[:1], out, dataclasses.replace(options, stride=32), encoder_set=machine
    )
    assert other.mapped == ("a.png",)
    with pytest.raises(InputError, match="smaller than the 32 px crop"):
        heatmap.map_images(made, paths[2:], out, options, encoder_set=machine, strict=True)


def test_every_encoder_has_tiles_on_its_cells():
    assert set(sliding_window.TILES) == set(encoders.ENCODERS)
    for side, halo in sliding_window.TILES.values():
        assert side % 32 == halo % 32 == 0
        assert side > 4 * halo
