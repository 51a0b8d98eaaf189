"""Labelled images from a label table, `image,label[,group]`: CSV or an Excel workbook.

Columns are recognised by the headings in `columns`; rows above the headings are titles. BACH's
ground truth, image and label without a header, is read too.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from histojax.datasets import columns, dataset, groups, lookup, sheets, sites
from histojax.datasets.dataset import Dataset
from histojax.datasets.sheets import Rows
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils.words import quantity

_TITLE_ROWS = 10  # Above the headings, at most.
_OF_FEATURES = (
    "Where there are features of them in place of images, import these first, into the same --run: "
    "histojax import_descriptors"
)


class LabelRow(NamedTuple):
    """A row of a label table: an image as it is named there, its class, and its group if known."""

    image: str
    label: str
    group: str = ""


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What a label table says.

    Attributes:
      rows: at least one; of different images.
      grouped: whether there is a column of groups.
      notices: sentences on how the table was read.
      sites: the site of each row, empty where unknown, by column.
    """

    rows: tuple[LabelRow, ...]
    grouped: bool
    notices: tuple[str, ...]
    sites: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def read(
    table: Path,
    group_column: str | None = None,
    with_groups: bool = True,
    is_slide: columns.IsSlide | None = None,
    site_columns: Sequence[str] | None = None,
) -> LabelTable:
    """Reads a label table.

    Args:
      table: CSV or a workbook.
      group_column: the heading of the group column, `none` for none, None to look for it.
      with_groups: whether groups are wanted; if not, there are none, whatever the table has.
      is_slide: where rows are slides that are known by name; None for image files.
      site_columns: the headings of columns that tell the site, `none` for none, None to look for
        them.

    Raises:
      InputError: no rows, no such columns or several that may be meant, a row without image or
        label, or an image named twice.
    """
    content = sheets.read(table)
    header, body, notices = _header_and_body(table, content.rows, is_slide)
    group_column = group_column if with_groups else columns.NO_GROUPS
    found = columns.find(header, body, group_column, str(table), is_slide)
    rows = [_row(table, number, cells, header, found) for number, cells in enumerate(body, start=1)]
    if not rows:
        raise InputError(f"{table} has no rows: expected image,label[,group]")
    counts = collections.Counter(row.image for row in rows)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{table} names images more than once: {', '.join(repeated[:20])}")
    grouped = found.group is not None and any(row.group for row in rows)
    of_sites, site_notices = _sites(table, header, body, found, site_columns)
    unused = [i for i in found.others if header[i] not in of_sites]
    notices = [
        *content.notices,
        *notices,
        *_column_notices(table, header, found, with_groups, unused),
    ]
    notices += site_notices
    if found.group is not None and not grouped:
        notices.append(f"column {header[found.group]} says of no image which group it is of")
    if grouped:
        title, of_rows = header[found.group], [row.group for row in rows]
        noun = columns.group_noun(title)
        notices.append(columns.group_notice(f"column {title}", noun, of_rows))
    return LabelTable(tuple(rows), grouped, tuple(notices), of_sites)


