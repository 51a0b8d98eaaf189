"""Writing files whole or not at all: under a temporary name in the same folder, then renamed."""

import contextlib
import csv
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from histojax.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it at the end, or removes it after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """UTF-8 text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """One array as .npy, without pickle."""
    with replacing(path) as temporary, open(temporary, "wb") as out:
        np.save(out, array, allow_pickle=False)


def write_csv(path: Path, rows: Iterable[Iterable[Any]], header: Iterable[str] | None = None) -> None:
    """Rows as CSV, with a header or without."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        if header is not None:
            writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV of ours as dictionaries.

    Raises:
      InputError: not there, no CSV, or a column is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if missing := [name for name in columns if name not in found]:
        raise InputError(f"{path} has columns {', '.join(found)}; expected also {', '.join(missing)}")
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} has rows of another length than its header: it is damaged, or was edited by hand")
    return rows


def read_json(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object of ours; InputError where it is absent, damaged, or lacks one of the keys."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict) or (missing := [key for key in keys if key not in value]):
        lacking = f"without {', '.join(missing)}" if isinstance(value, dict) else "no object"
        raise InputError(f"{path} is damaged ({lacking}): make its folder anew")
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
        flat |= flatten(item, f"{prefix}{name}.") if isinstance(item, dict) else {f"{prefix}{name}": item}
    return flat


def require_writable(folder: Path) -> None:
    """Makes the folder and tries a file in it, so that a long run does not fail at its end.

    Raises:
      InputError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"output folder {folder} cannot be written to: {error.strerror}. Name another one") from error
