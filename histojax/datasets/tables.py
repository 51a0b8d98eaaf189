"""A label table: CSV with a header `image,label[,group]`, or BACH's two columns without one."""

import collections
import csv
import os
from pathlib import Path

from histojax.datasets import dataset, groups
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files


def read_rows(table: Path) -> list[dict[str, str]]:
    """The rows as {"image", "label", "group"?}; other columns are left out. A group is empty where it is unknown.

    Raises:
      InputError: no rows, no such columns, no image or no label in a row, or an image named twice.
    """
    try:
        cells = [[cell.strip() for cell in row] for row in csv.reader(files.open_csv(table))]
        lines = [row for row in cells if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} is no CSV text file: {error}") from error
    header = ["image", "label"]
    if lines and {"image", "label"} <= set(lines[0]):
        header = lines.pop(0)
    elif lines and (len(lines[0]) != 2 or not reader.is_image_name(Path(lines[0][0]))):
        raise InputError(
            f"{table} starts with {','.join(lines[0])}: expected the header image,label or image,label,group"
        )
    rows = []
    for number, line in enumerate(lines, start=1):
        if len(line) > len(header):
            raise InputError(
                f"{table}, row {number}: {len(line)} cells under {len(header)} columns in {','.join(line)!r}; "
                "quote cells that contain commas"
            )
        row = dict(zip(header, line, strict=False))
        row = {name: row.get(name, "") for name in ("image", "label", "group") if name in header}
        if "group" in row:
            row["group"] = groups.group_name(row["group"])
        if empty := [name for name in ("image", "label") if not row[name]]:
            raise InputError(
                f"{table}, row {number}: no {' and no '.join(empty)} in {','.join(line)!r}"
            )
        rows.append(row)
    if not rows:
        raise InputError(f"{table} has no rows: expected image,label[,group]")
    counts = collections.Counter(row["image"] for row in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{table} names images more than once: {', '.join(twice[:20])}")
    return rows


def without_dots(path: Path) -> Path:
    """A path without `..`. By its parts: a URI as text would lose one of its slashes."""
    return type(path)(os.path.normpath(os.path.join("", *path.parts)))  # noqa: PTH118


def load(
    table: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The images a table names, relative to its folder, or anywhere below it where the file name is found just once.

    Raises:
      InputError: an image that is missing or found twice, and as for `read_rows` and `dataset.build`.
    """
    rows = read_rows(table)
    below = collections.defaultdict(list)
    for path in dataset.list_images_below(table.parent):
        below[path.name].append(path)
    labelled, group_of, missing = {}, {}, []
    for row in rows:
        direct = without_dots(table.parent / row["image"])
        found = (
            [direct] if direct in below[direct.name] or direct.is_file() else below[row["image"]]
        )
        if len(found) != 1:
            missing.append(
                f"{row['image']} ({'not found' if not found else ', '.join(map(str, found))})"
            )
            continue
        if found[0] in labelled:
            raise InputError(
                f"{table} names {found[0]} more than once, the second time as {row['image']}"
            )
        labelled[found[0]] = row["label"]
        group_of[found[0]] = row.get("group", "")
    if missing:
        lists = "\n".join(f"  {item}" for item in missing[:20])
        raise InputError(
            f"{table} names {len(missing)} images that are not to be found, or not just once, in or below "
            f"{table.parent}:\n{lists}"
        )
    return dataset.build(
        labelled, classes, group_of if "group" in rows[0] else None, require_all_classes
    )
