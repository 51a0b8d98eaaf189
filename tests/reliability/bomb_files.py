"""The files of the campaign `bombs`, by name: how each is made, and what reads it."""

import dataclasses
import functools
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from histojax.datasets import dataset, sheets
from histojax.features import arrays
from histojax.images import reader, slide
from histojax.prediction import bundle
from histojax.utils import archive, array_files, files, zips
from tests.reliability import bomb_tiffs


@dataclasses.dataclass(frozen=True)
class Bomb:
    """A file that asks for much.

    Attributes:
      make: writes it into a folder, and returns its path.
      read: reads it as a step of the pipeline does.
      may_be_read: whether it may be read in place of refused.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    may_be_read: bool = False


# Parts of the names of those that take seconds to make or to read.
SLOW = (
    *("swell", "gigabytes-of-zeros", "half-a-gigapixel", "more-pixels-than", "thousand-deep"),
    *("hundred-thousand-pages", "ten-million", "tensors-that-overlap", "directory-that-lies"),
)


# Images.


def _read_image(path: Path) -> tuple[int, ...]:
    return reader.read(path).shape


def _read_slide(path: Path) -> tuple[int, ...]:
    slide.pixel_sides(path)
    with slide.open_slide(path) as opened:
        height, width = opened.size
        opened.read(0, 0, min(height, 300), min(width, 300))
        for level in opened.coarser:
            level.read_window(0, 0, *(min(side, 300) for side in level.size))
        return opened.thumbnail(64).shape


def _content(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


def _png(side: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">II", side, side) + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*one) for one in ((b"IHDR", header), *chunks))


def _zeros(count: int) -> bytes:
    """Deflated zeros, made piece by piece."""
    packer, piece = zlib.compressobj(9), bytes(2**20)
    packed = [packer.compress(piece) for _ in range(count // 2**20)]
    return b"".join([*packed, packer.compress(bytes(count % 2**20)), packer.flush()])


_ROWS = _zeros(64 * (3 * 64 + 1))
_JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffc0001108ffdcffdc03012200021101031101"
)
_WEBP = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\xff\xff" * 2
_IMAGES = {
    "png/claims-ten-gigapixels": _content("a.png", _png(100_000, (b"IDAT", b""))),
    "png/holds-half-a-gigapixel": lambda folder: _content(
        "a.png", _png(22_000, (b"IDAT", _zeros(22_000 * 66_001)), (b"IEND", b""))
    )(folder),
    "png/more-pixels-than-it-claims": _content(
        "a.png", _png(64, (b"IDAT", _zeros(2**28)), (b"IEND", b""))
    ),
    "png/text-that-swells": _content(
        "a.png",
        _png(64, (b"zTXt", b"a\0\0" + _zeros(2**29)), (b"IDAT", _ROWS), (b"IEND", b"")),
    ),
    "png/profile-that-swells": _content(
        "a.png",
        _png(64, (b"iCCP", b"a\0\0" + _zeros(2**29)), (b"IDAT", _ROWS), (b"IEND", b"")),
    ),
    "png/a-million-frames-claimed": _content(
        "a.png",
        _png(
            *(64, (b"acTL", struct.pack(">II", 10**6, 0))),
            (b"fcTL", struct.pack(">5I2H2B", 0, 64, 64, 0, 0, 1, 1, 0, 0)),
            *((b"IDAT", _ROWS), (b"IEND", b"")),
        ),
    ),
    "jpeg/claims-four-gigapixels": _content("a.jpg", _JPEG + b"\xff\xd9"),
    "bmp/claims-ten-gigapixels": _content(
        "a.bmp",
        b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 100_000, 100_000, 1, 24, 0, 0, 1, 1, 0, 0),
    ),
    "bmp/runs-of-nothing": _content(
        "a.bmp",
        b"BM" + struct.pack("<IHHI", 1078, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 1, 0, 1, 1, 256, 0) + bytes(1024),
    ),
    "webp/claims-a-canvas-of-teras": _content(
        "a.webp", b"RIFF" + struct.pack("<I", len(_WEBP) + 4) + b"WEBP" + _WEBP
    ),
}  # fmt: skip


# Tables.

_SHEET = (
    '<?xml version="1.0"?>{doctype}<worksheet xmlns="http://schemas.openxmlformats.org/'
    'spreadsheetml/2006/main"><sheetData>{rows}</sheetData>{end}</worksheet>'
)
_CELL = '<row r="{row}"><c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c></row>'
_FIRST = _CELL.format(row=1, column="A", text="image")


def _workbook(
    rows: str = _FIRST, doctype: str = "", end: str = "", more: dict[str, bytes] | None = None
) -> Callable[[Path], Path]:
    """A workbook of one sheet whose XML is given."""

    def make(folder: Path) -> Path:
        import openpyxl

        path, made = folder / "a.xlsx", folder / "sound.xlsx"
        openpyxl.Workbook().save(made)
        sheet = _SHEET.format(doctype=doctype, rows=rows, end=end).encode()
        with zipfile.ZipFile(made) as sound, zipfile.ZipFile(path, "w", 8) as out:
            parts = {name: sound.read(name) for name in sound.namelist()}
            parts |= {"xl/worksheets/sheet1.xml": sheet} | (more or {})
            for name, content in parts.items():
                out.writestr(name, content)
        made.unlink()
        return path

    return make


def _entities(kind: str) -> tuple[str, str]:
    """A document type with entities, and the one to name."""
    if kind == "laughs":
        levels = "".join(
            f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' if i else '<!ENTITY e0 "ha">'
            for i in range(10)
        )
        return f"<!DOCTYPE a [{levels}]>", "&e9;"
    if kind == "square":
        return f'<!DOCTYPE a [<!ENTITY e0 "{"ha" * 50_000}">]>', "&e0;" * 50_000
    return '<!DOCTYPE a [<!ENTITY e0 SYSTEM "file:///etc/hostname">]>', "&e0;"


def _merged(reference: str) -> str:
    return f'<mergeCells count="1"><mergeCell ref="{reference}"/></mergeCells>'


_FAR = _FIRST + _CELL.format(row=1_048_576, column="XFD", text="x")
_WORKBOOKS = {
    "xlsx/a-cell-at-the-far-corner": _workbook(_FAR),
    "xlsx/all-cells-merged": _workbook(end=_merged("A1:XFD1048576")),
    "xlsx/a-column-of-cells-merged": _workbook(end=_merged("A1:ZZ1048576")),
    "xlsx/a-sheet-that-swells": lambda folder: _workbook(_FIRST + " " * 2**30)(folder),
    "xlsx/strings-that-swell": lambda folder: _workbook(
        more={"xl/sharedStrings.xml": b"<sst><si><t>" + b"x" * 2**30 + b"</t></si></sst>"}
    )(folder),
    "xlsx/a-picture-that-swells": lambda folder: _workbook(
        more={"xl/media/image1.png": bytes(2**30)}
    )(folder),
    "xlsx/styles-without-number": _workbook(
        more={"xl/styles.xml": b"<styleSheet><cellXfs>" + b"<xf/>" * 10**6}
    ),
    "xlsx/rules-without-number": _workbook(end="<cfRule/>" * 10**5),
} | {
    f"xlsx/entities-{kind}": _workbook(
        _CELL.format(row=1, column="A", text=_entities(kind)[1]), _entities(kind)[0]
    )
    for kind in ("laughs", "square", "file")
}
_TABLES = {
    "csv/ten-million-cells-in-a-line": _content("a.csv", b"image,label\n" + b"," * 10**7),
    "csv/a-million-quotes": _content("a.csv", b"image,label\n" + b'"' * 10**6),
    "csv/a-cell-without-an-end": _content("a.csv", b'image,label\n"' + b"x\n" * 10**6),
    "csv/a-row-of-signs": _content("a.csv", b"image,label\n" + b"\t;=" * 10**5 + b",a\n"),
}


# Arrays.


def _read_weights(path: Path) -> int:
    with array_files.open_arrays(path) as (_, held):
        return sum(array.load().nbytes for array in held.values())


def _read_features(path: Path) -> int:
    return sum(len(block) for one in arrays.contents(path) for block in one.blocks())


def _hdf5(write: Callable[[h5py.File], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "secret.npy").write_bytes(bytes(4096))
        with h5py.File(folder / "other.h5", "w") as other:
            other["features"] = np.ones((4, 8), np.float32)
        with h5py.File(folder / "a.h5", "w") as file:
            write(file)
        return folder / "a.h5"

    return make


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 8), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "features", (4, 8))
    file.create_virtual_dataset("features", layout)


def _loop(file: h5py.File) -> None:
    file["a/b"] = np.ones((4, 8), np.float32)
    file["a/loop"] = file["a"]
    file["features"] = h5py.SoftLink("/features")


def _deep(file: h5py.File) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("g")
    group["features"] = np.ones((4, 8), np.float32)


def _nonsense(file: h5py.File) -> None:
    """A compressed chunk of 64 MiB whose stored bytes are not those of gzip."""
    made = file.create_dataset(
        "features", (2**14, 1024), np.float32, chunks=(2**14, 1024), compression=1
    )
    made.id.write_direct_chunk((0, 0), os.urandom(2**16))


def _set(name: str, shape: tuple[int, ...], **options: Any) -> Callable[[h5py.File], Any]:
    return lambda file: file.create_dataset(name, shape, np.float32, **options)


_HDF5 = {
    "link-to-another-file": lambda file: file.__setitem__(
        "features", h5py.ExternalLink("other.h5", "features")
    ),
    "values-of-another-file": _set("features", (4, 8), external=[("secret.npy", 0, 128)]),
    "virtual-of-another-file": _virtual,
    "links-in-a-circle": _loop,
    "groups-three-thousand-deep": _deep,
    "a-shape-of-terabytes": _set("features", (2**30, 1024), chunks=(1, 1024)),
    "a-chunk-that-is-nonsense": _nonsense,
    "a-chunk-of-gigabytes": _set("features", (2**20, 512), chunks=(2**20, 512), compression=1),
    "half-a-million-rows-of-nothing": _set("features", (2**39, 0), maxshape=(None, None)),
}  # fmt: skip


def _npy_header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _npz(content: Callable[[], bytes], lie: int = 0) -> Callable[[Path], Path]:
    """A .npz of one array; `lie` is what its directory says it holds, in bytes."""

    def make(folder: Path) -> Path:
        path = folder / "a.npz"
        with zipfile.ZipFile(path, "w", 8) as out:
            out.writestr("features.npy", content())
            if lie:
                out.infolist()[0].file_size = lie
        return path

    return make


def _safetensors(header: Any, values: bytes = bytes(64), length: int | None = None) -> Any:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return _content("a.safetensors", struct.pack("<Q", size) + text + values)


def _tensor(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


_SAFETENSORS = {
    "a-header-of-exabytes": _safetensors({}, length=2**60),
    "offsets-beyond-the-end": _safetensors({"a": _tensor([2**20], 0, 2**22)}),
    "offsets-that-run-back": _safetensors({"a": _tensor([4], 32, 16)}),
    "offsets-below-zero": _safetensors({"a": _tensor([4], -16, 0)}),
    "tensors-that-overlap": _safetensors(
        {f"a{i}": _tensor([16], 0, 64) for i in range(40_000)}
    ),
    "a-shape-that-is-more": _safetensors({"a": _tensor([2**31, 2**31], 0, 64)}),
    "a-shape-that-wraps-around": _safetensors({"a": _tensor([2**32, 2**32, 0], 0, 64)}),
    "a-header-nested-deep": _safetensors(b'{"a":' + b"[" * 10**6),
    "a-number-of-many-digits": _safetensors(b'{"a":' + b"9" * 10**6 + b"}"),
}  # fmt: skip
_ARRAYS = {
    "npy/a-shape-of-terabytes": _content("a.npy", _npy_header((2**30, 1024)) + bytes(64)),
    "npy/a-shape-below-zero": _content("a.npy", _npy_header((-1, 1024)) + bytes(64)),
    "npy/brackets-without-an-end": _content(
        "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000
    ),
}
_NPZ = {
    "npz/a-shape-of-terabytes": _npz(lambda: _npy_header((2**30, 1024)) + bytes(64)),
    "npz/a-directory-that-lies": _npz(lambda: _npy_header((2**20, 1024)) + bytes(64), 2**33),
    "npz/gigabytes-of-zeros": _npz(lambda: _npy_header((2**18, 1024)) + bytes(2**30)),
}


# Zips and bundles.


def _read_zip(path: Path) -> int:
    opened = zips.open_zip(path, "download it again")
    members = [zips.Member(one, 2**20, "download it again") for one in opened.iterdir()]
    return sum(len(member.read_bytes()) for member in members)


def _zip(parts: dict[str, bytes], links: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.zip", "w", 8) as out:
            for name, content in parts.items():
                info = zipfile.ZipInfo("placeholder")
                info.filename, info.compress_type = name, 8
                info.external_attr = (0o120777 if links else 0o100644) << 16
                out.writestr(info, content)
        return folder / "a.zip"

    return make


def _overlapping(folder: Path) -> Path:
    """A thousand entries that are one and the same."""
    path = _zip({f"{i:04d}": bytes(2**20) if not i else b"" for i in range(1000)})(folder)
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2")
    first = content[start : start + 46]
    for i in range(1, 1000):
        place = start + i * 50
        content[place + 16 : place + 28] = first[16:28]
        content[place + 42 : place + 46] = first[42:46]
    path.write_bytes(content)
    return path


def _lying(folder: Path) -> Path:
    """A file of 256 MiB that says it has 64 bytes."""
    path = _zip({"a": bytes(2**28)})(folder)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 2**28), struct.pack("<I", 64)))
    return path


_ZIPS = {
    "zip/a-file-that-swells": _zip({"a": bytes(2**26)}),
    "zip/a-directory-that-lies": _lying,
    "zip/entries-that-overlap": _overlapping,
    "zip/a-link": _zip({"a": b"/etc/passwd"}, links=True),
} | {
    f"zip/name-{what}": _zip({name: b"x"})
    for what, name in {
        "up": "../a",
        "up-by-backslash": "a\\..\\..\\b",
        "absolute": "/etc/a",
        "of-a-drive": "C:\\a",
    }.items()
}


def _bundle(folder: Path, parts: dict[str, bytes]) -> Path:
    archive.write(folder / "a.histojax", bundle.KIND, bundle.FORMAT_VERSION, parts)
    return folder / "a.histojax"


_DEEP_JSON = b'{"a":' + b"[" * 10**6
_BUNDLES = {
    "bundle/a-part-that-swells": lambda folder: _bundle(
        folder, {bundle.DESCRIPTION: b"{" + b" " * 2**30}
    ),
    "bundle/many-parts-that-swell": lambda folder: _bundle(
        folder, {bundle.DESCRIPTION: b"{}"} | {f"models/{i}": bytes(2**27) for i in range(4)}
    ),
    "bundle/a-description-nested-deep": lambda folder: _bundle(
        folder, {bundle.DESCRIPTION: _DEEP_JSON}
    ),
}


# Folders.


def _looping(folder: Path) -> Path:
    """Links to the folder itself, to the one above, and to each other."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / f"{name}.png").write_bytes(_png(64, (b"IDAT", _ROWS), (b"IEND", b"")))
        os.symlink("..", folder / name / "up")
    os.symlink("self.png", folder / "a" / "self.png")
    return folder


