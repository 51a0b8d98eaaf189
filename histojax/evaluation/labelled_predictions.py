"""Labelled predictions: images with their true and predicted classes and, where known, scores.

They come from an ensemble's out-of-fold scores, or from a table of anybody's predictions:

image,label,fold,p0,p1,p2,p3    probabilities in the order of the classes, or p_Normal,... by name
image,label,predicted           predicted classes alone
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.config import BACH_CARCINOMA, BACH_CLASSES
from histojax.datasets import sheets
from histojax.datasets.positive import PositiveClasses
from histojax.errors import InputError
from histojax.utils import files, ties

# Probabilities are mostly printed with few digits: how far from 1 a row may sum.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of N images of K classes, with the truth.

    Attributes:
      names: of the images.
      classes: K names.
      truth, predicted: int [N].
      scores: float64 [N, K], rows that sum to 1; None where only the predicted classes are known.
      folds: int [N], 0 .. F - 1; None where they are not known.
      groups: patient or slide of each image, empty where unknown; None where no group is known.
      positive: indices of the classes that count as positive; empty for none.
      positive_reason: a sentence on which they are, and why.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray | None = None
    folds: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    positive: tuple[int, ...] = ()
    positive_reason: str = ""

    @property
    def fold_count(self) -> int:
        """F; 0 where folds are not known."""
        return 0 if self.folds is None else int(self.folds.max()) + 1

    @property
    def resampling_groups(self) -> tuple[str, ...] | None:
        """Groups that are resampled whole; an image of unknown group is a group of its own."""
        if self.groups is None or not any(self.groups):
            return None
        pairs = zip(self.groups, self.names, strict=True)
        return tuple(group or f"\0{name}" for group, name in pairs)

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each image is of a positive class, bool [N]."""
        return np.isin(self.truth, self.positive)

    @property
    def predicted_positive(self) -> np.ndarray:
        """Whether a positive class is predicted for each image, bool [N]."""
        return np.isin(self.predicted, self.positive)

    @property
    def positive_names(self) -> str:
        """`InSitu + Invasive`."""
        return " + ".join(self.classes[i] for i in self.positive)

    @property
    def positive_is_carcinoma(self) -> bool:
        """Whether the classes are BACH's, and the positive ones its carcinomas."""
        positive = {self.classes[i] for i in self.positive}
        return set(self.classes) <= set(BACH_CLASSES) and positive == set(BACH_CARCINOMA)

    def with_positive(self, positive: PositiveClasses) -> "LabelledPredictions":
        """The same with these positive classes."""
        return dataclasses.replace(self, positive=positive.indices, positive_reason=positive.reason)


