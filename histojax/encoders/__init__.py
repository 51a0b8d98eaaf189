"""The frozen encoders: RGB images to descriptors. One literal table owns taps, input convention and weight file.

images [N, H, W, 3]  ->  feature maps  ->  global averages (taps) [N, C]  ->  descriptor [N, D]
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from histojax import pooling
from histojax.encoders import inception_v3, resnet50, vgg16

Variables = dict[str, Any]


def caffe(rgb: jax.Array) -> jax.Array:
    """BGR minus the ImageNet means: float32 0..255 [N, H, W, 3] -> the same shape."""
    return rgb[..., ::-1] - jnp.array([[[[103.939, 116.779, 123.68]]]], jnp.float32)


def minus_one_to_one(rgb: jax.Array) -> jax.Array:
    """0..255 to -1..1."""
    return rgb / 127.5 - 1


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """An official ImageNet weight file, HDF5, without the dense top."""

    file: str
    url: str
    md5: str


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A network, the taps taken of it, what it wants as input, and where its ImageNet weights come from.

    Attributes:
      module: flax module, `apply(variables, inputs) -> {tap: [N, H, W, C]}`.
      channels: channels by tap name, in the order of the descriptor.
      preprocess: RGB float32 in 0..255 to the network's input.
      weight_file: where the weights are published.
    """

    name: str
    module: nn.Module
    channels: tuple[tuple[str, int], ...]
    preprocess: Any
    weight_file: WeightFile

    @property
    def width(self) -> int:
        """Channels of the descriptor, D."""
        return sum(channels for _, channels in self.channels)

    @functools.partial(jax.jit, static_argnums=0)
    def taps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """Global averages by tap name.

        Args:
          variables: {"params": ..., "batch_stats": ...} as `histojax.weights` returns them.
          images: RGB [N, H, W, 3], uint8, or float in 0..255.

        Returns:
          {tap: float32 [N, C]} in the order of the descriptor.

        Raises:
          ValueError: the images are too small for the network, or not RGB.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name} takes RGB images [N, H, W, 3], got shape {images.shape}")
        maps = self.module.apply(variables, self.preprocess(images.astype(jnp.float32)))
        return {tap: pooling.global_average(maps[tap]) for tap, _ in self.channels}

    @functools.partial(jax.jit, static_argnums=0)
    def descriptors(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The taps concatenated: images as in `taps` to float32 [N, D]."""
        taps = self.taps(variables, images)
        return jnp.concatenate([taps[tap] for tap, _ in self.channels], axis=-1)


KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
KERAS_2018 = "https://github.com/fchollet/deep-learning-models/releases/download"

ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            name="ResNet",
            module=resnet50.ResNet50("keras"),
            channels=(("conv5_block3_out", 2048),),
            preprocess=caffe,
            weight_file=WeightFile(
                file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="4d473c1dd8becc155b73f8504c6f6626",
            ),
        ),
        Encoder(
            name="Inception",
            module=inception_v3.InceptionV3(),
            channels=(("mixed10", 2048),),
            preprocess=minus_one_to_one,
            weight_file=WeightFile(
                file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="bcbd6486424b2319ff4ef7d526e38f63",
            ),
        ),
        Encoder(
            name="VGG",
            module=vgg16.VGG16(),
            channels=(("block2_conv2", 128), ("block3_conv3", 256), ("block4_conv3", 512), ("block5_conv3", 512)),
            preprocess=caffe,
            weight_file=WeightFile(
                file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="6d6bbae143d832006294945121d1f1fc",
            ),
        ),
    )
}

# ResNet-50 as it ran in February 2018, with that month's file of the same name; its variables fit both variants.
RESNET_2018 = dataclasses.replace(
    ENCODERS["ResNet"],
    module=resnet50.ResNet50("keras2018"),
    weight_file=WeightFile(
        file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        url=f"{KERAS_2018}/v0.2/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="a268eb855778b3df3c7506639542a6af",
    ),
)
RESNET_VARIANTS = {"keras": ENCODERS["ResNet"], "keras2018": RESNET_2018}


def get(name: str, resnet_variant: str = "keras") -> Encoder:
    """The encoder of that name, ResNet in the wished variant; ValueError names the known ones."""
    if name not in ENCODERS:
        raise ValueError(f"no encoder {name!r}; there are {', '.join(ENCODERS)}")
    if resnet_variant not in RESNET_VARIANTS:
        raise ValueError(f"no ResNet variant {resnet_variant!r}; there are {', '.join(RESNET_VARIANTS)}")
    return RESNET_VARIANTS[resnet_variant] if name == "ResNet" else ENCODERS[name]
