"""A TIFF of any size read by windows: uint8 RGB [h, w, 3], of whose tiles or strips only those touched are decoded.

Decides which page is meant, which kinds of TIFF are read, and what a header must prove before anything is allocated.
"""

import contextlib
import dataclasses
import functools
import io
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from absl import logging
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files

# Top, left, height and width, which must lie within, to uint8 RGB [height, width, 3].
Window = Callable[[int, int, int, int], np.ndarray]

STARTS = (
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)  # Classic and BigTIFF, little-endian and big-endian.
# Decoded by tifffile and imagecodecs without ever allocating more than a tile's size: by TIFF's number.
COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
JPEG = 7
# Photometric interpretation, samples a pixel and ExtraSamples: the mode Pillow has for it, and the layout it reads it
# from; the same as `images` has by Pillow alone.
MODES = {
    ("RGB", 3, ()): ("RGB", "RGB"),
    ("YCBCR", 3, ()): ("RGB", "RGB"),  # JPEG's own, which its decoder makes RGB.
    ("RGB", 4, ()): ("RGBA", "RGBA"),
    ("RGB", 4, (0,)): ("RGB", "RGBX"),
    ("RGB", 4, (1,)): ("RGBA", "RGBa"),
    ("RGB", 4, (2,)): ("RGBA", "RGBA"),
    ("MINISBLACK", 1, ()): ("L", "L"),
    ("MINISWHITE", 1, ()): ("L", "L;I"),
    ("MINISBLACK", 2, (2,)): ("LA", "LA"),
    ("PALETTE", 1, ()): ("P", "P"),
}
CACHE_BYTES = 64 * 2**20  # Decoded tiles kept, since neighbouring windows share them.


