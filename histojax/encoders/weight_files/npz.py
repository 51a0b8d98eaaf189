""".npz: a zip archive of .npy files, read without pickle."""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from histojax.encoders.weight_files.stored import (
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
        # Later versions are for headers above 64 KiB, which numbers do not have.
        if (version := np.lib.format.read_magic(member)) != (1, 0):
            raise Refused(f"{entry.filename} is of .npy version {version}, expected (1, 0)")
        sides, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        start = member.tell()
    shape = shape_of(entry.filename, sides)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise Refused(f"{entry.filename} holds {dtype}, expected numbers")
    claimed = math.prod(shape) * dtype.itemsize
    require_bytes(entry.filename, claimed, entry.file_size - start)

    def load() -> np.ndarray:
        with archive.open(entry) as member:
            member.read(start)
            content = member.read(claimed)
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")

    return StoredArray(shape, dtype, load)
