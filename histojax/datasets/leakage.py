"""Whether a split leaks: for each fold, how many test images share a patient or slide with training.

Training is everything that is not in the fold, images that are never held out included. What is of unknown group may
share one too: it is counted, with where the split put it, and nothing is claimed of it.
"""

import collections
import dataclasses
from typing import Any

import numpy as np

from histojax.datasets.folds import TRAIN_ONLY, Folds


@dataclasses.dataclass(frozen=True)
class Row:
    """One fold, counted in test images.

    Attributes:
      fold: from 1 on.
      images: all of them.
      by_class: of each class.
      known: of known group.
      groups: distinct known groups among them.
      sharing: of a group that training has too.
      sharing_class: of a group that training has too, with an image of the same class.
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
        """Those of unknown group."""
        return self.images - self.known


@dataclasses.dataclass(frozen=True)
class LeakageAudit:
    """What is known of a split.

    Attributes:
      origin: how it was made.
      classes: K names.
      rows: of each fold.
      images: N.
      train_only: images that are never held out.
      unknown: images of unknown group; None where groups are not known at all.
      unknown_train_only: those of them that are never held out.
      groups: how many there are.
      mixed: groups with images of more than one class.
      largest: images of the largest group.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
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
        """Test images that share a group and their class with training."""
        return sum(row.sharing_class for row in self.rows)

    @property
    def leaks(self) -> bool:
        """Whether any known group is on both sides."""
        return self.sharing > 0

    @property
    def verdict(self) -> str:
        """What it comes to, in one sentence."""
        if self.unknown is None:
            return (
                "No groups are known: images of one patient may be in training and test, and figures then are too "
                "good. Name them with --groups."
            )
        unknown = (
            f" Of {self.unknown} images the group is unknown; they may share one."
            if self.unknown
            else ""
        )
        if not self.known:
            return f"No test image is of known group, so nothing is known of leakage.{unknown}"
        if not self.leaks:
            return f"No known group is both in training and in test.{unknown}"
        return (
            f"{self.sharing} of {self.known} test images of known group share it with training, {self.sharing_class} "
            f"their class too: figures are likely too good.{unknown}"
        )


def audit(folds: Folds) -> LeakageAudit:
    """Counts, fold by fold, who shares a group with training."""
    groups = folds.groups or ("",) * len(folds.names)
    members = collections.defaultdict(list)
    for place, group in enumerate(groups):
        if group:
            members[group].append(place)
    return LeakageAudit(
        origin=folds.origin,
        classes=folds.classes,
        rows=tuple(row(folds, groups, members, fold) for fold in range(folds.count)),
        images=len(folds.names),
        train_only=int((folds.folds == TRAIN_ONLY).sum()),
        unknown=None if folds.groups is None else groups.count(""),
        unknown_train_only=sum(
            not group and fold == TRAIN_ONLY
            for group, fold in zip(groups, folds.folds.tolist(), strict=True)
        ),
        groups=len(members),
        mixed=sum(len(set(folds.labels[places].tolist())) > 1 for places in members.values()),
        largest=max(map(len, members.values()), default=0),
    )


def row(folds: Folds, groups: tuple[str, ...], members: dict[str, list[int]], fold: int) -> Row:
    """One fold's counts."""
    test = np.flatnonzero(folds.folds == fold)
    known = [place for place in test if groups[place]]
    sharing = sharing_class = 0
    for place in known:
        training = [other for other in members[groups[place]] if folds.folds[other] != fold]
        sharing += bool(training)
        sharing_class += any(folds.labels[other] == folds.labels[place] for other in training)
    by_class = np.bincount(folds.labels[test], minlength=len(folds.classes))
    own = len({groups[place] for place in known})
    return Row(
        fold + 1, len(test), tuple(by_class.tolist()), len(known), own, sharing, sharing_class
    )


def text_lines(audit: LeakageAudit) -> list[str]:
    """The audit as text."""
    found = [f"split: {audit.origin}", audit.verdict]
    if audit.train_only:
        found.append(f"{audit.train_only} images are trained on and never held out")
    if audit.unknown is not None:
        found.append(
            f"{audit.groups} known groups, the largest of {audit.largest} images; {audit.mixed} have images of several "
            "classes"
        )
    if audit.unknown:
        held_out, places = (
            audit.unknown - audit.unknown_train_only,
            sum(row.unknown > 0 for row in audit.rows),
        )
        found.append(
            f"of the {audit.unknown} images of unknown group {audit.unknown_train_only} are only trained on, "
            f"{held_out} are held out, in {places} of {len(audit.rows)} folds"
        )
    table = [HEADER, *(tuple(map(str, values(row))) for row in audit.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    found += ["", f"test images by class: {', '.join(audit.classes)}"]
    return found + ["  ".join(map(str.rjust, cells, widths)) for cells in table]


HEADER = (
    "fold",
    "test images",
    "by class",
    "known group",
    "unknown",
    "groups",
    "share group",
    "and class",
)


def values(row: Row) -> tuple[int | str, ...]:
    """The cells below HEADER."""
    by_class = "+".join(map(str, row.by_class))
    return (
        row.fold,
        row.images,
        by_class,
        row.known,
        row.unknown,
        row.groups,
        row.sharing,
        row.sharing_class,
    )


def as_table(audit: LeakageAudit) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """A row a fold, and the names of the columns, for programs."""
    columns = (
        "fold",
        "images",
        "known_group",
        "unknown_group",
        "groups",
        "sharing_group",
        "sharing_group_and_class",
    )
    rows = [
        (
            row.fold,
            row.images,
            row.known,
            row.unknown,
            row.groups,
            row.sharing,
            row.sharing_class,
            *row.by_class,
        )
        for row in audit.rows
    ]
    return rows, (*columns, *(f"class_{name}" for name in audit.classes))


def as_dict(audit: LeakageAudit) -> dict[str, Any]:
    """Every number, for programs."""
    totals = {"known": audit.known, "sharing": audit.sharing, "sharing_class": audit.sharing_class}
    return dataclasses.asdict(audit) | totals | {"verdict": audit.verdict}
