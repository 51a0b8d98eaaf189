"""Windows around grid positions and feature cells under them; for tiles see test_slide_scan."""

import itertools

import jax
import numpy as np

from histojax.config import View
from histojax.encoders import Tap
from histojax.heatmap import tile_features
from histojax.ops import crops, stain
from tests import samples
from tests.heatmap import tiny


def test_windows_stay_within_the_field():
    starts = tile_features.window_starts(np.array([5.0, 50.0, 98.0]), crop_size=40, size=100)
    np.testing.assert_array_equal(starts, [[0, 0, 0], [20, 30, 40], [60, 60, 60]])


def test_reflected_source_pixels_are_those_of_the_field_inside():
    start, count, inside = tile_features.source_pixels(-3, 6, size=40, scale=0.5)
    assert start == 0
    assert count <= tile_features.most_source_pixels(6, 0.5)
    np.testing.assert_array_equal(inside.pixels[:3], inside.pixels[:2:-1])
    np.testing.assert_array_equal(inside.weights[:3], inside.weights[:2:-1])


def test_a_position_is_described_by_nine_windows_of_the_maps_of_the_whole_field():
    """Against the whole field in one pass, by NumPy: crops and corners on whole feature cells."""
    extraction, rgb = tiny.protocol(View(1.0, 64)), samples.tissue(3, 96, 128)
    descriptors, scored = tiny.descriptors_of(rgb, extraction, 32)
    assert scored.all()

    loaded = tiny.encoder_set(extraction).encoders["Tiny"]
    reflected = np.pad(stain.normalize(rgb), ((96, 96), (96, 96), (0, 0)), "symmetric")
    key = crops.image_key(0, "a")
    gains = crops.gains(key, 0, extraction.gain_low, extraction.gain_high)
    image = stain.augment(reflected, gains)[None]
    maps = jax.jit(loaded.encoder.maps)(loaded.variables, image)
    for position, (row, column) in ((0, (0, 0)), (6, (1, 2)), (11, (2, 3))):
        windows = []
        for down, right in itertools.product((-16, 0, 16), repeat=2):
            top = np.clip(32 * row - 16 + down, 0, 32) + 96
            left = np.clip(32 * column - 16 + right, 0, 64) + 96
            means = []
            for tap in loaded.encoder.outputs:
                side = 64 // tap.stride
                window = np.asarray(maps[tap.layer])[0, top // tap.stride :, left // tap.stride :]
                means.append(window[:side, :side].mean(axis=(0, 1)))
            windows.append(np.concatenate(means))
        expected = np.mean(np.array(windows, np.float64) ** 3, axis=0) ** (1 / 3)
        # The stains of both differ in the last bit, which changes a grey level here and there.
        np.testing.assert_allclose(
            descriptors["Tiny-1.0-64"][position, 0], expected, rtol=2e-2, atol=2e-3 * expected.max()
        )


def test_only_channels_that_are_never_negative_stay_so_at_the_border():
    cells = np.zeros((3, 1, 3, 2), np.float32)
    cells[..., 1] = -1
    border, tops = np.array([-1.0, -1.0], np.float32), np.zeros(3, np.float32)
    lefts = np.zeros((1, 3), np.float32)
    position = tile_features.position_descriptors(
        cells,
        border,
        tops,
        lefts,
        taps=((Tap("a", 1), 2.0), (Tap("b", 1, signed=True), 2.0)),
        p=3.0,
    )
    np.testing.assert_allclose(position[0, 0], [0, -2], rtol=1e-5)
