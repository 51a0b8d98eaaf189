"""Convolutions by any way: on a CPU, matrix products for small maps and in bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax.encoders import layers
from histojax.encoders.precision import FLOAT32, PRECISIONS

# Compiled whole, as it is used: each operation by itself would be a program of its own.
convolution = jax.jit(layers.convolution, static_argnames=("precision", "strides", "padding"))


@pytest.mark.parametrize(
    ("sides", "window", "strides", "padding"),
    [
        ((1, 1), (3, 3), 1, "SAME"),
        ((2, 2), (1, 7), 1, "SAME"),
        ((5, 8), (3, 3), 1, "SAME"),
        ((4, 5), (3, 3), 2, ((1, 1), (1, 1))),
        ((5, 8), (3, 3), 1, "VALID"),
        ((5, 8), (3, 3), 2, "VALID"),
        ((5, 8), (3, 3), 2, "SAME"),
        ((5, 8), (3, 2), 2, ((0, 1), (2, 0))),
        ((5, 8), (2, 4), 1, "VALID"),
        ((9, 10), (2, 4), 1, "VALID"),  # XLA's convolution, padded and trimmed.
        ((9, 10), (1, 1), 1, ((0, 1), (2, 0))),
    ],
)
def test_the_fastest_way_is_the_convolution(sides, window, strides, padding):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, *sides, 3)).astype(np.float32)
    kernel = rng.normal(size=(*window, 3, 4)).astype(np.float32)
    found = convolution(maps, kernel, np.ones(4, np.float32), FLOAT32, strides, padding)
    expected = jax.lax.conv_general_dilated(
        maps, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found, np.asarray(expected) + 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sides", "channels", "window", "strides", "padding"),
    [
        ((23, 40), 96, (3, 3), 1, "SAME"),  # In strips, the last of which is not full.
        ((23, 40), 96, (3, 1), 1, "VALID"),
        ((47, 80), 96, (3, 3), 2, "SAME"),  # Never in strips.
        ((9, 10), 97, (3, 3), 2, "VALID"),
        ((9, 10), 96, (1, 1), 2, "VALID"),
    ],
)
def test_in_bfloat16_products_are_summed_in_float32(sides, channels, window, strides, padding):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, *sides, channels)).astype(jnp.bfloat16)
    kernel = rng.normal(size=(*window, channels, 4)).astype(jnp.bfloat16)
    bias = np.ones(4, np.float32)
    found = convolution(maps, kernel, bias, PRECISIONS["bfloat16"], strides, padding)
    expected = jax.lax.conv_general_dilated(
        maps.astype(np.float32),
        kernel.astype(np.float32),
        (strides, strides),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert found.dtype == jnp.bfloat16
    found, expected = np.asarray(found, np.float32), np.asarray(expected)
    np.testing.assert_allclose(found, expected + 1, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_product_is_for_cpus_and_small_maps_alone(platform):
    def convolution(maps, kernel):
        return layers.convolution(maps, kernel, jnp.zeros(4), FLOAT32)

    kernel = jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32)
    for side, is_small in ((8, True), (9, False)):
        maps = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        program = jax.export.export(jax.jit(convolution), platforms=[platform])(maps, kernel)
        text = program.mlir_module()
        assert ("dot_general" in text) == (is_small and platform == "cpu")
        assert ("stablehlo.convolution" in text) != ("dot_general" in text)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_1_x_1_convolutions_in_tf32_are_asked_for_as_the_platform_knows_them(platform):
    layer = jax.jit(functools.partial(layers.convolution, precision=PRECISIONS["tf32"]))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 9, 9, 3), (1, 1, 3, 4), (4,))]
    text = jax.export.export(layer, platforms=[platform])(*shapes).mlir_module()
    assert text.count("stablehlo.dot_general") == 1
    # Of the default precision nothing is written.
    assert ("precision = [HIGH, HIGH]" in text) == (platform == "tpu")
