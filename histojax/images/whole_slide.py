"""Whole slides as scanners write them, read by OpenSlide: their levels, windows and pixel size.

openslide-python is imported when the first slide is opened, so that everything else works without
it. Pixels are OpenSlide's; where a slide was not scanned they are transparent, and become white.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from histojax.errors import InputError
from histojax.images import reader, tiff
from histojax.images.level import Level, ReadWindow
from histojax.images.suffixes import SLIDE_SUFFIXES
from histojax.utils import files

if TYPE_CHECKING:
    import openslide

_DICOM, _MIRAX = ".dcm", ".mrxs"
_SIDES = ("width", "height")
_MOST_TILE_PIXELS = 2**26  # 256 MiB; scanners write tiles of 2**18 or less.
# DICOM's SeriesInstanceUID and SamplesPerPixel, as all files that OpenSlide reads encode them.
_SERIES = re.compile(rb"\x20\0\x0e\0UI..([0-9.]+)", re.DOTALL)
_SAMPLES_PER_PIXEL = b"\x28\0\x02\0US"
_DICOM_HEAD = 2**18  # Bytes that hold both.
_TIFF = (".tif", ".tiff")
_LEICA = "leica"
_INSTALL = (
    "pip install openslide-python openslide-bin; where openslide-bin has no wheel (Alpine and "
    "other systems with musl, rare processors), install OpenSlide itself in its place: apk add "
    "openslide, apt install libopenslide0 or conda install openslide"
)


@dataclasses.dataclass(frozen=True)
class WholeSlide:
    """An open slide.

    Attributes:
      levels: from the finest to the coarsest.
      pixel_size: width and height of a pixel of the finest level in microns; 0 where unknown.
    """

    levels: tuple[Level, ...]
    pixel_size: tuple[float, float]


def is_slide(path: Path) -> bool:
    """Whether a file is a scanner's: by its name's ending or, if a TIFF, by what OpenSlide finds.

    A TIFF that no scanner wrote, tiled or not, is none; nor is any TIFF where OpenSlide is missing.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return True
    if suffix not in _TIFF or not files.is_local(path):
        return False
    try:
        return _openslide().OpenSlide.detect_format(path) not in (None, "generic-tiff")
    except (ImportError, OSError):
        return False


@functools.cache
def _openslide() -> ModuleType:
    import openslide

    return openslide


@contextlib.contextmanager
def open_whole_slide(path: Path) -> Iterator[WholeSlide]:
    """Opens a slide and closes it in the end; threads may read it at once.

    Raises:
      InputError: it is not there, not on a local disk, damaged, or of a kind that OpenSlide does
        not read; or OpenSlide is not installed.
    """
    kind = SLIDE_SUFFIXES.get(path.suffix.lower(), "a scanner's TIFF")
    if not files.is_local(path):
        raise InputError(f"{path} is a slide ({kind}), which is read from a local disk: copy it")
    try:
        library = _openslide()
    except (ImportError, OSError) as error:
        raise InputError(
            f"{path} is a slide ({kind}), which OpenSlide reads, but that is not installed: "
            f"{_INSTALL}"
        ) from error
    if not path.exists():
        raise InputError(f"{path} is not there")
    try:
        slide = library.OpenSlide(path)
    except library.OpenSlideUnsupportedFormatError as error:
        raise InputError(
            f"{path} is no slide ({kind}) that OpenSlide reads: it is damaged, of another format "
            "than its name says, or lacks the files that belong to it"
        ) from error
    except library.OpenSlideError as error:
        raise InputError(
            f"{path} cannot be opened as a slide ({kind}): {error}. It is damaged, or lacks files "
            "that belong to it: copy it again from its source"
        ) from error
    with slide:
        _check_tiles(slide, path)
        corner, area = _scanned_area(slide)
        levels = []
        for level, (width, height) in enumerate(slide.level_dimensions):
            downsample = slide.level_downsamples[level]
            size = height, width
            if area is not None:
                size = tuple(max(1, math.floor(side / downsample)) for side in area)
            levels.append(Level(size, _window_reader(slide, path, level, corner)))
        yield WholeSlide(
            levels=tuple(levels),
            pixel_size=tuple(
                _number(slide.properties.get(name))
                for name in (library.PROPERTY_NAME_MPP_X, library.PROPERTY_NAME_MPP_Y)
            ),
        )


