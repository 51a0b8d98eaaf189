"""Files here or in a bucket: written whole or not at all, under a temporary name in the same folder and then renamed.

A path is a `pathlib.Path`, or an `etils.epath.Path` of a URI such as gs://bucket/folder. Only what both can is used:
text goes through bytes, since the latter has no `newline` and no `utf-8-sig`.
"""

import contextlib
import csv
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from histojax.errors import InputError

# The file systems that a URI may name: what fsspec calls each, and the package that serves it.
REMOTE = {
    "gs": ("gcs", "gcsfs"),
    "s3": ("s3", "s3fs"),
    "az": ("az", "adlfs"),
    "hf": ("hf", "huggingface_hub"),
}


def as_path(text: str) -> Path:
    """A local path, `~` expanded, or the `etils.epath.Path` of a URI such as gs://bucket/folder.

    Raises:
      InputError: a URI of an unknown file system, or of one whose package is not installed.
    """
    if "://" not in text:
        return Path(text).expanduser()
    scheme = text.split("://", maxsplit=1)[0]
    if scheme not in REMOTE:
        known = ", ".join(f"{name}://" for name in REMOTE)
        raise InputError(
            f"{text} is of an unknown file system: expected a local path, or one that starts with {known}"
        )
    system, package = REMOTE[scheme]
    try:
        import fsspec
        from etils import epath

        fsspec.get_filesystem_class(system)
    except ImportError as error:
        raise InputError(
            f"{text} needs packages that are missing: pip install 'etils[epath]' {package}"
        ) from error
    # Listings are else remembered for good, and what other processes write would not be seen.
    fsspec.config.conf.setdefault(system, {}).setdefault("use_listings_cache", False)
    return epath.Path(text)


def default_cache() -> Path:
    """$HISTOJAX_CACHE, or histojax below the user's cache folder."""
    if folder := os.environ.get("HISTOJAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "histojax"


def is_local(path: Path) -> bool:
    """Whether a path can be given to the operating system."""
    return isinstance(path, Path)


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files directly in a folder, each by name; of a remote one by a single listing."""
    if is_local(folder):
        found = sorted(folder.iterdir())
        return [path for path in found if path.is_dir()], [path for path in found if path.is_file()]
    _, folders, names = next(folder.walk(), (folder, [], []))
    return [folder / name for name in sorted(folders)], [
        folder / name for name in sorted(names) if name
    ]


def temporary_name() -> str:
    """A hidden name nobody else takes. Nothing of a file's own: fsspec would expand a `[` or `*` in it."""
    return f".{os.getpid()}.{uuid.uuid4().hex}"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it at the end, or removes it after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """UTF-8 text."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())


def to_json(value: Any) -> str:
    """JSON, indented."""
    return json.dumps(value, indent=2) + "\n"


def write_json(path: Path, value: Any) -> None:
    """JSON, indented."""
    write_text(path, to_json(value))


def write_array(path: Path, array: np.ndarray) -> None:
    """One array as .npy, without pickle."""
    with atomic_write(path) as temporary, temporary.open("wb") as out:
        np.save(out, array, allow_pickle=False)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Named arrays as .npz, without pickle."""
    with atomic_write(path) as temporary, temporary.open("wb") as out:
        np.savez(out, allow_pickle=False, **arrays)


def write_csv(
    path: Path, rows: Iterable[Iterable[Any]], header: Iterable[str] | None = None
) -> None:
    """Rows as CSV, with a header or without."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def open_csv(path: Path) -> io.StringIO:
    """A CSV file's text for the `csv` module, line ends as they are, without a byte order mark."""
    return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV of ours as dictionaries.

    Raises:
      InputError: not there, no CSV, or a column is missing.
    """
    try:
        reader = csv.DictReader(open_csv(path))
        found, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if missing := [name for name in columns if name not in found]:
        raise InputError(
            f"{path} has columns {', '.join(found)}; expected also {', '.join(missing)}"
        )
    if any(None in row or None in row.values() for row in rows):
        raise InputError(
            f"{path} has rows of another length than its header: it is damaged, or was edited by hand"
        )
    return rows


def read_json(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object of ours; InputError where it is absent, damaged, or lacks one of the keys."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    return parse_json(content, path, keys)


def parse_json(content: bytes, name: str | Path, keys: Iterable[str]) -> dict[str, Any]:
    """The JSON object that a file of ours holds; `name` is for messages."""
    try:
        value = json.loads(content.decode())
    except ValueError as error:
        raise InputError(f"{name} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict) or (missing := [key for key in keys if key not in value]):
        lacking = f"without {', '.join(missing)}" if isinstance(value, dict) else "no object"
        raise InputError(f"{name} is damaged ({lacking}): make its folder anew")
    return value


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """`protocol.crops: there 20, wanted 6` for each value that differs, nested objects value by value."""
    there, here = flatten(found), flatten(wanted)
    return [
        f"{name}: there {there.get(name)}, wanted {here.get(name)}"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for name, item in value.items():
        flat |= (
            flatten(item, f"{prefix}{name}.")
            if isinstance(item, dict)
            else {f"{prefix}{name}": item}
        )
    return flat


def require_writable(folder: Path) -> None:
    """Makes the folder and tries a file in it, so that a long run does not fail at its end.

    Raises:
      InputError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / temporary_name()
        probe.touch()
        probe.unlink()
    except Exception as error:  # A bucket's client raises errors of its own, beside OSError.
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"output folder {folder} cannot be written to: {reason}. Name another one"
        ) from error
