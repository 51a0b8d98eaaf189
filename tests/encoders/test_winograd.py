"""Winograd's algorithm computes the convolution, with float32's error, and on a CPU alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax.encoders import convolutions
from histojax.encoders.precision import FLOAT32, PRECISIONS

CHANNELS, FEATURES = 128, 160
# Compiled whole, as it is used: each operation by itself would be a program of its own.
convolution = jax.jit(convolutions.convolution, static_argnames=("precision", "strides", "padding"))


def layer(sides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps as a rectifier leaves them, a kernel and a bias."""
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(2, *sides, CHANNELS)), 0)
    kernel = rng.normal(size=(3, 3, CHANNELS, FEATURES)) / np.sqrt(9 * CHANNELS)
    return tuple(array.astype(np.float32) for array in (maps, kernel, rng.normal(size=FEATURES)))


def in_float64(
    maps: np.ndarray, kernel: np.ndarray, bias: np.ndarray, padding: tuple[tuple[int, int], ...]
) -> np.ndarray:
    padded = np.pad(maps.astype(np.float64), ((0, 0), *padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel.astype(np.float64), optimize=True) + bias


def error(found: jax.Array, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("sides", "padding", "pads"),
    [
        ((6, 8), "SAME", ((1, 1), (1, 1))),
        ((17, 7), "SAME", ((1, 1), (1, 1))),  # In strips, the last of which is not full.
        ((9, 12), "VALID", ((0, 0), (0, 0))),
        ((7, 6), ((0, 2), (2, 0)), ((0, 2), (2, 0))),
    ],
)
def test_winograds_products_are_the_convolution(sides, padding, pads, monkeypatch):
    monkeypatch.setattr(convolutions, "_WINOGRAD_STRIP", 50)
    maps, kernel, bias = layer(sides)
    expected = in_float64(maps, kernel, bias, pads)
    errors = []
    for transformed in (convolutions.transform(kernel, FLOAT32), None):
        found = convolution(maps, kernel, bias, FLOAT32, 1, padding, transformed)
        assert found.shape == expected.shape
        errors.append(error(found, expected))
    by_winograd, direct = errors
    assert by_winograd < 3e-7
    assert by_winograd < 3 * direct


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_it_is_for_cpus_stride_1_and_maps_that_are_not_tiny(platform):
    kernel = np.ones((3, 3, CHANNELS, FEATURES), np.float32)
    transformed = convolutions.transform(kernel, FLOAT32)
    for side, stride, is_suited in ((9, 1, True), (4, 1, True), (9, 2, False), (3, 1, False)):

        def convolve(maps, stride=stride):
            zeros = jnp.zeros(FEATURES)
            return convolutions.convolution(
                maps, kernel, zeros, FLOAT32, stride, transformed=transformed
            )

        maps = jax.ShapeDtypeStruct((1, side, side, CHANNELS), jnp.float32)
        text = jax.export.export(jax.jit(convolve), platforms=[platform])(maps).mlir_module()
        by_winograd = is_suited and platform == "cpu"
        assert text.count("stablehlo.dot_general") == (
            4 if by_winograd else side == 3 and platform == "cpu"
        )
        assert ("stablehlo.convolution" in text) != ("dot_general" in text)


@pytest.mark.parametrize(
    ("kernel", "precision", "is_transformed"),
    [
        ((3, 3, 128, 160), "float32", True),
        ((3, 3, 128, 160), "bfloat16", False),
        ((3, 3, 128, 127), "float32", False),
        ((3, 3, 127, 160), "float32", False),
        ((1, 7, 128, 128), "float32", False),
    ],
)
def test_kernels_are_transformed_where_that_pays(kernel, precision, is_transformed):
    found = convolutions.transform(np.ones(kernel, np.float32), PRECISIONS[precision])
    assert (found is not None) == is_transformed
