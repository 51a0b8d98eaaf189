"""Copies and overlapping images in a split: which pairs leak, which contradict, in words."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from histojax.datasets import Dataset, copies
from histojax.datasets.folds import TRAIN_ONLY, Folds
from histojax.inspection.near_duplicates import OVERLAP, SAME_FILE, Pair, likeness
from histojax.utils.words import quantity

NONE = "No image is a copy of another, and no two fields overlap"
_NAMED = 20  # Contradictions that are named before a split is made.


@dataclasses.dataclass(frozen=True)
class SplitPair:
    """A pair within a split.

    Attributes:
      pair: of images.
      leaks: whether one is in training while the other is in test.
      conflict: whether their classes differ.
    """

    pair: Pair
    leaks: bool
    conflict: bool


def pairs_in_split(pairs: Iterable[Pair], folds: Folds) -> tuple[SplitPair, ...]:
    """What each pair of images does to their split; those that leak first."""

    def differ(values: np.ndarray, pair: Pair) -> bool:
        return bool(values[pair.first] != values[pair.second])

    in_split = [SplitPair(p, differ(folds.folds, p), differ(folds.labels, p)) for p in pairs]
    return tuple(sorted(in_split, key=lambda pair: not pair.leaks))


def conflicts(pairs: Iterable[SplitPair]) -> list[SplitPair]:
    """Copies of one image that have two classes; two fields that overlap may be of two."""
    return [each for each in pairs if each.conflict and each.pair.kind != OVERLAP]


def crossing(pairs: Iterable[SplitPair], folds: Folds) -> np.ndarray:
    """Whether each image is held out while a copy, or what it overlaps, is trained on: bool [N].

    Copies of a copy are copies, whether they are a pair or not.
    """
    pairs = [in_split.pair for in_split in pairs]
    of_copies = [(pair.first, pair.second) for pair in pairs if pair.kind != OVERLAP]
    sets = copies.sets_of(folds.names, of_copies)
    unit = [name or i for i, name in enumerate(sets)]
    near = {name: {name} for name in unit}
    for pair in pairs:
        near[unit[pair.first]].add(unit[pair.second])
        near[unit[pair.second]].add(unit[pair.first])
    folds_of = collections.defaultdict(set)
    for name, fold in zip(unit, folds.folds.tolist(), strict=True):
        folds_of[name].add(fold)
    trained_on = [
        set().union(*(folds_of[other] for other in near[name])) - {fold}
        for name, fold in zip(unit, folds.folds.tolist(), strict=True)
    ]
    return np.array(list(map(bool, trained_on))) & (folds.folds != TRAIN_ONLY)


def summary_lines(pairs: Sequence[SplitPair], folds: Folds, most: int) -> list[str]:
    """The pairs of a split as text: how many there are, and the first `most` of them."""
    lines = []
    for of_kind, said in _by_kind(pairs):
        leaks = sum(in_split.leaks for in_split in of_kind)
        conflicts = sum(in_split.conflict for in_split in of_kind)
        lines.append(
            f"{said}: {quantity(leaks, 'pair')} in two folds (one is trained on while the other "
            f"is predicted), {conflicts} of two classes"
        )
    lines += [f"  {pair_line(pair, folds)}" for pair in pairs[:most]]
    if 0 < most < len(pairs):
        lines.append(f"  and {len(pairs) - most} more")
    return lines or [NONE]


def found_lines(pairs: Sequence[Pair], dataset: Dataset) -> list[str]:
    """The pairs of images that are not split yet as text: how many, and those that contradict."""
    labels = dataset.labels
    in_split = [SplitPair(p, False, labels[p.first] != labels[p.second]) for p in pairs]
    lines = ["; ".join(said for _, said in _by_kind(in_split)) or NONE]
    contradict = conflicts(in_split)
    for each in contradict[:_NAMED]:
        one, other = (
            f"{dataset.names[i]} ({dataset.classes[labels[i]]})"
            for i in (each.pair.first, each.pair.second)
        )
        lines.append(
            f"WARNING: LABEL CONFLICT: {one} and {other}: {likeness(each.pair)}. One label is wrong"
        )
    if len(contradict) > _NAMED:
        lines.append(f"WARNING: and {len(contradict) - _NAMED} more: histojax audit lists them")
    return lines


def _by_kind(pairs: Sequence[SplitPair]) -> list[tuple[list[SplitPair], str]]:
    """Copies and overlaps, where there are any, with how many they are in words."""
    number = kinds([in_split.pair for in_split in pairs])
    copies = [in_split for in_split in pairs if in_split.pair.kind != OVERLAP]
    overlaps = [in_split for in_split in pairs if in_split.pair.kind == OVERLAP]
    said = []
    if copies:
        said.append(
            f"{quantity(number['copies'], 'pair')} of copies of one image, {number['same_file']} "
            f"of them the same file ({quantity(number['images_with_copies'])})"
        )
    if overlaps:
        said.append(
            f"{quantity(number['overlaps'], 'pair')} of fields that overlap "
            f"({quantity(number['images_with_overlaps'])})"
        )
    return list(zip(filter(None, (copies, overlaps)), said, strict=True))


def pair_line(in_split: SplitPair, folds: Folds) -> str:
    """A pair as text, with class and fold of both images."""

    def shown(i: int) -> str:
        fold = int(folds.folds[i]) + 1
        where = f"fold {fold}" if fold else "only trained on"
        return f"{folds.names[i]} ({folds.classes[folds.labels[i]]}, {where})"

    pair = in_split.pair
    marks = [likeness(pair)]
    marks += ["LEAK"] if in_split.leaks else []
    if in_split.conflict:  # Two fields of one slide may be of two classes.
        marks += ["two classes" if pair.kind == OVERLAP else "LABEL CONFLICT"]
    return f"{shown(pair.first)} and {shown(pair.second)}: {', '.join(marks)}"


def counts(pairs: Sequence[SplitPair]) -> dict[str, int]:
    """How many pairs there are of each kind, images in them, and leaks, for programs."""
    leaks = [in_split for in_split in pairs if in_split.leaks]
    overlaps = sum(in_split.pair.kind == OVERLAP for in_split in leaks)
    return kinds([in_split.pair for in_split in pairs]) | {
        "in_two_folds": len(leaks),
        "copies_in_two_folds": len(leaks) - overlaps,
        "overlaps_in_two_folds": overlaps,
        "of_two_classes": sum(in_split.conflict for in_split in pairs),
    }


def kinds(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs there are of each kind, and images in them, for programs."""
    overlaps = [pair for pair in pairs if pair.kind == OVERLAP]
    copies = [pair for pair in pairs if pair.kind != OVERLAP]
    return {
        "pairs": len(pairs),
        "same_file": sum(pair.kind == SAME_FILE for pair in pairs),
        "copies": len(copies),
        "images_with_copies": _images(copies),
        "overlaps": len(overlaps),
        "images_with_overlaps": _images(overlaps),
    }


def _images(pairs: Iterable[Pair]) -> int:
    """How many images are in pairs."""
    return len({i for pair in pairs for i in (pair.first, pair.second)})
