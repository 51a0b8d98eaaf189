"""VGG-16 (Simonyan and Zisserman, arXiv:1409.1556) without its dense layers.

[N, H, W, 3] -> feature maps by name.
"""

import flax.linen as nn
import jax

from histojax.encoders import layers

# Block, convolutions in it, channels.
BLOCKS = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))


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
