"""ResNet-50, InceptionV3 and VGG-16 in PyTorch, with torchvision's structure and names.

Written from the papers and torchvision's names of parameters; `tests/parity/test_torch.py` compares
ours with them. Images are [N, 3, H, W]; `taps` returns our taps' maps in our order.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Bottleneck(nn.Module):
    """The stride is on the 3 x 3 convolution."""

    def __init__(self, inputs, channels, stride, project):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * channels, 1, stride, bias=False), nn.BatchNorm2d(4 * channels)
            )

    def forward(self, x):
        shortcut = self.downsample(x) if self.downsample else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """With its dense top, which files of it hold too."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (blocks, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
            layer = nn.Sequential()
            for i in range(blocks):
                stride = 2 if i == 0 and number > 1 else 1
                layer.append(Bottleneck(inputs, channels, stride, project=i == 0))
                inputs = 4 * channels
            setattr(self, f"layer{number}", layer)
        self.fc = nn.Linear(2048, 1000)

    def taps(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        third = self.layer3(self.layer2(self.layer1(x)))
        return {"block3": third, "block4": self.layer4(third)}


class BasicConv2d(nn.Module):
    def __init__(self, inputs, channels, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def pooled(x):
    """Torchvision counts the padding."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


def same(kernel):
    return tuple(side // 2 for side in kernel)


class Branches(nn.Module):
    """Chains of convolutions; a block is the chains' ends side by side."""

    def add(self, inputs, *convolutions, names, stride=1):
        for i, (name, (channels, *kernel)) in enumerate(zip(names, convolutions, strict=True)):
            last = i == len(names) - 1 and stride == 2
            padding = 0 if last else same(kernel)
            made = BasicConv2d(inputs, channels, tuple(kernel), 2 if last else 1, padding)
            self.add_module(name, made)
            inputs = channels

    def chain(self, x, *names):
        for name in names:
            x = getattr(self, name)(x)
        return x


def numbered(name, count):
    return tuple(f"{name}_{i}" for i in range(1, count + 1))


class Grid35(Branches):
    def __init__(self, inputs, pool):
        super().__init__()
        self.add(inputs, (64, 1, 1), names=("branch1x1",))
        self.add(inputs, (48, 1, 1), (64, 5, 5), names=numbered("branch5x5", 2))
        double = (64, 1, 1), (96, 3, 3), (96, 3, 3)
        self.add(inputs, *double, names=numbered("branch3x3dbl", 3))
        self.add(inputs, (pool, 1, 1), names=("branch_pool",))

    def forward(self, x):
        ends = self.branch1x1(x), self.chain(x, *numbered("branch5x5", 2))
        double = self.chain(x, *numbered("branch3x3dbl", 3))
        return torch.cat([*ends, double, self.branch_pool(pooled(x))], 1)


class Reduction35(Branches):
    def __init__(self, inputs):
        super().__init__()
        self.add(inputs, (384, 3, 3), names=("branch3x3",), stride=2)
        double = (64, 1, 1), (96, 3, 3), (96, 3, 3)
        self.add(inputs, *double, names=numbered("branch3x3dbl", 3), stride=2)

    def forward(self, x):
        double = self.chain(x, *numbered("branch3x3dbl", 3))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class Grid17(Branches):
    def __init__(self, inner):
        super().__init__()
        seven = (inner, 1, 1), (inner, 1, 7), (192, 7, 1)
        double = (inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)
        self.add(768, (192, 1, 1), names=("branch1x1",))
        self.add(768, *seven, names=numbered("branch7x7", 3))
        self.add(768, *double, names=numbered("branch7x7dbl", 5))
        self.add(768, (192, 1, 1), names=("branch_pool",))

    def forward(self, x):
        seven = self.chain(x, *numbered("branch7x7", 3))
        double = self.chain(x, *numbered("branch7x7dbl", 5))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(pooled(x))], 1)


class Reduction17(Branches):
    def __init__(self):
        super().__init__()
        self.add(768, (192, 1, 1), (320, 3, 3), names=numbered("branch3x3", 2), stride=2)
        seven = (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)
        self.add(768, *seven, names=numbered("branch7x7x3", 4), stride=2)

    def forward(self, x):
        three = self.chain(x, *numbered("branch3x3", 2))
        seven = self.chain(x, *numbered("branch7x7x3", 4))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class Grid8(Branches):
    def __init__(self, inputs):
        super().__init__()
        self.add(inputs, (320, 1, 1), names=("branch1x1",))
        self.add(inputs, (384, 1, 1), names=("branch3x3_1",))
        self.add(inputs, (448, 1, 1), (384, 3, 3), names=numbered("branch3x3dbl", 2))
        for fork in ("branch3x3_2", "branch3x3dbl_3"):
            self.add(384, (384, 1, 3), names=(f"{fork}a",))
            self.add(384, (384, 3, 1), names=(f"{fork}b",))
        self.add(inputs, (192, 1, 1), names=("branch_pool",))

    def forward(self, x):
        three, double = self.branch3x3_1(x), self.chain(x, *numbered("branch3x3dbl", 2))
        forks = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        forks += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(pooled(x))], 1)


class InceptionV3(nn.Module):
    """Without its auxiliary classifier."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        for name, inputs, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            setattr(self, f"Mixed_{name}", Grid35(inputs, pool))
        self.Mixed_6a = Reduction35(288)
        for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            setattr(self, f"Mixed_{name}", Grid17(inner))
        self.Mixed_7a = Reduction17()
        self.Mixed_7b, self.Mixed_7c = Grid8(1280), Grid8(2048)
        self.fc = nn.Linear(2048, 1000)

    def taps(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            x = block(x) if name.startswith("Mixed") else x
        return {"mixed10": x}


class VGG16(nn.Module):
    """With its dense top, of few units here."""

    def __init__(self):
        super().__init__()
        self.features, inputs = nn.Sequential(), 3
        for depth, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(depth):
                self.features.append(nn.Conv2d(inputs, channels, 3, padding=1))
                self.features.append(nn.ReLU())
                inputs = channels
            self.features.append(nn.MaxPool2d(2, 2))
        self.classifier = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 8))

    def taps(self, x):
        maps = {}
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (8, 15, 22, 29):
                maps[str(i)] = x
        return maps


NETWORKS = {
    "TorchResNet": (ResNet50, ("block4",)),
    "TorchResNetBlock3": (ResNet50, ("block3",)),
    "TorchInception": (InceptionV3, ("mixed10",)),
    "TorchVGG": (VGG16, ("8", "15", "22", "29")),
}
# Torchvision's transforms: values in 0..1, less a mean, over a deviation.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(name: str, seed: int = 0) -> nn.Module:
    """In eval mode; He's kernels, and biases, scales and statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    made = NETWORKS[name][0]().eval()
    with torch.no_grad():
        for key, value in made.state_dict().items():
            if value.ndim == 4:
                deviation = (2 / value[0].numel()) ** 0.5
                value.copy_(torch.randn(value.shape, generator=generator) * deviation)
            elif value.ndim == 1 and key.endswith(("running_var", "weight")):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.ndim == 1:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return made


def averages(name: str, made: nn.Module, images) -> list:
    """The taps' global averages of uint8 RGB images [N, H, W, 3], by torchvision's recipe."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in IMAGENET)
    x = (x - mean) / deviation
    if name == "TorchInception":  # Its `transform_input`.
        x = (x * deviation + mean - 0.5) / 0.5
    with torch.inference_mode():
        maps = made.taps(x)
    return [maps[tap].mean((2, 3)).numpy() for tap in NETWORKS[name][1]]
