"""An image or slide of any size, read window by window, and the size of its pixels.

Only windows that are asked for are held in memory, uint8 RGB [h, w, 3]. Slides are read in part by
OpenSlide (see `whole_slide`), other TIFF files by `tiff`; PNG and JPEG files cannot be, and are
decoded whole, once.
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
from histojax.images import reader, tiff, whole_slide
from histojax.images.level import Level, ReadWindow
from histojax.utils import files

_BLOCK = 1024  # Side of the windows that a thumbnail is made of, px.
_SMALL = 1024  # Longest side of a slide that is only looked at, px.
_LEVEL_TOLERANCE = 0.01  # By which a level may be coarser than asked for.

# Microns per pixel that a light microscope can have; the 72 and 300 dpi of cameras and editors are
# 353 and 85.
_PLAUSIBLE_MPP = (0.05, 5.0)
_MAX_ASPECT = 1.02  # By which the sides of a pixel may differ.
_MICRONS = {
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
_TIFF_UNITS = {2: 25400.0, 3: 10000.0}  # TIFF's inch and centimetre, in microns.


@dataclasses.dataclass(frozen=True)
class Slide:
    """An open image.

    Attributes:
      name: for messages.
      size: height and width, px.
      mpp: microns per pixel; None if not known.
      read_window: top, left, height and width to uint8 RGB, for windows inside the image.
      coarser: the other levels of a pyramid, the finest first.
    """

    name: str
    size: tuple[int, int]
    mpp: float | None
    read_window: ReadWindow = dataclasses.field(repr=False)
    coarser: tuple[Level, ...] = ()

    def level_for(self, factor: float) -> Level:
        """The coarsest level whose sides are at least `factor` of the image's, to within 1 %."""
        fine_enough = [
            level
            for level in self.coarser
            if min(np.divide(level.size, self.size)) >= factor * (1 - _LEVEL_TOLERANCE)
        ]
        return fine_enough[-1] if fine_enough else Level(self.size, self.read_window)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window as a new array, uint8 RGB [height, width, 3]; threads may call it at once.

        Raises:
          InputError: the window is empty or not wholly inside, or its part of the file is damaged
            or missing.
        """
        rows, columns = self.size
        if not (0 <= top < top + height <= rows and 0 <= left < left + width <= columns):
            raise InputError(
                f"{self.name} has {rows} x {columns} pixels, but a window of {height} x {width} "
                f"was asked for at row {top}, column {left}: ask for one inside"
            )
        return self.read_window(top, left, height, width)

    def thumbnail(self, longest: int) -> np.ndarray:
        """The whole image as uint8 RGB [h, w, 3], its longer side at most `longest` pixels.

        Blocks of pixels are averaged, and at least two averages a pixel resampled bicubically, so
        that nothing is aliased. Large images are read in windows: only averages stay in memory. Of
        a pyramid, the coarsest level of at least two pixels a pixel is read.
        """
        height, width = self.size
        shrink = max(height, width) / longest
        if shrink <= 1:
            return self.read(0, 0, height, width)
        level = self.level_for(2 / shrink)
        if level.size != self.size:
            return Slide(self.name, level.size, None, level.read_window).thumbnail(longest)
        step = max(1, int(shrink / 2))
        side = step * max(1, _BLOCK // step)
        averages = Image.new("RGB", (math.ceil(width / step), math.ceil(height / step)))
        for top in range(0, height, side):
            for left in range(0, width, side):
                block = self.read(top, left, min(side, height - top), min(side, width - left))
                averages.paste(Image.fromarray(block).reduce(step), (left // step, top // step))
        size = max(1, round(width / shrink)), max(1, round(height / shrink))
        box = (0, 0, width / step, height / step)
        return np.array(averages.resize(size, Image.Resampling.BICUBIC, box=box))


@contextlib.contextmanager
def open_slide(source: Path | str | np.ndarray) -> Iterator[Slide]:
    """Opens an image file, or uint8 RGB [H, W, 3], for reading by windows.

    Of a TIFF that no scanner wrote it is the page that `reader.read` takes; pages of the same shape
    that are marked as reduced are its coarser levels. Other colours are converted to RGB as there,
    with the same warning.

    Raises:
      InputError: the array is of another form; or the file is refused by `reader`; as a TIFF, it
        has another page as large, is of a kind that is not read, rotated, or damaged; or it is a
        slide that `whole_slide` refuses.
    """
    if isinstance(source, np.ndarray):
        yield _of_array("the array", source, None)
        return
    path = files.as_path(source)
    if whole_slide.is_slide(path):
        with whole_slide.open_whole_slide(path) as slide:
            finest, *coarser = slide.levels
            mpp = _square(_first_plausible([slide.pixel_size]), path)
            yield Slide(str(path), finest.size, mpp, finest.read_window, tuple(coarser))
    elif tiff.is_tiff(path):
        with tiff.open_page(path) as page:
            read_window = tiff.window_reader(page, path)
            mpp = _square(_first_plausible(_tiff_pixel_sizes(page)), path)
            size = page.imagelength, page.imagewidth
            yield Slide(str(path), size, mpp, read_window, tiff.coarser_levels(page, path))
    else:
        yield _of_array(str(path), reader.read(path), pixel_size(path))


def _of_array(name: str, array: np.ndarray, mpp: float | None) -> Slide:
    """An array as a slide; InputError unless it is uint8 [H, W, 3] with at least one pixel."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"{name} is {array.dtype} of shape {list(array.shape)}, expected uint8 RGB [height, "
            "width, 3]: convert it"
        )

    def read_window(top: int, left: int, height: int, width: int) -> np.ndarray:
        return array[top : top + height, left : left + width].copy()

    return Slide(name, array.shape[:2], mpp, read_window)


