"""The frozen encoders: RGB images to descriptors. One literal table has a row for each network.

images [N, H, W, 3]  ->  feature maps  ->  global averages (taps) [N, C]  ->  descriptor [N, D]

An encoder of the table computes as published, in float32. `encoder.folded(precision)`, with the
variables that `encoder.fold_variables` returns, computes the same faster: without batch norms, in
the chosen precision.

To add an encoder, write a module with its network (a `layers.FrozenNetwork`) and a row of ENCODERS;
docs/extending.md has an example.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from histojax.encoders import folding, inception_v3, resnet50, vgg16
from histojax.encoders.layers import KerasFile, Shapes
from histojax.encoders.precision import PRECISIONS
from histojax.ops import pooling

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class InputConvention:
    """The input of a network: RGB in 0..255, less a mean, over a divisor, in RGB or BGR order."""

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
    """A feature map whose average goes into the descriptor.

    Attributes:
      layer: its name in the module's output.
      channels: its width, C.
      stride: pixels of the image from one cell of the map to the next.
      multiple: rows and columns beyond a multiple of this are left out of the average. (ResNet-50
        of 2018 had a 7 x 7 average pool here, at stride 7, which dropped incomplete windows.)
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
        rows, columns = (self.averaged_cells(side) for side in maps.shape[1:3])
        return pooling.global_average(maps[:, :rows, :columns])


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """An official ImageNet weight file, HDF5, without the dense top.

    Attributes:
      file, url, md5: its name, address and checksum.
      layer_names: (the file's arrays, the shapes of our variables by flat name) -> our layer by the
        file's layer; None where the names are the same.
    """

    file: str
    url: str
    md5: str
    layer_names: Callable[[KerasFile, Shapes], dict[str, str]] | None = None


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A network, its taps and input convention, and where its ImageNet weights come from.

    Attributes:
      module: flax module, `apply(variables, inputs) -> {layer: [N, H, W, C]}`.
      outputs: the taps in the order of the descriptor.
      convention: RGB in 0..255 to the network's input.
      first_convolution: the layer that sees the input.
      first_convolution_padded: whether it pads: then the convention's shift cannot be folded into
        it, for the padding would be shifted too.
      last_block: how the names of the layers at the coarsest resolution begin: fine-tuning with
        --blocks=last trains these alone.
      tile: side of the square of a field that heat maps show the network at a time, px at the
        view's scale; a multiple of 32.
      halo: px on each side of a tile whose feature cells are dropped, because they lack what lies
        beyond the tile; a multiple of 32. docs/performance.md has the seams that remain.
      weight_file: where the ImageNet weights are published; None where there are none.
    """

    name: str
    module: nn.Module
    outputs: tuple[Tap, ...]
    convention: InputConvention
    first_convolution: str
    first_convolution_padded: bool
    last_block: tuple[str, ...]
    tile: int
    halo: int
    weight_file: WeightFile | None

    @property
    def width(self) -> int:
        """Channels of the descriptor, D."""
        return sum(tap.channels for tap in self.outputs)

    def folded(self, precision: str = "float32") -> "Encoder":
        """The encoder for variables of `fold_variables`; ValueError for an unknown precision."""
        if precision not in PRECISIONS:
            raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)}")
        padded = self.first_convolution_padded
        convention = dataclasses.replace(self.convention, bgr=False) if padded else RAW
        module = self.module.clone(folded=True, precision=PRECISIONS[precision])
        return dataclasses.replace(self, module=module, convention=convention)

    def fold_variables(self, variables: Variables, precision: str = "float32") -> Variables:
        """Variables for `folded(precision)`, with batch norms folded into the convolutions.

        The input convention is folded too, as far as that is exact.
        """
        params = folding.fold_batch_norms(variables, getattr(self.module, "epsilon", 0.0))["params"]
        first = params[self.first_convolution]
        if self.convention.bgr:
            first = folding.fold_channel_order(first)
        if not self.first_convolution_padded:
            divisor, mean = self.convention.divisor, self.convention.mean
            first = folding.fold_scale_and_shift(first, 1 / divisor, mean)
        params[self.first_convolution] = first
        dtype = PRECISIONS[precision].dtype
        return {"params": jax.tree.map(lambda array: jnp.asarray(array, dtype), params)}

    def maps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """The feature maps of the taps by layer, [N, H, W, C] in the precision's dtype.

        Args and errors as for `taps`.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name} takes RGB images [N, H, W, 3], got shape {images.shape}")
        with jax.named_scope("trunk"):
            return self.module.apply(variables, self.convention(images.astype(jnp.float32)))

    @functools.partial(jax.jit, static_argnums=0)
    def taps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """Global averages by layer.

        Args:
          variables: {"params": ..., "batch_stats": ...} as from `histojax.encoders.weights`.
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


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_KERAS_2018 = "https://github.com/fchollet/deep-learning-models/releases/download"

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
            last_block=("conv5_",),
            tile=1280,
            halo=192,
            weight_file=WeightFile(
                file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="4d473c1dd8becc155b73f8504c6f6626",
                layer_names=resnet50.layer_names,
            ),
        ),
        Encoder(
            name="Inception",
            module=inception_v3.InceptionV3(),
            outputs=(Tap(inception_v3.LAST, 2048, stride=32),),
            convention=MINUS_ONE_TO_ONE,
            first_convolution="conv_1_conv",
            first_convolution_padded=False,
            last_block=("mixed8_", "mixed9_", "mixed10_"),
            tile=1280,
            halo=256,
            weight_file=WeightFile(
                file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{_KERAS}/inception_v3/"
                "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="bcbd6486424b2319ff4ef7d526e38f63",
                layer_names=inception_v3.layer_names,
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
            last_block=("block5_",),
            tile=1024,
            halo=96,
            weight_file=WeightFile(
                file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="6d6bbae143d832006294945121d1f1fc",
            ),
        ),
    )
}

# ResNet-50 as it ran in February 2018, with that month's file of the same name; its variables fit
# both variants.
RESNET_2018 = dataclasses.replace(
    ENCODERS["ResNet"],
    module=resnet50.ResNet50(variant="keras2018"),
    outputs=(Tap(resnet50.LAST, 2048, stride=32, multiple=7),),
    weight_file=WeightFile(
        file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        url=f"{_KERAS_2018}/v0.2/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="a268eb855778b3df3c7506639542a6af",
        layer_names=resnet50.layer_names,
    ),
)
RESNET_VARIANTS = {"keras": ENCODERS["ResNet"], "keras2018": RESNET_2018}


def get(name: str, resnet_variant: str = "keras") -> Encoder:
    """The encoder of that name, ResNet in the given variant; ValueError lists the known names."""
    if name not in ENCODERS:
        raise ValueError(f"no encoder {name!r}; there are {', '.join(ENCODERS)}")
    if resnet_variant not in RESNET_VARIANTS:
        known = ", ".join(RESNET_VARIANTS)
        raise ValueError(f"no ResNet variant {resnet_variant!r}; there are {known}")
    return RESNET_VARIANTS[resnet_variant] if name == "ResNet" else ENCODERS[name]
