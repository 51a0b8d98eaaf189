"""The paper's own split, `folds-10.pkl`, read from a pickle without running anything in it.

A pickle is a program that names what it calls. Here the names of NumPy's array, dtype and scalar
stand for inert records that only keep their arguments, and every other name is refused. Arrays are
made from the records afterwards: not even NumPy's own unpickling, which trusts what a file says
about memory, is within a file's reach.

Content: a list of F dicts {"train" | "test": {"x": file names such as `b008.npy`, "y": labels}}.
"""

import io
import math
import pickle
import pickletools
import re
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.utils import files

_PARTS = ("train", "test")
_PLAIN_DTYPE = re.compile(r"[|<>=]?[biufSU]\d+")  # Types whose arrays are plain bytes.

_Fold = dict[str, dict[str, Any]]  # For each part, {image name: label}.


class _Malformed(Exception):
    """What is wrong with the content, without the file's name."""


class _Record:
    """What a pickle makes instead of an object: arguments of the call, and the state set later."""

    arguments, state = (), None  # A pickle can make an object without calling __init__.

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Record):
    """numpy.dtype(code, align, copy); state (version, byte order, ...)."""

    @property
    def code(self) -> str:
        """Such as <i8, U5 or O8."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else ""
        return f"{_as_text(order)}{_as_text(self.arguments[0] if self.arguments else '')}"


class _Reconstructed(_Record):
    """_reconstruct(type, shape, typecode); state (version, shape, dtype, Fortran order, data)."""


class _Scalar(_Record):
    """scalar(dtype, bytes)."""


class _Buffered(_Record):
    """_frombuffer(bytes, dtype, shape, order), of protocol 5."""


class _Encoded(_Record):
    """_codecs.encode(text, "latin1"), by which protocols 0 to 2 write bytes: the bytes at once."""

    def __new__(cls, text: Any = "", encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Malformed("text in an encoding other than latin1")
        return text.encode("latin1")


# Every name that a file may use, and what it stands for: NumPy's before and since its core was
# renamed.
_RECORDS = {
    ("numpy", "ndarray"): _Record,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstructed,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstructed,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Buffered,
    ("numpy._core.numeric", "_frombuffer"): _Buffered,
    ("_codecs", "encode"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of _RECORDS and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _RECORDS:
            raise _Malformed(
                f"it wants to import {module}.{name}, which a list of folds does not need; it was "
                "not run"
            )
        return _RECORDS[module, name]


def _values(array: _Reconstructed | _Scalar | _Buffered) -> list[Any]:
    """The values of an array, flat: numbers, text or bytes, or the objects that a list holds."""
    try:
        if isinstance(array, _Reconstructed):
            _, shape, dtype, _, data = array.state
        elif isinstance(array, _Scalar):
            (dtype, data), shape = array.arguments, (1,)
        else:
            data, dtype, shape, _ = array.arguments
    except (TypeError, ValueError) as error:
        raise _Malformed("an array without its content") from error
    if isinstance(data, list) and isinstance(array, _Reconstructed):
        return data
    code = dtype.code if isinstance(dtype, _Dtype) else ""
    if not _PLAIN_DTYPE.fullmatch(code):
        raise _Malformed(f"an array of type {code[:20] or 'unknown'}")
    if isinstance(data, str):  # Python 2 wrote bytes as text.
        data = data.encode("latin1")
    shape = shape if isinstance(shape, tuple) else (shape,)
    is_shape = all(isinstance(side, int) and side >= 0 for side in shape)
    if not isinstance(data, bytes | bytearray) or not is_shape:
        raise _Malformed("an array whose content is no bytes")
    try:
        values = np.frombuffer(data, np.dtype(code))
    except (TypeError, ValueError) as error:
        raise _Malformed(f"an array that cannot be read ({error})") from error
    if values.size != math.prod(shape):
        raise _Malformed("an array of another size than it says")
    return values.tolist()


def _as_list(value: Any) -> list[Any]:
    """The plain values of a list, or of an array of numbers, text, or such scalars as objects."""
    if isinstance(value, _Reconstructed | _Buffered):
        value = _values(value)
    if not isinstance(value, list | tuple):
        raise _Malformed(f"{type(value).__name__} where a list or an array was expected")
    return [_values(item)[0] if isinstance(item, _Scalar) else item for item in value]


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise _Malformed(f"{type(value).__name__} where text was expected")
    return value


def load(path: str | Path, dataset: Dataset) -> Folds:
    """The paper's split of a data set, in the order of the data set.

    Raises:
      InputError: the file cannot be read, wants to import anything else, or is no split of these
        images and labels.
    """
    path = files.as_path(path)
    try:
        return _match_dataset(_unpickle(path.read_bytes()), dataset, path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except _Malformed as error:
        raise InputError(
            f"{path} is not used: {error}. Expected the authors' folds-10.pkl, and the data it is "
            "of"
        ) from error


def _unpickle(content: bytes) -> list[_Fold]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes in damaged text of protocol 0.
            _require_small_memo(content)
            folds = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except _Malformed:
        raise
    except Exception as error:  # A damaged pickle raises whatever its bytes lead to.
        raise _Malformed(f"it is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(folds, list | tuple) or len(folds) < 2:
        raise _Malformed("it holds no list of folds")
    for fold in folds:
        if not isinstance(fold, dict) or not all(isinstance(fold.get(p), dict) for p in _PARTS):
            raise _Malformed("its folds have no train and test")
    return [{part: _label_of_name(fold[part]) for part in _PARTS} for fold in folds]


def _require_small_memo(content: bytes) -> None:
    """Raises _Malformed if a memo index exceeds the file's length: memory for all is allocated."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(content):
            raise _Malformed(f"it is damaged (it numbers a value {argument})")


