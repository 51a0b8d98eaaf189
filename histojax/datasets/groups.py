"""The patient or slide of each image, from a table made by others: CSV, or a spreadsheet (.xlsx).

Columns are recognised by their content. The image column holds image names of the data set, in any
case, with or without folder and ending. The group column is named by the caller, or is the only one
whose header says patient, slide or the like. Where several columns would do, nothing is guessed.
"""

import collections
import dataclasses
import io
import re
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from absl import logging

from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files

# `id` counts only as a word of its own.
_GROUP_HEADER = re.compile(r"patient|slide|case|group|subject|(?<![a-z])id(?![a-z])", re.IGNORECASE)
_IMAGE_HEADER = re.compile(r"image|file|name|histolog|photo", re.IGNORECASE)
_UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "#n/a", "nan", "none", "null", "unknown"})

_Rows = list[list[str]]


@dataclasses.dataclass(frozen=True)
class GroupTable:
    """What a table says about the images of a data set.

    Attributes:
      group_of: the group of each image name; names of unknown group are left out.
      column: the header of the group column.
      unmatched: images of the table that are not in the data set.
    """

    group_of: dict[str, str]
    column: str
    unmatched: tuple[str, ...]


def add_groups(dataset: Dataset, table: str | Path, column: str | None = None) -> Dataset:
    """A data set with the groups of a table, empty where unknown, in place of any it had.

    Raises:
      InputError: as for `read`, or the group column is empty for every image.
    """
    table = files.as_path(table)
    groups = read(table, dataset.names, column)
    if not groups.group_of:
        raise InputError(
            f"{table}: column {groups.column} is empty, or says unknown, for every image of the "
            "data; if its cells are formulas, save the sheet with their values"
        )
    if groups.unmatched:
        examples = ", ".join(groups.unmatched[:5])
        logging.warning(
            "%s has %d images that are not in the data (%s)", table, len(groups.unmatched), examples
        )
    in_order = tuple(groups.group_of.get(name, "") for name in dataset.names)
    return dataclasses.replace(dataset, groups=in_order)


def read(table: Path, names: tuple[str, ...], column: str | None = None) -> GroupTable:
    """Reads the groups of the named images.

    A cell that is empty or says so (`-`, `n/a`, `unknown`) is an unknown group. An empty cell below
    a filled one is unknown too, since it might mean either; cells that a sheet merges downwards all
    have the value of the first.

    Args:
      table: .csv (commas, semicolons or tabs) or .xlsx.
      names: image names, without ending.
      column: the header of the group column, where no single header says what it is.

    Raises:
      InputError: the table cannot be read, names no image of the data, has no group column or
        several candidates, or gives one image two groups.
    """
    images = _name_lookup(names)
    rows = _rows_with_images(table, images, names[0])
    image_column = _find_image_column(table, rows, images)
    first = next(i for i, row in enumerate(rows) if _find_name(row[image_column], images))
    start = _first_data_row(rows[:first], image_column, column)
    header = rows[start - 1] if start else [f"column {i + 1}" for i in range(len(rows[0]))]
    group_column = _find_group_column(table, header, image_column, column)
    groups, unmatched = collections.defaultdict(set), []
    for row in rows[start:]:
        name = _find_name(row[image_column], images)
        group = group_name(row[group_column])
        if name and group:
            groups[name].add(group)
        elif not name and row[image_column]:
            unmatched.append(row[image_column])
    title = header[group_column]
    if conflicts := [
        f"{name} ({', '.join(sorted(several))})"
        for name, several in sorted(groups.items())
        if len(several) > 1
    ]:
        raise InputError(
            f"{table} gives images more than one {title}: {', '.join(conflicts[:10])}; correct it"
        )
    return GroupTable(
        {name: group.pop() for name, group in groups.items()}, title, tuple(unmatched)
    )


def group_name(cell: str) -> str:
    """The group in a cell: stripped, whole numbers without decimals, empty where unknown."""
    text = re.sub(r"^([+-]?\d+)\.0+$", r"\1", cell.strip())
    return "" if text.casefold() in _UNKNOWN else text


def _name_lookup(names: tuple[str, ...]) -> dict[str, str]:
    """Image names by their spellings: as they are, and in lower case where that is unambiguous."""
    lower = collections.Counter(name.casefold() for name in names)
    lookup = {name.casefold(): name for name in names if lower[name.casefold()] == 1}
    return lookup | {name: name for name in names}


def _find_name(cell: str, images: dict[str, str]) -> str | None:
    """The image that a cell names, with or without folder and ending; None if it names none."""
    file = PurePosixPath(cell.strip().replace("\\", "/"))
    has_ending = file.suffix.lower() in (*reader.SUFFIXES, ".npy")
    stem = (file.stem if has_ending else file.name).strip()
    return images.get(stem) or images.get(stem.casefold())


