"""A TIFF of any size, read by windows: uint8 RGB [h, w, 3], decoding only the tiles they touch.

Decides which page is read, which kinds of TIFF are, and what is checked for damage before anything
is allocated.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
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

# Top, left, height and width of a window inside the image, to uint8 RGB [height, width, 3].
ReadWindow = Callable[[int, int, int, int], np.ndarray]

# How files start: classic and BigTIFF, little-endian and big-endian.
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Decoded by tifffile and imagecodecs without ever allocating more than a tile: by TIFF's number.
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
_JPEG = 7
# Photometric interpretation, samples per pixel and ExtraSamples: Pillow's mode, and the layout that
# Pillow decodes it from. YCbCr is JPEG's, which its decoder makes RGB.
_MODES = {
    ("RGB", 3, ()): ("RGB", "RGB"),
    ("YCBCR", 3, ()): ("RGB", "RGB"),
    ("RGB", 4, ()): ("RGBA", "RGBA"),
    ("RGB", 4, (0,)): ("RGB", "RGBX"),
    ("RGB", 4, (1,)): ("RGBA", "RGBa"),
    ("RGB", 4, (2,)): ("RGBA", "RGBA"),
    ("MINISBLACK", 1, ()): ("L", "L"),
    ("MINISWHITE", 1, ()): ("L", "L;I"),
    ("MINISBLACK", 2, (2,)): ("LA", "LA"),
    ("PALETTE", 1, ()): ("P", "P"),
}
_CACHE_BYTES = 64 * 2**20  # Decoded tiles that are kept, since neighbouring windows share them.
_ORIENTATION = 274  # TIFF's tag.


def is_tiff(path: Path) -> bool:
    """Whether a file starts like a TIFF, whatever its name; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) in _SIGNATURES
    except OSError:
        return False


@contextlib.contextmanager
def open_page(path: Path) -> Iterator[tifffile.TiffPage]:
    """The first page of a file; smaller ones after it (a pyramid's levels, a label) are ignored.

    Raises:
      InputError: the headers are damaged, or another page is as large: only the user knows which
        is meant.
    """
    with contextlib.ExitStack() as stack:
        try:
            source = path if files.is_local(path) else stack.enter_context(path.open("rb"))
            file = stack.enter_context(tifffile.TiffFile(source, name=path.name))
            pages = list(_check_chain(file.pages))
            if not pages:
                raise ValueError("it has no page")
            first, *others = ((page.imagelength, page.imagewidth) for page in pages)
            large = [size for size in others if math.prod(size) >= math.prod(first)]
        except Exception as error:  # Nonsense in a header raises many kinds in tifffile.
            raise InputError(
                f"{path} cannot be opened as a TIFF: {error}. It is damaged or cut short: copy it "
                "again from its source"
            ) from error
        if large:
            raise InputError(
                f"{path} has {len(pages)} pages, the first of {first[0]} x {first[1]} pixels, "
                f"another of {large[0][0]} x {large[0][1]}, expected only smaller ones after it: "
                "save the page you mean by itself"
            )
        yield pages[0]


def _check_chain(pages: Iterable[tifffile.TiffPage]) -> Iterator[tifffile.TiffPage]:
    """The pages, each of which says where the next is; ValueError if they form a circle."""
    offsets = set()
    for page in pages:
        if page.offset in offsets:
            raise ValueError("its list of pages has no end")
        offsets.add(page.offset)
        yield page


