"""ResNet-50 (He et al., arXiv:1512.03385): [N, H, W, 3] -> feature maps by name.

In Keras convolutions have biases, and a block's stride is on its first 1 x 1 convolution and on the
shortcut. Two variants share one set of weights, the third has weights of its own:

`keras`      today's Keras: batch-norm epsilon 1.001e-5, max-pool padded by one.
`keras2018`  Keras 2.1.4 on Theano, which made the published descriptors: epsilon 1e-3, max-pool
             without padding, and a 7 x 7 average pool at stride 7 before the global average, which
             drops incomplete windows.
`torch`      torchvision's, called v1.5: the stride is on the 3 x 3 convolution, which pads by one
             on every side; no biases; epsilon 1e-5.
"""

import re
from collections.abc import Iterator

import flax.linen as nn
import jax

from histojax.encoders import layers

# Stage, blocks in it, inner channels (the block's output has four times as many).
STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))
LAST = "conv5_block3_out"
LAST_OF_BLOCK3 = "conv4_block6_out"  # The third of torchvision's four blocks, CLAM's last.
_EPSILON = {"keras": 1.001e-5, "keras2018": 1e-3, "torch": 1e-5}

# In the weight file of 2018: the middle of a layer's name by the convolution's number in our block.
_BRANCHES_2018 = {"0": "branch1", "1": "branch2a", "2": "branch2b", "3": "branch2c"}


# The order of a block's layers in Keras, where it matters: in files without their names.
_KERAS_ORDER = ("1", "2", "0", "3")


def layer_names(file: layers.KerasFile, shapes: layers.Shapes) -> dict[str, str]:
    """The file's layers to ours: today's names are ours, those of 2018 number blocks by letters."""
    if "conv1_conv" in file:
        return {layer: layer for layer in file}
    if "bn_conv1" not in file:
        convolutions = ["conv1_conv", *(f"{block}_conv" for block in _in_keras_order())]
        norms = [f"{name.removesuffix('_conv')}_bn" for name in convolutions]
        return layers.numbered_layers(file, shapes, convolutions, norms)
    names = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}
    for flat_name in shapes:
        layer = flat_name.split("/")[1]
        if match := re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer):
            stage, block, convolution, kind = match.groups()
            prefix = "res" if kind == "conv" else "bn"
            letter = "abcdef"[int(block) - 1]
            names[f"{prefix}{stage}{letter}_{_BRANCHES_2018[convolution]}"] = layer
    return names


def _in_keras_order() -> Iterator[str]:
    for stage, blocks, _ in STAGES:
        for block in range(1, blocks + 1):
            for place in _KERAS_ORDER:
                if place != "0" or block == 1:
                    yield f"conv{stage}_block{block}_{place}"


def torch_names(last_stage: int = 5, numbered: bool = False) -> dict[str, str]:
    """torchvision's names of arrays to our flat ones.

    Args:
      last_stage: of the network.
      numbered: whether the parts have numbers, as in `nn.Sequential(*network.children())`, and not
        names.
    """
    convolution, norm, layer = ("0", "1", "{}") if numbered else ("conv1", "bn1", "layer{}")
    names = {f"{convolution}.weight": "params/conv1_conv/kernel"}
    names |= layers.torch_norm(norm, "conv1_bn")
    for stage, blocks, _ in STAGES[: last_stage - 1]:
        number = stage + 2 if numbered else stage - 1
        for block in range(1, blocks + 1):
            theirs = f"{layer.format(number)}.{block - 1}"
            ours = f"conv{stage}_block{block}"
            parts = {f"{i}": (f"conv{i}", f"bn{i}") for i in (1, 2, 3)}
            if block == 1:
                parts["0"] = ("downsample.0", "downsample.1")
            for place, (convolution, norm) in parts.items():
                names[f"{theirs}.{convolution}.weight"] = f"params/{ours}_{place}_conv/kernel"
                names |= layers.torch_norm(f"{theirs}.{norm}", f"{ours}_{place}_bn")
    return names


class ResNet50(layers.FrozenNetwork):
    """The last feature map, of 2048 channels; of 1024 where `last_stage` is 4."""

    variant: str = "keras"
    last_stage: int = 5

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        legacy = self.variant == "keras2018"
        # 197 px is the smallest side whose last map is 7 x 7, the window of the old average pool.
        layers.require_size(images, 197 if legacy else 32, f"ResNet-50 ({self.variant})")
        padding = ((3, 3), (3, 3))
        x = self.convolve(images, 64, (7, 7), "conv1_conv", 2, padding, self._use_bias)
        x = nn.relu(self._norm(x, "conv1_bn"))
        x = layers.max_pool(x, 3, padding=0 if legacy else 1)
        for stage, blocks, channels in STAGES[: self.last_stage - 1]:
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                x = self._bottleneck(
                    x, channels, stride, shortcut=block == 1, name=f"conv{stage}_block{block}"
                )
        return {LAST if self.last_stage == 5 else LAST_OF_BLOCK3: x}

    @property
    def epsilon(self) -> float:
        """Of every batch norm."""
        return _EPSILON[self.variant]

    @property
    def _use_bias(self) -> bool:
        return self.variant != "torch"

    def _norm(self, x: jax.Array, name: str) -> jax.Array:
        return self.normalize(x, self.epsilon, name)

    def _bottleneck(
        self, x: jax.Array, channels: int, stride: int, shortcut: bool, name: str
    ) -> jax.Array:
        """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut, projected where the shape changes."""
        first, middle = (1, stride) if self.variant == "torch" else (stride, 1)
        residual = x
        if shortcut:
            residual = self._pointwise(x, 4 * channels, f"{name}_0", stride)
        x = nn.relu(self._pointwise(x, channels, f"{name}_1", first))
        padding = ((1, 1), (1, 1)) if middle > 1 else "SAME"
        x = self.convolve(x, channels, (3, 3), f"{name}_2_conv", middle, padding, self._use_bias)
        x = nn.relu(self._norm(x, f"{name}_2_bn"))
        return nn.relu(residual + self._pointwise(x, 4 * channels, f"{name}_3"))

    def _pointwise(self, x: jax.Array, channels: int, name: str, stride: int = 1) -> jax.Array:
        """A 1 x 1 convolution with its batch norm."""
        x = self.convolve(x, channels, (1, 1), f"{name}_conv", stride, "VALID", self._use_bias)
        return self._norm(x, f"{name}_bn")
