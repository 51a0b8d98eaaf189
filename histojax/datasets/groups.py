"""The patient or slide of each image, from a table made by others: CSV, or a spreadsheet such as BACH's patient table.

Columns are found by what is in them: that of the images holds names of the data, with or without ending and folder, in
any case; that of the groups is named, or has the one header that says so. Between two candidates nothing is guessed.
"""

import collections
import csv
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

# What a header of groups says. `id` is one only as a word of its own.
GROUP_HEADER = re.compile(r"patient|slide|case|group|subject|(?<![a-z])id(?![a-z])", re.IGNORECASE)
IMAGE_HEADER = re.compile(r"image|file|name|histolog|photo", re.IGNORECASE)
UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "#n/a", "nan", "none", "null", "unknown"})

Rows = list[list[str]]


@dataclasses.dataclass(frozen=True)
class Groups:
    """What a table says of a data set.

    Attributes:
      of: the group of each image of the data that has one.
      column: the header of the groups.
      absent: images of the table that are not in the data.
    """

    of: dict[str, str]
    column: str
    absent: tuple[str, ...]


def add_groups(dataset: Dataset, table: Path, column: str | None = None) -> Dataset:
    """A data set with the groups of a table, empty where it has none, in place of those it had.

    Raises:
      InputError: as for `read`.
    """
    found = read(table, dataset.names, column)
    if not found.of:
        raise InputError(
            f"{table}: column {found.column} is empty, or says unknown, for every image of the data; if its cells are "
            "formulas, save the sheet with their values"
        )
    if found.absent:
        some = ", ".join(found.absent[:5])
        logging.warning(
            "%s has %d images that are not in the data (%s)", table, len(found.absent), some
        )
    return dataclasses.replace(
        dataset, groups=tuple(found.of.get(name, "") for name in dataset.names)
    )


def read(table: Path, names: tuple[str, ...], column: str | None = None) -> Groups:
    """Reads the groups of the named images.

    A cell that is empty, or says so (`-`, `n/a`, `unknown`), is an unknown group. An empty cell below a filled one is
    unknown too, since it may mean either; cells that the sheet merges downwards all have the value of the first.

    Args:
      table: .csv (commas, semicolons or tabs) or .xlsx.
      names: of the images, without ending.
      column: the header of the groups' column, where it does not tell by itself.

    Raises:
      InputError: the table cannot be read, names no image of the data, has no column or several that may be meant, or
        gives one image two groups.
    """
    keys = keys_of(names)
    sheets = (
        spreadsheet(table)
        if table.suffix.lower() in (".xlsx", ".xlsm")
        else {"": comma_separated(table)}
    )
    fitting = {
        sheet: rows
        for sheet, rows in sheets.items()
        if any(name_of(cell, keys) for row in rows for cell in row)
    }
    if not fitting:
        raise InputError(
            f"{table} names no image of the data, such as {names[0]}: expected a column of file names "
            "beside one of groups"
        )
    if len(fitting) > 1:
        raise InputError(
            f"{table} names images in several sheets, {', '.join(fitting)}: save the one you mean as CSV"
        )
    rows = next(iter(fitting.values()))
    place = image_column(table, rows, keys)
    first = next(i for i, row in enumerate(rows) if name_of(row[place], keys))
    start = data_row(rows[:first], place, column)
    header = rows[start - 1] if start else [f"column {i + 1}" for i in range(len(rows[0]))]
    chosen = group_column(table, header, place, column)
    return collected(
        table, [(row[place], row[chosen]) for row in rows[start:]], keys, header[chosen]
    )


def collected(
    table: Path, pairs: list[tuple[str, str]], keys: dict[str, str], column: str
) -> Groups:
    """The groups from pairs of an image's and a group's cell."""
    of, absent = collections.defaultdict(set), []
    for image, group in pairs:
        if not (name := name_of(image, keys)):
            absent += [image] if image else []
        elif known := group_name(group):
            of[name].add(known)
    if twice := [
        f"{name} ({', '.join(sorted(found))})"
        for name, found in sorted(of.items())
        if len(found) > 1
    ]:
        raise InputError(
            f"{table} gives images more than one {column}: {', '.join(twice[:10])}; correct it"
        )
    return Groups({name: found.pop() for name, found in of.items()}, column, tuple(absent))


def group_name(cell: str) -> str:
    """A group as it is compared: without blanks around it, a whole number without decimals; empty where unknown."""
    text = re.sub(r"^([+-]?\d+)\.0+$", r"\1", cell.strip())
    return "" if text.casefold() in UNKNOWN else text


