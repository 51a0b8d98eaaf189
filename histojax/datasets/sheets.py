"""Tables that people made, as rows of text: CSV of any dialect, and Excel workbooks.

CSV may be separated by commas, semicolons or tabs, and start with Excel's line `sep=;`. Its text is
UTF-8, UTF-16 with a byte order mark, or Windows-1252, which Excel writes by default.
"""

import csv
import dataclasses
import io
import re
from pathlib import Path

from histojax.datasets import workbooks
from histojax.datasets.workbooks import Rows
from histojax.errors import InputError
from histojax.utils import files, formulas

WORKBOOKS = (".xlsx", ".xlsm")
SUFFIXES = (".csv", ".tsv", *WORKBOOKS)

_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclasses.dataclass(frozen=True)
class Sheets:
    """The content of a table.

    Attributes:
      rows: of each sheet by its title, without empty rows and empty last columns; CSV has one sheet
        without a title.
      notices: sentences on how it was read.
    """

    rows: dict[str, Rows]
    notices: tuple[str, ...] = ()


def read(table: Path) -> Sheets:
    """The sheets of a table.

    Raises:
      InputError: it is not there, or neither CSV nor a workbook.
    """
    if str(table).lower().endswith(WORKBOOKS):
        held = workbooks.read(table)
        return Sheets({title: _filled(rows) for title, rows in held.items()})
    try:
        content = table.read_bytes()
        if content.startswith(_OLD_EXCEL):
            raise InputError(
                f"{table} is a workbook of an old Excel (.xls): save it as .xlsx, or as CSV"
            )
        text, notices = _decode(content, table)
        return Sheets({"": _filled(_parse(text))}, notices)
    except OSError as error:
        raise InputError(f"{table} cannot be read as CSV: {error}") from error
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{table} cannot be read as CSV: {error}. Save it as CSV, a text file in UTF-8"
        ) from error


def _decode(content: bytes, table: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a CSV file; ValueError where it is none."""
    try:
        text = files.decode(content)
    except UnicodeDecodeError:
        if b"\0" in content:
            raise
        notice = f"{table} is not UTF-8: read as Windows-1252, as Excel writes it"
        return content.decode("cp1252"), (notice,)
    if "\0" in text:
        raise ValueError("it has zero bytes, as UTF-16 without a byte order mark has")
    return text, ()


def _parse(text: str) -> Rows:
    """Rows of CSV text; the delimiter is named by Excel's `sep=`, or the first line's most used."""
    lines = text.splitlines(keepends=True)
    declared = re.fullmatch(r'"?sep=(.)"?\s*', lines[0]) if lines else None
    if declared:
        delimiter = declared[1]
        lines = lines[1:]
    else:
        delimiter = files.delimiter_of(text)
    cells = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter)
    # What histojax wrote comes back with its names as they are: folds.csv, images.csv.
    return [[*map(formulas.original, row)] for row in cells]


def _filled(rows: Rows) -> Rows:
    """Rows without blanks around cells, empty rows and last cells that are empty in every row."""
    rows = [[cell.strip() for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    used = max((i + 1 for row in rows for i, cell in enumerate(row) if cell), default=0)
    return [row[:used] for row in rows]
