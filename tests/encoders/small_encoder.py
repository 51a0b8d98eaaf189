"""An encoder as one would add it: a network, the name table of its weight file, and its row."""

import flax.linen as nn
import jax

from histojax.encoders import MINUS_ONE_TO_ONE, Encoder, Tap, WeightFile, layers, layouts


class SmallNetwork(layers.FrozenNetwork):
    """Two convolutions, the first with batch norm: [N, H, W, 3] -> {"conv2": [N, H/8, W/8, 12]}."""

    epsilon = 1e-3

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        layers.require_size(images, 16, "SmallNetwork")
        x = self.convolve(images, 8, (3, 3), "conv1_conv", strides=4, use_bias=False)
        x = nn.relu(self.normalize(x, self.epsilon, "conv1_bn"))
        x = nn.relu(self.convolve(x, 12, (3, 3), "conv2", strides=2))
        return {"conv2": x}


def layer_names(file: layers.KerasFile, shapes: layers.Shapes) -> dict[str, str]:
    """The file's layers to ours."""
    return {"stem": "conv1_conv", "stem_norm": "conv1_bn", "head": "conv2"}


SMALL = Encoder(
    name="Small",
    module=SmallNetwork(),
    outputs=(Tap("conv2", 12, stride=8),),
    convention=MINUS_ONE_TO_ONE,
    first_convolution="conv1_conv",
    first_convolution_padded=True,
    last_block=("conv2",),
    tile=256,
    halo=32,
    weight_file=WeightFile(file="small.h5", url="https://example.org/small.h5", md5=""),
    layouts=(layouts.Layout("Keras", layouts.keras(layer_names)),),
)