def _label_of_name(part: dict[Any, Any]) -> dict[str, Any]:
    """{image name: label} of one part of one fold."""
    if not {"x", "y"} <= set(part):
        raise _Malformed("a part of a fold has no x and y")
    paths = [PurePosixPath(_as_text(name).replace("\\", "/")) for name in _as_list(part["x"])]
    labels = _as_list(part["y"])
    label_of = {path.stem: label for path, label in zip(paths, labels, strict=False)}
    if len(paths) != len(labels) or len(label_of) < len(paths):
        raise _Malformed(
            f"a part of a fold has {len({path.stem for path in paths})} different images in "
            f"{len(paths)}, {len(labels)} labels"
        )
    return label_of


def _match_dataset(parts: list[_Fold], dataset: Dataset, source: str) -> Folds:
    """The folds, if every image is held out once, else trained on, and labelled as in the data."""
    index = {name: i for i, name in enumerate(dataset.names)}
    folds = np.full(len(index), -1)
    for fold, part in enumerate(parts):
        if not part["test"]:
            raise _Malformed(f"its fold {fold + 1} holds out nothing")
        for name in part["test"]:
            if name not in index:
                others = len({name for part in parts for name in part["test"]} - set(index)) - 1
                also = f", as {others} others" if others else ""
                raise _Malformed(f"it holds out {name}, which the data lack{also}")
            if folds[index[name]] >= 0:
                first = folds[index[name]] + 1
                raise _Malformed(f"it holds out {name} in fold {first} and in fold {fold + 1}")
            folds[index[name]] = fold
    if missing := [name for name, i in index.items() if folds[i] < 0]:
        raise _Malformed(
            f"it never holds out {len(missing)} images of the data ({', '.join(missing[:5])})"
        )
    for fold, part in enumerate(parts):
        training = {name for name, i in index.items() if folds[i] != fold}
        if differing := sorted(training ^ set(part["train"])):
            raise _Malformed(
                f"fold {fold + 1} does not train on all that it does not hold out "
                f"({', '.join(differing[:5])})"
            )
        _require_equal_labels(part["train"] | part["test"], dataset, index)
    labels = np.array(dataset.labels)
    origin = f"paper: the authors' own split, {len(parts)} folds, from {source}"
    return Folds(dataset.names, labels, folds, dataset.classes, dataset.groups, origin)


def _require_equal_labels(
    label_of: dict[str, Any], dataset: Dataset, index: dict[str, int]
) -> None:
    """Raises _Malformed where a label, as name or as number in BACH's order, is not the data's."""
    differing = []
    for name, label in label_of.items():
        expected = dataset.classes[dataset.labels[index[name]]]
        found = _class_name(label)
        if _letters(found) != _letters(expected):
            differing.append(f"{name}: found {found}, expected {expected}")
    if differing:
        raise _Malformed(
            f"{len(differing)} labels differ from the data ({'; '.join(sorted(differing)[:5])})"
        )


def _class_name(label: Any) -> str:
    if isinstance(label, int | float) and label in range(len(BACH_CLASSES)):
        return BACH_CLASSES[int(label)]
    if isinstance(label, str | bytes):
        return _as_text(label)
    return str(label) if isinstance(label, int) else "no class"


def _letters(name: str) -> str:
    """Lower-case letters and digits alone: In Situ, in-situ and InSitu are one class."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())
