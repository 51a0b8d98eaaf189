"""Downscaling against OpenCV and the protocol's own taps."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from histojax.ops import resize
from tests import references


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


SIDES = st.integers(9, 60)
SCALES = st.sampled_from([0.5, 0.25, 0.7, 0.9]) | st.floats(0.1, 0.9)


# Scales stop at 0.9: where the output has the input's size, OpenCV copies the image at any scale.
@given(st.integers(0, 99), SIDES, SIDES, SCALES)
@example(0, 9, 61, 0.5)
@example(0, 61, 9, 0.5)
@example(0, 1, 90, 0.51)
@settings(max_examples=30, deadline=None)
def test_any_size_equals_opencv(seed, height, width, scale):
    rgb = noise(seed, height, width)
    theirs = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    ours = np.asarray(resize.downscale(rgb, scale))
    assert ours.shape == theirs.shape
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@given(st.integers(1, 2000), st.floats(0.02, 1))
@example(5, 0.5)
@example(7, 0.5)
@settings(max_examples=300, deadline=None)
def test_the_size_is_rounded_as_opencv_rounds_it(size, scale):
    assume(round(size * scale) > 0)
    line = np.zeros((size, 50), np.uint8)
    assert len(resize.bicubic_weights(size, scale)[0]) == len(
        cv2.resize(line, None, fx=scale, fy=scale)
    )


@pytest.mark.parametrize(("height", "width"), [(64, 48), (8, 200), (2, 2)])
def test_one_half_is_the_protocols_taps_exactly(height, width):
    rgb = noise(0, height, width)
    np.testing.assert_array_equal(resize.downscale(rgb, 0.5), references.half(rgb))


def test_steps_between_black_and_white_are_clipped_and_do_not_wrap_round():
    rgb = np.zeros((20, 20, 3), np.uint8)
    rgb[:, 9:] = 255
    half = np.asarray(resize.downscale(rgb, 0.5))
    np.testing.assert_array_equal(half, references.half(rgb))
    assert set(np.unique(half[:, [0, 1, 2, 7, 8, 9]])) == {0, 255}


@given(st.integers(0, 255), SIDES, st.sampled_from([0.1, 1 / 3, 0.5, 0.77, 0.99]))
@settings(max_examples=20, deadline=None)
def test_a_flat_image_stays_flat(grey, side, scale):
    flat = np.full((side, 31, 3), grey, np.uint8)
    assert (np.asarray(resize.downscale(flat, scale)) == grey).all()


@pytest.mark.parametrize("scale", [1, 1.0])
def test_scale_one_is_the_image_itself(scale):
    rgb = noise(1, 20, 31)
    np.testing.assert_array_equal(resize.downscale(rgb, scale), rgb)


@pytest.mark.parametrize("scale", [0, -0.5, 1.5, float("nan")])
def test_scales_outside_zero_to_one_are_refused(scale):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        resize.downscale(noise(0, 10, 10), scale)


@pytest.mark.parametrize(
    ("side", "new_side", "resize_filter"),
    [(61, 24, "bicubic"), (61, 24, "bilinear"), (20, 33, "bicubic"), (20, 33, "bilinear")],
)
def test_crops_are_resized_as_pillow_does(side, new_side, resize_filter):
    rgb = noise(0, side, side)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    theirs = np.asarray(
        Image.fromarray(rgb).resize((new_side, new_side), filters[resize_filter]), np.int32
    )
    (ours,) = np.asarray(resize.antialiased(rgb[None].astype(np.float32), new_side, resize_filter))
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1  # Pillow rounds its weights to 22 bits, which decides ties.
    assert np.mean(difference > 0) < 0.05


def test_crops_of_the_side_asked_for_are_left_as_they_are():
    images = noise(0, 24, 24)[None].astype(np.float32)
    assert resize.antialiased(images, 24, "bicubic") is images
    with pytest.raises(ValueError, match="no filter 'nearest'; there are bilinear, bicubic"):
        resize.antialiased(images, 24, "nearest")
    with pytest.raises(ValueError, match=r"must be square, got shape \(1, 24, 20, 3\)"):
        resize.antialiased(images[:, :, :20], 24, "bicubic")
