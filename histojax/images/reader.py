"""Reading and checking image files: TIFF, PNG, JPEG to uint8 RGB [H, W, 3]. Anything doubtful is refused by name.

Decoding is Pillow's, which scikit-image brings along.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image, UnidentifiedImageError

from histojax.errors import InputError
from histojax.utils import files

FORMATS = ("TIFF", "PNG", "JPEG")
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# Pillow's modes that are converted to RGB with a notice; RGB is read as it is.
CONVERTED = {"RGBA": "RGB with alpha", "L": "grey", "LA": "grey with alpha", "P": "palette"}


def is_image_name(path: Path) -> bool:
    """Whether the name has one of the endings read here; hidden files have not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def bits_per_sample(image: Image.Image) -> int:
    """Bits of the file's samples: Pillow silently reduces 16-bit RGB to 8, so its mode does not tell."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    raw = str(image.tile[0].args) if image.tile else ""
    return 16 if "16" in raw or image.mode.startswith("I") else 8


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens and checks an image without decoding it; closed with its file at the end.

    Raises:
      InputError: not TIFF, PNG or JPEG whatever its name says, several pages, or not 8-bit RGB, RGBA, grey or palette.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = path if files.is_local(path) else stack.enter_context(path.open("rb"))
            with (
                warnings.catch_warnings()
            ):  # Pillow warns at half of what it refuses, which is no news to anyone.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = stack.enter_context(contextlib.closing(Image.open(file, formats=FORMATS)))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there") from error
        except UnidentifiedImageError as error:
            raise InputError(
                f"{path} is no TIFF, PNG or JPEG image, whatever its name says (or its start is damaged)"
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{path} has too many pixels to be read whole: cut it into tiles, or downscale it"
            ) from error
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path} cannot be opened as an image: {error}") from error
        try:
            refuse_unfit(image, path)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{path} is damaged: {error}. Copy it again from its source"
            ) from error
        yield image


def refuse_unfit(image: Image.Image, path: Path) -> None:
    """Raises InputError unless the image is one page of 8-bit RGB, RGBA, grey or palette."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise InputError(
            f"{path} has {pages} pages, expected one: save the page you mean as a file of its own"
        )
    bits = bits_per_sample(image)
    if bits != 8 or image.mode not in ("RGB", *CONVERTED):
        raise InputError(
            f"{path} has {bits} bits per sample in mode {image.mode}, expected 8-bit RGB (RGBA, grey and palette are "
            "converted): convert it to 8-bit RGB"
        )


def size(path: Path) -> tuple[int, int]:
    """Height and width from the file's header, checked as in `read`, without decoding."""
    with open_image(path) as image:
        return image.height, image.width


def read(path: Path) -> np.ndarray:
    """An image as uint8 RGB [H, W, 3].

    Grey becomes three equal channels; transparency is laid over white. Both are told by a warning in the log.

    Raises:
      InputError: as for `open_image`, or the pixels cannot be decoded (a truncated file).
    """
    with open_image(path) as image:
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise whatever their format throws up: OSError, struct.error, ...
            raise InputError(
                f"{path} is damaged or cut short: {error}. Copy it again from its source"
            ) from error
        if image.mode == "RGB" and not image.has_transparency_data:
            return np.array(image)
        logging.warning(
            "%s is %s: converted to RGB",
            path,
            CONVERTED.get(image.mode, "RGB with a transparent colour"),
        )
        return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels as uint8 RGB [H, W, 3], what is transparent laid over white."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))
