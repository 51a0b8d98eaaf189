"""ResNet-50 (He et al., arXiv:1512.03385) as in Keras: [N, H, W, 3] -> feature maps by name.

Keras's network differs from torchvision's: convolutions have biases, and a block's stride is on its
first 1 x 1 convolution and on the shortcut. Two variants share one set of weights:

`keras`      today's Keras: batch-norm epsilon 1.001e-5, max-pool padded by one.
`keras2018`  Keras 2.1.4 on Theano, which made the published descriptors: epsilon 1e-3, max-pool
             without padding, and a 7 x 7 average pool at stride 7 before the global average, which
             drops incomplete windows.
"""

import re

import flax.linen as nn
import jax

from histojax.encoders import layers

# Stage, blocks in it, inner channels (the block's output has four times as many).
STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))
LAST = "conv5_block3_out"

# In the weight file of 2018: the middle of a layer's name by the convolution's number in our block.
_BRANCHES_2018 = {"0": "branch1", "1": "branch2a", "2": "branch2b", "3": "branch2c"}


def layer_names(file: layers.KerasFile, shapes: layers.Shapes) -> dict[str, str]:
    """The file's layers to ours: today's names are ours, those of 2018 number blocks by letters."""
    if not any(name.startswith(("res", "bn")) for name in file):
        return {layer: layer for layer in file}
    names = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}
    for flat_name in shapes:
        layer = flat_name.split("/")[1]
        if match := re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer):
            stage, block, convolution, kind = match.groups()
            prefix = "res" if kind == "conv" else "bn"
            letter = "abcdef"[int(block) - 1]
            names[f"{prefix}{stage}{letter}_{_BRANCHES_2018[convolution]}"] = layer
    return names


class ResNet50(layers.FrozenNetwork):
    """The last feature map, of 2048 channels."""

    variant: str = "keras"

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        legacy = self.variant == "keras2018"
        # 197 px is the smallest side whose last map is 7 x 7, the window of the old average pool.
        layers.require_size(images, 197 if legacy else 32, f"ResNet-50 ({self.variant})")
        x = self.convolve(images, 64, (7, 7), "conv1_conv", strides=2, padding=((3, 3), (3, 3)))
        x = nn.relu(self._norm(x, "conv1_bn"))
        x = layers.max_pool(x, 3, padding=0 if legacy else 1)
        for stage, blocks, channels in STAGES:
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                x = self._bottleneck(
                    x, channels, stride, shortcut=block == 1, name=f"conv{stage}_block{block}"
                )
        return {LAST: x}

    @property
    def epsilon(self) -> float:
        """Of every batch norm."""
        return 1e-3 if self.variant == "keras2018" else 1.001e-5

    def _norm(self, x: jax.Array, name: str) -> jax.Array:
        return self.normalize(x, self.epsilon, name)

    def _bottleneck(
        self, x: jax.Array, channels: int, stride: int, shortcut: bool, name: str
    ) -> jax.Array:
        """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut, projected where the shape changes."""
        residual = x
        if shortcut:
            residual = self.convolve(
                x, 4 * channels, (1, 1), f"{name}_0_conv", strides=stride, padding="VALID"
            )
            residual = self._norm(residual, f"{name}_0_bn")
        x = self.convolve(x, channels, (1, 1), f"{name}_1_conv", strides=stride, padding="VALID")
        x = nn.relu(self._norm(x, f"{name}_1_bn"))
        x = self.convolve(x, channels, (3, 3), f"{name}_2_conv")
        x = nn.relu(self._norm(x, f"{name}_2_bn"))
        x = self.convolve(x, 4 * channels, (1, 1), f"{name}_3_conv", padding="VALID")
        return nn.relu(residual + self._norm(x, f"{name}_3_bn"))
