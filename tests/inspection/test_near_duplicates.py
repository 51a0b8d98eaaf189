"""Copies are found whatever was done to them, and different fields are no copies."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image

from experiments.measuring import copies as changes
from histojax.datasets import synthetic
from histojax.images import reader
from histojax.inspection import near_duplicates, similarity
from histojax.inspection.near_duplicates import COPY, OVERLAP, SAME_FILE, Fingerprint, Pair


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    return [
        synthetic.render(label, seed, 192, 256) for label in synthetic.CLASSES for seed in range(3)
    ]


@pytest.fixture(scope="module")
def marks(fields) -> list[Fingerprint]:
    return fingerprints(fields)


def fingerprints(pictures: list[np.ndarray], first: int = 0) -> list[Fingerprint]:
    """Of pictures, whose files are taken to differ."""
    return [
        near_duplicates.fingerprint(picture, str(i)) for i, picture in enumerate(pictures, first)
    ]


def inner_crop(rgb: np.ndarray, share: float) -> np.ndarray:
    top, left = (round(side * (1 - share) / 2) for side in rgb.shape[:2])
    return rgb[top : rgb.shape[0] - top, left : rgb.shape[1] - left]


CHANGES = {
    "none": lambda rgb: rgb,
    "JPEG": changes.compressed,
    "90 %": lambda rgb: changes.resized(rgb, 0.9),
    "brighter": lambda rgb: changes.brightened(rgb, 1.1),
    "darker": lambda rgb: changes.brightened(rgb, 0.8),
    "cropped": lambda rgb: inner_crop(rgb, 0.98),
}
SCALES = {"90 %": 0.9}


def test_copies_are_found_in_every_turn_and_laid_on_each_other(fields, marks):
    """A field for each of eight turns, every change at least once."""
    moved, expected = [], {}
    turns = itertools.product((False, True), range(4))
    for i, (turn, name) in enumerate(zip(turns, itertools.cycle(CHANGES), strict=False)):
        mirrored, quarters = turn
        copy = CHANGES[name](fields[i])
        copy = np.rot90(copy[:, ::-1] if mirrored else copy, quarters)
        expected[i, len(fields) + i] = mirrored, quarters, SCALES.get(name, 1)
        moved.append(np.ascontiguousarray(copy))
    pairs = near_duplicates.find_pairs([*marks, *fingerprints(moved, len(fields))])
    assert {pair.kind for pair in pairs} == {COPY}
    originals = {(pair.first, pair.second): pair for pair in pairs if pair.first < len(fields)}
    assert originals.keys() == expected.keys()
    for (first, second), pair in originals.items():
        mirrored, quarters, scale = expected[first, second]
        assert pair.correlation > 0.75
        assert pair.transform.mirrored == mirrored
        # What undoes mirroring and then turning turns the other way only if nothing is mirrored.
        undone = 90 * quarters * (1 if mirrored else -1)
        assert abs((pair.transform.degrees - undone + 180) % 360 - 180) < 0.5
        assert pair.transform.scale == pytest.approx(1 / scale, rel=0.01)
        back = similarity.warp(moved[second - len(fields)], pair.transform, (192, 256))
        inner = np.s_[20:-20, 20:-20]
        assert np.corrcoef(back[inner].ravel(), fields[first][inner].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("fill", ["reflected", "white", "black"])
def test_a_copy_turned_by_any_angle_is_laid_where_it_was(fields, marks, fill):
    rng = np.random.default_rng(0)
    mirrored = np.ascontiguousarray(fields[7][:, ::-1])
    copy = changes.restained(changes.turned(mirrored, 33, 1.2, fill), rng)
    (pair,) = near_duplicates.find_pairs(
        [*marks, *fingerprints([changes.compressed(copy)], len(fields))]
    )
    assert (pair.first, pair.kind, pair.transform.mirrored) == (7, COPY, True)
    assert pair.transform.degrees == pytest.approx(33, abs=0.5)
    assert pair.transform.scale == pytest.approx(1 / 1.2, rel=0.01)
    # About the centre.
    np.testing.assert_allclose(pair.transform.apply(np.array([128, 96])), [128, 96], atol=1)
    assert 0.6 < pair.shared[0] < pair.shared[1]


def test_different_fields_are_no_copies(marks):
    assert near_duplicates.find_pairs(marks) == ()


def test_fields_that_overlap_are_told_from_crops():
    tall = synthetic.render("InSitu", 3, 300, 400)
    left, right = tall[:, :280], tall[20:, 120:]
    crop = tall[40:250, 70:350]
    pairs = near_duplicates.find_pairs(fingerprints([tall, left, right, crop]))
    kinds = {(pair.first, pair.second): pair for pair in pairs}
    assert {places: pair.kind for places, pair in kinds.items()} == {
        (0, 1): COPY,
        (0, 2): COPY,
        (0, 3): COPY,
        (1, 2): OVERLAP,
        (1, 3): OVERLAP,
        (2, 3): OVERLAP,
    }
    overlap = kinds[1, 2]
    np.testing.assert_allclose(overlap.transform.shift, [120, 20], atol=1)
    shared = 160 * 280
    expected = shared / (280 * 300), shared / (280 * 280)
    np.testing.assert_allclose(overlap.shared, expected, atol=0.03)


def test_what_was_turned_is_no_overlap():
    tall = synthetic.render("InSitu", 3, 300, 400)
    turned = np.rot90(tall[:, 120:]).copy()
    (pair,) = near_duplicates.find_pairs(fingerprints([tall[:, :280], turned]))
    assert pair.kind == COPY
    assert math.isclose(pair.transform.degrees, -90, abs_tol=0.5)


def test_what_a_pair_is_in_words():
    def said(kind: str, *transform, shared=(1.0, 1.0)) -> str:
        moved = similarity.Similarity(*transform)
        return near_duplicates.likeness(Pair(0, 1, kind, moved, 20, 0.876, shared))

    assert said(SAME_FILE) == "the same file"
    assert said(COPY) == "a copy, correlation 0.88"
    assert said(COPY, 0.8, -30.2, True) == (
        "a copy, mirrored, turned by 30°, 1.25 times as large, correlation 0.88"
    )
    assert said(OVERLAP, shared=(0.41, 0.45)) == (
        "overlapping fields, 45% of one shared, correlation 0.88"
    )


def test_bare_glass_is_compared_as_files_alone():
    glass = np.full((64, 64, 3), 240, np.uint8)
    noisy = [
        glass - np.random.default_rng(seed).integers(0, 2, glass.shape, np.uint8)
        for seed in range(3)
    ]
    assert near_duplicates.find_pairs(fingerprints([glass, glass.copy(), *noisy])) == ()
    shaded = (glass - np.arange(64, dtype=np.uint8)[:, None, None] // 16).astype(np.uint8)
    assert near_duplicates.find_pairs(fingerprints([shaded, shaded.copy()])) == ()
    same = [near_duplicates.fingerprint(glass, sha256) for sha256 in "aba"]
    (pair,) = near_duplicates.find_pairs(same)
    assert (pair.first, pair.second, pair.kind) == (0, 2, SAME_FILE)


def test_same_files_come_first_and_once_and_are_pairs_with_the_first(fields, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path, field in zip(paths, (fields[0], fields[1], fields[0], fields[0]), strict=True):
        Image.fromarray(field).save(path)
    Image.fromarray(fields[1]).save(tmp_path / "e.tif")
    pairs = near_duplicates.find_pairs(near_duplicates.fingerprints([*paths, tmp_path / "e.tif"]))
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (0, 2, SAME_FILE),
        (0, 3, SAME_FILE),
        (1, 4, COPY),
    ]
    assert pairs[-1].correlation == pytest.approx(1, abs=1e-3)


def test_of_same_files_one_is_compared_with_other_images(fields, marks):
    (copy,) = fingerprints([fields[0][:, ::-1].copy()], 100)
    pairs = near_duplicates.find_pairs([marks[0], marks[0], copy, marks[0], copy])
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (0, 1, SAME_FILE),
        (0, 3, SAME_FILE),
        (2, 4, SAME_FILE),
        (0, 2, COPY),
    ]


def test_real_fields_are_told_apart_and_their_copies_found(shared_data):
    fields = [
        reader.read(path) for path in sorted((shared_data / "ucsb_breast").rglob("*.png"))[::3]
    ]
    copies = [np.rot90(changes.compressed(field)).copy() for field in fields[:5]]
    pairs = near_duplicates.find_pairs(fingerprints([*fields, *copies]))
    assert sorted((pair.first, pair.second) for pair in pairs) == [
        (i, len(fields) + i) for i in range(5)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 1000])
def test_nine_of_ten_copies_are_found_at_99_percent_precision(shared_data, size):
    originals, groups = changes.fields(shared_data, half=1, size=size)
    kept = np.linspace(0, len(originals) - 1, 20).astype(int)
    originals, groups = [originals[i] for i in kept], np.array([groups[i] for i in kept])
    images = [*originals, *changes.copies(originals, seed=0)]
    pairs = near_duplicates.find_pairs(fingerprints(images))
    found = changes.found_by_kind(pairs, len(originals))
    assert {kind: count for kind, count in found.items() if count < 18} == {}
    different = sum(
        groups[pair.first % len(originals)] != groups[pair.second % len(originals)]
        for pair in pairs
    )
    assert different <= 0.01 * len(pairs)
    halves = [half for rgb in originals for half in changes.overlapping(rgb, 0.3)]
    overlaps = near_duplicates.find_pairs(fingerprints(halves))
    kinds = {(pair.first, pair.second): pair.kind for pair in overlaps}
    told = [kinds.get((2 * i, 2 * i + 1)) for i in range(len(originals))]
    assert told.count(OVERLAP) >= 18