def _check_tiles(slide: "openslide.OpenSlide", path: Path) -> None:
    """Raises InputError if tiles are too large, since OpenSlide makes room for whole ones.

    Where there is no such room it ends the process.
    """
    for level in range(slide.level_count):
        sides = (slide.properties.get(f"openslide.level[{level}].tile-{s}") for s in _SIDES)
        _check_tile(path, f"level {level}", *map(_number, sides))
    if slide.properties[_openslide().PROPERTY_NAME_VENDOR] == _LEICA:  # It states none.
        for number, (height, width) in enumerate(tiff.tile_sizes(path)):
            _check_tile(path, f"page {number + 1}", width, height)
    if tiff.is_tiff(path):
        longest = []
        with contextlib.suppress(InputError):  # Of kinds of TIFF that OpenSlide alone reads.
            longest = tiff.longest_tiles(path)
        for number, count in enumerate(longest):
            if count > path.stat().st_size:
                raise InputError(
                    f"{path} is damaged: page {number + 1} has a tile of {count:,} bytes, more than"
                    " the file has. Copy it again from its source"
                )


def _check_tile(path: Path, where: str, width: float, height: float) -> None:
    if width * height > _MOST_TILE_PIXELS:
        raise InputError(
            f"{path} is damaged: {where} has tiles of {width:g} x {height:g} px, expected at most "
            f"{_MOST_TILE_PIXELS:,} pixels in each. Copy it again from its source"
        )


def _scanned_area(slide: "openslide.OpenSlide") -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Top and left, height and width of what was scanned, px of the finest level.

    Some formats state it, and viewers such as QuPath show no more; else the size is None.
    """
    width, height = slide.dimensions
    top, left, rows, columns = (
        int(_number(slide.properties.get(f"openslide.bounds-{name}")))
        for name in ("y", "x", "height", "width")
    )
    if rows <= 0 or columns <= 0:
        return (0, 0), None
    return (top, left), (min(rows, height - top), min(columns, width - left))


def _number(text: str | None) -> float:
    """A property as a number; 0 where there is none."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _window_reader(
    slide: "openslide.OpenSlide", path: Path, level: int, corner: tuple[int, int]
) -> ReadWindow:
    """A function that reads windows of a level; InputError if a part of the file is damaged."""
    downsample = slide.level_downsamples[level]

    def read_window(top: int, left: int, height: int, width: int) -> np.ndarray:
        y, x = (  # OpenSlide takes whole pixels of the finest level.
            first + round(offset * downsample)
            for first, offset in zip(corner, (top, left), strict=True)
        )
        try:
            image = slide.read_region((x, y), level, (width, height))
        except _openslide().OpenSlideError as error:
            raise InputError(
                f"{path} is damaged: {height} x {width} px at row {top}, column {left} of level "
                f"{level} cannot be decoded: {error}. Copy it again from its source"
            ) from error
        if image.getextrema()[3][0] == 255:
            return np.array(image.convert("RGB"))
        return reader.to_rgb(image)

    return read_window


def digest(path: Path) -> str:
    """SHA-256 of a slide: of its file or, where it has several, of their names and contents."""
    several = _parts(path)
    if len(several) == 1:
        return files.sha256(path)
    lines = [f"{file.name} {files.sha256(file)}\n" for file in several]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _parts(path: Path) -> list[Path]:
    """The files of a slide, sorted: MIRAX has a folder of the slide's name, DICOM a series."""
    suffix = path.suffix.lower()
    if suffix == _MIRAX and path.with_suffix("").is_dir():
        return [path, *(file for file in sorted(path.with_suffix("").rglob("*")) if file.is_file())]
    if suffix == _DICOM and (series := _dicom_series(path)):
        beside = (file for file in sorted(path.parent.iterdir()) if file.suffix.lower() == _DICOM)
        return [file for file in beside if _dicom_series(file) == series]
    return [path]


def belongs_to_slide(path: Path) -> bool:
    """Whether a file is in the folder of a MIRAX slide."""
    named = (folder for folder in path.parents[:2] if folder.name)  # Not "." and "/".
    return any(folder.with_name(f"{folder.name}{_MIRAX}").is_file() for folder in named)


def first_files(paths: Iterable[Path]) -> list[Path]:
    """The paths without those DICOM files that belong to the slide of an earlier one."""
    slides, first = set(), []
    for path in paths:
        if path.suffix.lower() == _DICOM and files.is_local(path):
            slide = path.parent, _dicom_series(path) or path.name
            if slide in slides:
                continue
            slides.add(slide)
        first.append(path)
    return first


def _dicom_series(path: Path) -> str | None:
    """The UID of the series that a DICOM file belongs to, which is a slide's; None if unknown.

    Series that a file refers to are named before its own; both come before the group of pixels.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_DICOM_HEAD)
    except OSError:
        return None
    found = _SERIES.findall(head.split(_SAMPLES_PER_PIXEL)[0])
    return found[-1].rstrip(b"\0 ").decode() if found and head[128:132] == b"DICM" else None
