"""Downscaling against OpenCV and the protocol's own taps."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax import resize
from tests import references


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(0, 99), st.integers(9, 60), st.integers(9, 60), st.sampled_from([0.5, 0.25, 0.7, 0.9]))
@settings(max_examples=40, deadline=None)
def test_any_size_equals_opencv(seed, height, width, scale):
    rgb = noise(seed, height, width)
    theirs = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    ours = np.asarray(resize.downscale(rgb, scale))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_one_half_is_the_protocols_taps_exactly():
    rgb = noise(0, 64, 48)
    np.testing.assert_array_equal(resize.downscale(rgb, 0.5), references.half(rgb))


def test_a_flat_image_stays_flat_and_scale_one_is_the_image_itself():
    flat = np.full((31, 20, 3), 201, np.uint8)
    assert (np.asarray(resize.downscale(flat, 0.3)) == 201).all()
    rgb = noise(1, 20, 30)
    np.testing.assert_array_equal(resize.downscale(rgb, 1.0), rgb)


@pytest.mark.parametrize("scale", [0, -0.5, 1.5])
def test_scales_outside_zero_to_one_are_refused(scale):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        resize.downscale(noise(0, 10, 10), scale)