def keys_of(names: tuple[str, ...]) -> dict[str, str]:
    """Names by what a cell may call them: as they are, or in small letters where only one is meant."""
    small = collections.Counter(name.casefold() for name in names)
    return {name.casefold(): name for name in names if small[name.casefold()] == 1} | {
        name: name for name in names
    }


def name_of(cell: str, keys: dict[str, str]) -> str | None:
    """The image that a cell names, without folder and ending; None where it names none."""
    file = PurePosixPath(cell.strip().replace("\\", "/"))
    stem = file.stem if file.suffix.lower() in (*reader.SUFFIXES, ".npy") else file.name
    return keys.get(stem.strip()) or keys.get(stem.strip().casefold())


def image_column(table: Path, rows: Rows, keys: dict[str, str]) -> int:
    """The column that names most images; InputError where two do and their headers do not tell."""
    named = [{name_of(row[place], keys) for row in rows} - {None} for place in range(len(rows[0]))]
    most = max(map(len, named))
    best = [place for place, found in enumerate(named) if len(found) == most]
    telling = [place for place in best if IMAGE_HEADER.search(rows[0][place])]
    if len(best) > 1 and len(telling) != 1:
        titles = ", ".join(rows[0][place] or f"column {place + 1}" for place in best)
        raise InputError(
            f"{table} names images of the data in several columns, {titles}: leave one, or rename it to image"
        )
    return best[0] if len(best) == 1 else telling[0]


def data_row(above: Rows, image: int, wanted: str | None) -> int:
    """The row after the header, among those above the first image of the data: others are titles, or other images."""

    def is_header(row: list[str]) -> bool:
        titles = [title for place, title in enumerate(row) if place != image]
        return bool(row[image]) and any(says_group(title, wanted) for title in titles)

    return next((i + 1 for i, row in enumerate(above) if is_header(row)), len(above))


def says_group(title: str, wanted: str | None) -> bool:
    """Whether a column's title is the one that is wanted, or says that the column is of groups."""
    if wanted is None:
        return GROUP_HEADER.search(title) is not None
    return title.casefold() == wanted.strip().casefold()


def group_column(table: Path, header: list[str], image: int, wanted: str | None) -> int:
    """The column of that header, or the only one whose header says it is of groups."""
    others = [place for place, title in enumerate(header) if place != image and title]
    listed = ", ".join(header[place] for place in others) or "none"
    found = [place for place in others if says_group(header[place], wanted)]
    if len(found) != 1 and wanted is not None:
        raise InputError(
            f"{table} has {len(found)} columns named {wanted}, expected one of: {listed}"
        )
    if len(found) != 1:
        what = "no column that says it is" if not found else "more than one column that may be"
        raise InputError(
            f"{table} has {what} of patients or slides; name one of its columns by --group_column: {listed}"
        )
    return found[0]


def comma_separated(table: Path) -> Rows:
    """The rows of a CSV that have any filled cell, all of one length; separated by what its first line has most of."""
    try:
        text = files.open_csv(table).getvalue()
        first = next((line for line in text.splitlines() if line.strip()), "")
        separator = max(",;\t", key=first.count)
        return squared(list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table} cannot be read as CSV: {error}. Expected a CSV text file, or a spreadsheet .xlsx"
        ) from error


def spreadsheet(table: Path) -> dict[str, Rows]:
    """The rows of each sheet, as for CSV. Formulas are not computed: their last values count."""
    import openpyxl  # Here alone: only spreadsheets need it.

    try:
        with warnings.catch_warnings(), table.open("rb") as file:
            warnings.simplefilter("ignore")  # On what it leaves out: styles, validation, pictures.
            book = openpyxl.load_workbook(io.BytesIO(file.read()), data_only=True)
            return {sheet.title: squared(cells_of(sheet)) for sheet in book.worksheets}
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


def cells_of(sheet: Any) -> list[list[object]]:
    """The values of a sheet, those of a merged range down its first column."""
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    for merged in sheet.merged_cells.ranges:
        for row in range(merged.min_row, merged.max_row + 1):
            rows[row - 1][merged.min_col - 1] = sheet.cell(merged.min_row, merged.min_col).value
    return rows


def squared(rows: list[list[object]]) -> Rows:
    """Cells as text without blanks around them, rows filled up to one length, empty ones left out."""
    texts = [["" if cell is None else str(cell).strip() for cell in row] for row in rows]
    width = max(map(len, texts), default=0)
    return [row + [""] * (width - len(row)) for row in texts if any(row)]