def is_tiff(path: Path) -> bool:
    """Whether a file starts as a TIFF does, whatever its name says; what cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(4) in STARTS
    except OSError:
        return False


@contextlib.contextmanager
def open_page(path: Path) -> Iterator[tifffile.TiffPage]:
    """The first page of a file; smaller ones after it (a pyramid's levels, a label) are passed over.

    Raises:
      InputError: the headers are damaged, or another page is as large: which is meant, only the user knows.
    """
    with contextlib.ExitStack() as stack:
        try:
            source = path if files.is_local(path) else stack.enter_context(path.open("rb"))
            file = stack.enter_context(tifffile.TiffFile(source, name=path.name))
            if not (pages := list(distinct(file.pages))):
                raise ValueError("it has no page")
            first, *others = ((page.imagelength, page.imagewidth) for page in pages)
            large = [size for size in others if math.prod(size) >= math.prod(first)]
        except Exception as error:  # Whatever a header's nonsense leads tifffile into.
            raise InputError(
                f"{path} cannot be opened as a TIFF: {error}. It is damaged or cut short: copy it again from its source"
            ) from error
        if large:
            raise InputError(
                f"{path} has {len(pages)} pages, the first of {first[0]} x {first[1]} pixels, another of "
                f"{large[0][0]} x {large[0][1]}, expected only smaller ones after it: save the page you mean by itself"
            )
        yield pages[0]


def distinct(pages: Iterable[tifffile.TiffPage]) -> Iterator[tifffile.TiffPage]:
    """The pages, each of which says where the next is; ValueError where that leads in a circle."""
    seen = set()
    for page in pages:
        if page.offset in seen:
            raise ValueError("its list of pages has no end")
        seen.add(page.offset)
        yield page


def refuse_unfit(page: tifffile.TiffPage, path: Path) -> None:
    """Raises InputError unless a page is 8-bit RGB, RGBA, grey or palette, upright, and compressed as is read here."""
    bits = np.max(page.bitspersample)
    name = getattr(page.photometric, "name", page.photometric)
    if (
        bits != 8
        or page.dtype != np.uint8
        or (name, page.samplesperpixel, tuple(page.extrasamples)) not in MODES
    ):
        kind = "" if page.dtype == np.uint8 or bits != 8 else ", signed"
        raise InputError(
            f"{path} has {bits} bits per sample in mode {name} with {page.samplesperpixel} samples a pixel{kind}, "
            "expected 8-bit RGB (RGBA, grey and palette are converted): convert it to 8-bit RGB"
        )
    contiguous_jpeg = page.compression == JPEG and page.planarconfig == 1
    if page.compression not in COMPRESSIONS or (name == "YCBCR" and not contiguous_jpeg):
        known = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        compression = getattr(page.compression, "name", page.compression)
        raise InputError(
            f"{path} is {name} compressed as {compression}, expected {known} (for YCbCr, JPEG, not in planes): save "
            "it as one of those"
        )
    if (orientation := page.tags.valueof(274, default=1)) != 1:
        raise InputError(
            f"{path} is stored turned (Orientation {orientation}), expected upright (1): save it upright"
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise InputError(
            f"{path} is a volume of {page.imagedepth} sections, expected one: save one as its own file"
        )
    if not (page.imagelength and page.imagewidth):
        raise InputError(
            f"{path} has {page.imagelength} x {page.imagewidth} pixels: copy it again from its source"
        )


@dataclasses.dataclass(frozen=True)
class Segments:
    """Where a page's tiles, strips or rows are."""

    kind: str
    shape: tuple[int, int]  # Rows and columns of each.
    grid: tuple[int, int, int]  # How many planes of how many down and across.
    depth: int  # Samples a pixel in each.
    offsets: np.ndarray  # First byte of each, uint64, in the order of the grid.
    counts: np.ndarray  # Bytes of each, uint64; 0 where it was left out.


def layout(page: tifffile.TiffPage, end: int, path: Path) -> Segments:
    """The tiles or strips of a page, in a file of `end` bytes.

    Raises:
      InputError: fewer than the size asks for, some beyond the end, or larger than is decoded in one piece.
    """
    kind, shape = "strip", (page.rowsperstrip, page.imagewidth)
    if page.is_tiled:
        kind, shape = "tile", (page.tilelength, page.tilewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    grid = (planes, math.ceil(page.imagelength / shape[0]), math.ceil(page.imagewidth / shape[1]))
    expected = math.prod(grid)
    offsets, counts = (
        np.array(given[:expected], np.uint64) for given in (page.dataoffsets, page.databytecounts)
    )
    if (found := min(len(offsets), len(counts))) < expected:
        raise InputError(
            f"{path} claims {page.imagelength} x {page.imagewidth} pixels, which would be {expected} {kind}s, but has "
            f"{found}: it is damaged; copy it again from its source"
        )
    # The sum alone could overflow.
    outside = (offsets > end) | (counts > end) | (offsets + counts > end)
    if outside.any():
        raise InputError(
            f"{path} is cut short: {outside.sum()} of its {expected} {kind}s lie beyond its end, at {end} bytes. "
            "Copy it again from its source"
        )
    segments = Segments(kind, shape, grid, page.samplesperpixel // planes, offsets, counts)
    if kind == "strip" and (page.compression, page.predictor, page.fillorder) == (1, 1, 1):
        return rows_of(segments, page.imagelength, path)
    if math.prod(shape) > (limit := 2 * Image.MAX_IMAGE_PIXELS):
        raise InputError(
            f"{path} has {kind}s of {shape[0]} x {shape[1]} pixels, expected at most {limit:,} pixels in each, since "
            "each is decoded whole: save it as a tiled TIFF"
        )
    return segments


def rows_of(strips: Segments, height: int, path: Path) -> Segments:
    """Uncompressed strips, of which one is often the whole image, as strips of one row; InputError where bytes lack."""
    (rows, width), (planes, down, _) = strips.shape, strips.grid
    row_bytes = width * strips.depth
    needed = (
        np.tile(np.minimum(rows, height - rows * np.arange(down, dtype=float)), planes) * row_bytes
    )
    if (strips.counts < needed).any():
        raise InputError(
            f"{path} claims {height} x {width} pixels, {needed.sum():.0f} bytes, but has {strips.counts.sum()}: it is "
            "damaged; copy it again from its source"
        )
    row = np.arange(height)
    strip = (np.arange(planes)[:, None] * down + row // rows).ravel()
    offsets = strips.offsets[strip] + np.tile((row % rows * row_bytes).astype(np.uint64), planes)
    counts = np.full(len(offsets), row_bytes, np.uint64)
    return Segments("row", (1, width), (planes, height, 1), strips.depth, offsets, counts)


def segment_reader(page: tifffile.TiffPage, at: Segments, path: Path) -> Callable:
    """A function of plane, down and across: reads and decodes a segment, uint8 [rows, columns, depth], and keeps some.

    It raises InputError where there is none, or it cannot be decoded.
    """
    decode, file, lock = page.decode, page.parent.filehandle, threading.Lock()
    _, down, across = at.grid
    bytes_each = math.prod(at.shape) * at.depth

    @functools.lru_cache(maxsize=max(1, CACHE_BYTES // bytes_each))
    def segment(plane: int, i: int, j: int) -> np.ndarray:
        index = (plane * down + i) * across + j
        where = f"{at.kind} {index + 1} of {len(at.offsets)}"
        if not (at.offsets[index] and at.counts[index]):
            raise InputError(
                f"{path} has no pixels in {where}: it was left out, or the file is damaged. Save it whole"
            )
        try:
            with lock:
                file.seek(int(at.offsets[index]))
                data = file.read(int(at.counts[index]))
            if at.kind == "row":
                return np.frombuffer(data, np.uint8).reshape(*at.shape, at.depth)
            if page.compression == JPEG:
                check_jpeg(data, at.shape)
            return decode(data, index, jpegtables=page.jpegtables)[0][0]
        except Exception as error:  # Each codec has errors of its own.
            raise InputError(
                f"{path} is damaged: {where} cannot be decoded: {error}. Copy it again from its source"
            ) from error

    return segment


def check_jpeg(jpeg: bytes, shape: tuple[int, int]) -> None:
    """Raises ValueError where a JPEG tile claims more pixels than a tile has, or has no end; nothing is decoded."""
    if b"\xff\xd9" not in jpeg:  # The decoder would make the rest grey and say nothing.
        raise ValueError("it is cut short")
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
        if header.height > shape[0] or header.width > shape[1]:
            raise ValueError(
                f"it claims {header.height} x {header.width} pixels, expected {shape[0]} x {shape[1]}"
            )


def window_reader(page: tifffile.TiffPage, path: Path) -> Window:
    """The page's windows as RGB, read by one thread or several; of the file only the segments they touch.

    Converted as by `images.read`, with the same notice.

    Raises:
      InputError: the page is of a kind that is not read, or claims what the file cannot have. The function that is
        returned raises it where a segment is missing or damaged.
    """
    try:
        refuse_unfit(page, path)
        at = layout(page, page.parent.filehandle.size, path)
        segment = segment_reader(page, at, path)
        to_rgb = converter(page, path)
    except InputError:
        raise
    except Exception as error:  # Whatever a header's nonsense leads tifffile into.
        raise InputError(f"{path} is damaged: {error}. Copy it again from its source") from error
    tall, wide = at.shape

    def window(top: int, left: int, height: int, width: int) -> np.ndarray:
        samples = np.empty((height, width, page.samplesperpixel), np.uint8)
        for plane in range(at.grid[0]):
            for i in range(top // tall, (top + height - 1) // tall + 1):
                for j in range(left // wide, (left + width - 1) // wide + 1):
                    # Rows and columns of the field that the window and this segment share.
                    y, bottom = max(top, i * tall), min(top + height, (i + 1) * tall)
                    x, right = max(left, j * wide), min(left + width, (j + 1) * wide)
                    part = segment(plane, i, j)[
                        y - i * tall : bottom - i * tall, x - j * wide : right - j * wide
                    ]
                    samples[
                        y - top : bottom - top, x - left : right - left, plane : plane + at.depth
                    ] = part
        return to_rgb(samples)

    return window


def converter(page: tifffile.TiffPage, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function of samples as stored, uint8 [h, w, S], to RGB [h, w, 3], as `images.read` does; with its notice."""
    mode, layout = MODES[page.photometric.name, page.samplesperpixel, tuple(page.extrasamples)]
    if mode == layout == "RGB":
        return lambda samples: samples
    if mode != "RGB":
        logging.warning("%s is %s: converted to RGB", path, reader.CONVERTED[mode])
    palette = (page.colormap >> 8).astype(np.uint8).T.tobytes() if mode == "P" else None

    def to_rgb(samples: np.ndarray) -> np.ndarray:
        height, width, _ = samples.shape
        image = Image.frombytes(mode, (width, height), samples.tobytes(), "raw", layout)
        if palette is not None:
            image.putpalette(palette)
        return reader.to_rgb(image)

    return to_rgb
