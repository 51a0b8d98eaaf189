"""InceptionV3 (Szegedy et al., arXiv:1512.00567): [N, H, W, 3] -> feature maps by name.

A branch is a chain of convolutions, each (channels, rows, columns), named
`<block>_<branch>_<number in the chain>`. Two variants have weights of their own:

`keras`  batch norms have no scale, and average pools leave padding out of the mean.
`torch`  torchvision's: batch norms have scales, and average pools count padding as zeros.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders import layers

Chain = tuple[tuple[int, int, int], ...]
LAST = "mixed10"


def _grid35(pooled: int) -> dict[str, Chain]:
    """A block on the 35 x 35 grid (at 299 px)."""
    return {
        "1x1": ((64, 1, 1),),
        "5x5": ((48, 1, 1), (64, 5, 5)),
        "3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
        "pool": ((pooled, 1, 1),),
    }


def _grid17(inner: int) -> dict[str, Chain]:
    """A block on the 17 x 17 grid, its 7 x 7 convolutions factorised."""
    return {
        "1x1": ((192, 1, 1),),
        "7x7": ((inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        "7x7dbl": ((inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        "pool": ((192, 1, 1),),
    }


# Blocks that keep the grid, in two runs, and those that halve it (the last convolution of each
# branch has stride 2).
BLOCKS35 = {"mixed0": _grid35(32), "mixed1": _grid35(64), "mixed2": _grid35(64)}
BLOCKS17 = {
    "mixed4": _grid17(128),
    "mixed5": _grid17(160),
    "mixed6": _grid17(160),
    "mixed7": _grid17(192),
}
REDUCE35 = {"3x3": ((384, 3, 3),), "3x3dbl": ((64, 1, 1), (96, 3, 3), (96, 3, 3))}
REDUCE17 = {
    "3x3": ((192, 1, 1), (320, 3, 3)),
    "7x7x3": ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
}
# The last two blocks end two of their branches in a fork of 1 x 3 and 3 x 1.
FORKED8 = {"3x3": ((384, 1, 1),), "3x3dbl": ((448, 1, 1), (384, 3, 3))}
_LAST_BLOCK = {"1x1": ((320, 1, 1),), **FORKED8, "pool": ((192, 1, 1),)}
_BLOCKS = {
    **BLOCKS35,
    "mixed3": REDUCE35,
    **BLOCKS17,
    "mixed8": REDUCE17,
    "mixed9": _LAST_BLOCK,
    LAST: _LAST_BLOCK,
}
# Channels of the 1 x 1 convolutions that see a block's input, by branch.
HEADS = {
    block: {b: channels for b, ((channels, *kernel), *_) in branches.items() if kernel == [1, 1]}
    for block, branches in _BLOCKS.items()
}


# Layers are numbered, not named, in the weight file: they are matched in the file's order, which is
# Keras's order of a graph by depth, so that the branches of a block are interleaved. The same for
# convolutions and batch norms.
_ORDER35 = ("3x3dbl_1", "5x5_1", "3x3dbl_2", "1x1_1", "5x5_2", "3x3dbl_3", "pool_1")
_ORDER17 = (
    *("7x7dbl_1", "7x7dbl_2", "7x7_1", "7x7dbl_3", "7x7_2"),
    *("7x7dbl_4", "1x1_1", "7x7_3", "7x7dbl_5", "pool_1"),
)
_ORDER8 = (
    *("3x3dbl_1", "3x3_1", "3x3dbl_2", "3x3_row", "3x3_column"),
    *("3x3dbl_row", "3x3dbl_column", "1x1_1", "pool_1"),
)
_FILE_ORDER = {
    "conv": ("1", "2", "3", "4", "5"),
    "mixed0": _ORDER35,
    "mixed1": _ORDER35,
    "mixed2": _ORDER35,
    "mixed3": ("3x3dbl_1", "3x3dbl_2", "3x3_1", "3x3dbl_3"),
    "mixed4": _ORDER17,
    "mixed5": _ORDER17,
    "mixed6": _ORDER17,
    "mixed7": _ORDER17,
    "mixed8": ("7x7x3_1", "7x7x3_2", "3x3_1", "7x7x3_3", "3x3_2", "7x7x3_4"),
    "mixed9": _ORDER8,
    "mixed10": _ORDER8,
}


def layer_names(file: layers.KerasFile, shapes: layers.Shapes) -> dict[str, str]:
    """The file's layers to ours, by order; aligned by shape if the file has too few or too many."""
    ours = [f"{block}_{part}" for block, parts in _FILE_ORDER.items() for part in parts]
    convolutions, norms = ([f"{name}_{kind}" for name in ours] for kind in ("conv", "bn"))
    return layers.numbered_layers(file, shapes, convolutions, norms)


_TORCH_BLOCKS = dict(
    zip(
        (f"mixed{i}" for i in range(11)),
        ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"),
        strict=True,
    )
)
_TORCH_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
# Branches of a single convolution have no number there, and the two ends of a fork have letters.
_TORCH_PARTS = {"1x1_1": "1x1", "pool_1": "_pool"}
_TORCH_FORKS = {
    "3x3_row": "3x3_2a",
    "3x3_column": "3x3_2b",
    "3x3dbl_row": "3x3dbl_3a",
    "3x3dbl_column": "3x3dbl_3b",
}


def torch_names() -> dict[str, str]:
    """torchvision's names of arrays to our flat ones."""
    pairs = [(theirs, f"conv_{i}") for i, theirs in enumerate(_TORCH_STEM, start=1)]
    for block, theirs in _TORCH_BLOCKS.items():
        parts = _TORCH_PARTS | _TORCH_FORKS
        if block == "mixed3":
            parts |= {"3x3_1": "3x3"}
        pairs += [
            (f"Mixed_{theirs}.branch{parts.get(part, part)}", f"{block}_{part}")
            for part in _FILE_ORDER[block]
        ]
    names: dict[str, str] = {}
    for theirs, ours in pairs:
        names[f"{theirs}.conv.weight"] = f"params/{ours}_conv/kernel"
        names |= layers.torch_norm(f"{theirs}.bn", f"{ours}_bn")
    return names


