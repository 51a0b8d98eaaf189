"""The frozen encoders: RGB images to descriptors. One literal table owns taps, input convention and weight file.

images [N, H, W, 3]  ->  feature maps  ->  global averages (taps) [N, C]  ->  descriptor [N, D]

An encoder of the table computes as published, in float32. `encoder.folded(precision)`, with the variables that
`encoder.fold_variables` makes for it, computes the same faster: without batch norms, in the precision wished.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from histojax.encoders import folding, inception_v3, resnet50, vgg16
from histojax.encoders.precision import PRECISIONS
from histojax.ops import pooling

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class InputConvention:
    """What a network wants as input: RGB in 0..255, less its mean, over a divisor, in RGB or BGR order."""

    mean: tuple[float, float, float]
    divisor: float = 1.0
    bgr: bool = False

    def __call__(self, rgb: jax.Array) -> jax.Array:
        """float32 RGB [N, H, W, 3] to the network's input."""
        shifted = (rgb - jnp.array([[[self.mean]]], jnp.float32)) / self.divisor
        return shifted[..., ::-1] if self.bgr else shifted


CAFFE = InputConvention(mean=(123.68, 116.779, 103.939), bgr=True)
MINUS_ONE_TO_ONE = InputConvention(mean=(127.5, 127.5, 127.5), divisor=127.5)
RAW = InputConvention(mean=(0.0, 0.0, 0.0))


@dataclasses.dataclass(frozen=True)
class Tap:
    """A feature map that is averaged into the descriptor.

    Attributes:
      layer: its name in the module's output.
      channels: its width, C.
      stride: pixels of the image from one cell of the map to the next.
      multiple: rows and columns beyond a multiple of this are left out of the average. (ResNet-50 of 2018 had a 7 x 7
        average pool there, at stride 7, which dropped those that filled no window.)
    """

    layer: str
    channels: int
    stride: int
    multiple: int = 1

    def averaged_cells(self, size: int) -> int:
        """How many of a map's rows, or columns, are averaged."""
        return size // self.multiple * self.multiple

    def average(self, maps: jax.Array) -> jax.Array:
        """[N, H, W, C] to float32 [N, C]."""
        return pooling.global_average(
            maps[:, : self.averaged_cells(maps.shape[1]), : self.averaged_cells(maps.shape[2])]
        )


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
      module: flax module, `apply(variables, inputs) -> {layer: [N, H, W, C]}`.
      outputs: the taps in the order of the descriptor.
      convention: RGB in 0..255 to the network's input.
      first_convolution: the convolution that sees the input.
      first_convolution_padded: whether it pads: then the convention's shift cannot be folded into it, for it would see the shift
        at the border.
      weight_file: where the weights are published.
    """

    name: str
    module: nn.Module
    outputs: tuple[Tap, ...]
    convention: InputConvention
    first_convolution: str
    first_convolution_padded: bool
    weight_file: WeightFile

    @property
    def width(self) -> int:
        """Channels of the descriptor, D."""
        return sum(tap.channels for tap in self.outputs)

    def folded(self, precision: str = "float32") -> "Encoder":
        """The encoder for variables of `fold_variables`, in a precision of `PRECISIONS`; ValueError names the known ones."""
        if precision not in PRECISIONS:
            raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)}")
        left = (
            dataclasses.replace(self.convention, bgr=False)
            if self.first_convolution_padded
            else RAW
        )
        module = self.module.clone(folded=True, precision=PRECISIONS[precision])
        return dataclasses.replace(self, module=module, convention=left)

    def fold_variables(self, variables: Variables, precision: str = "float32") -> Variables:
        """Variables for `folded(precision)`: batch norms and, where that is exact, the input convention folded."""
        params = folding.fold_batch_norms(variables, getattr(self.module, "epsilon", 0.0))["params"]
        if self.convention.bgr:
            params[self.first_convolution] = folding.fold_channel_order(
                params[self.first_convolution]
            )
        if not self.first_convolution_padded:
            divisor, mean = self.convention.divisor, self.convention.mean
            params[self.first_convolution] = folding.fold_scale_and_shift(
                params[self.first_convolution], 1 / divisor, mean
            )
        dtype = PRECISIONS[precision].dtype
        return {"params": jax.tree.map(lambda array: jnp.asarray(array, dtype), params)}

    def maps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """The feature maps of the taps by layer: images as in `taps` to [N, H, W, C] in the precision's dtype.

        Raises:
          ValueError: the images are too small for the network, or not RGB.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name} takes RGB images [N, H, W, 3], got shape {images.shape}")
        with jax.named_scope("trunk"):
            return self.module.apply(variables, self.convention(images.astype(jnp.float32)))

    @functools.partial(jax.jit, static_argnums=0)
    def taps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """Global averages by layer.

        Args:
          variables: {"params": ..., "batch_stats": ...} as `histojax.encoders.weights` returns them.
          images: RGB [N, H, W, 3], uint8, or float in 0..255.

        Returns:
          {layer: float32 [N, C]} in the order of the descriptor.

        Raises:
          ValueError: the images are too small for the network, or not RGB.
        """
        maps = self.maps(variables, images)
        with jax.named_scope("taps"):
            return {tap.layer: tap.average(maps[tap.layer]) for tap in self.outputs}

    @functools.partial(jax.jit, static_argnums=0)
    def descriptors(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The taps concatenated: images as in `taps` to float32 [N, D]."""
        return jnp.concatenate(list(self.taps(variables, images).values()), axis=-1)


KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
KERAS_2018 = "https://github.com/fchollet/deep-learning-models/releases/download"

ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            name="ResNet",
            module=resnet50.ResNet50(),
            outputs=(Tap(resnet50.LAST, 2048, stride=32),),
            convention=CAFFE,
            first_convolution="conv1_conv",
            first_convolution_padded=True,
            weight_file=WeightFile(
                file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="4d473c1dd8becc155b73f8504c6f6626",
            ),
        ),
        Encoder(
            name="Inception",
            module=inception_v3.InceptionV3(),
            outputs=(Tap(inception_v3.LAST, 2048, stride=32),),
            convention=MINUS_ONE_TO_ONE,
            first_convolution="conv_1_conv",
            first_convolution_padded=False,
            weight_file=WeightFile(
                file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="bcbd6486424b2319ff4ef7d526e38f63",
            ),
        ),
        Encoder(
            name="VGG",
            module=vgg16.VGG16(),
            outputs=(
                Tap("block2_conv2", 128, stride=2),
                Tap("block3_conv3", 256, stride=4),
                Tap("block4_conv3", 512, stride=8),
                Tap("block5_conv3", 512, stride=16),
            ),
            convention=CAFFE,
            first_convolution="block1_conv1",
            first_convolution_padded=True,
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
    module=resnet50.ResNet50(variant="keras2018"),
    outputs=(Tap(resnet50.LAST, 2048, stride=32, multiple=7),),
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
        raise ValueError(
            f"no ResNet variant {resnet_variant!r}; there are {', '.join(RESNET_VARIANTS)}"
        )
    return RESNET_VARIANTS[resnet_variant] if name == "ResNet" else ENCODERS[name]
