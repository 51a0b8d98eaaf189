"""A field of any size, read piece by piece: uint8 RGB [H, W, 3] of which no more is held than is asked for.

Decides when a file is believed about the size of its pixels. A TIFF is read by `tiff`, in part; PNG and JPEG cannot be:
they are decoded whole, once, by `images`.
"""

import contextlib
import dataclasses
import html
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from absl import logging
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader, tiff

THUMBNAIL_BLOCK = 1024  # Pixels a side that are read at a time for a thumbnail.

# Microns a pixel that a light microscope can have; 72 and 300 dpi, of cameras and editors, are 353 and 85.
BELIEVED = (0.05, 5.0)
SQUARE = 1.02  # The most that a pixel's sides may differ by.
MICRONS = {
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "in": 25400.0,
    "m": 1e6,
}
RESOLUTION_UNITS = {2: 25400.0, 3: 10000.0}  # TIFF's inch and centimetre, in microns.


@dataclasses.dataclass(frozen=True)
class Slide:
    """An open field: what it is called in messages, height and width in pixels, microns a pixel where known."""

    name: str
    size: tuple[int, int]
    mpp: float | None
    window: tiff.Window = dataclasses.field(repr=False)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window as uint8 RGB [height, width, 3], an array of its own. May be called from several threads.

        Raises:
          InputError: the window is empty or not wholly inside, or what it needs of the file is damaged or missing.
        """
        across, down = self.size[1], self.size[0]
        if not (0 <= top < top + height <= down and 0 <= left < left + width <= across):
            raise InputError(
                f"{self.name} has {down} x {across} pixels, but a window of {height} x {width} was asked for at row "
                f"{top}, column {left}: ask for one inside"
            )
        return self.window(top, left, height, width)

    def thumbnail(self, longest: int) -> np.ndarray:
        """The whole field as uint8 RGB [h, w, 3], its longer side `longest` pixels, or its own where that is less.

        Averages of whole blocks of pixels, then bicubic over at least two of them a pixel, so nothing is aliased; a
        field of any size is read in blocks and the averages are all that is held.
        """
        height, width = self.size
        shrink = max(height, width) / longest
        if shrink <= 1:
            return self.read(0, 0, height, width)
        step = max(1, int(shrink / 2))
        side = step * max(1, THUMBNAIL_BLOCK // step)
        averages = Image.new("RGB", (math.ceil(width / step), math.ceil(height / step)))
        for top in range(0, height, side):
            for left in range(0, width, side):
                block = self.read(top, left, min(side, height - top), min(side, width - left))
                averages.paste(Image.fromarray(block).reduce(step), (left // step, top // step))
        size = max(1, round(width / shrink)), max(1, round(height / shrink))
        return np.array(
            averages.resize(size, Image.Resampling.BICUBIC, box=(0, 0, width / step, height / step))
        )


@contextlib.contextmanager
def open_slide(source: Path | np.ndarray) -> Iterator[Slide]:
    """Opens a field for reading by windows: an image file, or uint8 RGB [H, W, 3].

    Of a TIFF it is the first page; smaller ones after it (a pyramid's levels, a label) are passed over. Other colours
    are converted to RGB as in `images.read`, with the same notice.

    Raises:
      InputError: the file is refused by `images`; or a TIFF has another page as large, is of a kind that is not read,
        stored turned, cut short, or claims more than it has; or no such array.
    """
    if isinstance(source, np.ndarray):
        yield of_array("the array", source, None)
    elif tiff.is_tiff(source):
        with tiff.open_page(source) as page:
            window = tiff.window_reader(page, source)
            mpp = believed(tiff_statements(page), source)
            yield Slide(str(source), (page.imagelength, page.imagewidth), mpp, window)
    else:
        yield of_array(str(source), reader.read(source), pixel_size(source))


def of_array(name: str, array: np.ndarray, mpp: float | None) -> Slide:
    """An array as a field; InputError unless it is uint8 [H, W, 3] with at least a pixel."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"{name} is {array.dtype} of shape {list(array.shape)}, expected uint8 RGB [height, width, 3]: convert it"
        )

    def window(top: int, left: int, height: int, width: int) -> np.ndarray:
        return array[top : top + height, left : left + width].copy()

    return Slide(name, array.shape[:2], mpp, window)


def pixel_size(path: Path) -> float | None:
    """Microns a pixel where the file says so: OME-XML, Aperio's MPP, ImageJ's unit, TIFF's resolution, PNG's, JPEG's.

    The first of them, in this order, that is between 0.05 and 5 um is believed, since most files say 72 or 300 dpi and
    nobody knows of it. Where the sides of a pixel differ by more than 2 %, there is no one size: None, with a warning.

    Raises:
      InputError: the file cannot be opened as an image.
    """
    if tiff.is_tiff(path):
        with tiff.open_page(path) as page:
            return believed(tiff_statements(page), path)
    with reader.open_image(path) as image:
        x, y = image.info.get("dpi", (0, 0))
        return believed([(per(25400, x), per(25400, y))], path)


def tiff_statements(page: tifffile.TiffPage) -> Iterator[tuple[float, float]]:
    """What a TIFF says of a pixel's width and height in microns, the most deliberate first; 0 is nothing."""
    for element in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", page.description):
        ome = dict(re.findall(r'\b(\w+)="([^"]*)"', html.unescape(element)))
        if (ome.get("SizeY"), ome.get("SizeX")) == (str(page.imagelength), str(page.imagewidth)):
            yield tuple(
                microns(
                    ome.get(f"PhysicalSize{axis}", ""), ome.get(f"PhysicalSize{axis}Unit", "um")
                )
                for axis in "XY"
            )
    if aperio := re.search(r"\bMPP\s*=\s*([\d.]+)", page.description):
        yield (microns(aperio[1], "um"),) * 2
    imagej = re.search(r"^unit=(.+)$", page.description, re.MULTILINE)
    if imagej and page.description.startswith("ImageJ="):
        unit = microns("1", imagej[1])
    else:
        unit = RESOLUTION_UNITS.get(page.resolutionunit, 0)
    x, y = page.resolution
    yield per(unit, x), per(unit, y)


def microns(number: str, unit: str) -> float:
    """A length in microns; 0 where it is none, or in no unit that is known."""
    try:
        return float(number) * MICRONS.get(unit.strip().lower(), 0)
    except ValueError:
        return 0.0


def per(unit: float, number: float) -> float:
    """Microns a pixel from pixels a unit; 0 where there are none."""
    return unit / number if number > 0 else 0.0


def believed(statements: Iterable[tuple[float, float]], path: Path) -> float | None:
    """The first statement that can be of a microscope, as one number; None where none can, or it is not square."""
    low, high = BELIEVED
    for x, y in statements:
        if low <= min(x, y) and max(x, y) <= high:
            if max(x, y) > SQUARE * min(x, y):
                logging.warning(
                    "%s has pixels of %g x %g um: not square, so their size is not used", path, x, y
                )
                return None
            return (x + y) / 2
    return None
