"""Copies are found whatever was done to them, and different fields are no copies."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from histojax.datasets import synthetic
from histojax.images import reader
from histojax.inspection import near_duplicates, similarity
from histojax.inspection.near_duplicates import COPY, SAME_FILE, TURNS


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    return [
        synthetic.render(label, seed, 192, 256) for label in synthetic.CLASSES for seed in range(3)
    ]


def jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=50)
    return Image.open(out).convert("RGB")


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


CHANGES = {
    "none": lambda image: image,
    "JPEG": jpeg,
    "90 %": lambda image: image.resize(
        (round(image.width * 0.9), round(image.height * 0.9)), Image.Resampling.BICUBIC
    ),
    "brighter": lambda image: image.point(lambda value: min(255, round(value * 1.1))),
    "darker": lambda image: image.point(lambda value: round(value * 0.8)),
    "cropped": lambda image: cropped(image, 0.98),
}


def fingerprints(pictures: list[np.ndarray]) -> list[near_duplicates.Fingerprint]:
    return [near_duplicates.fingerprint(picture, str(i)) for i, picture in enumerate(pictures)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("turn", TURNS)
def test_a_copy_is_found_in_every_turn(fields, change, turn):
    copy = np.array(CHANGES[change](Image.fromarray(fields[4])))
    moved = np.moveaxis(near_duplicates.apply_turn(np.moveaxis(copy, -1, 0), turn), 0, -1)
    (pair,) = near_duplicates.find_pairs(fingerprints([*fields, np.ascontiguousarray(moved)]))
    assert (pair.first, pair.second, pair.kind) == (4, len(fields), COPY)
    assert pair.correlation > 0.75
    ways = {"none": 1.0, "cropped": 0.98, "90 %": 0.9}
    assert pair.transform.scale == pytest.approx(1 / ways.get(change, 1), rel=0.03)
    back = similarity.warp(np.ascontiguousarray(moved), pair.transform, fields[4].shape[:2])
    inner = np.s_[20:-20, 20:-20]
    assert np.corrcoef(back[inner].ravel(), fields[4][inner].ravel())[0, 1] > 0.8


def test_different_fields_are_no_copies(fields):
    assert near_duplicates.find_pairs(fingerprints(fields)) == ()


def test_candidates_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK", 7)
    hashed = np.random.default_rng(0).integers(0, 2**63, (8, 40), dtype=np.uint64)
    expected = []
    for first, second in itertools.combinations(range(40), 2):
        apart = [
            bin(int(hashed[0, first]) ^ int(hashed[turn, second])).count("1") for turn in range(8)
        ]
        if min(apart) <= 24:
            expected.append((first, second, min(apart), apart.index(min(apart))))
    assert 0 < len(expected) < 780
    assert list(near_duplicates._candidates(hashed, 24)) == expected


def test_a_hash_does_not_see_brightness_and_contrast(fields):
    small = np.stack([near_duplicates.grey_thumbnail(field) for field in fields])
    np.testing.assert_array_equal(
        near_duplicates._hashes(small), near_duplicates._hashes(0.5 * small + 40)
    )
    assert not (near_duplicates._hashes(small) & np.uint64(1)).any()


def test_the_hash_of_a_turn_is_the_turn_of_the_hash(fields):
    small = np.stack([near_duplicates.grey_thumbnail(field) for field in fields])
    for place, turn in enumerate(TURNS):
        np.testing.assert_array_equal(
            near_duplicates._hashes(small)[place],
            near_duplicates._hashes(near_duplicates.apply_turn(small, turn))[0],
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


def test_same_files_come_first_and_once(fields, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path, field in zip(paths, (fields[0], fields[1], fields[0], fields[0]), strict=True):
        Image.fromarray(field).save(path)
    Image.fromarray(fields[1]).save(tmp_path / "e.tif")
    pairs = near_duplicates.find_pairs(near_duplicates.fingerprints([*paths, tmp_path / "e.tif"]))
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (0, 2, SAME_FILE),
        (0, 3, SAME_FILE),
        (2, 3, SAME_FILE),
        (1, 4, COPY),
    ]
    assert pairs[-1].correlation == pytest.approx(1)


def test_real_fields_are_told_apart_and_their_copies_found(shared_data):
    fields = [
        reader.read(path) for path in sorted((shared_data / "ucsb_breast").rglob("*.png"))[::3]
    ]
    copies = [np.rot90(np.array(jpeg(Image.fromarray(field)))) for field in fields[:5]]
    pairs = near_duplicates.find_pairs(fingerprints([*fields, *copies]))
    assert sorted((pair.first, pair.second) for pair in pairs) == [
        (i, len(fields) + i) for i in range(5)
    ]
