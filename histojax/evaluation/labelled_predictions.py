"""What is judged: images with their truth, what was said of them, and, where known, scores, folds and groups.

They come from an ensemble's out-of-fold scores or from a table of anybody's predictions:

image,label,fold,p0,p1,p2,p3    probabilities in the order of the classes; `p_Normal,...` names them instead
image,label,predicted           labels alone
"""

import collections
import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.errors import InputError
from histojax.utils import files

TOLERANCE = 1e-3  # By which a row of probabilities, mostly printed with few digits, may miss 1.


@dataclasses.dataclass(frozen=True)
class LabelledPredictions:
    """N judged images of K classes.

    Attributes:
      names: of the images.
      classes: K names.
      truth, predicted: int [N].
      scores: float64 [N, K], rows that sum to 1; None where only labels are known.
      folds: int [N], 0 .. F - 1; None where they are not known.
      groups: str [N], empty where unknown; None where they are not known at all.
      positive: indices of the classes that count as carcinoma; empty for none.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray | None = None
    folds: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    positive: tuple[int, ...] = ()

    @property
    def resampling_groups(self) -> tuple[str, ...] | None:
        """Groups to resample whole; an image of unknown group is one of its own."""
        if self.groups is None or not any(self.groups):
            return None
        return tuple(
            group or f"\0{name}" for group, name in zip(self.groups, self.names, strict=True)
        )

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each image is a carcinoma, bool [N]."""
        return np.isin(self.truth, self.positive)

    @property
    def positive_names(self) -> str:
        """`InSitu + Invasive`."""
        return " + ".join(self.classes[i] for i in self.positive)