def window_reader(page: tifffile.TiffPage, path: Path) -> ReadWindow:
    """A function that reads windows of a page as RGB, which threads may call at once.

    It decodes only the tiles, strips or rows that a window touches, and converts colours like
    `reader.read`, with the same warning.

    Raises:
      InputError: the page is of a kind that is not read, or the file is damaged. The function
        raises it if a tile is missing or damaged.
    """
    try:
        _check_kind(page, path)
        segments = _segments_of(page)
        check_for_damage(page, segments, path)
        if _is_raw(page, segments):
            segments = _split_into_rows(segments, page.imagelength)
        _check_segment_size(segments, path)
        read_segment = _segment_reader(page, segments, path)
        to_rgb = _converter(page, path)
    except InputError:
        raise
    except Exception as error:  # Nonsense in a header raises many kinds in tifffile.
        raise InputError(f"{path} is damaged: {error}. Copy it again from its source") from error
    tall, wide = segments.shape
    planes = range(segments.grid[0])

    def read_window(top: int, left: int, height: int, width: int) -> np.ndarray:
        samples = np.empty((height, width, page.samplesperpixel), np.uint8)
        down = range(top // tall, (top + height - 1) // tall + 1)
        across = range(left // wide, (left + width - 1) // wide + 1)
        for plane, i, j in itertools.product(planes, down, across):
            # Rows and columns of the image that the window and this segment share.
            y, bottom = max(top, i * tall), min(top + height, (i + 1) * tall)
            x, right = max(left, j * wide), min(left + width, (j + 1) * wide)
            rows, columns = (
                slice(y - i * tall, bottom - i * tall),
                slice(x - j * wide, right - j * wide),
            )
            target = samples[y - top : bottom - top, x - left : right - left]
            target[..., plane : plane + segments.depth] = read_segment(plane, i, j)[rows, columns]
        return to_rgb(samples)

    return read_window


def _check_kind(page: tifffile.TiffPage, path: Path) -> None:
    """Raises InputError unless a page is 8-bit RGB, RGBA, grey or palette, and decodable here."""
    bits = np.max(page.bitspersample)
    name = getattr(page.photometric, "name", page.photometric)
    known = (name, page.samplesperpixel, tuple(page.extrasamples)) in _MODES
    if bits != 8 or page.dtype != np.uint8 or not known:
        signed = "" if page.dtype == np.uint8 or bits != 8 else ", signed"
        raise InputError(
            f"{path} has {bits} bits per sample in mode {name} with {page.samplesperpixel} samples "
            f"a pixel{signed}, expected 8-bit RGB (RGBA, grey and palette are converted): convert "
            "it to 8-bit RGB"
        )
    contiguous_jpeg = page.compression == _JPEG and page.planarconfig == 1
    if page.compression not in _COMPRESSIONS or (name == "YCBCR" and not contiguous_jpeg):
        compression = getattr(page.compression, "name", page.compression)
        raise InputError(
            f"{path} is {name} compressed as {compression}, expected "
            f"{', '.join(dict.fromkeys(_COMPRESSIONS.values()))} (for YCbCr, JPEG, not in planes): "
            "save it as one of those"
        )
    if (orientation := page.tags.valueof(_ORIENTATION, default=1)) != 1:
        raise InputError(
            f"{path} is stored rotated (Orientation {orientation}), expected upright (1): save it "
            "upright"
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise InputError(
            f"{path} is a volume of {page.imagedepth} sections, expected one: save one as its own "
            "file"
        )
    if not (page.imagelength and page.imagewidth):
        raise InputError(
            f"{path} has {page.imagelength} x {page.imagewidth} pixels: copy it again from its "
            "source"
        )


@dataclasses.dataclass(frozen=True)
class Segments:
    """Where a page's tiles, strips or rows are.

    Attributes:
      kind: tile, strip or row.
      shape: rows and columns of each.
      grid: how many planes of how many down and across.
      depth: samples per pixel in each.
      offsets: the first byte of each, uint64, in the order of the grid.
      counts: bytes of each, uint64; 0 if it was left out.
    """

    kind: str
    shape: tuple[int, int]
    grid: tuple[int, int, int]
    depth: int
    offsets: np.ndarray
    counts: np.ndarray


def _segments_of(page: tifffile.TiffPage) -> Segments:
    """The tiles or strips that a file lists for a page, which may be fewer than there must be."""
    kind, shape = "strip", (page.rowsperstrip, page.imagewidth)
    if page.is_tiled:
        kind, shape = "tile", (page.tilelength, page.tilewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    grid = (planes, math.ceil(page.imagelength / shape[0]), math.ceil(page.imagewidth / shape[1]))
    expected = math.prod(grid)
    listed = min(expected, len(page.dataoffsets), len(page.databytecounts))
    offsets = np.array(page.dataoffsets[:listed], np.uint64)
    counts = np.array(page.databytecounts[:listed], np.uint64)
    return Segments(kind, shape, grid, page.samplesperpixel // planes, offsets, counts)


def check_for_damage(page: tifffile.TiffPage, segments: Segments, path: Path) -> None:
    """Checks that the file can hold what its header claims; nothing is read or allocated for it.

    Damage within a tile is found when it is decoded.

    Raises:
      InputError: there are fewer tiles or strips than the size needs, some lie beyond the file's
        end, or uncompressed ones have too few bytes.
    """
    claimed = f"{path} claims {page.imagelength} x {page.imagewidth} pixels"
    expected, listed = math.prod(segments.grid), len(segments.offsets)
    if listed < expected:
        raise InputError(
            f"{claimed}, which would be {expected} {segments.kind}s, but has {listed}: it is "
            "damaged; copy it again from its source"
        )
    end = page.parent.filehandle.size
    offsets, counts = segments.offsets, segments.counts
    # The sum alone could overflow.
    outside = (offsets > end) | (counts > end) | (offsets + counts > end)
    if outside.any():
        raise InputError(
            f"{path} is cut short: {outside.sum()} of its {expected} {segments.kind}s lie beyond "
            f"its end, at {end} bytes. Copy it again from its source"
        )
    if not _is_raw(page, segments):
        return
    rows, width = segments.shape
    planes, down, _ = segments.grid
    row_bytes = width * segments.depth
    # Rows of each strip; the last strip has what is left. Floats, since integers could overflow.
    strip_rows = np.minimum(rows, page.imagelength - rows * np.arange(down, dtype=float))
    needed = np.tile(strip_rows, planes) * row_bytes
    if (counts < needed).any():
        raise InputError(
            f"{claimed}, {needed.sum():.0f} bytes, but has {counts.sum()}: it is damaged; copy it "
            "again from its source"
        )


def _is_raw(page: tifffile.TiffPage, segments: Segments) -> bool:
    """Whether the pixels of strips can be read without decoding."""
    raw = (page.compression, page.predictor, page.fillorder) == (1, 1, 1)
    return segments.kind == "strip" and raw


def _split_into_rows(strips: Segments, height: int) -> Segments:
    """Uncompressed strips, one of which is often the whole image, as strips of one row."""
    (rows, width), (planes, down, _) = strips.shape, strips.grid
    row_bytes = width * strips.depth
    row = np.arange(height)
    strip = (np.arange(planes)[:, None] * down + row // rows).ravel()
    offsets = strips.offsets[strip] + np.tile((row % rows * row_bytes).astype(np.uint64), planes)
    counts = np.full(len(offsets), row_bytes, np.uint64)
    return Segments("row", (1, width), (planes, height, 1), strips.depth, offsets, counts)


def _check_segment_size(segments: Segments, path: Path) -> None:
    """Raises InputError if tiles or strips are too large, since each is decoded whole."""
    limit = 2 * Image.MAX_IMAGE_PIXELS
    if segments.kind != "row" and math.prod(segments.shape) > limit:
        raise InputError(
            f"{path} has {segments.kind}s of {segments.shape[0]} x {segments.shape[1]} pixels, "
            f"expected at most {limit:,} pixels in each, since each is decoded whole: save it as a "
            "tiled TIFF"
        )


def _segment_reader(
    page: tifffile.TiffPage, segments: Segments, path: Path
) -> Callable[[int, int, int], np.ndarray]:
    """A function of plane, down and across that decodes a segment, uint8 [rows, columns, depth].

    It keeps some of them, and raises InputError if a segment is missing or damaged.
    """
    decode, file, lock = page.decode, page.parent.filehandle, threading.Lock()
    _, down, across = segments.grid
    bytes_each = math.prod(segments.shape) * segments.depth

    @functools.lru_cache(maxsize=max(1, _CACHE_BYTES // bytes_each))
    def read_segment(plane: int, i: int, j: int) -> np.ndarray:
        index = (plane * down + i) * across + j
        where = f"{segments.kind} {index + 1} of {len(segments.offsets)}"
        if not (segments.offsets[index] and segments.counts[index]):
            raise InputError(
                f"{path} has no pixels in {where}: it was left out, or the file is damaged. Save "
                "it whole"
            )
        try:
            with lock:
                file.seek(int(segments.offsets[index]))
                data = file.read(int(segments.counts[index]))
            if segments.kind == "row":
                return np.frombuffer(data, np.uint8).reshape(*segments.shape, segments.depth)
            if page.compression == _JPEG:
                _check_jpeg(data, segments.shape)
            return decode(data, index, jpegtables=page.jpegtables)[0][0]
        except Exception as error:  # Each codec has errors of its own.
            raise InputError(
                f"{path} is damaged: {where} cannot be decoded: {error}. Copy it again from its "
                "source"
            ) from error

    return read_segment


def _check_jpeg(jpeg: bytes, shape: tuple[int, int]) -> None:
    """Raises ValueError if a JPEG tile has no end, or claims more pixels than a tile has."""
    if b"\xff\xd9" not in jpeg:  # Its decoder would silently fill the rest with grey.
        raise ValueError("it is cut short")
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
        if header.height > shape[0] or header.width > shape[1]:
            raise ValueError(
                f"it claims {header.height} x {header.width} pixels, expected {shape[0]} x "
                f"{shape[1]}"
            )


def _converter(page: tifffile.TiffPage, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function of stored samples, uint8 [h, w, S], to RGB [h, w, 3]; warns like `reader.read`."""
    mode, layout = _MODES[page.photometric.name, page.samplesperpixel, tuple(page.extrasamples)]
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
