"""Files of arrays by name: Keras HDF5, safetensors, .npz and PyTorch's archives, as they come.

A file is recognised by its content, not its ending. Only names, shapes and dtypes are read when it
is opened; an array's values are read when they are asked for, so memory holds no more than what is
used. Nothing in a file runs: there is no pickle module here, and PyTorch's pickles go through
`tensor_pickle`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from histojax.errors import InputError
from histojax.utils.array_files import hdf5, npz, pytorch, safetensors
from histojax.utils.array_files.stored import Refused, StoredArrays

_ZIP = b"PK\x03\x04"
# Beginnings of what people pass by mistake, and what to do.
_OTHERS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the file itself: fetch the file "
    "(git lfs pull)",
    b"\x80": "it is a bare pickle, as PyTorch wrote before 1.6, which could run code: open it "
    "where you trust it, and save what it holds again with torch.save or as safetensors",
    b"<": "it is a web page, perhaps of a download that needed a login: download it again",
}


@contextlib.contextmanager
def open_arrays(path: Path, what: str = "a file of weights") -> Iterator[tuple[str, StoredArrays]]:
    """The kind of a file, and its arrays by name in the file's order, readable within the block.

    `what` it is to be read as, for messages.

    Raises:
      InputError: it is not there, damaged, of no kind known here, or holds something that could
        run code.
    """
    try:
        with path.open("rb") as file, _open(file) as opened:
            yield opened
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name {what}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path} is no file that can be read: {error.strerror}") from None
    except Refused as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from error
    # h5py, zipfile, zlib and NumPy raise errors of many classes on damage.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as {what}, it is damaged ({error!r:.200}): copy it again from "
            "its source"
        ) from error


@contextlib.contextmanager
def _open(file: BinaryIO) -> Iterator[tuple[str, StoredArrays]]:
    head = file.read(64)
    file.seek(0)
    if head.startswith(hdf5.MAGIC):
        with hdf5.open_arrays(file) as arrays:
            yield hdf5.KIND, arrays
    elif head.startswith(_ZIP):
        module = pytorch if pytorch.is_archive(file) else npz
        with module.open_arrays(file) as arrays:
            yield module.KIND, arrays
    elif safetensors.is_header(head):
        yield safetensors.KIND, safetensors.open_arrays(file)
    else:
        reasons = [reason for start, reason in _OTHERS.items() if head.startswith(start)]
        known = ", ".join((hdf5.KIND, safetensors.KIND, npz.KIND, pytorch.KIND))
        raise Refused(reasons[0] if reasons else f"its beginning is of none of: {known}")
