"""Images as they go to the device: resampled, and padded to one of few shapes.

uint8 [h, w, 3] -> uint8 [H, W, 3], with zeros below and to the right.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from histojax.config import View
from histojax.images import slide
from histojax.images.resampling import NO_RESAMPLING, Resampling


class PaddedImage(NamedTuple):
    """A padded image.

    Attributes:
      path: its file.
      rgb: uint8 [H, W, 3].
      size: height and width without padding.
      digest: see `image_digest`.
    """

    path: Path
    rgb: np.ndarray
    size: tuple[int, int]
    digest: str


def bucket(side: int) -> int:
    """A side rounded up to one of four sizes an octave: few shapes (.. 768, 896, 1024, 1280 ..)."""
    step = max(32, 2 ** (side.bit_length() - 3))
    return -(-side // step) * step


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width after downscaling."""
    return round(size[0] * scale), round(size[1] * scale)


def scales(views: Iterable[View]) -> list[float]:
    """The scales of views, each once."""
    return list(dict.fromkeys(view.scale for view in views))


def read_padded(path: Path, resampling: Resampling = NO_RESAMPLING) -> PaddedImage:
    """Reads, resamples and pads an image."""
    rgb = resampling.read(path)
    height, width = rgb.shape[:2]
    padding = ((0, bucket(height) - height), (0, bucket(width) - width), (0, 0))
    return PaddedImage(path, np.pad(rgb, padding), (height, width), image_digest(path, resampling))


def image_digest(path: Path, resampling: Resampling) -> str:
    """Identifies pixels: the SHA-256 of the file, and the pixel size it was taken to have."""
    return slide.digest(path) + resampling.digest_suffix(path)


def common_canvas(
    sizes: Iterable[Sequence[int]], views: Iterable[View]
) -> dict[float, tuple[int, int]]:
    """By scale, a height and width that images of these sizes fit into, padded and downscaled."""
    padded = [tuple(map(bucket, size)) for size in sizes]
    if not padded:
        return {}
    canvas = {}
    for scale in scales(views):
        heights, widths = zip(*(scaled_size(size, scale) for size in padded), strict=True)
        canvas[scale] = max(heights), max(widths)
    return canvas
