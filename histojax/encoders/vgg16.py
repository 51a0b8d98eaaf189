"""VGG-16 (Simonyan and Zisserman, arXiv:1409.1556) without its dense layers.

[N, H, W, 3] -> feature maps by name.
"""

import itertools

import flax.linen as nn
import jax

from histojax.encoders import layers

# Block, convolutions in it, channels.
BLOCKS = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))


def layer_names(file: layers.KerasFile, shapes: layers.Shapes) -> dict[str, str]:
    """The file's layers to ours: the same names, or numbers in the order of the layers."""
    if "block1_conv1" in file:
        return {layer: layer for layer in file}
    return layers.numbered_layers(file, shapes, _convolutions(), ())


def torch_names() -> dict[str, str]:
    """torchvision's names of arrays, within its `features`, to our flat ones.

    Its numbers count convolutions, ReLUs and pools.
    """
    depths = [depth for _, depth, _ in BLOCKS]
    starts = itertools.accumulate((2 * depth + 1 for depth in depths), initial=0)
    numbers = [start + 2 * i for start, d in zip(starts, depths, strict=False) for i in range(d)]
    leaves = {"weight": "kernel", "bias": "bias"}
    return {
        f"{number}.{theirs}": f"params/{layer}/{ours}"
        for number, layer in zip(numbers, _convolutions(), strict=True)
        for theirs, ours in leaves.items()
    }


def _convolutions() -> list[str]:
    return [f"block{block}_conv{i}" for block, depth, _ in BLOCKS for i in range(1, depth + 1)]


class VGG16(layers.FrozenNetwork):
    """Maps after the ReLU of each block's last convolution, before the block's pooling."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        layers.require_size(images, 16, "VGG-16")
        maps = {}
        x = images
        for block, depth, channels in BLOCKS:
            if block > 1:
                x = layers.max_pool(x, 2)
            for i in range(1, depth + 1):
                x = nn.relu(self.convolve(x, channels, (3, 3), f"block{block}_conv{i}"))
            maps[f"block{block}_conv{depth}"] = x
        return maps
