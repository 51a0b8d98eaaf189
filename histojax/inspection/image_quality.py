"""One image inspected: what its file says, and measures of its tissue, stain, colour and focus.

Tissue, stain and colours are measured on a small copy, clipping and focus in a window at the centre
at the image's own resolution. So an image of any size costs the same, and a large one is read by
region.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from skimage.measure import blur_effect

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE, Extraction
from histojax.errors import InputError
from histojax.images import reader, slide, whole_slide
from histojax.images.padding import read_sizes
from histojax.images.resampling import NO_RESAMPLING
from histojax.images.suffixes import SLIDE_SUFFIXES
from histojax.images.thumbnails import thumbnail
from histojax.inspection import near_duplicates
from histojax.ops import stain

SIDE = 512  # Longest side of the small copy, px.
_WINDOW = 512  # Side of the window at the centre, px.
_LARGEST_WHOLE = 25_000_000  # An image of more pixels is read by region.
_BRIGHTEST = 99  # Percentile of brightness above which pixels are taken for the background.
# A pixel with all channels at least this bright is no tissue, so that clipping it loses nothing.
_GLASS = 250
_PAPER = Extraction()


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """Measures of an image.

    Attributes:
      fingerprint: what near-duplicates are found by, with the SHA-256 of the file.
      thumbnail: as a data URI.
      tissue_fraction: share of pixels that the stain step counts as tissue.
      stain_status: index into `config.STAIN_STATUS`; above 0 the reference stains would be used.
      stain_angle: degrees between the stain vectors; None with too little tissue to find them.
      white: median colour (R, G, B) of the brightest hundredth of the pixels, 0 to 255.
      absorbed: shares of R, G and B in the mean optical density of tissue, which add up to 1; None
        without tissue.
      clipped: share of pixels, bare glass left out, in which a channel is 0 or 255.
      blur: 0 sharp to 1 blurred, after Crete et al., "The blur effect", 2007.
    """

    fingerprint: near_duplicates.Fingerprint
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
      path: of the file.
      error: why it cannot be used; empty where it can.
      size: height and width, px; None where unknown.
      file_format: format and mode, such as PNG and RGB; empty where unknown.
      mpp: microns per pixel; None where unknown.
      quality: None where the image cannot be decoded.
    """

    path: Path
    error: str
    size: tuple[int, int] | None
    file_format: tuple[str, str]
    mpp: float | None
    quality: ImageQuality | None


def inspect_image(
    path: Path, mpp: float | None = None, extraction: Extraction = _PAPER
) -> InspectedImage:
    """Reads and measures an image file; what is wrong with it is recorded, not raised.

    Args:
      path: of the file.
      mpp: microns per pixel, where the user knows them; None to believe the file.
      extraction: the protocol, at whose pixel sizes a slide must not be too large.
    """
    size, file_format, error = None, ("", ""), ""
    try:
        size, file_format = _size_and_format(path)
    except InputError as refusal:
        error = str(refusal)
    try:
        mpp = mpp or slide.pixel_size(path)
        error = error or _too_large(path, mpp, extraction)
        # What is refused as an image, such as a file of several pages, can be measured.
        whole = not error and size[0] * size[1] <= _LARGEST_WHOLE
        is_plain = whole and not whole_slide.is_slide(path)
        with slide.open_slide(reader.read(path) if is_plain else path) as field:
            size = field.size
            window = field.read(*_central_window(size))
            small = field.thumbnail(SIDE)
            fingerprint = near_duplicates.fingerprint(small, slide.digest(path), size)
            quality = measure(small, window, fingerprint)
    except (InputError, OSError) as refusal:
        return InspectedImage(path, error or str(refusal), size, file_format, mpp, None)
    return InspectedImage(path, error, size, file_format, mpp, quality)


