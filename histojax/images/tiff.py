"""A TIFF of any size, read by windows: uint8 RGB [h, w, 3], decoding only the tiles they touch.

Decides which page is read, and which kinds of TIFF are.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from absl import logging
from PIL import Image

from histojax.errors import InputError
from histojax.images import pages, reader, tiff_segments
from histojax.images.level import Level, ReadWindow
from histojax.utils import files

# How files start: classic and BigTIFF, little-endian and big-endian.
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Decoded by tifffile and imagecodecs without ever allocating more than a tile: by TIFF's number.
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
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
    """The page that is the image, see `pages`; others (a pyramid's levels, a label) are ignored.

    Raises:
      InputError: the headers are damaged, or several pages could be the image.
    """
    with contextlib.ExitStack() as stack:
        with _refuse_nonsense(path):
            in_file = stack.enter_context(_open_pages(path))
            sizes = [(page.imagelength, page.imagewidth) for page in in_file]
            chosen = pages.choose(
                sizes, [bool(page.subfiletype & pages.MARKED) for page in in_file]
            )
        if chosen is None:
            raise InputError(f"{path} {pages.refusal(sizes)}")
        if chosen:
            logging.warning("%s %s", path, pages.notice(sizes, chosen))
        yield in_file[chosen]


def tile_sizes(path: Path) -> list[tuple[int, int]]:
    """Height and width of the tiles of each page, px; 0 where it has none.

    Raises:
      InputError: the headers are damaged.
    """
    with _refuse_nonsense(path), _open_pages(path) as in_file:
        return [(page.tilelength, page.tilewidth) for page in in_file]


def longest_tiles(path: Path) -> list[int]:
    """Bytes of the longest tile or strip of each page, as the headers have it.

    Raises:
      InputError: the headers are damaged.
    """
    with _refuse_nonsense(path), _open_pages(path) as in_file:
        return [max(page.databytecounts, default=0) for page in in_file]


@contextlib.contextmanager
def _open_pages(path: Path) -> Iterator[list[tifffile.TiffPage]]:
    with contextlib.ExitStack() as stack:
        source = path if files.is_local(path) else stack.enter_context(path.open("rb"))
        file = stack.enter_context(tifffile.TiffFile(source, name=path.name))
        in_file = list(itertools.islice(_check_chain(file.pages), pages.MOST_PAGES + 1))
        if not in_file:
            raise ValueError("it has no page")
        if len(in_file) > pages.MOST_PAGES:
            raise InputError(f"{path} {pages.too_many()}")
        yield in_file


@contextlib.contextmanager
def _refuse_nonsense(path: Path) -> Iterator[None]:
    """Raises InputError where nonsense in a header raises errors of many kinds in tifffile."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be opened as a TIFF: {error}. It is damaged or cut short: copy it "
            "again from its source"
        ) from error


def coarser_levels(page: tifffile.TiffPage, path: Path) -> tuple[Level, ...]:
    """The levels of a pyramid below a page, the finest first; none if it is no pyramid.

    They are the pages, and the page's SubIFDs, that are marked as reduced and have its shape;
    those that cannot be read are left out.
    """
    levels = []
    for other in _other_pages(page):
        shrink = page.imagelength / max(1, other.imagelength)
        same_shape = abs(page.imagewidth / shrink - other.imagewidth) <= 1
        if other.is_reduced and same_shape and shrink > 1:
            with contextlib.suppress(InputError):
                size = other.imagelength, other.imagewidth
                levels.append(Level(size, window_reader(other, path)))
    return tuple(sorted(levels, key=lambda level: -level.size[0]))


def _other_pages(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """The SubIFDs of a page, and the pages of its file, as far as they can be read."""
    readable = []
    for owner in (page, page.parent):
        with contextlib.suppress(Exception):  # Nonsense in a header raises many kinds in tifffile.
            for other in owner.pages or ():
                with contextlib.suppress(Exception):
                    readable.append(other.aspage())
    return readable


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
        segments = tiff_segments.locate(page, path)
        read_segment = tiff_segments.segment_reader(page, segments, path)
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
    contiguous_jpeg = page.compression == tiff_segments.JPEG and page.planarconfig == 1
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
