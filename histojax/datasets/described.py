"""Labelled slides that are known by their descriptors: no image file needs to be there.

Labels come from a table, see `tables`, or from class folders that hold files named as the slides
are. A labelled slide without descriptors (TRIDENT leaves empty ones out) is left out, and so is a
slide without a label; both are told. Where most of them do not fit, it is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from histojax.datasets import columns, dataset, lookup, tables
from histojax.datasets.dataset import Dataset
from histojax.datasets.lookup import SlideNames
from histojax.datasets.tables import LabelRow, LabelTable
from histojax.errors import InputError
from histojax.images.names import Images
from histojax.utils import files
from histojax.utils.words import quantity

_NAMED = 5  # Slides that a sentence names.


def load(
    source: Path,
    slides: Images,
    classes: tuple[str, ...] | None = None,
    require_all_classes: bool = True,
    group_column: str | None = None,
    with_groups: bool = True,
    site_columns: Sequence[str] | None = None,
) -> Dataset:
    """The slides that are labelled and have descriptors; arguments as for `datasets.load`.

    Args:
      source: a label table, or a folder of class folders.
      slides: the file of each slide's descriptors, by the slide's name.

    Raises:
      InputError: a name may mean several slides, or two rows the same one; fewer than half of the
        labels, or of the slides, whichever are fewer, fit; also as for `tables.read`.
    """
    known = SlideNames(slides)
    if source.is_dir():
        table = _read_folders(source, group_column)
    elif source.is_file():
        table = tables.read(
            source, group_column, with_groups, lambda cell: bool(known.find(cell)), site_columns
        )
    else:
        raise InputError(f"{source} is not there: expected a label table, or a folder of classes")
    row_of = _match(source, table.rows, known)
    notices = _unmatched(source, table.rows, row_of, slides)
    label_of = {slides[name]: row.label for name, row in row_of.items()}
    group_of = {slides[name]: row.group for name, row in row_of.items()}
    columns.require_one_spelling(str(source), group_of.values())
    place = {row.image: i for i, row in enumerate(table.rows)}
    return dataset.build(
        label_of,
        classes,
        group_of if table.grouped else None,
        require_all_classes,
        notices=(*table.notices, *notices),
        known={name: slides[name] for name in row_of},
        sites={
            title: {slides[name]: of[place[row.image]] for name, row in row_of.items()}
            for title, of in table.sites.items()
        },
    )


def _read_folders(root: Path, group_column: str | None) -> LabelTable:
    """What class folders say: the names of the files in and below them."""
    if group_column and group_column.strip().casefold() != columns.NO_GROUPS:
        raise InputError(
            f"--group_column={group_column}: folders do not say whose slides are whose where "
            "descriptors were imported; pass a label table with that column"
        )
    rows = [
        LabelRow(path.relative_to(folder).as_posix(), folder.name)
        for folder in files.list_folder(root)[0]
        for path in sorted(files.files_below(folder))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not rows:
        raise InputError(f"{root} holds no class folders with files: expected a label table")
    return LabelTable(tuple(rows), False, ())


def _match(source: Path, rows: Sequence[LabelRow], known: SlideNames) -> dict[str, LabelRow]:
    """The row of each slide that has one, in the order of the rows."""
    row_of: dict[str, LabelRow] = {}
    for row in rows:
        found = known.find(row.image)
        if len(found) > 1:
            raise InputError(
                f"{source} names {row.image}, which may be {' or '.join(found[:_NAMED])}: write it "
                "in full"
            )
        for name in found:
            if name in row_of:
                raise InputError(
                    f"{source} names the slide {name} twice, as {row_of[name].image} and "
                    f"{row.image}: leave one row"
                )
            row_of[name] = row
    return row_of


def _unmatched(
    source: Path, rows: Sequence[LabelRow], row_of: Mapping[str, LabelRow], slides: Images
) -> list[str]:
    """Notices on names in part, labels without descriptors, and descriptors without label.

    Raises:
      InputError: these are most.
    """
    matched = {row.image for row in row_of.values()}
    without = [row.image for row in rows if row.image not in matched]
    unlabelled = [name for name in slides if name not in row_of]
    if 2 * len(row_of) < min(len(rows), len(slides)) or not row_of:
        shared = f"only {len(row_of)}" if row_of else "none"
        raise InputError(
            f"{source} labels {len(rows)} slides, and {len(slides)} have descriptors, but they "
            f"share {shared} (labelled: {_some(without)}; described: "
            f"{_some(unlabelled)}): expected the names of the feature files, with or without "
            "ending or folder"
        )
    notices = []
    if started := [
        f"{row.image} for {name}"
        for name, row in row_of.items()
        if lookup.is_start(row.image, name)
    ]:
        notices.append(
            f"{quantity(len(started), 'slide')} found by what is before the first dot of "
            f"their names: {_some(started)}"
        )
    if without:
        notices.append(
            f"left out, since they lack descriptors: {len(without)} of {len(rows)} labelled "
            f"slides, {_some(without)}"
        )
    if unlabelled:
        notices.append(
            f"left out, since {source.name} does not label them: {len(unlabelled)} of "
            f"{len(slides)} slides with descriptors, {_some(unlabelled)}"
        )
    return notices


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