def _size_and_format(path: Path) -> tuple[tuple[int, int], tuple[str, str]]:
    """Height and width, format and mode; InputError if the file is refused as an image."""
    if whole_slide.is_slide(path):
        with whole_slide.open_whole_slide(path) as opened:
            kind = SLIDE_SUFFIXES.get(path.suffix.lower(), "TIFF")
            return opened.levels[0].size, (kind, "RGB")
    with reader.open_image(path) as image:
        pages = getattr(image, "n_frames", 1)
        page = f" (page {image.tell() + 1} of {pages})" if pages > 1 else ""
        return (image.height, image.width), (f"{image.format}{page}", image.mode)


def _too_large(path: Path, mpp: float | None, extraction: Extraction) -> str:
    """Why a slide is too large to be one field; empty if it is not, or no slide."""
    try:
        if whole_slide.is_slide(path) and mpp:
            enlarging = dataclasses.replace(extraction, most_enlarged=math.inf)
            read_sizes([path], enlarging, mpp)
        elif whole_slide.is_slide(path):
            NO_RESAMPLING.size(path)
    except InputError as refusal:
        return str(refusal)
    return ""


def measure(
    small: np.ndarray, window: np.ndarray, fingerprint: near_duplicates.Fingerprint
) -> ImageQuality:
    """Measures an image.

    Args:
      small: uint8 [H, W, 3], the small copy, with sides of at most SIDE.
      window: uint8 [H, W, 3], at the image's own resolution.
      fingerprint: of the image.
    """
    tissue_fraction, status, angle, absorbed = stain_measures(small)
    return ImageQuality(
        fingerprint=fingerprint,
        thumbnail=thumbnail(small),
        tissue_fraction=tissue_fraction,
        stain_status=status,
        stain_angle=angle,
        white=background_colour(small),
        absorbed=absorbed,
        clipped=clipped_fraction(window),
        blur=float(blur_effect(window.mean(axis=-1) / 255)),
    )


def stain_measures(
    small: np.ndarray,
) -> tuple[float, int, float | None, tuple[float, float, float] | None]:
    """The stain step's own measures of an image, as in `ImageQuality`.

    Returns:
      The share of tissue, the status, the angle, and the shares of absorbed red, green and blue.
    """
    # Padded to one size, for which alone the stain step is compiled.
    height, width = small.shape[:2]
    rgb = np.pad(small, ((0, SIDE - height), (0, SIDE - width), (0, 0)))
    valid = np.pad(np.ones((height, width), bool), ((0, SIDE - height), (0, SIDE - width)))
    _, quality = stain.normalize_with_quality(rgb, valid)
    status = int(quality.status)
    has_angle = STAIN_STATUS[status] != STAIN_TOO_LITTLE_TISSUE
    angle = float(quality.stain_angle) if has_angle else None
    absorbed, density = None, np.asarray(stain.optical_density(rgb))[:, valid]
    is_tissue = (density >= stain.TISSUE_DENSITY / np.log(10)).all(axis=0)
    if is_tissue.any():
        mean = density[:, is_tissue].mean(axis=1, dtype=np.float64)
        absorbed = tuple((mean / mean.sum()).tolist())
    return float(quality.tissue_fraction), status, angle, absorbed


def background_colour(small: np.ndarray) -> tuple[float, float, float]:
    """Median colour of the brightest pixels: of bare glass, where there is any."""
    pixels = small.reshape(-1, 3)
    brightness = pixels.mean(axis=1)
    brightest = pixels[brightness >= np.percentile(brightness, _BRIGHTEST)]
    return tuple(np.median(brightest, axis=0).tolist())


def clipped_fraction(window: np.ndarray) -> float:
    """Share of pixels with a channel at an end of its range, bare glass left out."""
    low, high = window.min(axis=-1), window.max(axis=-1)
    return float((((low == 0) | (high == 255)) & (low < _GLASS)).mean())


def _central_window(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The window at the centre: top, left, height, width."""
    height, width = (min(side, _WINDOW) for side in size)
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width