class InceptionV3(layers.FrozenNetwork):
    """The 2048-channel map `mixed10`."""

    variant: str = "keras"

    epsilon = 1e-3
    joined = {
        f"{block}_heads": tuple(f"{block}_{b}_1_conv" for b in heads)
        for block, heads in HEADS.items()
    }

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        layers.require_size(images, 75, "InceptionV3")
        x = self._conv(images, (32, 3, 3), "conv_1", strides=2, padding="VALID")
        x = self._conv(x, (32, 3, 3), "conv_2", padding="VALID")
        x = self._conv(x, (64, 3, 3), "conv_3")
        x = layers.max_pool(x, 3)
        x = self._conv(x, (80, 1, 1), "conv_4", padding="VALID")
        x = self._conv(x, (192, 3, 3), "conv_5", padding="VALID")
        x = layers.max_pool(x, 3)
        for name, branches in BLOCKS35.items():
            x = self._block(x, branches, name)
        x = self._reduction(x, REDUCE35, "mixed3")
        for name, branches in BLOCKS17.items():
            x = self._block(x, branches, name)
        x = self._reduction(x, REDUCE17, "mixed8")
        for name in ("mixed9", LAST):
            x = self._forked(x, name)
        return {LAST: x}

    def _conv(
        self,
        x: jax.Array,
        shape: tuple[int, int, int],
        name: str,
        strides: int = 1,
        padding: layers.Padding = "SAME",
    ) -> jax.Array:
        """Convolution without bias, batch normalisation, ReLU."""
        channels, *kernel = shape
        x = self.convolve(
            x, channels, tuple(kernel), f"{name}_conv", strides, padding, use_bias=False
        )
        scaled = self.variant == "torch"
        return nn.relu(self.normalize(x, self.epsilon, f"{name}_bn", use_scale=scaled))

    def _average(self, x: jax.Array) -> jax.Array:
        return layers.average_pool_same(x, count_padding=self.variant == "torch")

    def _chain(self, x: jax.Array, convolutions: Chain, name: str, first: int) -> jax.Array:
        for i, shape in enumerate(convolutions, start=first):
            x = self._conv(x, shape, f"{name}_{i}")
        return x

    def _block(self, x: jax.Array, branches: dict[str, Chain], name: str) -> jax.Array:
        heads = self._heads(x, name)
        return jnp.concatenate(
            [self._chain(heads[b], branch[1:], f"{name}_{b}", 2) for b, branch in branches.items()],
            axis=-1,
        )

    def _heads(self, x: jax.Array, name: str) -> dict[str, jax.Array]:
        """The first 1 x 1 convolutions of a block's branches; `pool` averages its input first.

        Folded, they are one wide product. A 1 x 1 convolution commutes with an average, so the
        pooling branch then averages its few outputs instead of its many inputs. Its bias commutes
        too where the average's weights add up to one; where padding counts, it is added later.
        """
        channels = HEADS[name]
        if not self.folded:
            inputs = {"pool": self._average(x)} if "pool" in channels else {}
            return {
                b: self._conv(inputs.get(b, x), (width, 1, 1), f"{name}_{b}_1")
                for b, width in channels.items()
            }
        shapes = {b: (1, 1, x.shape[-1], width) for b, width in channels.items()}
        weights = [
            layers.Weights(shape, True, name=f"{name}_{b}_1_conv")() for b, shape in shapes.items()
        ]
        later = {}
        if self.variant == "torch" and "pool" in channels:
            place = list(channels).index("pool")
            kernel, bias = weights[place]
            weights[place], later = (kernel, jnp.zeros_like(bias)), {"pool": bias}
        with jax.named_scope(f"{name}_heads"):
            kernels, biases = zip(*weights, strict=True)
            kernel = self.get_variable(layers.JOINED, f"{name}_heads")
            kernel = layers.join(kernels) if kernel is None else kernel
            together = layers.convolution(x, kernel, layers.join(biases), self.precision)
        parts = jnp.split(together, np.cumsum(list(channels.values()))[:-1], axis=-1)
        heads = dict(zip(channels, parts, strict=True))
        if "pool" in heads:
            heads["pool"] = self._average(heads["pool"])
        heads |= {b: heads[b] + bias.astype(x.dtype)[None, None, None] for b, bias in later.items()}
        return {b: nn.relu(y) for b, y in heads.items()}

    def _reduction(self, x: jax.Array, branches: dict[str, Chain], name: str) -> jax.Array:
        maps = []
        heads = self._heads(x, name)
        for b, (*before, last) in branches.items():
            y = self._chain(heads[b], tuple(before[1:]), f"{name}_{b}", 2) if before else x
            maps.append(
                self._conv(y, last, f"{name}_{b}_{len(before) + 1}", strides=2, padding="VALID")
            )
        return jnp.concatenate([*maps, layers.max_pool(x, 3)], axis=-1)

    def _forked(self, x: jax.Array, name: str) -> jax.Array:
        heads = self._heads(x, name)
        maps = [heads["1x1"]]
        for b, branch in FORKED8.items():
            y = self._chain(heads[b], branch[1:], f"{name}_{b}", 2)
            maps.append(self._conv(y, (384, 1, 3), f"{name}_{b}_row"))
            maps.append(self._conv(y, (384, 3, 1), f"{name}_{b}_column"))
        return jnp.concatenate([*maps, heads["pool"]], axis=-1)
