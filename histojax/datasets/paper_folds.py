"""The authors' own split, `folds-10.pkl`: a pickle, read so that it can run nothing.

A pickle is a program that names what it calls. Here the names of NumPy's array, dtype and scalar stand for inert
records that only keep what they are given, every other name is refused, and arrays are made from the records
afterwards: not even NumPy's own unpickling, which trusts what it is told about memory, is within a file's reach.

The content: a list of F dicts {"train" | "test": {"x": file names such as `b008.npy`, "y": labels}}.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError

PARTS = ("train", "test")
PLAIN = re.compile(r"[|<>=]?[biufSU]\d+")  # Types whose arrays are plain bytes.


class Malformed(Exception):
    """What is wrong with the content, without the file's name."""


class Record:
    """Something that a pickle makes: the arguments of the call, and the state set later, both kept as they are."""

    arguments, state = (), None  # A pickle can make one without calling __init__.

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Ndarray(Record):
    """numpy.ndarray, named as the type to reconstruct."""


class Dtype(Record):
    """numpy.dtype(code, align, copy), and its state (version, byte order, ...)."""

    @property
    def code(self) -> str:
        """Such as <i8, U5 or O8."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else ""
        return f"{as_text(order)}{as_text(self.arguments[0] if self.arguments else '')}"


class Reconstructed(Record):
    """_reconstruct(type, shape, typecode), and the array's state (version, shape, dtype, Fortran order, data)."""

    def values(self) -> list[Any]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise Malformed("an array without its content")
        _, shape, dtype, _, data = self.state
        return decoded(dtype, shape, data)


class Scalar(Record):
    """scalar(dtype, bytes)."""

    def values(self) -> list[Any]:
        if len(self.arguments) != 2:
            raise Malformed("a number without its value")
        return decoded(self.arguments[0], (1,), self.arguments[1])


class Buffered(Record):
    """_frombuffer(bytes, dtype, shape, order), of protocol 5."""

    def values(self) -> list[Any]:
        if len(self.arguments) != 4:
            raise Malformed("an array without its content")
        data, dtype, shape, _ = self.arguments
        return decoded(dtype, shape, data)


