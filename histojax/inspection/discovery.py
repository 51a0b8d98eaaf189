"""The images at a place, however untidy it is, and what is wrong with the place.

Class folders, BACH, a label table, or a folder of unlabelled images -> DiscoveredImages. What the
loader for training, `datasets.load`, accepts is read by it. What it refuses is read as far as that
goes, and the reason is a finding.
"""

import dataclasses
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from histojax import datasets
from histojax.datasets import Dataset, bach, dataset, leakage, lookup, tables, unlabelled
from histojax.errors import InputError
from histojax.inspection.findings import NOTE, PROBLEM, Finding, sentence
from histojax.utils.words import quantity


@dataclasses.dataclass(frozen=True)
class DiscoveredImages:
    """The images at a place.

    Attributes:
      root: the folder that names are relative to.
      paths: the image files, by class and name.
      labels: class name of each; empty where it has none.
      groups: patient or slide of each, empty where unknown; None where no group is known.
      findings: what is wrong with the folder itself.
      sites: site, scanner, batch or period of each, empty where unknown, by column.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    findings: tuple[Finding, ...]
    sites: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The images' paths as text, relative to the root where they are below it."""
        return tuple(
            "/".join(path.relative_to(self.root).parts)
            if path.is_relative_to(self.root)
            else str(path)
            for path in self.paths
        )


def discover(
    place: Path,
    classes: tuple[str, ...] | None = None,
    group_column: str | None = None,
    with_groups: bool = True,
    site_columns: Sequence[str] | None = None,
) -> DiscoveredImages:
    """Finds the images at a place, their labels and groups, and why the loader refuses them.

    Arguments are those of `datasets.load`.

    Raises:
      InputError: nothing is there, or a file that is no label table.
    """
    if not place.exists():
        raise InputError(f"{place} is not there: expected a folder of images, or a label table")
    is_table = place.is_file()
    root = place.parent if is_table else bach.find_photos(place) or place
    labels, groups = (
        _labels_in_table(place, group_column, with_groups)
        if is_table
        else (_labels_below(root), {})
    )
    step, findings, sites = "Prediction", [], {}
    try:
        if any(labels.values()):
            step = "Training"
            loaded = datasets.load(
                place, classes, True, group_column, with_groups, site_columns=site_columns
            )
            names = (loaded.classes[k] for k in loaded.labels)
            labels = dict(zip(loaded.paths, names, strict=True))
            groups = dict(zip(loaded.paths, loaded.groups or (), strict=False))
            sites = {
                column: dict(zip(loaded.paths, of, strict=True))
                for column, of in loaded.sites.items()
            }
            findings = _as_findings(loaded, () if is_table else dataset.left_out(root, labels))
        else:
            unlabelled.find_images([place])
    except InputError as error:
        reason, *details = str(error).split("\n")
        message = f"{step} refuses these data: {reason}"
        findings = [Finding(PROBLEM, "refused", message, tuple(map(str.strip, details)))]
    rank = {name: i for i, name in enumerate((*class_names(list(labels.values()), classes), ""))}
    paths = sorted(labels, key=lambda path: (rank[labels[path]], str(path)))
    findings += _not_in_table(paths) if is_table else [*_elsewhere(root, labels), *_others(root)]
    return DiscoveredImages(
        root,
        paths=tuple(paths),
        labels=tuple(labels[path] for path in paths),
        groups=tuple(groups[path] for path in paths) if groups else None,
        findings=tuple(findings),
        sites={column: tuple(of[path] for path in paths) for column, of in sites.items()},
    )


def class_names(labels: Sequence[str], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes among the labels, in the order of `classes`, else in that of data sets."""
    present = set(labels) - {""}
    order = classes or dataset.class_order(present)
    return (*(name for name in order if name in present), *sorted(present - set(order)))


def _labels_below(root: Path) -> dict[Path, str]:
    """The images below the folders of `root`, by folder name; those in it if there are no others.

    The latter have an empty label.
    """
    parts = {path: path.relative_to(root).parts for path in dataset.list_images_below(root)}
    in_folders = {path: names[0] for path, names in parts.items() if len(names) > 1}
    return in_folders or dict.fromkeys(parts, "")


def _labels_in_table(
    table: Path, group_column: str | None, with_groups: bool
) -> tuple[dict[Path, str], dict[Path, str]]:
    """The labels, and groups if they are known, of the images of a label table that are there.

    Raises:
      InputError: it is no label table.
    """
    try:
        content = tables.read(table, group_column, with_groups)
    except InputError:  # Perhaps a question on groups alone.
        content = tables.read(table, with_groups=False)
    paths = lookup.find_files([row.image for row in content.rows], table.parent).paths
    there = [(path, row) for path, row in zip(paths, content.rows, strict=True) if path]
    groups = {path: row.group for path, row in there} if content.grouped else {}
    return {path: row.label for path, row in there}, groups


def _as_findings(loaded: Dataset, told: Container[str]) -> list[Finding]:
    """How data were read, and that no groups are known if none are; without what is told apart."""
    findings = [
        Finding(NOTE, "data", sentence(notice)) for notice in loaded.notices if notice not in told
    ]
    if loaded.groups is None:
        findings.append(Finding(NOTE, "no groups", leakage.NO_GROUPS))
    return findings


def _elsewhere(root: Path, taken: Container[Path]) -> list[Finding]:
    """Images in a folder of class folders that are in none of them."""
    paths = [path for path in dataset.list_images_below(root) if path not in taken]
    if not paths:
        return []
    message = f"{quantity(len(paths))} not in a class folder: training does not see them."
    details = tuple(path.relative_to(root).as_posix() for path in paths)
    return [Finding(PROBLEM, "elsewhere", message, details)]


def _not_in_table(paths: Sequence[Path]) -> list[Finding]:
    """Images beside those of a table that it does not name."""
    if not (unnamed := dataset.images_beside(paths)):
        return []
    message = f"{quantity(len(unnamed))} beside those of the table that it does not name."
    return [Finding(NOTE, "elsewhere", message, tuple(map(str, unnamed)))]


def _others(root: Path) -> list[Finding]:
    """Files that are not read: those that may be meant as images, and others by ending."""
    others, findings = dataset.other_files(root), []
    if others.not_read:
        number = quantity(len(others.not_read), "file")
        message = f"{number} that may be meant as images, but not read."
        details = tuple(
            f"{path.relative_to(root).as_posix()} {cause}"
            for path, cause in others.not_read.items()
        )
        findings.append(Finding(PROBLEM, "not read", message, details))
    if others.endings:
        number = quantity(others.endings.total(), "file")
        message = f"{number} not read as images: {others.listed}."
        findings.append(Finding(NOTE, "other files", message))
    return findings