def load(path: str | Path, classes: Sequence[str] | None = None) -> LabelledPredictions:
    """Reads a table of predictions, a row an image.

    Args:
      path: CSV with a header: `label`, and probabilities (`p0`, `p1`, ... or `p_<class>`) or
        `predicted`; `image`, `fold` and `group` where known. Other columns are ignored.
      classes: in the order of p0, p1, ...; by default BACH's for its class names or for four
        numbered columns with labels 0 .. 3, else those of the table, in the order of its `p_`
        columns or of the alphabet.

    Raises:
      InputError: columns are missing, a cell is no number or class, or probabilities do not sum
        to 1.
    """
    path = files.as_path(path)
    rows = _read_rows(path)
    header = list(rows[0])
    if "label" not in header:
        raise InputError(
            f"{path} has columns {', '.join(header)}; expected `label`, and p0,p1,... or "
            "`predicted`"
        )
    columns, classes = _probability_columns(path, rows, classes)
    scores = _probabilities(path, rows, columns) if columns else None
    if scores is None and "predicted" not in header:
        raise InputError(
            f"{path} has columns {', '.join(header)}; expected p0,p1,..., p_<class>, or `predicted`"
        )
    return LabelledPredictions(
        names=tuple(row.get("image") or f"row {i}" for i, row in enumerate(rows, start=1)),
        classes=classes,
        truth=_class_indices(path, rows, "label", classes),
        predicted=(
            _class_indices(path, rows, "predicted", classes)
            if scores is None
            else ties.argmax(scores)
        ),
        scores=scores,
        folds=_fold_indices(path, rows) if "fold" in header else None,
        groups=tuple(row["group"] for row in rows) if "group" in header else None,
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table by column, cells without surrounding blanks."""
    lines = next(iter(sheets.read(path).rows.values()))
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
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(f"{path} names images twice: {', '.join(repeated[:5])}")
    return rows


def _class_indices(
    path: Path, rows: list[dict[str, str]], column: str, classes: tuple[str, ...]
) -> np.ndarray:
    """A column of class names, or of their numbers from 0, as int [N]."""
    # A class that is called by a digit goes before the class of that number.
    indices = {str(i): i for i in range(len(classes))} | {name: i for i, name in enumerate(classes)}
    if unknown := sorted({row[column] for row in rows} - set(indices)):
        raise InputError(
            f"{path}, column {column}: unknown class {', '.join(unknown[:5])}; expected "
            f"{', '.join(classes)} (or their numbers from 0). Pass --classes to name them in order"
        )
    return np.array([indices[row[column]] for row in rows])


def _probability_columns(
    path: Path, rows: list[dict[str, str]], classes: Sequence[str] | None
) -> tuple[list[str], tuple[str, ...]]:
    """Columns of probabilities in the order of the classes, perhaps none, and the classes."""
    header = list(rows[0])
    if named := [name for name in header if name.startswith("p_")]:
        classes = tuple(classes or (name[2:] for name in named))
        if {f"p_{name}" for name in classes} != set(named):
            raise InputError(
                f"{path} has columns {', '.join(named)}, expected p_ and each of "
                f"{', '.join(classes)}"
            )
        return [f"p_{name}" for name in classes], classes
    numbered = [f"p{i}" for i in range(len(header)) if f"p{i}" in header]
    if numbered != [f"p{i}" for i in range(len(numbered))]:
        raise InputError(
            f"{path} has columns {', '.join(numbered)}: expected p0, p1 and so on without a gap"
        )
    classes = tuple(classes or _default_classes(path, rows, len(numbered)))
    if numbered and len(classes) != len(numbered):
        raise InputError(
            f"{path} has {len(numbered)} columns of probabilities for {len(classes)} classes"
        )
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise InputError(
            f"{path}: classes are {', '.join(classes)}; expected at least two, none twice"
        )
    return numbered, classes


def _default_classes(path: Path, rows: list[dict[str, str]], columns: int) -> Sequence[str]:
    """The classes that labels, beside so many numbered columns of probabilities, must mean."""
    labels = {row["label"] for row in rows} | {row.get("predicted", row["label"]) for row in rows}
    if not columns:
        return BACH_CLASSES if labels <= set(BACH_CLASSES) else sorted(labels)
    digits = [str(i) for i in range(columns)]
    if columns == len(BACH_CLASSES) and labels <= {*BACH_CLASSES, *digits}:
        return BACH_CLASSES
    if labels <= set(digits):
        return digits
    raise InputError(
        f"{path} numbers its probabilities p0 to p{columns - 1} and has labels "
        f"{', '.join(sorted(labels)[:9])}: pass --classes to say which is which"
    )


def _probabilities(path: Path, rows: list[dict[str, str]], columns: list[str]) -> np.ndarray:
    """float64 [N, K], renormalised to sum to 1 exactly."""
    scores = np.array(
        [[_number(path, i, name, row[name]) for name in columns] for i, row in enumerate(rows, 2)]
    )
    sums = scores.sum(axis=1)
    wrong = (scores < 0).any(axis=1) | (np.abs(sums - 1) > _TOLERANCE)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        pairs = zip(columns, scores[first], strict=True)
        raise InputError(
            f"{path}, line {first + 2}: {', '.join(f'{name} {value:g}' for name, value in pairs)}; "
            f"expected probabilities that sum to 1 ({int(wrong.sum())} of {len(rows)} rows do not)"
        )
    return scores / sums[:, None]


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path}, line {line}, column {column}: {text!r} is no finite number")
    return value


def _fold_indices(path: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """int [N] from 0, in the order of the folds' numbers, or names."""
    names = [row["fold"] for row in rows]
    if "" in names:
        raise InputError(
            f"{path}, line {names.index('') + 2}: no fold; expected one in each row, or no such "
            "column"
        )
    numbers = sorted((name for name in set(names) if name.isdecimal()), key=lambda n: (int(n), n))
    order = [*numbers, *sorted(name for name in set(names) if not name.isdecimal())]
    return np.array([order.index(name) for name in names])
