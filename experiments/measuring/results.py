"""accelerator.json: every figure by item and key, written as soon as it is there.

{"machine": {"device": {...}, "peak bfloat16": {...}}, "rates": {"VGG 0.5-400 ...": {...}}, ...}

A measurement that failed has {"error": text}, one there was no time for {"left_out": why}; the next
run tries both again.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from histojax.errors import InputError
from histojax.utils import files

FILE = "accelerator.json"
Row = dict[str, Any]
# A measurement has a key, and a function that returns its row.
Measurement = tuple[str, Callable[[], Row]]
_ERROR_LENGTH = 600


@dataclasses.dataclass
class Results:
    """What a folder has so far.

    Attributes:
      folder: of accelerator.json.
      items: rows by item and key.
    """

    folder: Path
    items: dict[str, dict[str, Row]]

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """What an earlier run, or another process of this one, has written; nothing where none."""
        path = folder / FILE
        return cls(folder, files.read_json(path, ()) if path.exists() else {})

    def rows(self, item: str) -> dict[str, Row]:
        """What was measured of an item, by key: neither errors nor what was left out."""
        return {key: row for key, row in self.items.get(item, {}).items() if is_measured(row)}

    def row(self, item: str, key: str) -> Row:
        """One row that another measurement builds on; InputError where it is not there."""
        rows = self.rows(item)
        if key not in rows:
            raise InputError(f"it needs {key!r} of the item {item}, which was not measured")
        return rows[key]

    def add(self, item: str, key: str, row: Row) -> None:
        """Writes a row, in place of one of the same key."""
        self.items.setdefault(item, {})[key] = row
        files.write_json(self.folder / FILE, self.items)

    def remove(self, item: str, key: str) -> None:
        """Forgets a row, where there is one, for later processes too."""
        if self.items.get(item, {}).pop(key, None):
            files.write_json(self.folder / FILE, self.items)

    def missing(self) -> list[tuple[str, str, str]]:
        """(item, key, why) of what was left out or failed."""
        return [
            (item, key, row.get("error") or row["left_out"])
            for item, rows in self.items.items()
            for key, row in rows.items()
            if not is_measured(row)
        ]


def is_measured(row: Row) -> bool:
    """Whether a row has figures."""
    return not {"error", "left_out"} & row.keys()


def measure(
    item: str, measurements: Iterable[Measurement], results: Results, seconds: float
) -> None:
    """Makes the measurements of an item that are not there yet, in order, while there is time.

    One is not started when less time is left than half of what the longest before it took, so that
    time is neither wasted nor overdrawn on average. Whatever fails is recorded, and the next one is
    made.

    Args:
      item: its name.
      measurements: of the item, the most valuable first.
      results: are added to, and written after each.
      seconds: for all of them together.
    """
    start, longest = time.monotonic(), 0.0
    for key, function in measurements:
        if key in results.rows(item):
            continue
        begun = time.monotonic()
        if begun - start + longest / 2 > seconds:
            row = {"left_out": "no time was left"}
        else:
            try:
                row = function()
            except Exception as error:  # Of libraries and devices: it may be anything.
                row = {"error": f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]}
            took = time.monotonic() - begun
            longest = max(longest, took)
            row |= {"measured_in_seconds": round(took, 2)}
        results.add(item, key, row)
        print(f"{item}: {key}: {brief(row)}", flush=True)


def brief(row: Row) -> str:
    """The numbers and texts of a row in one line, without those that are in its key."""
    texts = []
    for name, value in row.items():
        if isinstance(value, float):
            texts.append(f"{name} {value:.4g}")
        elif isinstance(value, int | str) and name not in ("encoder", "mode", "precision"):
            texts.append(f"{name} {value}")
    return ", ".join(texts)