def _rows_with_images(table: Path, images: dict[str, str], example: str) -> _Rows:
    """The rows of the only sheet that names images of the data."""
    if table.suffix.lower() in (".xlsx", ".xlsm"):
        sheets = _read_spreadsheet(table)
    else:
        sheets = {"": _rectangular(files.read_cells(table, ",;\t"))}
    fitting = {
        title: rows
        for title, rows in sheets.items()
        if any(_find_name(cell, images) for row in rows for cell in row)
    }
    if not fitting:
        raise InputError(
            f"{table} names no image of the data, such as {example}: expected a column of file "
            "names beside one of groups"
        )
    if len(fitting) > 1:
        raise InputError(
            f"{table} names images in several sheets, {', '.join(fitting)}: save the one you mean "
            "as CSV"
        )
    return next(iter(fitting.values()))


def _find_image_column(table: Path, rows: _Rows, images: dict[str, str]) -> int:
    """The column that names most images; between equals, the only one with a telling header."""
    counts = [
        len({_find_name(row[i], images) for row in rows} - {None}) for i in range(len(rows[0]))
    ]
    best = [i for i, count in enumerate(counts) if count == max(counts)]
    if len(best) == 1:
        return best[0]
    telling = [i for i in best if _IMAGE_HEADER.search(rows[0][i])]
    if len(telling) != 1:
        titles = ", ".join(rows[0][i] or f"column {i + 1}" for i in best)
        raise InputError(
            f"{table} names images of the data in several columns, {titles}: leave one, or rename "
            "it to image"
        )
    return telling[0]


def _first_data_row(above: _Rows, image_column: int, wanted: str | None) -> int:
    """The index of the row after the header.

    The header is sought among the rows `above` the first image of the data; others are titles, or
    name images that the data lack. Without a header that is the row of the first image.
    """
    for i, row in enumerate(above):
        titles = [title for j, title in enumerate(row) if j != image_column]
        if row[image_column] and any(_is_group_header(title, wanted) for title in titles):
            return i + 1
    return len(above)


def _is_group_header(title: str, wanted: str | None) -> bool:
    """Whether a header is the wanted one or, if none is, says that its column holds groups."""
    if wanted is None:
        return _GROUP_HEADER.search(title) is not None
    return title.casefold() == wanted.strip().casefold()


def _find_group_column(
    table: Path, header: list[str], image_column: int, wanted: str | None
) -> int:
    """The column with the wanted header, or the only one whose header says that it holds groups."""
    others = [i for i, title in enumerate(header) if i != image_column and title]
    candidates = [i for i in others if _is_group_header(header[i], wanted)]
    if len(candidates) == 1:
        return candidates[0]
    titles = ", ".join(header[i] for i in others) or "none"
    if wanted is not None:
        raise InputError(
            f"{table} has {len(candidates)} columns named {wanted}, expected one of: {titles}"
        )
    number = "more than one column that may be" if candidates else "no column that says it is"
    raise InputError(
        f"{table} has {number} of patients or slides; name one of its columns by --group_column: "
        f"{titles}"
    )


def _read_spreadsheet(table: Path) -> dict[str, _Rows]:
    """The rows of each sheet by its title; formulas have the values that were last computed."""
    import openpyxl  # Here, since only spreadsheets need it.

    try:
        with warnings.catch_warnings(), table.open("rb") as file:
            warnings.simplefilter("ignore")  # Styles, validation and pictures are not read.
            book = openpyxl.load_workbook(io.BytesIO(file.read()), data_only=True)
            return {sheet.title: _rectangular(_sheet_cells(sheet)) for sheet in book.worksheets}
    except FileNotFoundError as error:
        raise InputError(f"{table} is not there") from error
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
        SyntaxError,
    ) as error:
        raise InputError(
            f"{table} cannot be read as a spreadsheet: {error}. Save it again as .xlsx, or as CSV"
        ) from error


def _sheet_cells(sheet: Any) -> list[list[str]]:
    """The cells of a sheet as text; merged ranges are filled in their first column."""
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    for merged in sheet.merged_cells.ranges:
        for i in range(merged.min_row, merged.max_row + 1):
            rows[i - 1][merged.min_col - 1] = sheet.cell(merged.min_row, merged.min_col).value
    return [["" if cell is None else str(cell).strip() for cell in row] for row in rows]


def _rectangular(rows: _Rows) -> _Rows:
    """Rows filled up to one length, those without any filled cell left out."""
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows if any(row)]
