"""The frozen encoders: RGB images to descriptors. One literal table has a row for each network.

images [N, H, W, 3]  ->  feature maps  ->  global averages (taps) [N, C]  ->  descriptor [N, D]

An encoder of the table computes as published, in float32. `encoder.folded(precision)`, with the
variables that `encoder.fold_variables` returns, computes the same faster: without batch norms, in
the chosen precision.

`own.register` adds rows of users to the table, of networks in modules of theirs; docs/extending.md
has an example.
"""

import dataclasses

from histojax.encoders import foundation, inception_v3, resnet50, vgg16
from histojax.encoders.encoder import Encoder, Tap, Variables, pool_over_crops
from histojax.encoders.inputs import (
    CAFFE,
    MINUS_ONE_TO_ONE,
    RAW,
    TORCHVISION,
    InputConvention,
    NativeView,
)
from histojax.encoders.precision import PRECISIONS
from histojax.encoders.sources import Published, WeightFile
from histojax.encoders.weight_files import layouts, vit_layouts
from histojax.encoders.weight_files.layouts import Layout

__all__ = [
    "CAFFE",
    "ENCODERS",
    "MINUS_ONE_TO_ONE",
    "PRECISIONS",
    "RAW",
    "RESNET_2018",
    "RESNET_VARIANTS",
    "TORCHVISION",
    "Encoder",
    "InputConvention",
    "Layout",
    "NativeView",
    "Published",
    "Tap",
    "Variables",
    "WeightFile",
    "get",
    "layouts",
    "pool_over_crops",
    "vit_layouts",
]


def _torch(names: dict[str, str], top: str = r"(?!)") -> Layout:
    """Torchvision's names; `top` begins those that are not needed."""
    return Layout("PyTorch", layouts.by_table(lambda _: names, top=top), output_first=True)


def _torch_resnet(last_stage: int, top: str) -> tuple[Layout, ...]:
    """Torchvision's names, and numbers as in `nn.Sequential(*network.children())`."""
    numbered = resnet50.torch_names(last_stage, numbered=True)
    by_number = layouts.by_table(lambda _: numbered, top=top)
    return (
        _torch(resnet50.torch_names(last_stage), top),
        Layout("PyTorch, parts numbered", by_number, output_first=True),
    )


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
                licence="MIT",
            ),
            layouts=(Layout("Keras", layouts.keras(resnet50.layer_names)),),
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
                licence="Apache-2.0",
            ),
            layouts=(Layout("Keras", layouts.keras(inception_v3.layer_names)),),
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
                licence="CC BY 4.0",
            ),
            layouts=(Layout("Keras", layouts.keras(vgg16.layer_names)),),
        ),
    )
}

# As PyTorch has them, for files of weights: none is downloaded.
_TORCH_RESNET = dataclasses.replace(
    ENCODERS["ResNet"],
    name="TorchResNet",
    module=resnet50.ResNet50(variant="torch"),
    convention=TORCHVISION,
    weight_file=None,
    layouts=_torch_resnet(5, top=r"fc\."),
)
ENCODERS |= {
    encoder.name: encoder
    for encoder in (
        _TORCH_RESNET,
        # Up to the third of its blocks, as CLAM takes it.
        dataclasses.replace(
            _TORCH_RESNET,
            name="TorchResNetBlock3",
            module=resnet50.ResNet50(variant="torch", last_stage=4),
            outputs=(Tap(resnet50.LAST_OF_BLOCK3, 1024, stride=16),),
            last_block=("conv4_",),
            layouts=_torch_resnet(4, top=r"(fc|layer4|7)\."),
        ),
        # Torchvision rescales ImageNet's convention to this one within the network.
        dataclasses.replace(
            ENCODERS["Inception"],
            name="TorchInception",
            module=inception_v3.InceptionV3(variant="torch"),
            weight_file=None,
            layouts=(_torch(inception_v3.torch_names(), top=r"(fc|AuxLogits)\."),),
        ),
        dataclasses.replace(
            ENCODERS["VGG"],
            name="TorchVGG",
            convention=TORCHVISION,
            weight_file=None,
            layouts=(_torch(vgg16.torch_names()),),
        ),
    )
}

ENCODERS |= {encoder.name: encoder for encoder in foundation.ROWS}

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
        licence="MIT",
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
