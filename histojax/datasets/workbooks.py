"""Excel workbooks as rows of text, read once it is known that a small file asks for no more.

What a workbook would unpack to, and the cells that it names, are counted first. One of a few
kilobytes may name the last cell of a sheet, merge all of them, or have gigabytes of blanks.
"""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any
from xml.parsers import expat

from histojax.errors import InputError
from histojax.utils import zips

_MOST_BYTES = 2**27  # Of all parts, unpacked.
# Of all sheets: cells that are stored, and those up to the last row and column.
_MOST_CELLS = 2**21
_MOST_OTHERS = 2**16  # Of elements that are no cells: styles, rules and the like.
_OF_CELLS = ("v", "f", "is", "t", "r", "rPr")

Rows = list[list[str]]


def read(table: Path) -> dict[str, Rows]:
    """The rows of each sheet by its title; formulas have the values that were last computed.

    Raises:
      InputError: it is not there, no workbook, or too large.
    """
    import openpyxl  # Here, since only workbooks need it.

    try:
        checked = _checked(table.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Styles, validation and pictures are not read.
            book = openpyxl.load_workbook(checked, data_only=True)
            if not book.worksheets:
                raise ValueError("it has no sheet of cells")
            return {sheet.title: _cells(sheet) for sheet in book.worksheets}
    except FileNotFoundError as error:
        raise InputError(f"{table} is not there") from error
    except Exception as error:  # openpyxl, zipfile and zlib raise errors of many classes.
        raise InputError(
            f"{table} cannot be read as a spreadsheet: {error}. Save it again as .xlsx, or as CSV"
        ) from error


def _checked(content: bytes) -> io.BytesIO:
    """The parts of a workbook, unpacked; ValueError where to read them would take very much."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as parts, zipfile.ZipFile(out, "w") as unpacked:
        size = sum(part.file_size for part in parts.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, expected at most {_MOST_BYTES:,}")
        names = [part.filename for part in parts.infolist()]
        if len(set(names)) < len(names):
            raise ValueError("it has a part twice")
        cells = 0
        for part in parts.infolist():
            held = zips.read_entry(parts, part)
            if part.filename.lower().endswith((".xml", ".rels")):
                cells += _count_cells(held)
            if cells > _MOST_CELLS:
                raise ValueError(f"it has more than {_MOST_CELLS:,} cells")
            unpacked.writestr(part.filename, held)
    return out


def _count_cells(xml: bytes) -> int:
    """The cells that a part of a workbook makes one hold, about; ValueError for entities."""
    from openpyxl.utils.cell import coordinate_to_tuple, range_boundaries

    stored, merged, others = 0, 0, 0
    place, last = (0, 0), (0, 0)  # Row and column.

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal stored, merged, others, place, last
        kind = name.rpartition(" ")[2]
        if kind == "mergeCell":
            left, top, right, bottom = range_boundaries(attributes["ref"])
            merged += (right - left + 1) * (bottom - top + 1)
        elif kind == "row":
            place = int(attributes.get("r", place[0] + 1)), 0
            stored += 1
        elif kind == "si":
            stored += 1
        elif kind == "c":
            stored += 1
            named = attributes.get("r")
            place = coordinate_to_tuple(named) if named else (place[0], place[1] + 1)
            last = max(last[0], place[0]), max(last[1], place[1])
        elif kind not in _OF_CELLS:
            others += 1
        if max(stored, merged, last[0] * last[1]) > _MOST_CELLS:
            raise ValueError(f"it has more than {_MOST_CELLS:,} cells")
        if others > _MOST_OTHERS:
            raise ValueError(f"it has more than {_MOST_OTHERS:,} elements besides its cells")

    def refuse(*_: Any) -> None:
        raise ValueError("its XML has a document type, as that of spreadsheets does not")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(xml, True)
    return max(stored, merged, last[0] * last[1])


def _cells(sheet: Any) -> Rows:
    """The cells of a sheet as text; merged ranges are filled in their first column."""
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    for merged in sheet.merged_cells.ranges:
        for i in range(merged.min_row, merged.max_row + 1):
            rows[i - 1][merged.min_col - 1] = sheet.cell(merged.min_row, merged.min_col).value
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