def load(path: Path, classes: Sequence[str] | None = None) -> LabelledPredictions:
    """A table of per-image predictions.

    Args:
      path: CSV with a header: `label`, and probabilities (`p0`, `p1`, ... or `p_<class>`) or `predicted`; `image`,
        `fold` and `group` where known. Any other column is left out.
      classes: in the order of p0, p1, ...; by default BACH's for its class names or for four numbered columns with
        labels 0 .. 3, else those found, in the order of `p_` columns or the alphabet.

    Raises:
      InputError: columns are missing, a cell is no number or class, or probabilities do not sum to 1.
    """
    rows = read_rows(path)
    header = list(rows[0])
    if "label" not in header:
        raise InputError(
            f"{path} has columns {', '.join(header)}; expected `label`, and p0,p1,... or `predicted`"
        )
    columns, classes = probability_columns(path, rows, classes)
    number = {name: i for i, name in enumerate(classes)} | {str(i): i for i in range(len(classes))}
    number |= {
        name: i for i, name in enumerate(classes)
    }  # A class named by a digit is meant before its place.

    def indices(column: str) -> np.ndarray:
        if unknown := sorted({row[column] for row in rows} - set(number)):
            raise InputError(
                f"{path}, column {column}: unknown class {', '.join(unknown[:5])}; expected {', '.join(classes)} (or "
                "their numbers from 0). Pass --classes to name them in order"
            )
        return np.array([number[row[column]] for row in rows])

    scores = probabilities(path, rows, columns) if columns else None
    if scores is None and "predicted" not in header:
        raise InputError(
            f"{path} has columns {', '.join(header)}; expected p0,p1,..., p_<class>, or `predicted`"
        )
    predicted = scores.argmax(axis=1) if scores is not None else indices("predicted")
    return LabelledPredictions(
        names=tuple(row.get("image") or f"row {i}" for i, row in enumerate(rows, start=1)),
        classes=tuple(classes),
        truth=indices("label"),
        predicted=predicted,
        scores=scores,
        folds=fold_column(path, rows) if "fold" in header else None,
        groups=tuple(row["group"] for row in rows) if "group" in header else None,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, cells without surrounding blanks."""
    try:
        lines = [
            [cell.strip() for cell in row] for row in csv.reader(files.open_csv(path)) if any(row)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if len(lines) < 2:
        raise InputError(f"{path} has no rows below its header: expected one per image")
    header, *body = lines
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice: {', '.join(header)}")
    for number, line in enumerate(body, start=2):
        if len(line) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(line)} cells under {len(header)} columns"
            )
    rows = [dict(zip(header, line, strict=True)) for line in body]
    counts = collections.Counter(row["image"] for row in rows if row.get("image"))
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(f"{path} names images twice: {', '.join(twice[:5])}")
    return rows


def probability_columns(
    path: Path, rows: list[dict[str, str]], classes: Sequence[str] | None
) -> tuple[list[str], tuple[str, ...]]:
    """The columns of probabilities in the order of the classes (none where there are only labels), and the classes."""
    header = list(rows[0])
    named = [name for name in header if name.startswith("p_")]
    numbered = [f"p{i}" for i in range(len(header)) if f"p{i}" in header]
    if named:
        classes = tuple(classes or (name[2:] for name in named))
        if {f"p_{name}" for name in classes} != set(named):
            raise InputError(
                f"{path} has columns {', '.join(named)}, expected p_ and each of {', '.join(classes)}"
            )
        return [f"p_{name}" for name in classes], classes
    labels = {row["label"] for row in rows} | {row.get("predicted", row["label"]) for row in rows}
    if not numbered:
        if classes is None:
            classes = BACH_CLASSES if labels <= set(BACH_CLASSES) else tuple(sorted(labels))
        return [], at_least_two(path, classes)
    if numbered != [f"p{i}" for i in range(len(numbered))]:
        raise InputError(
            f"{path} has columns {', '.join(numbered)}: expected p0, p1 and so on without a gap"
        )
    if classes is None:
        count = len(numbered)
        digits = {str(i) for i in range(count)}
        if count == len(BACH_CLASSES) and labels <= {*BACH_CLASSES, *digits}:
            classes = BACH_CLASSES
        elif labels <= digits:
            classes = tuple(str(i) for i in range(count))
        else:
            raise InputError(
                f"{path} numbers its probabilities p0 to p{count - 1} and has labels {', '.join(sorted(labels)[:9])}: "
                "pass --classes to say which is which"
            )
    if len(classes) != len(numbered):
        raise InputError(
            f"{path} has {len(numbered)} columns of probabilities for {len(classes)} classes"
        )
    return numbered, at_least_two(path, classes)


def at_least_two(path: Path, classes: Sequence[str]) -> tuple[str, ...]:
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise InputError(
            f"{path}: classes are {', '.join(classes)}; expected at least two, none twice"
        )
    return tuple(classes)


def probabilities(path: Path, rows: list[dict[str, str]], columns: list[str]) -> np.ndarray:
    """float64 [N, K], renormalised to sum to 1 exactly."""
    scores = np.array(
        [[number_in(path, i, name, row[name]) for name in columns] for i, row in enumerate(rows, 2)]
    )
    sums = scores.sum(axis=1)
    wrong = (scores < 0).any(axis=1) | (np.abs(sums - 1) > TOLERANCE)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        found = ", ".join(
            f"{name} {value:g}" for name, value in zip(columns, scores[first], strict=True)
        )
        raise InputError(
            f"{path}, line {first + 2}: {found}; expected probabilities that sum to 1 "
            f"({int(wrong.sum())} of {len(rows)} rows do not)"
        )
    return scores / sums[:, None]


def number_in(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path}, line {line}, column {column}: {text!r} is no finite number")
    return value


def fold_column(path: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """int [N] from 0 on, whatever the folds are called."""
    named = [row["fold"] for row in rows]
    if "" in named:
        raise InputError(
            f"{path}, line {named.index('') + 2}: no fold; expected one in each row, or no such column"
        )
    order = sorted(
        set(named),
        key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name),
    )
    return np.array([order.index(name) for name in named])
