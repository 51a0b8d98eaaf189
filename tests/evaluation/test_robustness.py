"""How far descriptors and answers move, against pairs counted one by one."""

import itertools

import numpy as np
import pytest

from histojax.evaluation import robustness


def test_distances_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(4, 3, 6)) + rng.normal(size=(4, 1, 6)) * 2
    plain[..., 5] = 7.0  # Never varies.
    stained = plain + 0.3 * rng.normal(size=plain.shape)
    found = robustness.distances(plain.astype(np.float32), stained.astype(np.float32))
    unit = plain[..., :5].std(axis=(0, 1))
    rows, moved = plain[..., :5] / unit, stained[..., :5] / unit

    def root_mean_square(pairs) -> float:
        return np.sqrt(np.mean([((a - b) ** 2).sum() for a, b in pairs]))

    stain = zip(rows.reshape(12, 5), moved.reshape(12, 5), strict=True)
    crops = [pair for image in rows for pair in itertools.permutations(image, 2)]
    images = [
        (a, b)
        for one, other in itertools.permutations(rows, 2)
        for a, b in itertools.product(one, other)
    ]
    expected = tuple(map(root_mean_square, (stain, crops, images)))
    assert (found.stain, found.crops, found.images) == pytest.approx(expected, rel=1e-5)


def test_the_same_colours_move_nothing_and_one_augmentation_has_no_distance_between_crops():
    one = np.random.default_rng(1).normal(size=(3, 1, 4)).astype(np.float32)
    found = robustness.distances(one, one)
    assert found.stain == 0
    assert np.isnan(found.crops)
    with pytest.raises(ValueError, match="expected the same shape"):
        robustness.distances(one, one[:2])


def test_answers_move_by_the_probability_that_changes_class():
    plain = np.array([[[0.7, 0.2, 0.1], [0.4, 0.5, 0.1]], [[0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]])
    stained = np.array([[[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], [[0.1, 0.1, 0.8], [0.4, 0.2, 0.4]]])
    moved = robustness.movement(plain, stained)
    assert moved.change == pytest.approx([(0.1 + 0.2) / 2, (0 + 0.1) / 2])
    assert moved.flips.tolist() == [0.5, 0.5]
