"""Crops come from the image, anywhere in it, turned as NumPy turns; keys depend on what they should and no more."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from histojax import crops

# Every pixel of this image is different, so that a crop tells where it came from.
IMAGE = np.arange(30 * 41 * 3, dtype=np.int32).reshape(30, 41, 3)


def key(seed=0, name="b001"):
    return crops.image_key(seed, name)


def many(count: int, size: int = 12, name: str = "b001") -> np.ndarray:
    cut = jax.vmap(lambda i: crops.random_crop(IMAGE, key(name=name), i // 20, i % 20, size))
    return np.asarray(cut(np.arange(count)))


@pytest.mark.parametrize(
    ("k", "up_down", "left_right"), list(itertools.product(range(4), [False, True], [False, True]))
)
def test_turns_and_flips_are_numpys(k, up_down, left_right):
    square = IMAGE[:12, :12]
    expected = np.rot90(square, k)
    expected = np.flipud(expected) if up_down else expected
    expected = np.fliplr(expected) if left_right else expected
    np.testing.assert_array_equal(crops.turn_and_flip(square, k, up_down, left_right), expected)


def test_a_crop_is_a_window_of_the_image_turned_and_flipped():
    for crop in many(60):
        red = crop[..., 0] // 3
        top, left = divmod(int(red.min()), 41)
        window = IMAGE[top : top + 12, left : left + 12]
        ways = [np.rot90(window, k) for k in range(4)]
        assert any(np.array_equal(crop, each) for way in ways for each in (way, np.flipud(way)))


def test_all_positions_that_fit_are_reached_and_equally_likely():
    corners = many(6000)[..., 0].min(axis=(1, 2)) // 3
    tops, lefts = np.divmod(corners, 41)
    for found, places in ((tops, 30 - 12 + 1), (lefts, 41 - 12 + 1)):
        counts = np.bincount(found, minlength=places)
        assert len(counts) == places
        assert stats.chisquare(counts).pvalue > 1e-4


def test_all_eight_orientations_are_equally_likely():
    square = many(4000, 30)
    corner = [tuple(crop[[0, 0, -1, -1], [0, -1, 0, -1], 0] - crop[..., 0].min()) for crop in square]
    counts = np.unique(np.array(corner), axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_crop_of_the_whole_image_fits():
    crop = crops.random_crop(IMAGE[:, :30], key(), 0, 0, 30)
    assert sorted(np.asarray(crop).ravel()) == sorted(IMAGE[:, :30].ravel())


def test_crops_depend_on_seed_name_augmentation_and_crop():
    def draw(seed=0, name="b001", augmentation=0, crop=0):
        return np.asarray(crops.random_crop(IMAGE, key(seed, name), augmentation, crop, 12)).tobytes()

    others = [draw(seed=1), draw(name="b002"), draw(augmentation=1), draw(crop=1)]
    assert len({draw(), *others}) == 5
    assert draw() == draw()


def test_crops_are_the_same_one_by_one_as_together():
    together = many(40)
    for i in (0, 7, 39):
        np.testing.assert_array_equal(together[i], crops.random_crop(IMAGE, key(), i // 20, i % 20, 12))


def test_gains_are_independent_uniform_and_differ_by_augmentation():
    draw = jax.vmap(lambda a: crops.gains(key(), a, 0.7, 1.3))
    gains = np.asarray(draw(np.arange(4000)))
    assert gains.shape == (4000, 2)
    assert gains.min() >= 0.7
    assert gains.max() < 1.3
    for column in gains.T:
        assert stats.kstest(column, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(gains.T)[0, 1]) < 0.06
