"""The encoders in PyTorch, layer by layer Keras's, and torchvision's own: crops to descriptors.

Modules are nested so that a layer's path, its dots made underscores, is our name of it:
`mixed0.3x3dbl.1.conv`. Maps are [N, C, H, W], channels last in memory. Every padding of Keras is
symmetric in these networks, so none is laid by hand.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.traverse_util
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from histojax.encoders import inception_v3, resnet50, vgg16

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
LEAVES = {
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless `linear`, ReLU."""

    def __init__(
        self,
        inputs,
        outputs,
        kernel,
        stride=1,
        padding=None,
        epsilon=1e-3,
        bias=False,
        linear=False,
    ):
        super().__init__()
        padding = tuple(side // 2 for side in kernel) if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.bn = nn.BatchNorm2d(outputs, eps=epsilon)
        self.linear = linear

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.linear else F.relu(x, inplace=True)


class Bottleneck(nn.ModuleDict):
    """1 x 1 with the stride, 3 x 3, 1 x 1, beside a shortcut, projected where the shape changes."""

    def __init__(self, inputs, channels, stride, project):
        layer = partial(ConvNorm, epsilon=1.001e-5, bias=True)
        shortcut = (
            {"0": layer(inputs, 4 * channels, (1, 1), stride, linear=True)} if project else {}
        )
        super().__init__(
            {
                **shortcut,
                "1": layer(inputs, channels, (1, 1), stride),
                "2": layer(channels, channels, (3, 3)),
                "3": layer(channels, 4 * channels, (1, 1), linear=True),
            }
        )

    def forward(self, x):
        shortcut = self["0"](x) if "0" in self else x
        return F.relu(shortcut + self["3"](self["2"](self["1"](x))), inplace=True)


class ResNet50(nn.Module):
    """The last map."""

    def __init__(self):
        super().__init__()
        self.conv1 = ConvNorm(3, 64, (7, 7), 2, epsilon=1.001e-5, bias=True)
        self.blocks, inputs = [], 64
        for stage, blocks, channels in resnet50.STAGES:
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                self.blocks.append(f"conv{stage}_block{block}")
                self.add_module(
                    self.blocks[-1], Bottleneck(inputs, channels, stride, project=block == 1)
                )
                inputs = 4 * channels

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, padding=1)
        for block in self.blocks:
            x = getattr(self, block)(x)
        return [x]


def chain(inputs: int, shapes, **last) -> nn.Sequential:
    """Convolutions named 1, 2, ...; `last` is for the last of them alone."""
    layers = OrderedDict()
    for i, (channels, *kernel) in enumerate(shapes, start=1):
        layers[f"{i}"] = ConvNorm(
            inputs, channels, tuple(kernel), **(last if i == len(shapes) else {})
        )
        inputs = channels
    return nn.Sequential(layers)


