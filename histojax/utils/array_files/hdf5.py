"""HDF5 as Keras writes it: weight files of every generation, whole models, and `.weights.h5`.

Names become `<group>/.../<layer>/<array>`, with Keras's names of arrays (kernel, bias, gamma, beta,
moving_mean, moving_variance). Keras's order of the layers is kept, because some names are only
numbers. Keras 3's `.weights.h5` numbers a layer's arrays; how many there are says which they are.
"""

import contextlib
import itertools
import math
import re
from collections.abc import Iterator
from typing import BinaryIO

import h5py
import numpy as np

from histojax.utils.array_files import hdf5_heaps
from histojax.utils.array_files.stored import (
    Refused,
    StoredArray,
    StoredArrays,
    require_bytes,
    require_few,
    shape_of,
)

KIND = "HDF5"
MAGIC = b"\x89HDF\r\n\x1a\n"
_DEEPEST = 64  # Groups within groups.
# Attributes: of the file, of a layer, of a layer in `.weights.h5`.
_LAYERS, _ARRAYS, _NAME = "layer_names", "weight_names", "name"
_VARIABLES = "vars"  # The group of a layer's arrays in `.weights.h5`.
_CONVOLUTION = ("kernel", "bias")
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_OPTIMIZERS = ("optimizer", "optimizer_weights")


@contextlib.contextmanager
def open_arrays(file: BinaryIO) -> Iterator[StoredArrays]:
    """The arrays of a file by name; those of an optimiser are left out.

    Raises:
      Refused, OSError, KeyError and others: it is damaged, or points at other files.
    """
    hdf5_heaps.check(file, (_LAYERS, _ARRAYS, _NAME))
    size = file.seek(0, 2)
    file.seek(0)
    with h5py.File(file) as opened:
        arrays = {}
        for name, dataset in _datasets(opened, size):
            if name.split("/")[0] not in _OPTIMIZERS:
                arrays[name] = _stored(name, dataset, size)
                require_few(len(arrays))
        yield arrays


def _datasets(file: h5py.File, size: int) -> Iterator[tuple[str, h5py.Dataset]]:
    root = get(file, "model_weights", h5py.Group) if "model_weights" in file else file
    if _has(root, _LAYERS):
        return _of_legacy(root, size)
    found = _visit(file)
    if any(f"/{_VARIABLES}/" in f"/{name}" for name in found):
        return _of_keras3(file, found, size)
    return iter(found.items())


def _of_legacy(root: h5py.Group, size: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """A file with the names of layers and arrays in attributes, of 2015 or later."""
    layers = _texts(root, _LAYERS, size)
    require_few(len(layers))
    for layer in layers:
        group = get(root, layer, h5py.Group)
        for name in _texts(group, _ARRAYS, size):
            yield f"{layer}/{name}", get(group, name, h5py.Dataset)


def _of_keras3(
    file: h5py.File, found: dict[str, h5py.Dataset], size: int
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Groups named by class and number, in that order, under the layer's name if it is stored."""
    layers: dict[str, list[str]] = {}
    for name in found:
        if re.search(rf"(^|/){_VARIABLES}/\d+$", name):
            layers.setdefault(name.rpartition("/")[0], []).append(name)
    for variables in sorted(layers, key=_by_number):
        names = sorted(layers[variables], key=_by_number)
        parent = variables.removesuffix(_VARIABLES).rstrip("/")
        own = read_text(file[parent], _NAME, size) if parent else ""
        layer = f"{parent.rpartition('/')[0]}/{own}" if own else parent
        convolution = found[names[0]].ndim > 1
        kinds = _CONVOLUTION if convolution else _NORM[-len(names) :]
        for name, kind in itertools.zip_longest(names, kinds):
            if name is not None:
                yield f"{layer}/{kind or name.rpartition('/')[2]}", found[name]


def _by_number(name: str) -> list[tuple[str, int]]:
    """conv2d before conv2d_1, and that before conv2d_10."""
    parts = (re.fullmatch(r"(.*?)(?:_?(\d+))?", part) for part in name.split("/"))
    return [(part[1], int(part[2] or 0)) for part in parts]


def _visit(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every dataset by its path, once; links to other files are not followed."""
    found: dict[str, h5py.Dataset] = {}
    visited = itertools.count(1)

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        require_few(next(visited))
        if name.count("/") > _DEEPEST:  # To open an object takes as long as its path.
            raise Refused(f"its groups lie more than {_DEEPEST} deep")
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(add)
    return found


def get(group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """What is stored under a name in the same file; Refused where it is a link to elsewhere."""
    parent, parts = group, [part for part in name.split("/") if part]
    for part in parts:
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise Refused(f"{name} is not there, or is a link to another place")
        parent = parent[part]
    if not isinstance(parent, kind):
        raise Refused(f"{name} is not a {kind.__name__.lower()}")
    return parent


def _has(group: h5py.Group, attribute: str) -> bool:
    return attribute in group.attrs or f"{attribute}0" in group.attrs


def _texts(group: h5py.Group, attribute: str, size: int) -> list[str]:
    """The names in an attribute, which Keras splits into numbered ones where they are many."""
    parts = [attribute] if attribute in group.attrs else []
    if not parts:
        numbered = (f"{attribute}{i}" for i in itertools.count())
        parts = list(itertools.takewhile(lambda name: name in group.attrs, numbered))
    if not parts:
        raise Refused(f"{group.name} has no attribute {attribute}")
    return [text for part in parts for text in _read_texts(group, part, size)]


def read_text(group: h5py.Group, attribute: str, size: int) -> str:
    """One text in an attribute; empty where there is none. `hdf5_heaps.check` comes first."""
    return "".join(_read_texts(group, attribute, size)[:1]) if attribute in group.attrs else ""


def _read_texts(group: h5py.Group, attribute: str, size: int) -> list[str]:
    """The texts in an attribute, once it is known to hold some, and no more than the file can."""
    stored = group.attrs.get_id(attribute)
    count = math.prod(stored.shape)
    if not count:
        return []
    # Other types of any length can make the library read where nothing is.
    if not isinstance(stored.get_type(), h5py.h5t.TypeStringID):
        raise Refused(f"{attribute} of {group.name} holds no texts")
    require_few(count)
    require_bytes(attribute, count * stored.dtype.itemsize, size)
    texts = np.ravel(group.attrs[attribute])
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def require_values_here(name: str, dataset: h5py.Dataset) -> None:
    """Raises Refused for a dataset whose values are in other files."""
    if dataset.is_virtual or dataset.external:
        raise Refused(f"{name} has its values in another file")


def _stored(name: str, dataset: h5py.Dataset, size: int) -> StoredArray:
    require_values_here(name, dataset)
    if dataset.id.get_create_plist().get_nfilters():
        raise Refused(f"{name} is compressed, which Keras does not do: save it uncompressed")
    numbers = isinstance(dataset.id.get_type(), h5py.h5t.TypeFloatID | h5py.h5t.TypeIntegerID)
    if not numbers or dataset.shape is None:
        raise Refused(f"{name} holds {dataset.dtype}, expected numbers")
    shape = shape_of(name, dataset.shape)
    require_bytes(name, math.prod(shape) * dataset.dtype.itemsize, size)
    require_bytes(name, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize, size)
    return StoredArray(shape, dataset.dtype, lambda: dataset[()])