def size(path: Path) -> tuple[int, int]:
    """Height and width of an image or slide, checked as by `reader.open_image` or OpenSlide."""
    if whole_slide.is_slide(path):
        with open_slide(path) as slide:
            return slide.size
    return reader.size(path)


def digest(path: Path) -> str:
    """SHA-256 that identifies the pixels of an image or slide: of its file, or of all its files."""
    return whole_slide.digest(path) if whole_slide.is_slide(path) else files.sha256(path)


def read_small(path: Path) -> np.ndarray:
    """An image to look at, uint8 RGB [h, w, 3]: whole; if it is a slide, a thumbnail of it."""
    if whole_slide.is_slide(path):
        with open_slide(path) as slide:
            return slide.thumbnail(_SMALL)
    return reader.read(path)


def pixel_size(path: Path) -> float | None:
    """Microns per pixel by the file, see `pixel_sides`; None, with a warning, if not square.

    Raises:
      InputError: the file cannot be opened as an image.
    """
    return _square(pixel_sides(path), path)


def pixel_sides(path: Path) -> tuple[float, float] | None:
    """A pixel's width and height in microns by the file; None where it does not say them.

    A slide's by OpenSlide; OME-XML, ImageJ's unit, resolution. The first of these, in this order,
    that lies between 0.05 and 5 is taken, since most files say 72 or 300 dpi without meaning it.

    Raises:
      InputError: the file cannot be opened as an image.
    """
    if whole_slide.is_slide(path):
        with whole_slide.open_whole_slide(path) as slide:
            return _first_plausible([slide.pixel_size])
    if tiff.is_tiff(path):
        with tiff.open_page(path) as page:
            return _first_plausible(_tiff_pixel_sizes(page))
    with reader.open_image(path) as image:
        x, y = image.info.get("dpi", (0, 0))
        return _first_plausible([(_per_pixel(25400, x), _per_pixel(25400, y))])


def are_square(sides: tuple[float, float]) -> bool:
    """Whether a pixel's width and height differ by at most 2 %."""
    return max(sides) <= _MAX_ASPECT * min(sides)


def _tiff_pixel_sizes(page: tifffile.TiffPage) -> Iterator[tuple[float, float]]:
    """A pixel's width and height in microns by each source in a TIFF, the most reliable first."""
    for element in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", page.description):
        ome = dict(re.findall(r'\b(\w+)="([^"]*)"', html.unescape(element)))
        if (ome.get("SizeY"), ome.get("SizeX")) == (str(page.imagelength), str(page.imagewidth)):
            sides = ("PhysicalSizeX", "PhysicalSizeY")
            yield tuple(_microns(ome.get(side, ""), ome.get(f"{side}Unit", "um")) for side in sides)
    if aperio := re.search(r"\bMPP\s*=\s*([\d.]+)", page.description):
        yield (_microns(aperio[1], "um"),) * 2
    imagej = re.search(r"^unit=(.+)$", page.description, re.MULTILINE)
    if imagej and page.description.startswith("ImageJ="):
        unit = _microns("1", imagej[1])
    else:
        unit = _TIFF_UNITS.get(page.resolutionunit, 0)
    x, y = page.resolution
    yield _per_pixel(unit, x), _per_pixel(unit, y)


def _microns(number: str, unit: str) -> float:
    """A length in microns; 0 if it is no number, or of an unknown unit."""
    try:
        return float(number) * _MICRONS.get(unit.strip().lower(), 0)
    except ValueError:
        return 0.0


def _per_pixel(unit: float, pixels: float) -> float:
    """Microns per pixel from pixels per unit of so many microns; 0 if there are none."""
    return unit / pixels if pixels > 0 else 0.0


def _first_plausible(sizes: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    """The first size that a microscope can have; None if there is none."""
    low, high = _PLAUSIBLE_MPP
    plausible = (sides for sides in sizes if low <= min(sides) and max(sides) <= high)
    return next(plausible, None)


def _square(sides: tuple[float, float] | None, path: Path) -> float | None:
    """Microns per pixel of square pixels; None, with a warning, of others."""
    if sides is None or are_square(sides):
        return sides and sum(sides) / 2
    logging.warning(
        "%s has pixels of %g x %g um: not square, so their size is not used", path, *sides
    )
    return None
