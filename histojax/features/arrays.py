"""One file of features: what TRIDENT, CLAM and STAMP write (h5), .npy, .npz, .pt and .csv.

A file is known by its shape and attributes before its values are read, and these come in blocks of
a few megabytes, as float32 [n, D]. (A `.pt` and a table are read whole.) Nothing is read from other
files that it points at, and nothing in it is run: PyTorch's pickles go through
`utils.array_files`.
"""

import contextlib
import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from histojax.errors import InputError
from histojax.features import hdf5, tables
from histojax.features.hdf5 import FeatureArray, choose, form_of
from histojax.utils import array_files
from histojax.utils.array_files import npz
from histojax.utils.array_files.stored import BFLOAT16, Refused, require_few

HDF5 = (".h5", ".hdf5")
SUFFIXES = (*HDF5, ".npy", ".npz", ".pt", ".csv")
_BLOCK = 2**21  # Values that are read at a time: 8 MiB as float32.
_AS_BFLOAT16 = "features of two bytes without a type are read as bfloat16"


@dataclasses.dataclass(frozen=True)
class Contents:
    """Features of one slide in a file.

    Attributes:
      name: of the slide, where the file says it; else it is the file's.
      rows: N; 0 of a slide without tiles.
      channels: D; 0 where there are no rows to tell.
      facts: fields of `feature_sets.Source` that the file states. `level` is absent where one row
        may be a slide's only tile or its only vector.
      blocks: reads the values, float32 [n, D] at a time.
      notice: what a person should know of how they are read; else empty.
    """

    name: str | None
    rows: int
    channels: int
    facts: dict[str, Any]
    blocks: Callable[[], Iterator[np.ndarray]] = dataclasses.field(repr=False, compare=False)
    notice: str = ""


def contents(path: Path) -> list[Contents]:
    """What a file holds: one slide, or of a table with names each of its slides.

    Raises:
      InputError: it is damaged, claims more than it holds, holds something else than features, or
        could be read in two ways.
    """
    if path.suffix.lower() == ".csv":
        named = tables.read(path)
        return [_of_table(path, name, values) for name, values in named.items()]
    with _opened(path) as array:
        rows, channels, level = form_of(array.shape)
        if not _is_number(array.dtype):
            raise Refused(f"its features are {array.dtype}, expected numbers")
    facts = {"format": "arrays"} | ({"level": level} if level else {}) | array.facts
    notice = _AS_BFLOAT16 if array.dtype.kind == "V" and array.dtype != BFLOAT16 else ""
    return [Contents(None, rows, channels, facts, lambda: _blocks(path, rows), notice)]


def _of_table(path: Path, name: str | None, values: np.ndarray) -> Contents:
    """A slide of a table; values are kept only where the table holds several slides."""
    facts = {"format": "arrays"} | ({"level": "tile"} if len(values) > 1 else {})

    def blocks() -> Iterator[np.ndarray]:
        return iter([values] if name is not None else tables.read(path).values())

    return Contents(name, *values.shape, facts, blocks)


def _blocks(path: Path, rows: int) -> Iterator[np.ndarray]:
    """The features of a file as float32 [n, D]; it must still have as many rows as were found."""
    with _opened(path) as array:
        channels = form_of(array.shape)[1]
        count = 0
        for block in array.blocks(max(1, _BLOCK // max(channels, 1))):
            with np.errstate(over="ignore"):
                values = _numbers(block).astype(np.float32)
            count += len(values)
            yield values
        if count != rows:
            raise Refused(f"it has {count} rows now, and had {rows}: wait until it is complete")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[FeatureArray]:
    """The array of features in a file; all that goes wrong within the block is an InputError."""
    try:
        with contextlib.ExitStack() as stack:
            suffix = path.suffix.lower()
            if suffix == ".pt":
                yield _of_torch(stack, path)
                return
            file = stack.enter_context(path.open("rb"))
            size = file.seek(0, 2)
            file.seek(0)
            if suffix == ".npy":
                yield _of_npy(path.name, file, size)
            elif suffix == ".npz":
                yield _of_npz(stack.enter_context(zipfile.ZipFile(file)))
            else:
                yield hdf5.open_array(stack.enter_context(h5py.File(file)), file, size)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        if isinstance(error, InputError):
            raise
        raise _damaged(path, error) from error
    except Refused as error:
        raise InputError(f"{path} cannot be read as features: {error}") from error
    # h5py, zipfile, zlib and NumPy raise errors of many classes on damage.
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read as features, it is damaged ({error!r:.200}): copy it again from "
        "its source, or compute its features again"
    )


def _is_number(dtype: np.dtype) -> bool:
    return dtype in (BFLOAT16, np.dtype("V2")) or (dtype.kind in "fiu" and dtype.itemsize <= 8)


def _numbers(block: np.ndarray) -> np.ndarray:
    """NumPy and HDF5 have no bfloat16: they store it as two bytes without a type."""
    return block.view(BFLOAT16) if block.dtype.kind == "V" and block.dtype != BFLOAT16 else block


def _of_npy(name: str, file: IO[bytes], size: int) -> FeatureArray:
    shape, fortran, dtype = npz.read_header(name, file, size)

    def blocks(count: int) -> Iterator[np.ndarray]:
        rows, channels, _ = form_of(shape)
        if fortran and len(shape) > 1:
            whole = np.frombuffer(file.read(), dtype).reshape(shape, order="F")
            yield from _pieces(whole.reshape(rows, channels), count)
            return
        for start in range(0, rows, count):
            n = min(count, rows - start)
            content = file.read(n * channels * dtype.itemsize)
            yield np.frombuffer(content, dtype).reshape(n, channels)

    return FeatureArray(shape, dtype, blocks, {})


def _of_npz(archive: zipfile.ZipFile) -> FeatureArray:
    members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    require_few(len(members))
    entry = members[choose(list(members))]
    return _of_npy(entry.filename, archive.open(entry), entry.file_size)


def _of_torch(stack: contextlib.ExitStack, path: Path) -> FeatureArray:
    _, arrays = stack.enter_context(array_files.open_arrays(path, "features"))
    array = arrays[choose(list(arrays))]
    facts = {"format": "CLAM"} if path.parent.name == "pt_files" else {}

    def blocks(count: int) -> Iterator[np.ndarray]:
        yield from _pieces(array.load().reshape(form_of(array.shape)[:2]), count)

    return FeatureArray(array.shape, array.dtype, blocks, facts)


def _pieces(whole: np.ndarray, count: int) -> Iterator[np.ndarray]:
    return (whole[start : start + count] for start in range(0, len(whole), count))
