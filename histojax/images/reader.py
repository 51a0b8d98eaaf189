"""Which files are images, and their decoding: uint8 RGB [H, W, 3] of TIFF, PNG, JPEG, BMP, WebP.

Decoding is Pillow's, which scikit-image depends on. Any file that could be misread is refused.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image, UnidentifiedImageError

from histojax.errors import InputError
from histojax.images import pages
from histojax.images.suffixes import SLIDE_SUFFIXES, why_not_read
from histojax.utils import files

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp")
KINDS = "TIFF, PNG, JPEG, BMP or WebP"
ALL_SUFFIXES = (*SUFFIXES, *SLIDE_SUFFIXES)
SUFFIX_LIST = ", ".join(ALL_SUFFIXES)  # For messages.
# Pillow's modes that are converted to RGB with a warning; RGB is read as it is.
CONVERTED = {"RGBA": "RGB with alpha", "L": "grey", "LA": "grey with alpha", "P": "palette"}
_FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "WEBP")
_BAND = 2**20  # Pixels that are converted at a time.
# Pixels that are decoded whatever a file claims, and those that a byte of a larger one may hold: of
# one colour, PNG has 8,000 of a bit each.
_SMALL, _MOST_COMPRESSED = 2**24, 10_000
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE = 254, 258  # TIFF's tags.


def is_image_name(path: Path) -> bool:
    """Whether the name ends like that of an image or slide that is read, and is not hidden."""
    return path.suffix.lower() in ALL_SUFFIXES and not path.name.startswith(".")


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens and checks an image without decoding it, and closes it in the end.

    Raises:
      InputError: the file is none of these, whatever its name; has several pages of which more
        than one could be the image, see `pages`; or is not 8-bit RGB, RGBA, grey or palette.
    """
    path = files.as_path(path)
    if isinstance(path, Path) and (cause := why_not_read(path)):
        raise InputError(f"{path} {cause}")
    with contextlib.ExitStack() as stack:
        try:
            file = path if files.is_local(path) else stack.enter_context(path.open("rb"))
            with warnings.catch_warnings():
                # Pillow warns at half the number of pixels that it refuses.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = stack.enter_context(contextlib.closing(Image.open(file, formats=_FORMATS)))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there") from error
        except UnidentifiedImageError as error:
            raise InputError(
                f"{path} is no {KINDS} image, whatever its name (or its start is damaged)"
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{path} has too many pixels to be read whole: cut it into tiles, or downscale it"
            ) from error
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path} cannot be opened as an image: {error}") from error
        try:
            _seek_image(image, path)
            _check_kind(image, path)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{path} is damaged: {error}. Copy it again from its source"
            ) from error
        yield image


def _require_held(image: Image.Image, path: Path) -> None:
    """Raises InputError where a local file has far fewer bytes than its pixels would take."""
    if not isinstance(path, Path):
        return
    held = path.stat().st_size
    if image.height * image.width > max(_SMALL, _MOST_COMPRESSED * held):
        raise InputError(
            f"{path} claims {image.height} x {image.width} pixels in {held} bytes: it is damaged; "
            "copy it again from its source"
        )


def _seek_image(image: Image.Image, path: Path) -> None:
    """Turns to the page that is the image; InputError where several could be."""
    if image.format == "TIFF":
        _require_few_pages(image, path)
    if getattr(image, "n_frames", 1) > 1:
        sizes, marked = page_sizes(image)
        chosen = pages.choose(sizes, marked)
        if chosen is None:
            raise InputError(f"{path} {pages.refusal(sizes)}")
        image.seek(chosen)


def _require_few_pages(image: Image.Image, path: Path) -> None:
    """Raises InputError for too many pages; Pillow's count takes hours for a small file of them."""
    try:
        for i in range(1, pages.MOST_PAGES + 1):
            image.seek(i)
    except EOFError:
        image.seek(0)
        return
    raise InputError(f"{path} {pages.too_many()}")


def page_sizes(image: Image.Image) -> tuple[list[tuple[int, int]], list[bool]]:
    """Height and width of each page, and whether it says that it is a copy or a mask.

    The image is left at the page that it is at.
    """
    current, sizes, marked = image.tell(), [], []
    for i in range(image.n_frames):
        image.seek(i)
        sizes.append((image.height, image.width))
        kind = image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) if image.format == "TIFF" else 0
        marked.append(bool(kind & pages.MARKED))
    image.seek(current)
    return sizes, marked


def _check_kind(image: Image.Image, path: Path) -> None:
    """Raises InputError unless the image is 8-bit RGB, RGBA, grey or palette."""
    bits = _bits_per_sample(image)
    if bits != 8 or image.mode not in ("RGB", *CONVERTED):
        raise InputError(
            f"{path} has {bits} bits per sample in mode {image.mode}, expected 8-bit RGB (RGBA, "
            "grey and palette are converted): convert it to 8-bit RGB"
        )


def _bits_per_sample(image: Image.Image) -> int:
    """Bits of the file's samples; not by Pillow's mode, which is RGB for 16-bit RGB as well."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    raw = str(image.tile[0].args) if image.tile else ""
    return 16 if "16" in raw or image.mode.startswith("I") else 8


def size(path: Path) -> tuple[int, int]:
    """Height and width by the file's header, checked as by `open_image`, without decoding."""
    with open_image(path) as image:
        return image.height, image.width


def read(path: Path) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3].

    Grey becomes three equal channels; transparency is laid over white. Both log a warning, and so
    does a file of several pages.

    Raises:
      InputError: as for `open_image`, or the pixels cannot be decoded (a truncated file).
    """
    with open_image(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            logging.warning("%s %s", path, pages.notice(page_sizes(image)[0], image.tell()))
        _require_held(image, path)
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise OSError, struct.error and others.
            raise InputError(
                f"{path} is damaged or cut short: {error}. Copy it again from its source"
            ) from error
        if image.mode != "RGB" or image.has_transparency_data:
            kind = CONVERTED.get(image.mode, "RGB with a transparent colour")
            logging.warning("%s is %s: converted to RGB", path, kind)
        return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels as uint8 RGB [H, W, 3], transparency laid over white; by bands, to save memory."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _band_to_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _band_to_rgb(band: Image.Image) -> Image.Image:
    if band.has_transparency_data:
        rgba = band.convert("RGBA")
        band = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return band.convert("RGB")
