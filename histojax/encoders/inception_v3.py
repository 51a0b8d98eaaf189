"""InceptionV3 (Szegedy et al., arXiv:1512.00567) as Keras has it: [N, H, W, 3] -> feature maps by name.

A branch is a chain of convolutions, each (channels, rows, columns), named `<block>_<branch>_<place in the chain>`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders import layers

Chain = tuple[tuple[int, int, int], ...]
LAST = "mixed10"


def grid35(pooled: int) -> dict[str, Chain]:
    """A block on the 35 x 35 grid (at 299 px)."""
    return {
        "1x1": ((64, 1, 1),),
        "5x5": ((48, 1, 1), (64, 5, 5)),
        "3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
        "pool": ((pooled, 1, 1),),
    }


def grid17(inner: int) -> dict[str, Chain]:
    """A block on the 17 x 17 grid, its 7 x 7 convolutions factorised."""
    return {
        "1x1": ((192, 1, 1),),
        "7x7": ((inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        "7x7dbl": ((inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        "pool": ((192, 1, 1),),
    }


# Blocks that keep the grid, in two runs, and those that halve it (last convolution of each branch at stride 2).
BLOCKS35 = {"mixed0": grid35(32), "mixed1": grid35(64), "mixed2": grid35(64)}
BLOCKS17 = {
    "mixed4": grid17(128),
    "mixed5": grid17(160),
    "mixed6": grid17(160),
    "mixed7": grid17(192),
}
REDUCE35 = {"3x3": ((384, 3, 3),), "3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3))}
REDUCE17 = {
    "3x3": ((192, 1, 1), (320, 3, 3)),
    "7x7x3": ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
}
# The last two blocks end two of their branches in a fork of 1 x 3 and 3 x 1.
FORKED8 = {"3x3": ((384, 1, 1),), "3x3dbl": ((448, 1, 1), (384, 3, 3))}


class InceptionV3(layers.FrozenNetwork):
    """The 2048-channel map `mixed10`."""

    epsilon = 1e-3

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        layers.require_size(images, 75, "InceptionV3")
        x = self.conv(images, (32, 3, 3), "conv_1", strides=2, padding="VALID")
        x = self.conv(x, (32, 3, 3), "conv_2", padding="VALID")
        x = self.conv(x, (64, 3, 3), "conv_3")
        x = layers.max_pool(x, 3)
        x = self.conv(x, (80, 1, 1), "conv_4", padding="VALID")
        x = self.conv(x, (192, 3, 3), "conv_5", padding="VALID")
        x = layers.max_pool(x, 3)
        for name, branches in BLOCKS35.items():
            x = self.block(x, branches, name)
        x = self.reduction(x, REDUCE35, "mixed3")
        for name, branches in BLOCKS17.items():
            x = self.block(x, branches, name)
        x = self.reduction(x, REDUCE17, "mixed8")
        for name in ("mixed9", LAST):
            x = self.forked(x, name)
        return {LAST: x}

    def conv(
        self,
        x: jax.Array,
        shape: tuple[int, int, int],
        name: str,
        strides: int = 1,
        padding: layers.Padding = "SAME",
    ) -> jax.Array:
        """Convolution without bias, batch normalisation without scale, ReLU."""
        channels, *kernel = shape
        x = self.convolve(
            x, channels, tuple(kernel), f"{name}_conv", strides, padding, use_bias=False
        )
        return nn.relu(self.normalize(x, self.epsilon, f"{name}_bn", use_scale=False))

    def chain(self, x: jax.Array, convolutions: Chain, name: str, first: int) -> jax.Array:
        for i, shape in enumerate(convolutions, start=first):
            x = self.conv(x, shape, f"{name}_{i}")
        return x

    def block(self, x: jax.Array, branches: dict[str, Chain], name: str) -> jax.Array:
        heads = self.heads(x, {b: branch[0][0] for b, branch in branches.items()}, name)
        return jnp.concatenate(
            [self.chain(heads[b], branch[1:], f"{name}_{b}", 2) for b, branch in branches.items()],
            axis=-1,
        )

    def heads(self, x: jax.Array, channels: dict[str, int], name: str) -> dict[str, jax.Array]:
        """The 1 x 1 convolutions that the branches of a block begin with; `pool` averages its input first.

        Folded, they are one wide product. A 1 x 1 convolution and an average whose weights add up to one may change
        places, so the pooling branch averages its few outputs instead of its many inputs.
        """
        if not self.folded:
            inputs = {"pool": layers.average_pool_same(x)} if "pool" in channels else {}
            return {
                b: self.conv(inputs.get(b, x), (width, 1, 1), f"{name}_{b}_1")
                for b, width in channels.items()
            }
        shapes = {b: (1, 1, x.shape[-1], width) for b, width in channels.items()}
        weights = [
            layers.Weights(shape, True, name=f"{name}_{b}_1_conv")() for b, shape in shapes.items()
        ]
        with jax.named_scope(f"{name}_heads"):
            kernel, bias = (jnp.concatenate(parts, axis=-1) for parts in zip(*weights, strict=True))
            together = layers.convolution(x, kernel, bias, self.precision)
        parts = jnp.split(together, np.cumsum(list(channels.values()))[:-1], axis=-1)
        heads = dict(zip(channels, parts, strict=True))
        return {
            b: nn.relu(layers.average_pool_same(y) if b == "pool" else y) for b, y in heads.items()
        }

    def reduction(self, x: jax.Array, branches: dict[str, Chain], name: str) -> jax.Array:
        maps = []
        heads = self.heads(
            x, {b: branch[0][0] for b, branch in branches.items() if len(branch) > 1}, name
        )
        for b, (*before, last) in branches.items():
            y = self.chain(heads[b], tuple(before[1:]), f"{name}_{b}", 2) if before else x
            maps.append(
                self.conv(y, last, f"{name}_{b}_{len(before) + 1}", strides=2, padding="VALID")
            )
        return jnp.concatenate([*maps, layers.max_pool(x, 3)], axis=-1)

    def forked(self, x: jax.Array, name: str) -> jax.Array:
        widths = {"1x1": 320, **{b: branch[0][0] for b, branch in FORKED8.items()}, "pool": 192}
        heads = self.heads(x, widths, name)
        maps = [heads["1x1"]]
        for b, branch in FORKED8.items():
            y = self.chain(heads[b], branch[1:], f"{name}_{b}", 2)
            maps.append(self.conv(y, (384, 1, 3), f"{name}_{b}_row"))
            maps.append(self.conv(y, (384, 3, 1), f"{name}_{b}_column"))
        return jnp.concatenate([*maps, heads["pool"]], axis=-1)