class Encoded(Record):
    """_codecs.encode(text, "latin1"), which is how protocols 0 to 2 write bytes: the bytes at once."""

    def __new__(cls, text: Any = "", encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise Malformed("text in an encoding other than latin1")
        return text.encode("latin1")


# Every name a file may say, of NumPy before and since its core was renamed, and what it stands for.
NAMES = {
    ("numpy", "ndarray"): Ndarray,
    ("numpy", "dtype"): Dtype,
    ("numpy.core.multiarray", "_reconstruct"): Reconstructed,
    ("numpy._core.multiarray", "_reconstruct"): Reconstructed,
    ("numpy.core.multiarray", "scalar"): Scalar,
    ("numpy._core.multiarray", "scalar"): Scalar,
    ("numpy.core.numeric", "_frombuffer"): Buffered,
    ("numpy._core.numeric", "_frombuffer"): Buffered,
    ("_codecs", "encode"): Encoded,
}


class Unpickler(pickle.Unpickler):
    """Knows NAMES and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise Malformed(
                f"it wants to import {module}.{name}, which a list of folds does not need; it was not run"
            )
        return NAMES[module, name]


def decoded(dtype: Any, shape: Any, data: Any) -> list[Any]:
    """The values of an array, flat: numbers, text or bytes, or whatever objects a list holds."""
    if isinstance(data, list):
        return data
    code = dtype.code if isinstance(dtype, Dtype) else ""
    if not PLAIN.fullmatch(code):
        raise Malformed(f"an array of type {code[:20] or 'unknown'}")
    data = (
        data.encode("latin1") if isinstance(data, str) else data
    )  # Python 2 wrote its bytes as text.
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(data, bytes | bytearray) or not all(
        isinstance(side, int) and side >= 0 for side in shape
    ):
        raise Malformed("an array whose content is no bytes")
    try:
        values = np.frombuffer(data, np.dtype(code))
    except (TypeError, ValueError) as error:
        raise Malformed(f"an array that cannot be read ({error})") from error
    if values.size != math.prod(shape):
        raise Malformed("an array of another size than it says")
    return values.tolist()


def flat(value: Any) -> list[Any]:
    """The plain values of a list, or of an array of numbers or text, or of objects that are such scalars."""
    if isinstance(value, Reconstructed | Buffered):
        value = value.values()
    if not isinstance(value, list | tuple):
        raise Malformed(f"{type(value).__name__} where a list or an array was expected")
    return [item.values()[0] if isinstance(item, Scalar) else item for item in value]


def as_text(value: Any) -> str:
    """Text, or bytes as text; Malformed where it is neither."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise Malformed(f"{type(value).__name__} where text was expected")
    return value


def load(path: Path, dataset: Dataset) -> Folds:
    """The authors' split of a data set, in its order.

    Raises:
      InputError: the file cannot be read, wants to import anything else, or is no split of these images and labels.
    """
    try:
        return split(parts_of(path.read_bytes()), dataset, path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Malformed as error:
        raise InputError(
            f"{path} is not used: {error}. Expected the authors' folds-10.pkl, and the data it is of"
        ) from error


def parts_of(content: bytes) -> list[dict[str, dict[str, str | int]]]:
    """For each fold, {"train" | "test": {image name: label}}."""
    try:
        refuse_far_places(content)
        found = Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Malformed:
        raise
    except Exception as error:  # A damaged pickle raises whatever its bytes lead to.
        raise Malformed(f"it is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(found, list | tuple) or len(found) < 2:
        raise Malformed("it holds no list of folds")
    if not all(
        isinstance(fold, dict) and all(isinstance(fold.get(part), dict) for part in PARTS)
        for fold in found
    ):
        raise Malformed("its folds have no train and test")
    return [{part: labelled(fold[part]) for part in PARTS} for fold in found]


def refuse_far_places(content: bytes) -> None:
    """Raises Malformed where a pickle numbers what it remembers beyond its length: it takes memory for all numbers."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(content):
            raise Malformed(f"it is damaged (it numbers a value {argument})")


def labelled(part: dict[Any, Any]) -> dict[str, str | int]:
    """{image name: label} of one part of one fold."""
    if not {"x", "y"} <= set(part):
        raise Malformed("a part of a fold has no x and y")
    names, labels = [stem(as_text(name)) for name in flat(part["x"])], flat(part["y"])
    if len(names) != len(labels) or len(set(names)) < len(names):
        raise Malformed(
            f"a part of a fold has {len(set(names))} different images in {len(names)}, {len(labels)} labels"
        )
    return dict(zip(names, labels, strict=True))


def stem(name: str) -> str:
    """A file name without folder and ending."""
    return PurePosixPath(name.replace("\\", "/")).stem


def split(parts: list[dict[str, dict[str, str | int]]], dataset: Dataset, source: str) -> Folds:
    """The folds, checked: every image held out once and trained on else, every label as in the data."""
    place = {name: i for i, name in enumerate(dataset.names)}
    folds = np.full(len(place), -1)
    for fold, part in enumerate(parts):
        for name in part["test"]:
            if name not in place:
                raise Malformed(f"it holds out {name}, which the data lack{others(parts, place)}")
            if folds[place[name]] >= 0:
                raise Malformed(
                    f"it holds out {name} in fold {folds[place[name]] + 1} and in fold {fold + 1}"
                )
            folds[place[name]] = fold
        if not part["test"]:
            raise Malformed(f"its fold {fold + 1} holds out nothing")
    if missing := [name for name, i in place.items() if folds[i] < 0]:
        raise Malformed(
            f"it never holds out {len(missing)} images of the data ({', '.join(missing[:5])})"
        )
    for fold, part in enumerate(parts):
        rest = {name for name, i in place.items() if folds[i] != fold}
        if unlike := sorted(rest ^ set(part["train"])):
            raise Malformed(
                f"fold {fold + 1} does not train on all that it does not hold out ({', '.join(unlike[:5])})"
            )
        refuse_other_labels(part, dataset, place)
    labels, origin = (
        np.array(dataset.labels),
        f"paper: the authors' own split, {len(parts)} folds, from {source}",
    )
    return Folds(dataset.names, labels, folds, dataset.classes, dataset.groups, origin)


def others(parts: list[dict[str, dict[str, str | int]]], place: Iterable[str]) -> str:
    """How many more images are not in the data."""
    more = len({name for part in parts for name in part["test"]} - set(place)) - 1
    return f", as {more} others" if more else ""


def refuse_other_labels(
    part: dict[str, dict[str, str | int]], dataset: Dataset, place: dict[str, int]
) -> None:
    """Raises Malformed where a label, a name or its number in BACH's order, is not that of the data."""
    differing = []
    for name, label in (part["train"] | part["test"]).items():
        here, there = dataset.classes[dataset.labels[place[name]]], class_name(label)
        if plain(there) != plain(here):
            differing.append(f"{name}: there {there}, here {here}")
    if differing:
        raise Malformed(
            f"{len(differing)} labels differ from the data ({'; '.join(sorted(differing)[:5])})"
        )


def class_name(label: Any) -> str:
    """The class that a label means."""
    if isinstance(label, int | float) and label in range(len(BACH_CLASSES)):
        return BACH_CLASSES[int(label)]
    return (
        as_text(label)
        if isinstance(label, str | bytes)
        else f"{label}"
        if isinstance(label, int)
        else "no class"
    )


def plain(name: str) -> str:
    """Small letters alone: In Situ, in-situ and InSitu are one class."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())
