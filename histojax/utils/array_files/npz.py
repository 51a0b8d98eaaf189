""".npz: a zip archive of .npy files, read without pickle."""

import contextlib
import math
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
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def open_arrays(file: BinaryIO) -> Iterator[StoredArrays]:
    """The arrays of a file by name.

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
        yield {entry.filename.removesuffix(".npy"): _stored(archive, entry) for entry in entries}


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredArray:
    if entry.compress_type not in _COMPRESSIONS:
        raise Refused(f"{entry.filename} is compressed as NumPy does not do")
    with archive.open(entry) as member:
        shape, fortran, dtype = read_header(entry.filename, member, entry.file_size)
        start = member.tell()
    if dtype.kind not in "fiub":
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
      Refused: it holds objects, or claims more values than it has bytes for.
    """
    # Later versions are for headers above 64 KiB, which numbers do not have.
    if (version := np.lib.format.read_magic(file)) != (1, 0):
        raise Refused(f"{name} is of .npy version {version}, expected (1, 0)")
    sides, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise Refused(f"{name} holds {dtype}, expected numbers")
    shape = shape_of(name, sides)
    require_bytes(name, math.prod(shape) * dtype.itemsize, size - file.tell())
    return shape, fortran, dtype
