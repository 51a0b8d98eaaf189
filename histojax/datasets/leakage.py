"""Leakage of a split: for each fold, how many test images share a patient or slide with training.

Training is everything outside the fold, including images that are never held out. Images of unknown
group may share one too: they are counted, and nothing else is claimed about them.
"""

import collections
import dataclasses
from typing import Any

import numpy as np

from histojax.datasets import copies
from histojax.datasets.folds import TRAIN_ONLY, Folds

NO_GROUPS = (
    "No groups are known: if several images come from one patient or slide, training and test "
    "share it, and accuracy is inflated. Name the patients in a column `patient` of --data, by "
    "folders in the class folders, or with --groups=TABLE."
)


@dataclasses.dataclass(frozen=True)
class FoldLeakage:
    """Numbers of test images of one fold.

    Attributes:
      fold: from 1 on.
      images: all of them.
      by_class: of each class.
      known: of known group.
      groups: distinct known groups among them.
      sharing: of a group that is in training too.
      sharing_class: of a group that is in training too, with an image of the same class.
    """

    fold: int
    images: int
    by_class: tuple[int, ...]
    known: int
    groups: int
    sharing: int
    sharing_class: int

    @property
    def unknown(self) -> int:
        """Test images of unknown group."""
        return self.images - self.known


@dataclasses.dataclass(frozen=True)
class LeakageAudit:
    """What is known about the leakage of a split.

    Attributes:
      origin: how the split was made.
      classes: K class names.
      rows: the numbers of each fold.
      images: N.
      train_only: images that are never held out.
      unknown: images of unknown group; None if no groups are known.
      unknown_train_only: those of them that are never held out.
      groups: number of known groups.
      mixed: groups with images of more than one class.
      largest: images of the largest group.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[FoldLeakage, ...]
    images: int
    train_only: int
    unknown: int | None
    unknown_train_only: int
    groups: int
    mixed: int
    largest: int

    @property
    def known(self) -> int:
        """Test images of known group."""
        return sum(row.known for row in self.rows)

    @property
    def sharing(self) -> int:
        """Test images that share a group with training."""
        return sum(row.sharing for row in self.rows)

    @property
    def sharing_class(self) -> int:
        """Test images that share a group with training images of their class."""
        return sum(row.sharing_class for row in self.rows)

    @property
    def leaks(self) -> bool:
        """Whether any known group is both in training and in test."""
        return self.sharing > 0

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.unknown is None:
            return NO_GROUPS
        unknown = ""
        if self.unknown:
            unknown = f" Of {self.unknown} images the group is unknown; they may share one."
        if not self.known:
            return f"No test image is of known group, so nothing is known of leakage.{unknown}"
        if not self.leaks:
            return f"No known group is both in training and in test.{unknown}"
        return (
            f"{self.sharing} of {self.known} test images of known group share it with training, "
            f"{self.sharing_class} their class too: figures are likely too good.{unknown}"
        )


def audit(folds: Folds) -> LeakageAudit:
    """Counts, fold by fold, the test images that share a group with training."""
    groups = folds.groups or ("",) * len(folds.names)
    groups = tuple("" if copies.is_unknown(group) else group for group in groups)
    none_known = folds.groups is None or (folds.copies is not None and not any(groups))
    members = collections.defaultdict(list)
    for i, group in enumerate(groups):
        if group:
            members[group].append(i)
    train_only = folds.folds == TRAIN_ONLY
    return LeakageAudit(
        origin=folds.origin,
        classes=folds.classes,
        rows=tuple(_audit_fold(folds, groups, members, fold) for fold in range(folds.count)),
        images=len(folds.names),
        train_only=int(train_only.sum()),
        unknown=None if none_known else groups.count(""),
        unknown_train_only=sum(not groups[i] for i in np.flatnonzero(train_only)),
        groups=len(members),
        mixed=sum(len(set(folds.labels[indices].tolist())) > 1 for indices in members.values()),
        largest=max(map(len, members.values()), default=0),
    )


def kept_together(folds: Folds) -> str:
    """What keeps images of one patient in one fold, or a warning that nothing does."""
    checked = audit(folds)
    if checked.unknown is None or checked.leaks or not checked.known:
        return f"WARNING: {checked.verdict}"
    return (
        f"kept together: {checked.groups} groups, the largest of {checked.largest} images. "
        f"{checked.verdict}"
    )


def _audit_fold(
    folds: Folds, groups: tuple[str, ...], members: dict[str, list[int]], fold: int
) -> FoldLeakage:
    test = np.flatnonzero(folds.folds == fold)
    known = [i for i in test if groups[i]]
    sharing = sharing_class = 0
    for i in known:
        training = [j for j in members[groups[i]] if folds.folds[j] != fold]
        sharing += bool(training)
        sharing_class += any(folds.labels[j] == folds.labels[i] for j in training)
    return FoldLeakage(
        fold=fold + 1,
        images=len(test),
        by_class=tuple(np.bincount(folds.labels[test], minlength=len(folds.classes)).tolist()),
        known=len(known),
        groups=len({groups[i] for i in known}),
        sharing=sharing,
        sharing_class=sharing_class,
    )


def text_lines(audit: LeakageAudit) -> list[str]:
    """The audit as lines of text, with a table of the folds at the end."""
    lines = [f"split: {audit.origin}", audit.verdict]
    if audit.train_only:
        lines.append(f"{audit.train_only} images are trained on and never held out")
    if audit.unknown is not None:
        lines.append(
            f"{audit.groups} known groups, the largest of {audit.largest} images; {audit.mixed} "
            "have images of several classes"
        )
    if audit.unknown:
        held_out = audit.unknown - audit.unknown_train_only
        in_folds = sum(row.unknown > 0 for row in audit.rows)
        lines.append(
            f"of the {audit.unknown} images of unknown group {audit.unknown_train_only} are only "
            f"trained on, {held_out} are held out, in {in_folds} of {len(audit.rows)} folds"
        )
    lines += ["", f"test images by class: {', '.join(audit.classes)}"]
    header = "fold, test images, by class, known group, unknown, groups, share group, and class"
    table = [tuple(header.split(", "))]
    for row in audit.rows:
        by_class = "+".join(map(str, row.by_class))
        numbers = (row.unknown, row.groups, row.sharing, row.sharing_class)
        table.append(tuple(map(str, (row.fold, row.images, by_class, row.known, *numbers))))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return lines + ["  ".join(map(str.rjust, cells, widths)) for cells in table]


def as_table(audit: LeakageAudit) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """A row for each fold, and the column names, for CSV."""
    columns = ("fold", "images", "known_group", "unknown_group", "groups", "sharing_group")
    columns += ("sharing_group_and_class", *(f"class_{name}" for name in audit.classes))
    rows = []
    for row in audit.rows:
        counts = (row.known, row.unknown, row.groups, row.sharing, row.sharing_class)
        rows.append((row.fold, row.images, *counts, *row.by_class))
    return rows, columns


def as_dict(audit: LeakageAudit) -> dict[str, Any]:
    """Every number, for JSON."""
    totals = {"known": audit.known, "sharing": audit.sharing, "sharing_class": audit.sharing_class}
    return dataclasses.asdict(audit) | totals | {"verdict": audit.verdict}
