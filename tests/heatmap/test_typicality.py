"""Positions compared with places of training images: near what is like them, far from the rest."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from histojax.config import View
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.heatmap import heatmap, sliding_window, typicality
from histojax.heatmap.heatmap import HeatmapOptions
from histojax.heatmap.typicality import Places
from histojax.images import slide
from histojax.prediction.uncertainty import FAR_DESCRIPTORS, FAR_STAIN
from tests import samples
from tests.heatmap import tiny

EXTRACTION = tiny.protocol(View(0.5, 32))
OPTIONS = HeatmapOptions(stride=16, augmentations=2)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Places of twelve images of as many patients, one of which is unknown."""
    folder = tmp_path_factory.mktemp("training")
    paths = {f"image{i}": folder / f"{i}.png" for i in range(12)}
    for i, path in enumerate(paths.values()):
        Image.fromarray(samples.tissue(i, 144, 160)).save(path)
    images = np.arange(12)
    groups = ("", *(f"patient{i}" for i in range(1, 12)))
    folds = Folds(tuple(paths), images % 2, images % 3, ("benign", "malignant"), groups)
    return typicality.fit(folds, paths, tiny.encoder_set(EXTRACTION), EXTRACTION.configurations)


def map_of(rgb: np.ndarray, reference, options: HeatmapOptions = OPTIONS):
    bundle = tiny.bundle(EXTRACTION, tiny.darkness)
    bundle.places = reference
    return heatmap.map_image(bundle, rgb, options, encoder_set=tiny.encoder_set(EXTRACTION))


def test_every_patient_weighs_the_same_and_no_name_is_kept(reference):
    assert len(reference.folds) == 12 * 8
    assert reference.masses.sum() == pytest.approx(12)
    assert set(reference.means) == {"Tiny-0.5-32"}
    assert reference.stain.shape == (12 * 8, 4)
    text = [array for array in reference.to_arrays().values() if array.dtype.kind == "U"]
    assert not any("image" in name for array in text for name in array.tolist())


def test_tissue_as_in_training_is_seldom_far(reference):
    shares = []
    for seed in range(20, 22):
        result = map_of(samples.tissue(seed, 160, 192), reference)
        assert set(result.far) == {FAR_DESCRIPTORS, FAR_STAIN}
        shares.append(result.far_for_any_reason.mean())
    assert np.mean(shares) < 0.2


def test_what_is_unlike_training_is_far_where_it_lies(reference):
    rgb = samples.tissue(30, 192, 320)
    rgb[:, 160:] = np.random.default_rng(0).integers((20, 60, 0), (60, 200, 40), (192, 160, 3))
    result = map_of(rgb, reference)
    # Not by descriptors: normalisation is fitted to the whole field, so they change everywhere.
    assert result.far[FAR_STAIN][:, -6:].mean() > 0.9
    assert result.far[FAR_STAIN][:, :6].mean() < 0.3
    # Comparing changes no number of the map.
    np.testing.assert_array_equal(result.grid, map_of(rgb, None).grid)


def test_nothing_is_far_where_nothing_is_scored(reference):
    rgb = np.random.default_rng(0).integers((20, 60, 0), (60, 200, 40), (160, 192, 3))
    rgb[:, 112:] = 245  # Glass beside what is far.
    result = map_of(rgb.astype(np.uint8), reference)
    assert result.scored.any()
    assert not result.scored.all()
    assert result.far[FAR_STAIN].any()
    assert not (result.far_for_any_reason & ~result.scored).any()


def test_places_of_a_map_are_described_exactly_as_those_of_training_images():
    """Also of models of exact crops, whose windows are corrected for what the models score."""
    extraction = tiny.protocol(View(0.5, 32))
    encoder_set = tiny.encoder_set(extraction)
    bundle = tiny.bundle(extraction, tiny.darkness)
    with slide.open_slide(samples.tissue(40, 144, 160)) as field:
        scan = typicality._scan(field, extraction, None)
        places = Places.of_field(scan)
        sliding_window.mean_scores(scan, "a", encoder_set, bundle, 2, places.observe)
        configurations = extraction.configurations
        described = typicality._describe(scan, places.chosen, "a", encoder_set, configurations)
    assert [name for name, _ in described] == list(places.rows) == list(configurations)
    for name, rows in described:
        np.testing.assert_allclose(np.concatenate(places.rows[name]), rows, rtol=1e-4, atol=1e-6)


def test_a_field_without_tissue_has_nothing_far(reference):
    result = map_of(np.full((160, 192, 3), 245, np.uint8), reference)
    assert not result.scored.any()
    assert not result.far_for_any_reason.any()


def test_training_images_without_tissue_are_refused(tmp_path):
    Image.fromarray(np.full((144, 160, 3), 245, np.uint8)).save(tmp_path / "a.png")
    folds = Folds(("a",), np.zeros(1, int), np.zeros(1, int), ("benign", "malignant"))
    arguments = folds, {"a": tmp_path / "a.png"}, tiny.encoder_set(EXTRACTION)
    with pytest.raises(InputError, match="none of 1 training images has tissue"):
        typicality.fit(*arguments, EXTRACTION.configurations)


def test_places_are_read_at_the_pixel_size_that_images_were_described_at(tmp_path):
    extraction = tiny.protocol(View.in_microns(0.5, 32))
    Image.fromarray(np.full((144, 160, 3), 245, np.uint8)).save(tmp_path / "a.png")
    folds = Folds(("a",), np.zeros(1, int), np.zeros(1, int), ("benign", "malignant"))
    arguments = folds, {"a": tmp_path / "a.png"}, tiny.encoder_set(extraction)
    for pixel_sizes, refusal in (
        ({}, "does not say its pixel size"),
        ({"a": 0.5}, "none of 1 training images has tissue"),
        ({"a": 0.1}, "32 x 29 at 0.5 um per pixel: smaller than the 32 px crop"),
    ):
        with pytest.raises(InputError, match=refusal):
            typicality.fit(*arguments, extraction.configurations, pixel_sizes)


def test_every_second_position_is_compared_or_all_where_these_have_no_tissue():
    scored = np.zeros((6, 6), bool)
    scored[2, 2] = True
    np.testing.assert_array_equal(typicality.compared_positions(scored), scored)
    scored[:] = True
    assert typicality.compared_positions(scored).sum() == 9
    large = typicality.compared_positions(np.ones((400, 300), bool))
    assert 1000 < large.sum() <= 2048


def test_images_are_taken_from_as_many_patients_as_possible(monkeypatch):
    monkeypatch.setattr(typicality, "_IMAGES", 4)
    groups = ("a", "a", "a", "b", "b", "c", "")
    names = tuple(f"image{i}" for i in range(7))
    folds = Folds(names, np.zeros(7, int), np.arange(7) % 2, ("benign", "malignant"), groups)
    assert typicality._spread_over_groups(folds, range(7)) == [0, 3, 5, 6]
    unknown = dataclasses.replace(folds, groups=None)
    assert typicality._spread_over_groups(unknown, range(7)) == [0, 1, 2, 3]
