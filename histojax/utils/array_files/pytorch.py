"""PyTorch's archives (.pt, .pth, .bin since 1.6): a zip of `data.pkl` and raw storages.

<name>/data.pkl       a pickle, read by `tensor_pickle`
<name>/data/<key>     the values of a storage
<name>/byteorder      little or big; little where it is absent
"""

import contextlib
import io
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from histojax.utils.array_files import tensor_pickle
from histojax.utils.array_files.stored import (
    BFLOAT16,
    Refused,
    StoredArray,
    StoredArrays,
    require_bytes,
    require_few,
)
from histojax.utils.array_files.tensor_pickle import Tensor

KIND = "PyTorch"
_PICKLE = "data.pkl"


def is_archive(file: BinaryIO) -> bool:
    """Whether a zip archive is PyTorch's."""
    with zipfile.ZipFile(file) as archive:
        return any(name.rpartition("/")[2] == _PICKLE for name in archive.namelist())


@contextlib.contextmanager
def open_arrays(file: BinaryIO) -> Iterator[StoredArrays]:
    """The tensors of a file by name.

    Raises:
      Refused, zipfile.BadZipFile and others: it is damaged, or holds more than tensors.
    """
    with zipfile.ZipFile(file) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        require_few(len(members))
        root = next(name for name in members if name.rpartition("/")[2] == _PICKLE)
        root = root.removesuffix(_PICKLE)
        if any(name.startswith(f"{root}code/") for name in members):
            raise Refused(
                "it is a TorchScript program: save the state dict (model.state_dict()) instead"
            )
        content = _read(archive, members[f"{root}{_PICKLE}"], tensor_pickle.LONGEST)
        order = members.get(f"{root}byteorder")
        big_endian = order is not None and _read(archive, order, 16).strip() == b"big"
        found = tensor_pickle.tensors(tensor_pickle.interpret(content))
        yield {
            name: _stored(archive, members, f"{root}data/", name, tensor, big_endian)
            for name, tensor in found.items()
        }


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """A member of at most so many bytes, whatever the archive says of its size."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"{entry.filename} is compressed as PyTorch does not do")
    with archive.open(entry) as member:
        content = member.read(most + 1)
    if len(content) > most:
        raise Refused(f"{entry.filename} has more than {most} bytes")
    return content


def _stored(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    folder: str,
    name: str,
    tensor: Tensor,
    big_endian: bool,
) -> StoredArray:
    storage, shape = tensor.storage, tensor.shape
    dtype = BFLOAT16 if storage.dtype == "bfloat16" else np.dtype(storage.dtype)
    if big_endian:
        dtype = dtype.newbyteorder(">")
    entry = members.get(f"{folder}{storage.key}")
    if entry is None:
        raise Refused(f"{name} has its values in {folder}{storage.key}, which is not there")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise Refused(f"{entry.filename} is compressed, which PyTorch does not do")
    require_bytes(entry.filename, storage.count * dtype.itemsize, entry.file_size)
    steps = [(side - 1) * stride for side, stride in zip(shape, tensor.strides, strict=True)]
    count = math.prod(shape)
    last = tensor.offset + sum(steps) + 1 if count else 0
    require_bytes(name, max(last, count) * dtype.itemsize, storage.count * dtype.itemsize)

    def load() -> np.ndarray:
        with archive.open(entry) as member:
            values = np.frombuffer(member.read(storage.count * dtype.itemsize), dtype)
        if len(values) != storage.count:  # Else the view below would leave the storage.
            raise Refused(f"{entry.filename} ends early")
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        view = np.lib.stride_tricks.as_strided(values[tensor.offset :], shape, strides)
        return np.array(view)

    return StoredArray(shape, dtype, load)


def tensor_archive(values: np.ndarray) -> bytes:
    """What torch.save writes of one tensor by itself: float32 of any shape, in C's order."""
    strides = [stride // values.itemsize for stride in np.empty(values.shape, values.dtype).strides]

    def integers(numbers: Iterable[int]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"

    storage = (
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    storage += b"J" + struct.pack("<i", values.size) + b"tQ"
    pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\x00"
    pickle += integers(values.shape) + integers(strides)
    pickle += b"\x89ccollections\nOrderedDict\n)RtR."
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle)
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
        archive.writestr(zipfile.ZipInfo("archive/data/0"), values.astype("<f4").tobytes())
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
    return content.getvalue()
