"""Candidates are those that comparing all descriptors with all gives."""

import itertools

import numpy as np
import pytest

from histojax.inspection import candidates
from histojax.inspection.local_features import LocalFeatures, mirrored, normalized


def made(rng: np.random.Generator, number: int) -> LocalFeatures:
    return LocalFeatures(
        np.zeros(number, np.complex64),
        rng.uniform(1, 6, number).astype(np.float32),
        rng.uniform(-np.pi, np.pi, number).astype(np.float32),
        rng.integers(0, 200, (number, 128), np.uint8) * (rng.random((number, 128)) < 0.2),
    )


@pytest.fixture
def images() -> list[LocalFeatures]:
    """20 images that share up to 11 descriptors with another, at one angle or at any."""
    rng = np.random.default_rng(0)
    images = [made(rng, 30) for _ in range(20)]
    for i in range(10):
        source = images[i] if i % 2 else mirrored(images[i])
        target = images[19 - i]
        target.descriptors[: i + 2] = source.descriptors[: i + 2]
        target.sizes[: i + 2] = source.sizes[: i + 2] * (4 if i == 8 else 1)
        if i != 6:
            target.directions[: i + 2] = source.directions[: i + 2] + 0.1 * i
    return images


def by_brute_force(images: list[LocalFeatures]) -> list[tuple[int, int, bool]]:
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(images), 2):
        for mirror in (False, True):
            second = mirrored(other) if mirror else other
            close = normalized(one.descriptors) @ normalized(second.descriptors).T >= 0.92
            close &= np.abs(np.log(one.sizes[:, None] / second.sizes)) <= np.log(3)
            turned = (one.directions[:, None] - second.directions)[close] % (2 * np.pi)
            votes = np.zeros(16, int)
            for angle in (turned / (2 * np.pi) * 16).astype(int):
                votes[[angle % 16, (angle + 1) % 16]] += 1
            if votes.max() >= 4:
                found.append((i, j, mirror))
    return found


@pytest.mark.parametrize("block", [3, 64])
def test_candidates_are_those_of_brute_force(images, monkeypatch, block):
    monkeypatch.setattr(candidates, "_BLOCK", block)
    expected = by_brute_force(images)
    # From four features in common, but not at many angles (6) or at another scale (8).
    assert expected == [(i, 19 - i, i % 2 == 0) for i in (2, 3, 4, 5, 7, 9)]
    assert sorted(candidates.candidates(images)) == expected


def test_many_cells_find_what_all_but_equals(images, monkeypatch):
    monkeypatch.setattr(candidates, "_CELL", 20)
    assert sorted(candidates.candidates(images)) == by_brute_force(images)


def test_votes_on_either_side_of_an_angle_count_together():
    rng = np.random.default_rng(0)
    one, other = made(rng, 30), made(rng, 30)
    other.descriptors[:4], other.sizes[:4] = one.descriptors[:4], one.sizes[:4]
    for apart, expected in ((0.05, [(0, 1, False)]), (0.5, [])):
        turned = 3 * 2 * np.pi / 16 + np.array([-apart, apart, -apart, apart])
        other.directions[:4] = one.directions[:4] - turned.astype(np.float32)
        assert list(candidates.candidates([one, other])) == expected


def test_images_without_features_are_no_error(images):
    none = images[0].take(np.zeros(0, int))
    assert list(candidates.candidates([])) == []
    assert list(candidates.candidates([none, none])) == []
    shifted = [(i + 1, j + 1, mirror) for i, j, mirror in by_brute_force(images)]
    assert sorted(candidates.candidates([none, *images])) == shifted


def test_of_many_alike_an_image_is_compared_with_the_likest(monkeypatch, caplog):
    rng = np.random.default_rng(0)
    common = made(rng, 24)
    images = [common.take(np.arange(24 - i)) for i in (0, 12, 4, 16, 8)]
    votes = {(i, j): min(24 - i, 24 - j) for i, j in itertools.combinations((0, 12, 4, 16, 8), 2)}
    assert len(set(candidates.candidates(images))) == len(votes)
    assert not caplog.records
    monkeypatch.setattr(candidates, "_MOST_CANDIDATES", 2)
    found = list(candidates.candidates(images))
    assert found == [(0, 2, False), (0, 4, False), (1, 2, False), (1, 4, False)] + [
        (2, 4, False),
        (2, 3, False),
        (3, 4, False),
    ]
    assert (
        "images that look like more than 2 others were compared with the 2 likest alone. Such "
        "images: 2; pairs not compared: 3" in caplog.text
    )


def test_a_cell_holds_few_features_of_one_image():
    rng = np.random.default_rng(0)
    image, cells = np.repeat(np.arange(6), 20), np.argsort(rng.random((120, 5)), axis=1)[:, :2]
    for most in (1, 3, 40):
        held = candidates._by_cell(cells, image, 7, most)
        for cell, rows in enumerate(held):
            in_cell = np.flatnonzero((cells == cell).any(axis=1))
            expected = [in_cell[image[in_cell] == i][:most] for i in range(6)]
            np.testing.assert_array_equal(rows, np.concatenate(expected))
