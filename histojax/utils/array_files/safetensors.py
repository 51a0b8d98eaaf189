"""safetensors: 8 bytes of header length, a JSON header, raw little-endian bytes.

The header maps names to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from its
end; `__metadata__` holds text.
"""

import json
import math
from typing import Any, BinaryIO

import numpy as np

from histojax.utils.array_files.stored import (
    BFLOAT16,
    Refused,
    StoredArray,
    StoredArrays,
    require_few,
    shape_of,
)

KIND = "safetensors"
_LONGEST_HEADER = 4 * 2**20
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def is_header(head: bytes) -> bool:
    """Whether a file begins like safetensors: a length, then JSON."""
    return len(head) > 8 and head[8:9] == b"{"


def open_arrays(file: BinaryIO) -> StoredArrays:
    """The arrays of a file by name.

    Raises:
      Refused, ValueError, KeyError, TypeError: it is damaged.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise Refused(f"its header claims {length} bytes, the file has {size}")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    require_few(len(header))
    start, arrays = 8 + length, {}
    for name, entry in header.items():
        arrays[name] = _stored(file, name, entry, start, size)
    return arrays


def _stored(file: BinaryIO, name: str, entry: dict[str, Any], start: int, size: int) -> StoredArray:
    if entry["dtype"] not in _DTYPES:
        raise Refused(f"{name} has dtype {entry['dtype']}, expected of {', '.join(_DTYPES)}")
    dtype, shape = _DTYPES[entry["dtype"]], shape_of(name, entry["shape"])
    begin, end = shape_of(f"the place of {name}", entry["data_offsets"])
    count = math.prod(shape)
    if end - begin != count * dtype.itemsize or start + end > size:
        raise Refused(
            f"{name} {shape} is said to be at bytes {begin} to {end}, but takes "
            f"{count * dtype.itemsize} bytes, and the file ends at {size - start}"
        )

    def load() -> np.ndarray:
        file.seek(start + begin)
        return np.frombuffer(file.read(end - begin), dtype).reshape(shape)

    return StoredArray(shape, dtype, load)
