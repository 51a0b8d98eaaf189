"""How one image looks: what its file says, and a few measures of tissue, stain, colour and focus.

image file -> InspectedImage. Tissue, stain and colours are measured on a copy made small, clipping and focus in a window at the
centre, at the image's own resolution. So an image of any size costs the same, and a large one is read by region.
"""

import dataclasses
from pathlib import Path

import numpy as np
from skimage.measure import blur_effect

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE
from histojax.errors import InputError
from histojax.images import reader, slide
from histojax.images.thumbnails import thumbnail
from histojax.inspection import near_duplicates
from histojax.utils import files

SIDE = 512  # Longest side of the small copy, px.
CENTRE = 512  # Side of the window at the centre, px.
WHOLE = 25_000_000  # An image of more pixels is read by region.
BRIGHTEST = 99  # Percentile of brightness above which pixels are taken for the background.
GLASS = 250  # A pixel with all channels at least this bright is no tissue, so that clipping it loses nothing.


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """What is seen in an image.

    Attributes:
      sha256: of the file.
      small: float32 [32, 32], the thumbnail that near-duplicates are found by.
      picture: a thumbnail as a data URI.
      tissue: share of pixels that the stain step counts as tissue.
      stain: index into `config.STAIN_STATUS`; above 0 the reference stains would be used.
      angle: degrees between the stain vectors; None where there was too little tissue to seek them.
      white: median colour (R, G, B) of the brightest hundredth of the pixels, 0 to 255.
      absorbed: shares of R, G and B in the mean optical density of tissue, which add up to 1; None without tissue.
      clipped: share of pixels, bare glass left out, in which a channel is 0 or 255.
      blur: 0 sharp to 1 blurred, after Crete et al., "The blur effect", 2007.
    """

    sha256: str
    fingerprint: np.ndarray
    thumbnail: str
    tissue_fraction: float
    stain_status: int
    stain_angle: float | None
    white: tuple[float, float, float]
    absorbed: tuple[float, float, float] | None
    clipped: float
    blur: float


@dataclasses.dataclass(frozen=True)
class InspectedImage:
    """An image file.

    Attributes:
      path: the file.
      cause: why it cannot be used; empty where it can.
      size: height and width, px; None where they are not known.
      form: format and mode, such as PNG and RGB; empty where they are not known.
      mpp: microns per pixel; None where they are not known.
      measures: None where it cannot be decoded.
    """

    path: Path
    error: str
    size: tuple[int, int] | None
    file_format: tuple[str, str]
    mpp: float | None
    quality: ImageQuality | None


def inspect_image(path: Path, mpp: float | None = None) -> InspectedImage:
    """Looks at an image file; never raises InputError, but tells the cause.

    Args:
      path: the file.
      mpp: microns per pixel, where the user knows them; None to believe the file.
    """
    size, form, cause = None, ("", ""), ""
    try:
        with reader.open_image(path) as image:
            size, form = (image.height, image.width), (image.format, image.mode)
    except InputError as error:
        cause = str(error)
    try:
        mpp = mpp or slide.pixel_size(path)
        # A file of several pages, such as a pyramid, is refused as an image and has a picture all the same.
        whole = not cause and size[0] * size[1] <= WHOLE
        with slide.open_slide(reader.read(path) if whole else path) as field:
            size = field.size
            seen = measure(field.thumbnail(SIDE), field.read(*centre(size)), files.sha256(path))
    except (InputError, OSError) as error:
        return InspectedImage(path, cause or str(error), size, form, mpp, None)
    return InspectedImage(path, cause, size, form, mpp, seen)


def centre(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The window at the centre: top, left, height, width."""
    height, width = (min(side, CENTRE) for side in size)
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def measure(small: np.ndarray, window: np.ndarray, sha256: str) -> ImageQuality:
    """Measures of an image: uint8 [H, W, 3] of the small copy, at most SIDE, and of the window at the centre."""
    tissue, status, angle = stained(small)
    return ImageQuality(
        sha256=sha256,
        fingerprint=near_duplicates.thumbnail(small),
        thumbnail=thumbnail(small),
        tissue_fraction=tissue,
        stain_status=status,
        stain_angle=angle,
        white=white(small),
        absorbed=absorbed(small),
        clipped=clipped(window),
        blur=float(blur_effect(window.mean(axis=-1) / 255)),
    )


def stained(small: np.ndarray) -> tuple[float, int, float | None]:
    """Share of tissue, status and angle of the stain step, by the step itself. One program for all sizes: padded."""
    from histojax.ops import stain  # Here alone: it brings jax.

    height, width = small.shape[:2]
    rgb = np.pad(small, ((0, SIDE - height), (0, SIDE - width), (0, 0)))
    valid = np.pad(np.ones((height, width), bool), ((0, SIDE - height), (0, SIDE - width)))
    _, quality = stain.normalize_with_quality(rgb, valid)
    status = int(quality.status)
    sought = STAIN_STATUS[status] != STAIN_TOO_LITTLE_TISSUE
    return float(quality.tissue_fraction), status, float(quality.stain_angle) if sought else None


def white(small: np.ndarray) -> tuple[float, float, float]:
    """Median colour of the brightest pixels: of bare glass, where there is any."""
    pixels = small.reshape(-1, 3)
    bright = pixels.mean(axis=1)
    return tuple(np.median(pixels[bright >= np.percentile(bright, BRIGHTEST)], axis=0).tolist())


def absorbed(small: np.ndarray) -> tuple[float, float, float] | None:
    """Shares of the channels in the mean optical density of what the stain step counts as tissue."""
    from histojax.ops import stain

    density = -np.log((small.reshape(-1, 3).astype(np.float32) + 1) / stain.WHITE)
    tissue = (density >= stain.TISSUE_DENSITY).all(axis=1)
    if not tissue.any():
        return None
    mean = density[tissue].mean(axis=0, dtype=np.float64)
    return tuple((mean / mean.sum()).tolist())


def clipped(window: np.ndarray) -> float:
    """Share of pixels in which a channel has run into an end of its range, bare glass left out."""
    low, high = window.min(axis=-1), window.max(axis=-1)
    return float((((low == 0) | (high == 255)) & (low < GLASS)).mean())
