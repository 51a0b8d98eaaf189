"""An image as it goes to the device: resampled, padded to one of few shapes, its own size beside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from histojax.config import View
from histojax.images.resampling import NO_RESAMPLING, Resampling
from histojax.utils import files


class PaddedImage(NamedTuple):
    """uint8 [H, W, 3] padded to its buckets, the image's own size, and its file's SHA-256."""

    path: Path
    rgb: np.ndarray
    size: tuple[int, int]
    digest: str


def bucket(side: int) -> int:
    """A side rounded up to one of four sizes an octave (.. 768, 896, 1024, 1280 ..): few shapes for many images."""
    step = max(32, 2 ** (side.bit_length() - 3))
    return -(-side // step) * step


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width after downscaling."""
    return round(size[0] * scale), round(size[1] * scale)


def scales(views: Iterable[View]) -> list[float]:
    """The scales of views, each once."""
    return list(dict.fromkeys(view.scale for view in views))


def read_padded(path: Path, resampling: Resampling = NO_RESAMPLING) -> PaddedImage:
    """Reads an image and pads it below and to the right."""
    rgb = resampling.read(path)
    size = rgb.shape[:2]
    below, right = (bucket(side) - side for side in size)
    return PaddedImage(
        path, np.pad(rgb, ((0, below), (0, right), (0, 0))), size, image_digest(path, resampling)
    )


def image_digest(path: Path, resampling: Resampling) -> str:
    """What an image's descriptors were made of: its file's SHA-256, and the pixel size it was taken to have."""
    return files.sha256(path) + resampling.digest_suffix(path)


def common_canvas(
    sizes: Iterable[Sequence[int]], views: Iterable[View]
) -> dict[float, tuple[int, int]]:
    """Height and width by scale that images of these sizes all fit into, padded and downscaled: one shape for all."""
    padded = [tuple(map(bucket, size)) for size in sizes]
    return {
        scale: tuple(
            max(axis) for axis in zip(*(scaled_size(size, scale) for size in padded), strict=True)
        )
        for scale in scales(views)
        if padded
    }
