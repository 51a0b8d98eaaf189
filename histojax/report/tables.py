"""Tables as text and CSV: the paper's Table 1, the confusion matrix, predictions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.datasets.folds import Folds
from histojax.report import published
from histojax.utils import files

FUSION = "Model fusion"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table 1 in percent: accuracy by fold [F], mean and population standard deviation."""

    name: str
    by_fold: tuple[float, ...]
    mean: float
    deviation: float


def accuracy_rows(
    by_configuration: dict[str, np.ndarray], blend: Sequence[float], with_published: bool
) -> list[Row]:
    """Rows of Table 1, the published row below ours where it is asked for.

    A configuration's row averages its seeds, its deviation is over seeds and folds; the blend's is over folds.

    Args:
      by_configuration: accuracies of each, float64 [S, F].
      blend: accuracies of the blend, [F].
      with_published: whether the data are the paper's.
    """
    rows = []
    ours = {published.row_name(name): each for name, each in by_configuration.items()}
    for name, accuracies in (ours | {FUSION: np.array(blend)[None]}).items():
        percent = 100 * accuracies
        rows.append(
            Row(name, tuple(percent.mean(axis=0)), float(percent.mean()), float(percent.std()))
        )
        if with_published and name in published.ACCURACY:
            rows.append(
                Row(
                    f"  published {name}",
                    published.ACCURACY[name],
                    *published.MEAN_AND_DEVIATION[name],
                )
            )
    return rows


def table1(rows: Sequence[Row]) -> str:
    """The rows as text."""
    folds = len(rows[0].by_fold)
    width = max(len(row.name) for row in rows)
    head = "".join(f"{f'f{fold}':>7}" for fold in range(1, folds + 1))
    lines = [f"{'model':<{width}}{head}{'mean':>8}{'std':>6}"]
    for row in rows:
        cells = "".join(f"{value:7.1f}" for value in row.by_fold)
        lines.append(f"{row.name:<{width}}{cells}{row.mean:8.1f}{row.deviation:6.1f}")
    return "\n".join(lines)


def write_table1(path: Path, rows: Sequence[Row]) -> None:
    """The same rows as CSV."""
    folds = len(rows[0].by_fold)
    header = ["model", *(f"f{fold}" for fold in range(1, folds + 1)), "mean", "std"]
    cells = [
        [row.name.strip(), *(f"{value:.1f}" for value in (*row.by_fold, row.mean, row.deviation))]
        for row in rows
    ]
    files.write_csv(path, cells, header)


def confusion_lines(confusion: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The confusion matrix as text, rows the truth."""
    width = max(9, *(len(name) for name in classes)) + 2
    lines = ["confusion matrix (rows: truth, columns: predicted):"]
    lines.append(" " * width + "".join(f"{name:>{width}}" for name in classes))
    lines += [
        f"{name:>{width}}" + "".join(f"{n:>{width}d}" for n in row)
        for name, row in zip(classes, confusion, strict=True)
    ]
    return lines


def write_predictions(
    path: Path,
    names: Sequence[str],
    scores: np.ndarray,
    classes: Sequence[str],
    provenance: str,
    positive: np.ndarray | None,
    folds: Folds | None = None,
) -> None:
    """One row per image: label, probabilities, positive score, and what made them; truth and fold where known."""
    header = ["image", "predicted", *(f"p_{name}" for name in classes)]
    columns = [
        list(names),
        [classes[i] for i in scores.argmax(axis=1)],
        *(decimals(scores[:, k]) for k in range(len(classes))),
    ]
    if positive is not None:
        header.append("positive_score")
        columns.append(decimals(positive))
    if folds is not None:
        header[1:1] = ["label", "fold"]
        columns[1:1] = [
            [folds.classes[i] for i in folds.labels],
            [fold + 1 for fold in folds.folds],
        ]
        if folds.groups is not None:
            header.insert(3, "group")
            columns.insert(3, folds.groups)
    header.append("weights")
    columns.append([provenance] * len(names))
    files.write_csv(path, zip(*columns, strict=True), header)


def decimals(values: np.ndarray) -> list[str]:
    return [f"{value:.6f}" for value in values]