def average_pool(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Block(nn.ModuleDict):
    """Branches that keep the grid."""

    def __init__(self, inputs, branches):
        super().__init__({name: chain(inputs, branch) for name, branch in branches.items()})
        self.outputs = sum(branch[-1][0] for branch in branches.values())

    def forward(self, x):
        return torch.cat(
            [branch(average_pool(x) if name == "pool" else x) for name, branch in self.items()], 1
        )


class Reduction(nn.ModuleDict):
    """Branches that halve the grid, and its maxima."""

    def __init__(self, inputs, branches):
        super().__init__(
            {name: chain(inputs, branch, stride=2, padding=0) for name, branch in branches.items()}
        )
        self.outputs = inputs + sum(branch[-1][0] for branch in branches.values())

    def forward(self, x):
        return torch.cat([*(branch(x) for branch in self.values()), F.max_pool2d(x, 3, 2)], 1)


class Forked(Block):
    """The blocks whose 3 x 3 branches end in a 1 x 3 beside a 3 x 1."""

    def __init__(self, inputs):
        super().__init__(
            inputs, {"1x1": ((320, 1, 1),), **inception_v3.FORKED8, "pool": ((192, 1, 1),)}
        )
        for name in inception_v3.FORKED8:
            self[name] = Fork(self[name])
        self.outputs = 2048


class Fork(nn.Sequential):
    """A chain, and its two ends."""

    def __init__(self, trunk):
        super().__init__(
            OrderedDict(
                trunk.named_children(),
                row=ConvNorm(384, 384, (1, 3)),
                column=ConvNorm(384, 384, (3, 1)),
            )
        )

    def forward(self, x):
        *trunk, row, column = self
        for layer in trunk:
            x = layer(x)
        return torch.cat([row(x), column(x)], 1)


class InceptionV3(nn.Module):
    """The map `mixed10`."""

    def __init__(self):
        super().__init__()
        self.conv_1 = ConvNorm(3, 32, (3, 3), 2, padding=0)
        self.conv_2 = ConvNorm(32, 32, (3, 3), padding=0)
        self.conv_3 = ConvNorm(32, 64, (3, 3))
        self.conv_4 = ConvNorm(64, 80, (1, 1))
        self.conv_5 = ConvNorm(80, 192, (3, 3), padding=0)
        blocks = {
            **{
                name: partial(Block, branches=branches)
                for name, branches in inception_v3.BLOCKS35.items()
            },
            "mixed3": partial(Reduction, branches=inception_v3.REDUCE35),
            **{
                name: partial(Block, branches=branches)
                for name, branches in inception_v3.BLOCKS17.items()
            },
            "mixed8": partial(Reduction, branches=inception_v3.REDUCE17),
            "mixed9": Forked,
            "mixed10": Forked,
        }
        self.blocks, inputs = list(blocks), 192
        for name, block in blocks.items():
            self.add_module(name, block(inputs))
            inputs = getattr(self, name).outputs

    def forward(self, x):
        x = F.max_pool2d(self.conv_3(self.conv_2(self.conv_1(x))), 3, 2)
        x = F.max_pool2d(self.conv_5(self.conv_4(x)), 3, 2)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return [x]


class VGG16(nn.Module):
    """Maps after the last ReLU of blocks 2 to 5."""

    def __init__(self):
        super().__init__()
        self.blocks, inputs = [], 3
        for block, depth, channels in vgg16.BLOCKS:
            layers = nn.ModuleDict()
            for i in range(1, depth + 1):
                layers[f"conv{i}"] = nn.Conv2d(inputs, channels, 3, padding=1)
                inputs = channels
            self.blocks.append(f"block{block}")
            self.add_module(self.blocks[-1], layers)

    def forward(self, x):
        maps = []
        for name in self.blocks:
            x = F.max_pool2d(x, 2) if maps else x
            for layer in getattr(self, name).values():
                x = F.relu(layer(x), inplace=True)
            maps.append(x)
        return maps[1:]


NETWORKS = {"ResNet": ResNet50, "Inception": InceptionV3, "VGG": VGG16}


def load(network: nn.Module, variables: dict[str, Any]) -> None:
    """Copies our variables into the network; KeyError or RuntimeError where they do not fit."""
    ours = {
        "/".join(path): np.asarray(value)
        for path, value in flax.traverse_util.flatten_dict(variables).items()
    }
    state = {}
    for name, tensor in network.state_dict().items():
        layer, leaf = name.rsplit(".", 1)
        collection, renamed = LEAVES.get(
            leaf, ("params", "kernel" if tensor.ndim == 4 else "scale")
        )
        value = ours.pop(f"{collection}/{layer.replace('.', '_')}/{renamed}", None)
        if value is None:  # The count of batches seen, and InceptionV3's scales, which are ones.
            state[name] = tensor
        else:
            state[name] = torch.tensor(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    if ours:
        raise KeyError(f"no layer for {', '.join(ours)}")
    network.load_state_dict(state)


class DescriptorModel(nn.Module):
    """uint8 [N, H, W, 3] to float32 [N, D]: input convention, network, averages of its maps."""

    def __init__(self, name: str, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype, self.caffe = network, dtype, name != "Inception"
        self.register_buffer("means", torch.tensor([103.939, 116.779, 123.68]).reshape(1, 3, 1, 1))

    def forward(self, images):
        x = images.permute(0, 3, 1, 2).float()
        x = x.flip(1) - self.means if self.caffe else x / 127.5 - 1
        x = x.to(self.dtype, memory_format=torch.channels_last)
        return torch.cat([maps.mean((2, 3), dtype=torch.float32) for maps in self.network(x)], 1)


def sees_gpu() -> bool:
    return torch.cuda.is_available()


def call(
    name: str,
    network: nn.Module,
    precision: str,
    crops: np.ndarray,
    gpu: bool,
    compiled: bool = False,
) -> Callable[[], np.ndarray]:
    """The network in eval mode on the device, channels last, as a function without arguments."""
    dtype = DTYPES[precision]
    network = network.eval().to(dtype, memory_format=torch.channels_last)
    return timed(DescriptorModel(name, network, dtype), precision, crops, gpu, compiled)


def timed(
    model: nn.Module, precision: str, crops: np.ndarray, gpu: bool, compiled: bool
) -> Callable[[], np.ndarray]:
    """A model of uint8 crops on the device, as a function without arguments."""
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    torch.backends.cudnn.benchmark = True
    model = model.eval().to(device)
    model = torch.compile(model) if compiled else model
    images = torch.from_numpy(crops).to(device)

    def run() -> np.ndarray:
        # Set at each call: peers of another precision are timed in turns with this one.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            precision != "float32"
        )
        with torch.inference_mode():
            return model(images).cpu().numpy()

    return run


def descriptor(
    name: str,
    variables: dict[str, Any],
    precision: str,
    crops: np.ndarray,
    gpu: bool,
    compiled: bool = False,
) -> Callable[[], np.ndarray]:
    """Our variables in the network of that name."""
    network = NETWORKS[name]()
    load(network, variables)
    return call(name, network, precision, crops, gpu, compiled)


# Nodes of torchvision's networks that stand where our taps do.
TORCHVISION = {
    "ResNet": ("resnet50", ("layer4",)),
    "Inception": ("inception_v3", ("Mixed_7c",)),
    "VGG": ("vgg16", ("features.8", "features.15", "features.22", "features.29")),
}


class Taps(nn.Module):
    """torchvision's maps by node as a list."""

    def __init__(self, network: str, nodes: tuple[str, ...]):
        super().__init__()
        import torchvision
        from torchvision.models import feature_extraction

        extra = (
            {"init_weights": False} if network == "inception_v3" else {}
        )  # Its own takes a minute.
        whole = torchvision.models.get_model(network, weights=None, **extra).eval()
        self.extractor = feature_extraction.create_feature_extractor(
            whole, list(nodes), suppress_diff_warning=True
        )

    def forward(self, x):
        return list(self.extractor(x).values())


def torchvision_descriptor(
    name: str, precision: str, crops: np.ndarray, gpu: bool
) -> Callable[[], np.ndarray]:
    """torchvision's network, for its speed alone: it has other strides, paddings and weights."""
    return call(name, Taps(*TORCHVISION[name]), precision, crops, gpu)
