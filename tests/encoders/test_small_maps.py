"""Convolutions of maps of a few cells, which a CPU computes as products of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax.encoders import layers
from histojax.encoders.precision import FLOAT32


@pytest.mark.parametrize(
    ("sides", "window", "strides", "padding"),
    [
        ((1, 1), (3, 3), 1, "SAME"),
        ((2, 2), (1, 7), 1, "SAME"),
        ((5, 8), (3, 3), 1, "SAME"),
        ((4, 5), (3, 3), 2, ((1, 1), (1, 1))),
        ((5, 8), (3, 3), 1, "VALID"),
        ((5, 8), (3, 3), 2, "VALID"),
    ],
)
def test_the_product_is_the_convolution(sides, window, strides, padding):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, *sides, 3)).astype(np.float32)
    kernel = rng.normal(size=(*window, 3, 4)).astype(np.float32)
    found = layers.convolution(maps, kernel, jnp.ones(4), FLOAT32, strides, padding)
    expected = jax.lax.conv_general_dilated(
        maps, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found, expected + 1, rtol=1e-4, atol=1e-5)


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
