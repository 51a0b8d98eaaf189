"""The tiles, strips or rows of a TIFF page: located, checked for damage, and decoded one at a time.

Whether a file can hold what its header claims is checked before anything is allocated for it.
"""

import dataclasses
import functools
import io
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from histojax.errors import InputError

JPEG = 7  # TIFF's number of the compression.
_CACHE_BYTES = 64 * 2**20  # Decoded tiles that are kept, since neighbouring windows share them.


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


def locate(page: tifffile.TiffPage, path: Path) -> Segments:
    """Where a page's pixels are; uncompressed strips are split into rows.

    Raises:
      InputError: the file cannot hold what its header claims, or its segments are too large.
    """
    segments = _listed_segments(page)
    _check_for_damage(page, segments, path)
    if _is_raw(page, segments):
        segments = _split_into_rows(segments, page.imagelength)
    _check_size(segments, path)
    return segments


def _listed_segments(page: tifffile.TiffPage) -> Segments:
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


def _check_for_damage(page: tifffile.TiffPage, segments: Segments, path: Path) -> None:
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


def _check_size(segments: Segments, path: Path) -> None:
    """Raises InputError if tiles or strips are too large, since each is decoded whole."""
    limit = 2 * Image.MAX_IMAGE_PIXELS
    if segments.kind != "row" and math.prod(segments.shape) > limit:
        raise InputError(
            f"{path} has {segments.kind}s of {segments.shape[0]} x {segments.shape[1]} pixels, "
            f"expected at most {limit:,} pixels in each, since each is decoded whole: save it as a "
            "tiled TIFF"
        )


def segment_reader(
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
            if page.compression == JPEG:
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
