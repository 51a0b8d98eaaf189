"""Tables that people made, as rows of text: CSV of any dialect, and Excel workbooks.

CSV may be separated by commas, semicolons or tabs, and start with Excel's line `sep=;`. Its text is
UTF-8, UTF-16 with a byte order mark, or Windows-1252, which Excel writes by default.
"""

import csv
import dataclasses
import io
import re
import warnings
from pathlib import Path
from typing import Any

from histojax.errors import InputError
from histojax.utils import files, formulas

WORKBOOKS = (".xlsx", ".xlsm")
SUFFIXES = (".csv", ".tsv", *WORKBOOKS)

_OLD_EXCEL = b"\xd0\xcf\x11\xe0"

Rows = list[list[str]]


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
        return Sheets(_read_workbook(table))
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


def _read_workbook(table: Path) -> dict[str, Rows]:
    """The rows of each sheet by its title; formulas have the values that were last computed."""
    import openpyxl  # Here, since only workbooks need it.

    try:
        with warnings.catch_warnings(), table.open("rb") as file:
            warnings.simplefilter("ignore")  # Styles, validation and pictures are not read.
            book = openpyxl.load_workbook(io.BytesIO(file.read()), data_only=True)
            return {sheet.title: _filled(_sheet_cells(sheet)) for sheet in book.worksheets}
    except FileNotFoundError as error:
        raise InputError(f"{table} is not there") from error
    except Exception as error:  # openpyxl, zipfile and zlib raise errors of many classes.
        raise InputError(
            f"{table} cannot be read as a spreadsheet: {error}. Save it again as .xlsx, or as CSV"
        ) from error


def _sheet_cells(sheet: Any) -> Rows:
    """The cells of a sheet as text; merged ranges are filled in their first column."""
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    for merged in sheet.merged_cells.ranges:
        for i in range(merged.min_row, merged.max_row + 1):
            rows[i - 1][merged.min_col - 1] = sheet.cell(merged.min_row, merged.min_col).value
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