def _sites(
    table: Path, header: list[str], body: Rows, found: columns.Columns, wanted: Sequence[str] | None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The site of each row by column, and notices."""
    among = found.others
    if wanted is not None:
        among = [
            i for i, title in enumerate(header) if title and i not in (found.image, found.label)
        ]
    values, notices = {}, []
    for i in sites.find(header, among, wanted, str(table)):
        cells = [groups.group_name(row[i] if i < len(row) else "") for row in body]
        column = sites.read(
            header[i], cells, f"column {header[i]} of {table.name}", wanted is not None
        )
        values[header[i]] = column.values
        notices += column.notices
    return values, notices


def load(
    table: Path,
    classes: tuple[str, ...] | None = None,
    require_all_classes: bool = True,
    group_column: str | None = None,
    with_groups: bool = True,
    site_columns: Sequence[str] | None = None,
) -> Dataset:
    """The images that a table names, see `lookup`; other arguments as for `datasets.load`.

    Raises:
      InputError: an image is missing or found twice; also as for `read` and `dataset.build`.
    """
    read_table = read(table, group_column, with_groups, site_columns=site_columns)
    rows, folder = read_table.rows, table.parent
    found = lookup.find_files([row.image for row in rows], folder)
    if found.problems:
        lines = "\n".join(f"  {problem}" for problem in found.problems[:20])
        advice = "" if any(found.paths) else f"\n{_OF_FEATURES}"
        raise InputError(
            f"{table} names {len(found.problems)} images that are not found, or not just once, in "
            f"or below {folder}:\n{lines}{advice}"
        )
    labels, group_of = {}, {}
    for row, path in zip(rows, found.paths, strict=True):
        if path in labels:
            raise InputError(f"{table} names {path} more than once, the second time as {row.image}")
        labels[path], group_of[path] = row.label, row.group
    columns.require_one_spelling(str(table), group_of.values())
    return dataset.build(
        labels,
        classes,
        group_of if read_table.grouped else None,
        require_all_classes,
        folder,
        (*read_table.notices, *found.notices, *_unnamed_notice(table, labels)),
        sites={
            title: dict(zip(found.paths, of, strict=True)) for title, of in read_table.sites.items()
        },
    )


def _unnamed_notice(table: Path, named: Iterable[Path]) -> tuple[str, ...]:
    """A notice of images beside the named ones that the table does not name."""
    if not (unnamed := dataset.images_beside(named)):
        return ()
    number = quantity(len(unnamed), "image")
    return (f"left out, since {table.name} does not name them: {number}, such as {unnamed[0]}",)


def _header_and_body(
    table: Path, content: dict[str, Rows], is_slide: columns.IsSlide | None
) -> tuple[list[str], Rows, tuple[str, ...]]:
    """The headings, the rows below, and notices, of the only sheet with images and labels."""
    fitting, questions = {}, []
    for title, rows in content.items():
        where = f"{table}, sheet {title}" if title else str(table)
        try:
            if found := _find_header(rows, where, is_slide):
                fitting[title] = found
        except InputError as error:  # Of a legend, perhaps, beside the sheet that is meant.
            questions.append(error)
    if questions and not fitting:
        raise questions[0]
    if len(fitting) > 1:
        raise InputError(
            f"{table} has images and labels in several sheets, {', '.join(fitting)}: save the one "
            "you mean as CSV"
        )
    if not fitting:
        rows = next((rows for rows in content.values() if rows), None)
        if rows is None:
            raise InputError(f"{table} has no rows: expected image,label[,group]")
        of_slides = is_slide is None and any("slide" in cell.lower() for cell in rows[0])
        advice = f". {_OF_FEATURES}" if of_slides else ""
        raise InputError(
            f"{table} starts with {', '.join(rows[0])}: expected a header with a column of images "
            f"({'slide_id' if is_slide else 'image, file, filename'}, path) and one of labels "
            f"(label, class, diagnosis), such as image,label or image,label,group{advice}"
        )
    title, (above, header, body) = next(iter(fitting.items()))
    notices = [f"sheet {title} is read, which has images and labels"] if len(content) > 1 else []
    if above:
        notices.append(f"left out above the headings: {quantity(above, 'row')}")
    return header, body, tuple(notices)


def _find_header(
    rows: Rows, where: str, is_slide: columns.IsSlide | None
) -> tuple[int, list[str], Rows] | None:
    """The number of rows above the headings, the headings, and the rows below; None without any."""
    for i, header in enumerate(rows[:_TITLE_ROWS]):
        if columns.find(header, rows[i + 1 :], columns.NO_GROUPS, where, is_slide):
            return i, header, rows[i + 1 :]
    if rows and len(rows[0]) == 2 and reader.is_image_name(Path(rows[0][0])):
        return 0, ["image", "label"], rows
    return None


def _row(
    table: Path, number: int, cells: list[str], header: list[str], found: columns.Columns
) -> LabelRow:
    """The row of these cells; those beyond the last heading are left out if they are empty."""
    text = repr(",".join(cells))
    if any(cells[len(header) :]):
        raise InputError(
            f"{table}, row {number}: {len(cells)} cells under {len(header)} columns in {text}; "
            "quote cells that contain commas"
        )
    padded = [*cells, *[""] * (len(header) - len(cells))]
    row = LabelRow(
        image=padded[found.image],
        label=groups.whole_number(padded[found.label]),
        group="" if found.group is None else groups.group_name(padded[found.group]),
    )
    if empty := [name for name in ("image", "label") if not getattr(row, name)]:
        raise InputError(f"{table}, row {number}: no {' and no '.join(empty)} in {text}")
    return row


def _column_notices(
    table: Path, header: list[str], found: columns.Columns, with_groups: bool, unused: Sequence[int]
) -> list[str]:
    """Sentences on headings other than the expected ones, and on columns that are not used."""
    taken = {"image": header[found.image], "label": header[found.label]}
    notices = [
        f"column {title} holds the {'images' if name == 'image' else 'labels'}"
        for name, title in taken.items()
        if title != name
    ]
    if unused and with_groups:
        titles = ", ".join(header[i] for i in unused)
        verb = "s {} are" if len(unused) > 1 else " {} is"
        advice = (
            "; to keep images of one value together, as of one patient, pass --group_column=NAME"
        )
        notices.append(
            f"column{verb.format(titles)} not used, in {table.name}"
            + (advice if found.group is None else "")
        )
    return notices
