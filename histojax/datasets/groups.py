"""The patient or slide of each image, from a table made by others: CSV, or a spreadsheet (.xlsx).

Columns are recognised by their content. The image column holds image names of the data set, in any
case, with or without folder and ending. The group column is named by the caller, or is the only one
whose header says patient, slide or the like. Where several columns would do, nothing is guessed.
"""

import collections
import dataclasses
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from absl import logging

from histojax.datasets import columns, lookup, sheets
from histojax.datasets.dataset import Dataset
from histojax.datasets.sheets import Rows
from histojax.errors import InputError
from histojax.utils import files

# `id` counts only as a word of its own.
_GROUP_HEADER = re.compile(
    r"patient|slide|case|group|subject|donor|participant|specimen|(?<![a-z])id(?![a-z])",
    re.IGNORECASE,
)
_IMAGE_HEADER = re.compile(r"image|file|name|histolog|photo", re.IGNORECASE)
_UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "#n/a", "nan", "none", "null", "unknown"})


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
    return with_groups(dataset, groups, f"column {groups.column} of {table.name}")


def with_groups(dataset: Dataset, table: GroupTable, source: str) -> Dataset:
    """A data set with the groups of a table, and a notice on them that names the source."""
    in_order = tuple(table.group_of.get(name, "") for name in dataset.names)
    notice = columns.group_notice(source, columns.group_noun(table.column), in_order)
    return dataclasses.replace(dataset, groups=in_order, notices=(*dataset.notices, notice))


def find_beside(
    folder: Path, names: tuple[str, ...], column: str | None = None
) -> tuple[dict[Path, GroupTable], tuple[str, ...]]:
    """The tables directly in a folder that know groups of the named images, and notices.

    Only headings that `columns` knows are taken for groups here, since nobody asked for the table.

    Raises:
      InputError: a table has several columns that may be groups, or none called `column`.
    """
    found, notices, images = {}, [], name_lookup(names)
    for path in files.list_folder(folder)[1]:
        if path.suffix.lower() not in sheets.SUFFIXES or path.name.startswith((".", "~$")):
            continue
        try:
            rows = rows_with_images(path, images, names)
            image_column = find_image_column(path, rows, images)
        except InputError:
            continue  # It is about something else, or no table.
        first = next(i for i, row in enumerate(rows) if find_name(row[image_column], images))
        # A title above the headings has one cell.
        headings = (row for row in rows[:first] if row[image_column] and sum(map(bool, row)) > 1)
        header = next(headings, [""] * len(rows[0]))
        others = [i for i, title in enumerate(header) if title and i != image_column]
        if column and not columns.is_named(header, column):
            continue
        group = columns.find_group(header, others, column, str(path))
        if group is not None:
            table = read(path, names, header[group])
            found |= {path: table} if table.group_of else {}
        else:
            titles = ", ".join(header[i] for i in others) or "none"
            notices.append(
                f"{path.name} names images of the data, but says by no heading which are of one "
                f"patient ({titles}): --groups={path} --group_column=NAME takes one of its columns"
            )
    return found, tuple(notices)


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
    images = name_lookup(names)
    rows = rows_with_images(table, images, names)
    image_column = find_image_column(table, rows, images)
    first = next(i for i, row in enumerate(rows) if find_name(row[image_column], images))
    start = _first_data_row(rows[:first], image_column, column)
    header = rows[start - 1] if start else [f"column {i + 1}" for i in range(len(rows[0]))]
    group_column = _find_group_column(table, header, image_column, column)
    groups, unmatched = collections.defaultdict(set), []
    for row in rows[start:]:
        name = find_name(row[image_column], images)
        group = group_name(row[group_column])
        if name and group:
            groups[name].add(group)
        elif not name and row[image_column]:
            _refuse_namesakes(table, row[image_column], images)
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
    columns.require_one_spelling(str(table), (next(iter(several)) for several in groups.values()))
    return GroupTable(
        {name: group.pop() for name, group in groups.items()}, title, tuple(unmatched)
    )


def _refuse_namesakes(table: Path, cell: str, images: dict[str, str]) -> None:
    """Raises InputError where a cell may mean several images, in different folders."""
    if several := _namesakes(cell, images):
        raise InputError(
            f"{table} names {cell}, which may be {' or '.join(several[:5])}: write the folder "
            "before the name"
        )


def group_name(cell: str) -> str:
    """The group in a cell: stripped, whole numbers without decimals, empty where unknown."""
    text = whole_number(cell)
    return "" if text.casefold() in _UNKNOWN else text


def whole_number(cell: str) -> str:
    """A cell, stripped; a whole number, which spreadsheets may save as 12.0, without decimals."""
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", cell.strip())


def name_lookup(names: tuple[str, ...]) -> dict[str, str]:
    """Image names by their spellings: as they are, and in lower case where that is unambiguous."""
    lower = collections.Counter(name.casefold() for name in names)
    lookup = {name.casefold(): name for name in names if lower[name.casefold()] == 1}
    return lookup | {name: name for name in names}


def find_name(cell: str, images: dict[str, str]) -> str | None:
    """The image that a cell names, with or without folder and ending; None if it names none."""
    parts = [*PureWindowsPath(cell.strip()).parts]
    for first in range(len(parts)):
        path = PurePosixPath(*parts[first:])
        has_ending = path.suffix.lower() in lookup.SLIDE_ENDINGS
        for spelling in (path, path.with_suffix("") if has_ending else path):
            key = str(spelling).strip()
            if name := images.get(key) or images.get(key.casefold()):
                return name
    return None


def _namesakes(cell: str, images: dict[str, str]) -> list[str]:
    """The images that a cell may mean which names none, since they share a file name."""
    stem = PureWindowsPath(cell.strip()).stem.casefold()
    shared = (name for name in images.values() if "/" in name)
    return sorted({name for name in shared if PurePosixPath(name).stem.casefold() == stem})


def rows_with_images(table: Path, images: dict[str, str], names: tuple[str, ...]) -> Rows:
    """The rows of the only sheet that names images of the data."""
    fitting = {
        title: _rectangular(rows)
        for title, rows in sheets.read(table).rows.items()
        if any(find_name(cell, images) for row in rows for cell in row)
    }
    if not fitting:
        raise InputError(
            f"{table} names no image of the data, such as {names[0]}: expected a column of file "
            "names beside one of groups"
        )
    if len(fitting) > 1:
        raise InputError(
            f"{table} names images in several sheets, {', '.join(fitting)}: save the one you mean "
            "as CSV"
        )
    return next(iter(fitting.values()))


def find_image_column(table: Path, rows: Rows, images: dict[str, str]) -> int:
    """The column that names most images; between equals, the only one with a telling header."""
    counts = [
        len({find_name(row[i], images) for row in rows} - {None}) for i in range(len(rows[0]))
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


def _first_data_row(above: Rows, image_column: int, wanted: str | None) -> int:
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


def _rectangular(rows: Rows) -> Rows:
    """Rows filled up to one length."""
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows]
