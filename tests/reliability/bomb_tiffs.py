"""TIFFs of the campaign `bombs`: huge claims, tiles that swell, lists of pages without an end."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

_SHORT, _LONG = 3, 4
_RGB = {258: (_SHORT, 8), 262: (_SHORT, 2), 277: (_SHORT, 3)}

Tags = dict[int, tuple[int, int] | tuple[int, int, int]]


def _page(tags: Tags, following: int = 0) -> bytes:
    """A directory: (type, value), or (type, count, where the values are), by tag."""
    entries = []
    for tag, (kind, *rest) in sorted(tags.items()):
        count, value = rest if len(rest) == 2 else (1, rest[0])
        entries.append(struct.pack("<HHII", tag, kind, count, value))
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)


def _tiff(page: bytes, *rest: bytes) -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + page + b"".join(rest)


def _image(height: int, width: int, compression: int, more: Tags) -> Tags:
    sizes = {256: (_LONG, width), 257: (_LONG, height), 259: (_SHORT, compression)}
    return _RGB | sizes | more


def _with_data(tags: Tags, data: bytes, tag: int, counts: int) -> bytes:
    """One page whose only tile or strip is `data`."""
    start = 8 + len(_page(tags | {tag: (_LONG, 0), counts: (_LONG, 0)}))
    return _tiff(_page(tags | {tag: (_LONG, start), counts: (_LONG, len(data))}), data)


def _tile(data: bytes, side: int = 256, compression: int = 8, image: int = 256) -> bytes:
    tags = _image(image, image, compression, {322: (_LONG, side), 323: (_LONG, side)})
    return _with_data(tags, data, 324, 325)


def _strip(data: bytes, side: int = 256, compression: int = 8) -> bytes:
    return _with_data(_image(side, side, compression, {278: (_LONG, side)}), data, 273, 279)


def _zeros(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(mebibytes)) + packer.flush()


def _pages(count: int, last: int) -> bytes:
    """A chain of pages, the last of which names another one as the next."""
    tags = _image(16, 16, 1, {273: (_LONG, 8), 279: (_LONG, 768), 278: (_LONG, 16)})
    size = len(_page(tags))
    links = [8 + (i + 1) * size for i in range(count - 1)] + [last and 8 + (last - 1) * size]
    return _tiff(b"".join(_page(tags, link) for link in links), bytes(768))


def _of_sub_pages(where: int) -> bytes:
    """A page that has itself, or one that has it, among its smaller copies."""
    tags = _image(16, 16, 1, {273: (_LONG, 8), 279: (_LONG, 768), 278: (_LONG, 16)})
    tags |= {330: (_LONG, where)}
    second = 8 + len(_page(tags))
    other = _page(tags | {330: (_LONG, 8), 254: (_LONG, 1)})
    return _tiff(_page(tags | {330: (_LONG, second if where else 8)}), other, bytes(768))


def _counted(count: int) -> bytes:
    """A page whose list of strips claims many, where the file has none."""
    tags = _image(256, 256, 1, {273: (_LONG, count, 8), 279: (_LONG, count, 8), 278: (_LONG, 1)})
    return _tiff(_page(tags), bytes(256))


_JPEG = bytes.fromhex("ffd8ffc0001108ffdcffdc03012200021101031101ffd9")
_CONTENTS: dict[str, Callable[[], bytes]] = {
    "claims-exapixels": lambda: _strip(b"", 2**31 - 1),
    "claims-exapixels-in-tiles": lambda: _tile(b"", 256, 8, 2**31 - 1),
    "a-tile-of-terabytes": lambda: _tile(_zeros(1), 2**20),
    "a-tile-that-swells": lambda: _tile(_zeros(1024)),
    "a-strip-that-swells": lambda: _strip(_zeros(1024)),
    "a-tile-of-lzw-nonsense": lambda: _tile(b"\x80\xff" * 10**6, 256, 5),
    "a-tile-of-packbits-runs": lambda: _tile(b"\x81\0" * 10**6, 256, 32773),
    "a-tile-of-a-larger-jpeg": lambda: _tile(_JPEG, 256, 7),
    "pages-in-a-circle": lambda: _pages(3, 1),
    "a-page-after-itself": lambda: _pages(1, 1),
    "a-hundred-thousand-pages": lambda: _pages(100_000, 0),
    "copies-of-itself": lambda: _of_sub_pages(0),
    "copies-in-a-circle": lambda: _of_sub_pages(1),
    "a-list-of-two-gigabytes": lambda: _counted(2**29),
}


def _maker(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.tif").write_bytes(content())
        return folder / "a.tif"

    return make


TIFFS = {name: _maker(content) for name, content in _CONTENTS.items()}
