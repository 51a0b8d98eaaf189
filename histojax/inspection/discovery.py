"""The images at a place, however untidy it is, and what is wrong with the place.

Class folders, BACH, a label table, or a folder of unlabelled images -> DiscoveredImages. The loader
for training, `datasets.load`, is strict; this one is not.
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax import datasets
from histojax.datasets import bach, dataset, tables, unlabelled
from histojax.errors import InputError
from histojax.images import reader, suffixes, whole_slide
from histojax.inspection.findings import NOTE, PROBLEM, Finding, quantity
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class DiscoveredImages:
    """The images at a place.

    Attributes:
      root: the folder that names are relative to.
      paths: the image files, by class and name.
      labels: class name of each; empty where it has none.
      groups: patient or slide of each, empty where unknown; None where no group is known.
      findings: what is wrong with the folder itself.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    findings: tuple[Finding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The images' paths as text, relative to the root where they are below it."""
        return tuple(
            "/".join(path.relative_to(self.root).parts)
            if path.is_relative_to(self.root)
            else str(path)
            for path in self.paths
        )


def discover(place: Path, classes: tuple[str, ...] | None = None) -> DiscoveredImages:
    """Finds the images at a place, their labels, and what the strict loader would refuse.

    Raises:
      InputError: nothing is there, or a file that is no label table.
    """
    if place.is_file():
        discovered = _from_table(place)
    elif place.is_dir():
        discovered = _from_folder(bach.find_photos(place) or place)
    else:
        raise InputError(f"{place} is not there: expected a folder of images, or a label table")
    paths, labels, groups = discovered.paths, discovered.labels, discovered.groups
    rank = {name: i for i, name in enumerate((*class_names(labels, classes), ""))}
    order = sorted(range(len(paths)), key=lambda i: (rank[labels[i]], str(paths[i])))
    return DiscoveredImages(
        discovered.root,
        paths=tuple(paths[i] for i in order),
        labels=tuple(labels[i] for i in order),
        groups=groups and tuple(groups[i] for i in order),
        findings=(
            *_refusal(place, classes, any(labels)),
            *discovered.findings,
            *_other_files(discovered.root),
        ),
    )


def class_names(labels: Sequence[str], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes among the labels, in the order of `classes`, else in that of data sets."""
    present = set(labels) - {""}
    order = classes or dataset.class_order(present)
    return (*(name for name in order if name in present), *sorted(present - set(order)))


def _from_folder(root: Path) -> DiscoveredImages:
    """Images in class folders, where some folder in `root` holds images; else those in `root`."""
    parts = {path: path.relative_to(root).parts for path in dataset.list_images_below(root)}
    visible = {
        path: names
        for path, names in parts.items()
        if not any(name.startswith(".") for name in names)
    }
    depth = 2 if any(len(names) == 2 for names in visible.values()) else 1
    labels = {
        path: names[0] if depth == 2 else ""
        for path, names in visible.items()
        if len(names) == depth
    }
    findings = []
    if elsewhere := sorted("/".join(visible[path]) for path in visible if path not in labels):
        where = "a class folder" if depth == 2 else "the folder"
        message = f"{quantity(len(elsewhere))} not directly in {where}: training does not see them."
        findings.append(Finding(PROBLEM, "elsewhere", message, tuple(elsewhere)))
    findings += _tables_beside(root, list(labels))
    return DiscoveredImages(root, tuple(labels), tuple(labels.values()), None, tuple(findings))


def _from_table(table: Path) -> DiscoveredImages:
    """The images that a label table names and that are there.

    Raises:
      InputError: it is no label table.
    """
    rows, paths_by_name = tables.read_rows(table), collections.defaultdict(list)
    for path in dataset.list_images_below(table.parent):
        paths_by_name[path.name].append(path)
    row_of = {}
    for row in rows:
        direct = table.parent / row["image"]
        paths = [direct] if direct.is_file() else paths_by_name[row["image"]]
        if len(paths) == 1:
            row_of[paths[0]] = row
    findings = ()
    below = {path for paths in paths_by_name.values() for path in paths}
    if unnamed := sorted(below - set(row_of)):
        message = f"{quantity(len(unnamed))} below {table.parent} that the table does not name."
        findings = (Finding(NOTE, "elsewhere", message, tuple(map(str, unnamed))),)
    labels = tuple(row["label"] for row in row_of.values())
    groups = tuple(row["group"] for row in row_of.values()) if "group" in rows[0] else None
    return DiscoveredImages(table.parent, tuple(row_of), labels, groups, findings)


def _refusal(place: Path, classes: tuple[str, ...] | None, labelled: bool) -> list[Finding]:
    """Why training, or prediction where nothing is labelled, would refuse the place."""
    try:
        datasets.load(place, classes) if labelled else unlabelled.find_images([place])
    except InputError as error:
        reason, *details = str(error).split("\n")
        step = "Training" if labelled else "Prediction"
        message = f"{step} refuses this folder: {reason}"
        return [Finding(PROBLEM, "refused", message, tuple(map(str.strip, details)))]
    return []


def _tables_beside(root: Path, paths: list[Path]) -> list[Finding]:
    """Label tables in a folder that is read by its class folders: they may know the patients."""
    findings, image_names = [], {path.name for path in paths}
    for path in files.list_folder(root)[1]:
        if path.suffix.lower() != ".csv" or path.name == bach.GROUND_TRUTH:
            continue
        try:
            rows = tables.read_rows(path)
        except InputError:
            continue
        if count := sum(Path(row["image"]).name in image_names for row in rows):
            content = "groups (patients or slides)" if "group" in rows[0] else "labels"
            message = (
                f"{path.name} has {content} of {count} of the images: pass {path} in place of the "
                "folder."
            )
            findings.append(Finding(NOTE, "table", message))
    return findings


def _other_files(root: Path) -> list[Finding]:
    """Files that are not read: those that may be meant as images, and others by ending.

    Hidden files, tables, and files that belong to a slide are not counted.
    """
    if not files.is_local(root):
        return []
    others = [
        path
        for path in files.files_below(root)
        if not path.name.startswith(".")
        and not reader.is_image_name(path)
        and path.suffix.lower() not in (".csv", ".xlsx")
        and not whole_slide.belongs_to_slide(path)
    ]
    findings, not_read = [], suffixes.not_read(sorted(others))
    if not_read:
        message = f"{quantity(len(not_read), 'file')} that may be meant as images, but not read."
        details = tuple(
            f"{path.relative_to(root).as_posix()} {cause}" for path, cause in not_read.items()
        )
        findings.append(Finding(PROBLEM, "not read", message, details))
    endings = collections.Counter(
        path.suffix.lower() or "no ending" for path in others if path not in not_read
    )
    if endings:
        counts = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(8))
        message = f"{quantity(endings.total(), 'file')} not read as images: {counts}."
        findings.append(Finding(NOTE, "other files", message))
    return findings
