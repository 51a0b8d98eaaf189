"""The images at a place, however untidy it is: in class folders, in a table, or in no order; and what is amiss there.

class folders, BACH, a label table or a flat folder -> DiscoveredImages. The loader for training, `datasets.load`, is strict.
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax import datasets
from histojax.datasets import bach, dataset, tables, unlabelled
from histojax.errors import InputError
from histojax.images import reader
from histojax.inspection import checks
from histojax.inspection.checks import NOTE, PROBLEM, Finding
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class DiscoveredImages:
    """The images at a place, however untidy it is.

    Attributes:
      root: the folder that names are relative to.
      paths: the image files, by class and name.
      labels: class name of each; empty where it has none.
      groups: patient or slide of each, empty where unknown; None where groups are not known at all.
      found: what is wrong with the folder itself.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    findings: tuple[Finding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The images' paths as text, relative to the root where they lie below it."""
        return tuple(
            "/".join(path.relative_to(self.root).parts)
            if path.is_relative_to(self.root)
            else str(path)
            for path in self.paths
        )


def discover(place: Path, classes: tuple[str, ...] | None = None) -> DiscoveredImages:
    """The images at a place with what labels there are, and what the strict loader would say."""
    if place.is_file():
        listing = of_table(place)
    elif place.is_dir():
        listing = of_folder(bach.find_photos(place) or place)
    else:
        raise InputError(f"{place} is not there: expected a folder of images, or a label table")
    order = (*class_names(listing.labels, classes), "")
    places = sorted(
        range(len(listing.paths)),
        key=lambda i: (order.index(listing.labels[i]), str(listing.paths[i])),
    )
    return DiscoveredImages(
        listing.root,
        tuple(listing.paths[i] for i in places),
        tuple(listing.labels[i] for i in places),
        listing.groups and tuple(listing.groups[i] for i in places),
        (
            *refusal(place, classes, any(listing.labels)),
            *listing.findings,
            *other_files(listing.root),
        ),
    )


def class_names(labels: Sequence[str], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes that are there, in their order."""
    there = set(labels) - {""}
    order = classes or dataset.class_order(there)
    return (*(name for name in order if name in there), *sorted(there - set(order)))


def of_folder(root: Path) -> DiscoveredImages:
    """Class folders where some folder directly below holds images; else the images directly in the folder."""
    parts = {path: path.relative_to(root).parts for path in dataset.list_images_below(root)}
    parts = {
        path: names
        for path, names in parts.items()
        if not any(name.startswith(".") for name in names)
    }
    depth = 2 if any(len(names) == 2 for names in parts.values()) else 1
    chosen = {
        path: names[0] if depth == 2 else "" for path, names in parts.items() if len(names) == depth
    }
    found = []
    if stray := sorted("/".join(names) for path, names in parts.items() if path not in chosen):
        where = "directly in a class folder" if depth == 2 else "directly in the folder"
        says = f"{checks.quantity(len(stray))} not {where}: training does not see them."
        found.append(Finding(PROBLEM, "elsewhere", says, tuple(stray)))
    return DiscoveredImages(
        root,
        tuple(chosen),
        tuple(chosen.values()),
        None,
        (*found, *tables_beside(root, list(chosen))),
    )


def of_table(table: Path) -> DiscoveredImages:
    """The images that a label table names and that are there.

    Raises:
      InputError: it is no label table.
    """
    rows, by_name = tables.read_rows(table), collections.defaultdict(list)
    for path in dataset.list_images_below(table.parent):
        by_name[path.name].append(path)
    chosen = {}
    for row in rows:
        direct = table.parent / row["image"]
        there = [direct] if direct.is_file() else by_name[row["image"]]
        if len(there) == 1:
            chosen[there[0]] = row
    unnamed = sorted({path for each in by_name.values() for path in each} - set(chosen))
    says = f"{checks.quantity(len(unnamed))} below {table.parent} that the table does not name."
    found = (Finding(NOTE, "elsewhere", says, tuple(map(str, unnamed))),) if unnamed else ()
    labels = tuple(row["label"] for row in chosen.values())
    of_group = (
        tuple(row.get("group", "") for row in chosen.values()) if "group" in rows[0] else None
    )
    return DiscoveredImages(table.parent, tuple(chosen), labels, of_group, found)


def refusal(place: Path, classes: tuple[str, ...] | None, labelled: bool) -> list[Finding]:
    """What training, or prediction, would refuse the place for."""
    try:
        datasets.load(place, classes) if labelled else unlabelled.find_images([place])
    except InputError as error:
        first, *more = str(error).split("\n")
        what = "Training" if labelled else "Prediction"
        return [
            Finding(
                PROBLEM,
                "refused",
                f"{what} refuses this folder: {first}",
                tuple(map(str.strip, more)),
            )
        ]
    return []


def tables_beside(root: Path, paths: list[Path]) -> list[Finding]:
    """Label tables in a folder that is read by its class folders: they may know the patients."""
    found, names = [], {path.name for path in paths}
    for path in files.list_folder(root)[1]:
        if path.suffix.lower() != ".csv" or path.name == bach.GROUND_TRUTH:
            continue
        try:
            rows = tables.read_rows(path)
        except InputError:
            continue
        named = sum(Path(row["image"]).name in names for row in rows)
        if named:
            what = "groups (patients or slides)" if "group" in rows[0] else "labels"
            says = f"{path.name} has {what} of {named} of the images: pass {path} in place of the folder."
            found.append(Finding(NOTE, "table", says))
    return found


def other_files(root: Path) -> list[Finding]:
    """Files that are not read, by ending; hidden ones and tables are not counted."""
    if not files.is_local(root):
        return []
    there = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    endings = collections.Counter(
        path.suffix.lower() or "no ending"
        for path in there
        if not reader.is_image_name(path) and path.suffix.lower() not in (".csv", ".xlsx")
    )
    if not endings:
        return []
    counts = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(8))
    return [
        Finding(
            NOTE,
            "other files",
            f"{checks.quantity(endings.total(), 'file')} not read as images: {counts}.",
        )
    ]
