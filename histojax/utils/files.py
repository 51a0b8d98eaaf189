"""Files on this machine or in a bucket: paths, atomic writes, CSV, JSON, NumPy arrays.

A path is a `pathlib.Path`, or an `etils.epath.Path` of a URI such as gs://bucket/folder. Only what
both offer is used: text is read and written as bytes, since the latter knows neither `newline` nor
`utf-8-sig`. A file is written under a temporary name in its folder and then renamed, so that it is
there whole or not at all.
"""

import codecs
import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import types
from collections.abc import Iterable, Iterator
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from histojax.errors import InputError
from histojax.utils import formulas, temporaries

_SNIFFED = 100  # Lines by which the delimiter of CSV is told.
# By the scheme of a URI: what fsspec calls the file system, and the package that provides it.
_REMOTE = {
    "gs": ("gcs", "gcsfs"),
    "s3": ("s3", "s3fs"),
    "az": ("az", "adlfs"),
    "hf": ("hf", "huggingface_hub"),
}


def as_path(path: str | Path) -> Path:
    """A path as it is; text as a local path, `~` expanded, or as the `epath.Path` of a URI.

    Raises:
      InputError: the URI's file system is unknown, or its package is not installed.
    """
    if not isinstance(path, str):
        return path
    if "://" not in path:
        return Path(path).expanduser()
    scheme = path.split("://", maxsplit=1)[0]
    if scheme not in _REMOTE:
        known = ", ".join(f"{name}://" for name in _REMOTE)
        raise InputError(
            f"{path} is on an unknown file system: expected a local path, or one that starts with "
            f"{known}"
        )
    system, package = _REMOTE[scheme]
    try:
        import fsspec
        from etils import epath

        fsspec.get_filesystem_class(system)
    except ImportError as error:
        raise InputError(
            f"{path} needs packages that are missing: pip install 'etils[epath]' {package}"
        ) from error
    # With the cache of listings, files written by other processes would stay invisible.
    fsspec.config.conf.setdefault(system, {}).setdefault("use_listings_cache", False)
    return epath.Path(path)


def default_cache() -> Path:
    """$HISTOJAX_CACHE, or the folder histojax in the user's cache folder."""
    if folder := os.environ.get("HISTOJAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "histojax"


def is_local(path: Path) -> bool:
    """Whether a path can be given to the operating system."""
    return isinstance(path, Path)


def is_file(path: Path) -> bool:
    """Whether a path is a file; False for a name that no file can have, such as a very long one."""
    try:
        return path.is_file()
    except OSError:
        return False


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files directly in a folder, sorted; one listing if it is remote."""
    if is_local(folder):
        paths = sorted(folder.iterdir())
        return [path for path in paths if path.is_dir()], [path for path in paths if path.is_file()]
    _, folders, names = next(folder.walk(), (folder, [], []))
    return (
        [folder / name for name in sorted(folders)],
        [folder / name for name in sorted(names) if name],
    )


def files_below(folder: Path) -> Iterator[Path]:
    """The files anywhere below a folder, in no order; a listing a folder if it is remote."""
    if is_local(folder):
        yield from (path for path in folder.rglob("*") if path.is_file())
        return
    folders, paths = list_folder(folder)
    yield from paths
    for subfolder in folders:
        yield from files_below(subfolder)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`: renamed at the end, removed on an error.

    Raises:
      OSError: with the name of `path`, not the temporary one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporaries.remove_left(path.parent)
    temporary = path.with_name(temporaries.new_name())
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            # NumPy says of a full disk how much of an array it wrote, without an error number.
            cause = error.strerror or f"{error}, as on a full disk"
            raise OSError(error.errno, cause, str(path)) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    write_bytes(path, text.encode())


def to_json(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON."""
    write_text(path, to_json(value))


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes one array as .npy, without pickle."""
    with atomic_write(path) as temporary, temporary.open("wb") as out:
        np.save(out, array, allow_pickle=False)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays as .npz, without pickle."""
    with atomic_write(path) as temporary, temporary.open("wb") as out:
        np.savez(out, allow_pickle=False, **arrays)


def write_csv(
    path: Path, rows: Iterable[Iterable[Any]], header: Iterable[str] | None = None
) -> None:
    """Writes rows as CSV, below a header if there is one."""
    write_text(path, to_csv(rows if header is None else [header, *rows]))


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV in which no text is a formula: see `utils.formulas`, and `read_csv`."""
    lines: list[str] = []
    # Which character ends a line decides what is quoted, and a lone \r has to be.
    out = types.SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n")))
    csv.writer(out, lineterminator="\r\n").writerows([map(_cell, row) for row in rows])
    return "".join(f"{line}\n" for line in lines)


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, Number) else formulas.inert(str(value))


def decode(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark; UnicodeDecodeError for any other."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


def delimiter_of(text: str, delimiters: str = ",;\t") -> str:
    """The delimiter that most of the first lines have; of several, the most even and frequent."""
    lines = text.splitlines()[:_SNIFFED]

    def fitness(mark: str) -> tuple[int, int, int]:
        counts = [line.count(mark) for line in lines if mark in line]
        return len(counts), -len({*counts}), sum(counts)

    return max(delimiters, key=fitness)


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as dictionaries, with the text that was written.

    Raises:
      InputError: the file is not there, is no CSV, lacks one of the columns, or is damaged.
    """
    try:
        text = decode(path.read_bytes())
        mark = delimiter_of(text.partition("\n")[0])
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        header, *rows = [[*map(formulas.original, line)] for line in lines if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if missing := [name for name in columns if name not in header]:
        raise InputError(
            f"{path} has columns {', '.join(header)}; expected also {', '.join(missing)}"
        )
    if any(len(row) != len(header) for row in rows):
        raise InputError(
            f"{path} has rows of another length than its header: it is damaged, or was edited by "
            "hand"
        )
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_json(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object from a file; InputError where it is absent, damaged, or lacks a key."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    return parse_json(content, path, keys)


def parse_json(content: bytes, name: str | Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object from bytes; InputError, with `name`, where it is damaged or lacks a key."""
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} is damaged (no object): make its folder anew")
    if missing := [key for key in keys if key not in value]:
        raise InputError(f"{name} is damaged (without {', '.join(missing)}): make its folder anew")
    return value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Each value that differs, in nested objects too: `protocol.crops: found 20, expected 6`."""
    found, expected = flatten(found), flatten(expected)
    return [
        f"{name}: found {found.get(name)}, expected {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= flatten(item, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def require_writable(folder: Path) -> None:
    """Makes a folder and a file in it, so that a long run does not fail only at its end.

    Raises:
      InputError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporaries.remove_left(folder)
        probe = folder / temporaries.new_name()
        probe.touch()
        probe.unlink()
    except Exception as error:  # A bucket's client raises errors of its own, beside OSError.
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"output folder {folder} cannot be written to: {reason}. Name another one"
        ) from error


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raises InputError where the disk of a folder has no room for as many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{what} needs {needed:,} bytes, and the disk of {folder} has {free:,} free: make "
            "room there, or name a folder on another disk"
        )
