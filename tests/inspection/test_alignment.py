"""A similarity is found among matches of which many are wrong."""

import math

import numpy as np
import pytest

from histojax.inspection import alignment, local_features
from histojax.inspection.local_features import LocalFeatures
from histojax.inspection.similarity import Similarity


def features(rng: np.random.Generator, number: int = 60) -> LocalFeatures:
    points = rng.uniform(0, 224, (number, 2)) @ [1, 1j]
    return LocalFeatures(
        points.astype(np.complex64),
        rng.uniform(2, 8, number).astype(np.float32),
        rng.uniform(-3, 3, number).astype(np.float32),
        rng.integers(0, 100, (number, 128), np.uint8),
    )


def moved(known: LocalFeatures, transform: Similarity, rng: np.random.Generator) -> LocalFeatures:
    """The features as a copy would have them, with a little noise."""
    points = transform.apply(np.stack([known.points.real, known.points.imag], axis=-1)) @ [1, 1j]
    noise = rng.normal(0, 0.5, (len(points), 2)) @ [1, 1j]
    return LocalFeatures(
        (points + noise).astype(np.complex64),
        known.sizes * np.float32(transform.scale),
        known.directions - np.float32(math.radians(transform.degrees)),
        known.descriptors,
    )


@pytest.mark.parametrize("degrees", [0, 47, 180, -120])
def test_most_matches_may_be_wrong(degrees):
    rng = np.random.default_rng(degrees + 180)
    truth = Similarity(0.8, degrees, shift=(12.0, -30.0))
    second = features(rng)
    first = moved(second, truth, rng)
    wrong = rng.permutation(60)[:40]
    first.points[wrong] = rng.uniform(0, 224, (40, 2)) @ [1, 1j]
    found, inliers = alignment.agree(first, second)
    assert 18 <= inliers <= 24
    assert found.scale == pytest.approx(0.8, rel=0.02)
    assert abs((found.degrees - degrees + 180) % 360 - 180) < 1
    np.testing.assert_allclose(
        found.apply(np.array([112, 112])), truth.apply(np.array([112, 112])), atol=1
    )


def test_matches_that_do_not_agree_prove_nothing():
    rng = np.random.default_rng(0)
    second = features(rng)
    first = LocalFeatures(features(rng).points, second.sizes, second.directions, second.descriptors)
    assert alignment.agree(first, second)[1] < alignment.LEAST_INLIERS


def test_features_turned_other_ways_than_their_points_do_not_agree():
    rng = np.random.default_rng(1)
    second = features(rng)
    first = moved(second, Similarity(1.1, 20), rng)
    assert alignment.agree(first, second)[1] == 60
    askew = LocalFeatures(first.points, first.sizes, first.directions + 1, first.descriptors)
    assert alignment.agree(askew, second)[1] == 0


def test_a_feature_is_matched_once():
    second = features(np.random.default_rng(0), 20)
    first = second.take(np.array([*range(20), 3]))
    first.descriptors[20] += 2  # Nearly the fourth, which has an equal.
    matches = alignment._matches(first, second)
    np.testing.assert_array_equal(
        np.sort(matches, axis=0), np.repeat(np.arange(20), 2).reshape(-1, 2)
    )


def test_few_features_are_no_error():
    rng = np.random.default_rng(0)
    for number in (0, 1, 2, 3):
        few = features(rng, number)
        assert alignment.agree(few, features(rng))[1] <= 3
        assert alignment.agree(features(rng), few)[1] <= 3


def test_pictures_do_not_see_brightness_and_contrast():
    rng = np.random.default_rng(0)
    grey = np.clip(rng.normal(120, 20, (160, 200)).cumsum(axis=1) % 120 + 60, 0, 255)
    one = alignment.picture(grey.astype(np.uint8))
    other = alignment.picture((0.6 * grey + 40).astype(np.uint8))
    assert np.corrcoef(one.levels.ravel(), other.levels.ravel())[0, 1] > 0.99
    assert (one.content == 255).all()
    grey[:, :60] = 255
    filled = alignment.picture(grey.astype(np.uint8))
    assert (filled.content[:, :28] == 0).all()
    assert (filled.content[:, 36:] == 255).all()
    assert local_features.is_flat(grey.astype(np.uint8))[:, :50].all()
