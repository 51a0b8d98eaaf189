"""Labelled images from a label table: CSV with a header `image,label[,group]`.

BACH's ground truth, image and label without a header, is read too.
"""

import collections
import os
from pathlib import Path

from histojax.datasets import dataset, groups
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files

_COLUMNS = ("image", "label", "group")


def read_rows(table: Path) -> list[dict[str, str]]:
    """The rows as {"image", "label"[, "group"]}, other columns left out; unknown groups are empty.

    Raises:
      InputError: no rows, no such columns, a row without image or label, or an image named twice.
    """
    lines = files.read_cells(table)
    header = ["image", "label"]
    if lines and {"image", "label"} <= set(lines[0]):
        header = lines.pop(0)
    elif lines and (len(lines[0]) != 2 or not reader.is_image_name(Path(lines[0][0]))):
        raise InputError(
            f"{table} starts with {','.join(lines[0])}: expected the header image,label or "
            "image,label,group"
        )
    rows = []
    for number, cells in enumerate(lines, start=1):
        text = repr(",".join(cells))
        if len(cells) > len(header):
            raise InputError(
                f"{table}, row {number}: {len(cells)} cells under {len(header)} columns in {text}; "
                "quote cells that contain commas"
            )
        by_column = dict(zip(header, cells, strict=False))
        row = {name: by_column.get(name, "") for name in _COLUMNS if name in header}
        if "group" in row:
            row["group"] = groups.group_name(row["group"])
        if empty := [name for name in ("image", "label") if not row[name]]:
            raise InputError(f"{table}, row {number}: no {' and no '.join(empty)} in {text}")
        rows.append(row)
    if not rows:
        raise InputError(f"{table} has no rows: expected image,label[,group]")
    counts = collections.Counter(row["image"] for row in rows)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{table} names images more than once: {', '.join(repeated[:20])}")
    return rows


def load(
    table: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The images that a table names.

    A name is a path relative to the table's folder, or a file name that is found exactly once in or
    below that folder.

    Raises:
      InputError: an image is missing or found twice; also as for `read_rows` and `dataset.build`.
    """
    rows = read_rows(table)
    by_name = collections.defaultdict(list)
    for path in dataset.list_images_below(table.parent):
        by_name[path.name].append(path)
    labels, group_of, missing = {}, {}, []
    for row in rows:
        name = row["image"]
        direct = _normalized(table.parent / name)
        exists = direct in by_name[direct.name] or direct.is_file()
        paths = [direct] if exists else by_name[name]
        if len(paths) != 1:
            missing.append(f"{name} ({', '.join(map(str, paths)) or 'not found'})")
            continue
        path = paths[0]
        if path in labels:
            raise InputError(f"{table} names {path} more than once, the second time as {name}")
        labels[path] = row["label"]
        group_of[path] = row.get("group", "")
    if missing:
        lines = "\n".join(f"  {item}" for item in missing[:20])
        raise InputError(
            f"{table} names {len(missing)} images that are not found, or not just once, in or "
            f"below {table.parent}:\n{lines}"
        )
    known_groups = group_of if "group" in rows[0] else None
    return dataset.build(labels, classes, known_groups, require_all_classes, table.parent)


def _normalized(path: Path) -> Path:
    """A path without `..`; put together from its parts, since text would lose a slash of a URI."""
    return type(path)(os.path.normpath(os.path.join("", *path.parts)))  # noqa: PTH118
