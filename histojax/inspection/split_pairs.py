"""Copies and overlapping images in a split: which pairs leak, which contradict, in words."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from histojax.datasets.folds import Folds
from histojax.inspection.near_duplicates import SAME_FILE, Pair, likeness
from histojax.utils.words import quantity


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


def summary_lines(pairs: Sequence[SplitPair], folds: Folds, most: int) -> list[str]:
    """The pairs of a split as text: how many there are, and the first `most` of them."""
    if not pairs:
        return ["No near-duplicate images"]
    number = counts(pairs)
    lines = [
        f"{quantity(number['pairs'], 'pair')} of near-duplicate images, {number['same_file']} of "
        f"them the same file: {number['in_two_folds']} in two folds (one is trained on while the "
        f"other is predicted), {number['of_two_classes']} of two classes"
    ]
    lines += [f"  {pair_line(pair, folds)}" for pair in pairs[:most]]
    if 0 < most < len(pairs):
        lines.append(f"  and {len(pairs) - most} more")
    return lines


def pair_line(in_split: SplitPair, folds: Folds) -> str:
    """A pair as text, with class and fold of both images."""

    def shown(i: int) -> str:
        fold = int(folds.folds[i]) + 1
        where = f"fold {fold}" if fold else "only trained on"
        return f"{folds.names[i]} ({folds.classes[folds.labels[i]]}, {where})"

    pair = in_split.pair
    marks = [likeness(pair)]
    marks += ["LEAK"] if in_split.leaks else []
    marks += ["LABEL CONFLICT"] if in_split.conflict else []
    return f"{shown(pair.first)} and {shown(pair.second)}: {', '.join(marks)}"


def counts(pairs: Sequence[SplitPair]) -> dict[str, int]:
    """How many pairs there are of each kind, for programs."""
    return {
        "pairs": len(pairs),
        "same_file": sum(in_split.pair.kind == SAME_FILE for in_split in pairs),
        "in_two_folds": sum(in_split.leaks for in_split in pairs),
        "of_two_classes": sum(in_split.conflict for in_split in pairs),
    }
