"""Writers of weight files by the formats' own rules, without PyTorch, Keras or safetensors."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

STORAGES = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}
STORAGES |= {"V2": "BFloat16Storage"}


def safetensors(arrays: Mapping[str, np.ndarray], **changes: Any) -> bytes:
    """The bytes of a file; `changes` are of entries of its header, by name."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    names = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "<V2": "BF16"}
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        offsets = [len(body), len(body) + len(content)]
        entry = {"dtype": names[array.dtype.str], "shape": list(array.shape)}
        header[name] = entry | {"data_offsets": offsets} | changes.get(name, {})
        body += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def npz(arrays: Mapping[str, np.ndarray], compressed: bool = False) -> bytes:
    """The bytes of a file."""
    (np.savez_compressed if compressed else np.savez)(out := io.BytesIO(), **arrays)
    return out.getvalue()


def pytorch(state: Mapping[str, Any], folder: str = "archive") -> bytes:
    """What torch.save writes of nested dictionaries of arrays and plain values."""
    storages: list[np.ndarray] = []
    pickle = b"\x80\x02" + _pickled(state, storages) + b"."
    return archive(pickle, storages, folder)


def archive(pickle: bytes, storages: list[np.ndarray] = (), folder: str = "archive") -> bytes:
    """A zip of a pickle and storages, in PyTorch's form."""
    with zipfile.ZipFile(out := io.BytesIO(), "w") as made:
        made.writestr(f"{folder}/data.pkl", pickle)
        made.writestr(f"{folder}/byteorder", "little")
        for key, array in enumerate(storages):
            made.writestr(f"{folder}/data/{key}", np.ascontiguousarray(array).tobytes())
        made.writestr(f"{folder}/version", "3\n")
    return out.getvalue()


def _pickled(value: Any, storages: list[np.ndarray]) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case np.ndarray():
            return _tensor(value, storages)
        case list():
            items = b"".join(_pickled(item, storages) for item in value)
            return b"](" + items + b"e"
        case tuple():
            return b"(" + b"".join(_pickled(item, storages) for item in value) + b"t"
        case Mapping():
            items = [_pickled(part, storages) for item in value.items() for part in item]
            return called("collections", "OrderedDict", b")") + b"(" + b"".join(items) + b"u"
    raise TypeError(value)


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    key, size = str(len(storages)), array.size
    storages.append(array)
    reference = b"(" + _pickled("storage", storages) + named("torch", STORAGES[array.dtype.str[1:]])
    reference += _pickled(key, storages) + _pickled("cpu", storages) + _pickled(size, storages)
    strides = tuple(
        int(stride) // array.itemsize for stride in np.empty(array.shape, array.dtype).strides
    )
    arguments = b"(" + reference + b"tQ" + _pickled(0, storages) + _pickled(array.shape, storages)
    arguments += _pickled(strides, storages) + b"\x89" + called("collections", "OrderedDict", b")")
    return called("torch._utils", "_rebuild_tensor_v2", arguments + b"t")


def named(module: str, name: str) -> bytes:
    """The instruction that imports a name."""
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, arguments: bytes) -> bytes:
    """Instructions that call it with a tuple."""
    return named(module, name) + arguments + b"R"


def keras(path: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], root: str = "/") -> Path:
    """A Keras weight file of {layer: {the array's name: values}}, names and order in attributes."""
    with h5py.File(path, "a") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [layer.encode() for layer in ("input_1", *arrays)]
        group.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        for layer, values in arrays.items():
            of_layer = group.create_group(layer)
            of_layer.attrs["weight_names"] = [name.encode() for name in values]
            for name, value in values.items():
                of_layer[name] = value
    return path


def keras3(path: Path, layers: Mapping[str, list[np.ndarray]], names: Mapping[str, str]) -> Path:
    """A `.weights.h5` of {group: arrays in Keras's order}, with the names of those layers."""
    with h5py.File(path, "w") as file:
        for group, values in layers.items():
            variables = file.create_group(f"{group}/vars")
            if group in names:
                file[group].attrs["name"] = names[group]
            for i, value in enumerate(values):
                variables[str(i)] = value
        file["optimizer/vars/0"] = np.zeros(3)
    return path


# Parts of PyTorch's pickles, right or wrong.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(name="FloatStorage", key="0", count=12, kind="storage") -> bytes:
    identity = text(kind) + named("torch", name) + text(key) + text("cpu")
    return b"(" + identity + b"\x8a\x08" + struct.pack("<q", count) + b"tQ"


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(offset=0, shape=(12,), strides=(1,), **of_storage) -> bytes:
    def sides(values):
        return b"(" + b"".join(map(integer, values)) + b"t"

    arguments = b"(" + storage(**of_storage) + integer(offset) + sides(shape) + sides(strides)
    return rebuilt(arguments + b"\x89)t")


def rebuilt(arguments: bytes) -> bytes:
    return called("torch._utils", "_rebuild_tensor_v2", arguments)


def program(*values: bytes, protocol: int = 2) -> bytes:
    items = b"".join(text(f"a{i}") + value for i, value in enumerate(values))
    return bytes([0x80, protocol]) + b"}(" + items + b"u."
