""".npz: a zip archive of .npy files, read without pickle."""

import contextlib
import io
import math
import re
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

import numpy as np

from histojax.utils.array_files.stored import (
    Refused,
    StoredArray,
    StoredArrays,
    require_bytes,
    require_few,
    shape_of,
)

KIND = ".npz"
_NUMBERS, _TEXT = "fiub", "U"  # Kinds of dtypes.
# What NumPy writes, and reads by Python's own parser, which a damaged header leads astray.
_HEADER = re.compile(
    rb"\{'descr': *'([<>|=]?[biufcSUVO]\d{0,9})', *'fortran_order': *(True|False), *"
    rb"'shape': *\(((?:\d{1,15}L?, *)*(?:\d{1,15}L?)?)\),? *\} *\n"
)
_VERSIONS, _LONGEST_HEADER = ((1, 0), (2, 0), (3, 0)), 2**16
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def open_arrays(file: BinaryIO, kinds: str = _NUMBERS) -> Iterator[StoredArrays]:
    """The arrays of a file by name, of these kinds of dtypes.

    Raises:
      Refused, zipfile.BadZipFile, ValueError and others: it is damaged, or holds objects.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        require_few(len(entries))
        if others := [entry.filename for entry in entries if not entry.filename.endswith(".npy")]:
            raise Refused(
                f"it is a zip archive that holds {', '.join(others[:3])}: expected .npy files "
                "(.npz), or data.pkl and its tensors (PyTorch)"
            )
        yield {
            entry.filename.removesuffix(".npy"): _stored(archive, entry, kinds) for entry in entries
        }


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of numbers and text in the content of a file, by name.

    Raises:
      Refused, zipfile.BadZipFile, ValueError and others: it is damaged, or holds objects.
    """
    with open_arrays(io.BytesIO(content), _NUMBERS + _TEXT) as arrays:
        return {name: array.load() for name, array in arrays.items()}


def read_array(content: bytes) -> np.ndarray:
    """The numbers in the content of a .npy.

    Raises:
      Refused, ValueError and others: it is damaged, or holds objects.
    """
    file = io.BytesIO(content)
    shape, fortran, dtype = read_header("it", file, len(content))
    if dtype.kind not in _NUMBERS:
        raise Refused(f"it holds {dtype}, expected numbers")
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, kinds: str) -> StoredArray:
    if entry.compress_type not in _COMPRESSIONS:
        raise Refused(f"{entry.filename} is compressed as NumPy does not do")
    with archive.open(entry) as member:
        shape, fortran, dtype = read_header(entry.filename, member, entry.file_size)
        start = member.tell()
    if dtype.kind not in kinds:
        raise Refused(f"{entry.filename} holds {dtype}, expected numbers")
    claimed = math.prod(shape) * dtype.itemsize

    def load() -> np.ndarray:
        with archive.open(entry) as member:
            member.read(start)
            content = member.read(claimed)
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")

    return StoredArray(shape, dtype, load)


def read_header(name: str, file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype of a .npy; the file then stands at its values.

    Args:
      name: of the file, for messages.
      file: at its beginning.
      size: bytes that it has.

    Raises:
      Refused: it holds objects, or claims more or fewer values than it has bytes for.
    """
    version = np.lib.format.read_magic(file)
    if version not in _VERSIONS:
        raise Refused(f"{name} is of .npy version {version}, expected (1, 0) to (3, 0)")
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > _LONGEST_HEADER:  # NumPy writes longer ones for fields of many names alone.
        raise Refused(f"the header of {name} claims {length} bytes")
    header = _HEADER.fullmatch(file.read(length))
    if header is None:
        raise ValueError(f"the header of {name} is damaged, or of no plain numbers")
    code, order, sides = (part.decode() for part in header.groups())
    fortran, dtype = order == "True", np.dtype(code)
    if dtype.hasobject:
        raise Refused(f"{name} holds {dtype}, expected numbers")
    shape = shape_of(name, [int(side) for side in re.findall(r"\d+", sides)])
    claimed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    require_bytes(name, claimed, held)
    if claimed < held:
        raise Refused(f"{name} claims {claimed} bytes, and has {held - claimed} more behind them")
    return shape, fortran, dtype
