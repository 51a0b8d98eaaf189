"""The site of each image from tables made by others: beside class folders, or with the groups."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax.datasets import groups, sheets, sites
from histojax.datasets.dataset import Dataset
from histojax.datasets.sites import Sites
from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.words import quantity

_REASONS = 5  # Why tables are not taken, in one message.


def read(
    table: str | Path, names: tuple[str, ...], wanted: Sequence[str] | None = None
) -> tuple[Sites, tuple[str, ...]]:
    """The sites of the named images, empty where unknown, by column, and notices.

    Args:
      table: .csv or .xlsx, as `groups.read` takes it.
      names: of images, without ending.
      wanted: headings, `none` for none, None to look for them.

    Raises:
      InputError: the table cannot be read or names no image of the data; or no column, or several,
        are called as wanted.
    """
    table = files.as_path(table)
    images = groups.name_lookup(names)
    rows = groups.rows_with_images(table, images, names)
    image_column = groups.find_image_column(table, rows, images)
    first = next(i for i, row in enumerate(rows) if groups.find_name(row[image_column], images))
    # A title above the headings has one cell.
    headings = (row for row in rows[:first] if row[image_column] and sum(map(bool, row)) > 1)
    header = next(headings, [""] * len(rows[0]))
    among = [i for i, title in enumerate(header) if title and i != image_column]
    found, notices = {}, []
    for i in sites.find(header, among, wanted, str(table)):
        of = collections.defaultdict(set)
        for row in rows[first:]:
            if name := groups.find_name(row[image_column], images):
                of[name] |= {groups.group_name(row[i])} - {""}
        several = [name for name, values in of.items() if len(values) > 1]
        if several:
            notices.append(
                f"{table.name} gives {quantity(len(several))} more than one {header[i]}, such as "
                f"{several[0]}: that is taken for unknown"
            )
        cells = [next(iter(of[name])) if len(of[name]) == 1 else "" for name in names]
        column = sites.read(
            header[i], cells, f"column {header[i]} of {table.name}", wanted is not None
        )
        found[header[i]] = column.values
        notices += column.notices
    return found, tuple(notices)


def add_sites(dataset: Dataset, table: str | Path, wanted: Sequence[str] | None = None) -> Dataset:
    """A data set with the sites of a table beside those it has, or those that are wanted alone.

    Raises:
      InputError: as for `read`.
    """
    if sites.is_none(wanted):
        return dataclasses.replace(dataset, sites={})
    found, notices = read(table, dataset.names, wanted)
    before = dataset.sites if wanted is None else {}
    return dataclasses.replace(
        dataset, sites={**before, **found}, notices=(*dataset.notices, *notices)
    )


def beside(
    folder: Path, names: tuple[str, ...], wanted: Sequence[str] | None = None
) -> tuple[Sites, tuple[str, ...]]:
    """The sites that tables directly in a folder tell of the named images, and notices.

    Raises:
      InputError: what is wanted is in none of them, or in several.
    """
    found, notices, refused = collections.defaultdict(list), [], []
    for path in files.list_folder(folder)[1]:
        if path.suffix.lower() not in sheets.SUFFIXES or path.name.startswith((".", "~$")):
            continue
        for title in wanted or (None,):
            try:
                of, told = read(path, names, title and (title,))
            except InputError as error:
                refused.append(str(error))  # It is about something else, or no table.
                continue
            notices += told
            for column, values in of.items():
                found[column].append((path.name, values))
    several = {title: [name for name, _ in of] for title, of in found.items() if len(of) > 1}
    missing = len(wanted or ()) - len(found)
    if wanted is not None and (several or missing > 0):
        raise InputError(
            f"--site_columns={','.join(wanted)}: expected each in just one table beside the class "
            f"folders of {folder}, or the number of a level of folders below these"
            + "".join(f"; {reason}" for reason in dict.fromkeys(refused[:_REASONS]))
        )
    for title, tables in several.items():
        notices.append(f"{' and '.join(tables)} both have a column {title}, which is not used")
    return {title: of[0][1] for title, of in found.items() if len(of) == 1}, tuple(notices)
