"""Images as they go to the device: resampled, and padded to one of few shapes.

uint8 [h, w, 3] -> uint8 [H, W, 3], with zeros below and to the right.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from histojax.config import Extraction, View
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


def by_resolution(views: Iterable[View]) -> dict[str, View]:
    """The first view of each scale and pixel size; the others of it have other crops alone."""
    first = {}
    for view in views:
        first.setdefault(view.resolution, view)
    return first


def read_padded(path: Path, resampling: Resampling = NO_RESAMPLING) -> PaddedImage:
    """Reads, resamples and pads an image."""
    rgb = resampling.read(path)
    height, width = rgb.shape[:2]
    padding = ((0, bucket(height) - height), (0, bucket(width) - width), (0, 0))
    return PaddedImage(path, np.pad(rgb, padding), (height, width), image_digest(path, resampling))


def image_digest(path: Path, resampling: Resampling) -> str:
    """Identifies pixels: the SHA-256 of the file, and the pixel size it was taken to have."""
    return slide.digest(path) + resampling.digest_suffix(path)


def read_sizes(
    paths: Iterable[Path], extraction: Extraction, mpp: float | None
) -> dict[float | None, list[tuple[int, int]]]:
    """Heights and widths of images as they are read, by the pixel sizes that views state.

    Args:
      paths: of the images, which are not decoded.
      extraction: the protocol.
      mpp: microns per pixel of all images; None to take what each file says.
    """
    paths, sizes = list(paths), {}
    for view in extraction.views:
        if view.mpp not in sizes:
            resampling = Resampling.of(extraction, mpp, view)
            sizes[view.mpp] = [resampling.size(path) for path in paths]
    return sizes


def common_canvas(
    sizes: Mapping[float | None, Sequence[Sequence[int]]], views: Iterable[View]
) -> dict[str, tuple[int, int]]:
    """By resolution, a height and width that images of these sizes fit into, padded and downscaled.

    Args:
      sizes: of `read_sizes`.
      views: whose resolutions are wanted.
    """
    canvas = {}
    for resolution, view in by_resolution(views).items():
        padded = [tuple(map(bucket, size)) for size in sizes[view.mpp]]
        if padded:
            heights, widths = zip(*(scaled_size(size, view.scale) for size in padded), strict=True)
            canvas[resolution] = max(heights), max(widths)
    return canvas