_HARMLESS = (  # What they have too much of is not looked at.
    "png/more-pixels-than-it-claims",
    "tiff/a-tile-that-swells",
    "tiff/a-strip-that-swells",
    "tiff/a-tile-of-packbits-runs",
    "tiff/a-page-after-itself",
    "tiff/copies-of-itself",
    "tiff/copies-in-a-circle",
    "csv/ten-million-cells-in-a-line",
    "npz/gigabytes-of-zeros",
    "h5/link-to-another-file-of-weights",  # No array is found.
    "h5/links-in-a-circle-of-weights",
    "safetensors/tensors-that-overlap",
)
_ALL = {
    **{name: Bomb(make, _read_image) for name, make in _IMAGES.items()},
    **{f"{name}-by-windows": Bomb(make, _read_slide) for name, make in _IMAGES.items()},
    **{f"tiff/{name}": Bomb(make, _read_image) for name, make in bomb_tiffs.TIFFS.items()},
    **{
        f"tiff/{name}-by-windows": Bomb(make, _read_slide)
        for name, make in bomb_tiffs.TIFFS.items()
    },
    **{name: Bomb(make, sheets.read) for name, make in (_WORKBOOKS | _TABLES).items()},
    **{f"h5/{name}": Bomb(_hdf5(write), _read_features) for name, write in _HDF5.items()},
    **{f"h5/{name}-of-weights": Bomb(_hdf5(write), _read_weights) for name, write in _HDF5.items()},
    **{f"safetensors/{name}": Bomb(make, _read_weights) for name, make in _SAFETENSORS.items()},
    **{name: Bomb(make, _read_features) for name, make in (_ARRAYS | _NPZ).items()},
    # The sizes that a network has are known: an array of another is not read, whatever it holds.
    **{
        f"{name}-of-weights": Bomb(make, _read_weights)
        for name, make in _NPZ.items()
        if "zeros" not in name
    },
    **{name: Bomb(make, _read_zip) for name, make in _ZIPS.items()},
    **{name: Bomb(make, bundle.load) for name, make in _BUNDLES.items()},
    "json/nested-deep": Bomb(
        _content("a.json", _DEEP_JSON), functools.partial(files.read_json, keys=())
    ),
    "folder/links-in-a-circle": Bomb(_looping, dataset.list_images_below, may_be_read=True),
}
BOMBS = {
    name: dataclasses.replace(bomb, may_be_read=bomb.may_be_read or name.startswith(_HARMLESS))
    for name, bomb in _ALL.items()
}
