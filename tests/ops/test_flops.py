"""Counted operations and bytes: by hand for one layer, by the protocol's table for the networks."""

import functools

import jax
import jax.numpy as jnp
import pytest

from histojax import encoders
from histojax.encoders import weights
from histojax.ops import flops

# shared/paper/protocol.md's table, by XLA's cost analysis, in 1e9.
COUNTED = {
    "ResNet": {(400, 400): 24.5, (768, 1024): 120},
    "Inception": {(400, 400): 20.3, (768, 1024): 110},
    "VGG": {(400, 400): 96.2, (650, 650): 254, (768, 1024): 478},
}
random = functools.cache(weights.random)


def test_one_convolution_by_hand():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def function(x, kernel):
        with jax.named_scope("outer"), jax.named_scope("layer"):
            return convolve(x, kernel)

    def by_platform(x, kernel):
        with jax.named_scope("layer"):
            return jax.lax.platform_dependent(x, kernel, cpu=convolve, default=convolve)

    x, kernel = jnp.zeros((2, 10, 12, 3), jnp.bfloat16), jnp.zeros((3, 3, 3, 5), jnp.bfloat16)
    (layer,) = flops.layers(jax.jit(function), x, kernel)
    assert layer.name == "layer"
    assert flops.layers(by_platform, x, kernel) == (layer,)
    assert layer.operations == 2 * (2 * 5 * 8 * 10) * (3 * 3 * 3)
    assert layer.bytes == 2 * (2 * 3 * 10 * 12 + 5 * 3 * 3 * 3 + 2 * 5 * 8 * 10)
    assert layer.activation_bytes == 2 * (2 * 3 * 10 * 12 + 2 * 5 * 8 * 10)
    assert layer.seconds(layer.operations, layer.bytes * 2.0) == 1
    assert layer.seconds(layer.operations * 2.0, layer.bytes / 3) == pytest.approx(3)


@pytest.mark.parametrize("name", list(COUNTED))
def test_the_networks_operations_are_the_protocols(name):
    encoder = encoders.ENCODERS[name]
    folded = encoder.fold_variables(random(name, 0))
    for (height, width), expected in COUNTED[name].items():
        image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        counted = flops.layers(encoder.folded().maps, folded, image)
        # XLA does not count multiplications with padding, and counts pooling: both a few per cent.
        assert flops.total_operations(counted) / 1e9 == pytest.approx(expected, rel=0.04)
        # Inception has 94, but the heads of a block's branches are one product.
        assert len(counted) == {"ResNet": 53, "Inception": 66, "VGG": 13}[name]
        assert len({layer.name for layer in counted}) == len(counted)
