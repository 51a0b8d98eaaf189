"""Tables as text and CSV: Table 1 of Rakhlin et al. 2018, ours beside theirs; confusion; scores.

The published accuracies also stand in third_party/rakhlin2018_table1.csv, and a test compares the
two. Rows of single models average five seeds: folds have 40 images, yet accuracies are multiples of
0.5 %, not of 2.5 %, and their deviations are larger than those of averages over folds, as they
would be over folds and seeds. The last row is the blend's, with its deviation over folds.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.datasets.folds import Folds
from histojax.evaluation import metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.utils import files

FUSION = "Model fusion"

# In percent: accuracy in each of the ten folds of BACH, and mean and deviation as printed.
PUBLISHED_ACCURACY = {
    "ResNet-400": (92.0, 77.5, 86.5, 87.5, 79.5, 84.0, 85.0, 83.0, 84.0, 82.5),
    "ResNet-650": (91.0, 77.5, 86.0, 89.5, 81.0, 74.0, 85.5, 83.0, 84.5, 82.5),
    "VGG-400": (87.5, 83.0, 81.5, 84.0, 84.0, 82.5, 80.5, 82.0, 87.5, 83.0),
    "VGG-650": (89.5, 85.5, 78.5, 85.0, 81.0, 78.0, 81.5, 85.5, 89.0, 80.5),
    "Inception-400": (93.0, 86.0, 71.5, 92.0, 85.0, 84.5, 82.5, 79.0, 79.5, 76.5),
    "Inception-650": (91.0, 84.5, 73.5, 90.0, 84.0, 81.0, 82.0, 84.5, 78.0, 77.0),
    FUSION: (92.5, 82.5, 87.5, 87.5, 87.5, 90.0, 85.0, 87.5, 87.5, 85.0),
}
PUBLISHED_MEAN_AND_DEVIATION = {
    "ResNet-400": (84.2, 4.2),
    "ResNet-650": (83.5, 5.2),
    "VGG-400": (83.6, 2.9),
    "VGG-650": (83.4, 4.4),
    "Inception-400": (83.0, 6.5),
    "Inception-650": (82.5, 5.5),
    FUSION: (87.2, 2.6),
}

# Carcinoma against the rest: accuracy in percent with its deviation over folds, ROC AUC, and
# (sensitivity, specificity) in percent at each set-point.
PUBLISHED_TWO_CLASS_ACCURACY = (93.8, 2.3)
PUBLISHED_TWO_CLASS_AUC = 0.973
PUBLISHED_SET_POINTS = {0.33: (96.5, 88.0), 0.50: (93.0, 94.5)}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table 1 in percent: accuracy by fold [F], mean and population standard deviation."""

    name: str
    by_fold: tuple[float, ...]
    mean: float
    deviation: float
    published: bool = False


def _published_name(configuration: str) -> str:
    """The paper's name of a configuration at scale 0.5: ResNet-400 for ResNet-0.5-400.

    The paper has no other scale; configurations at one keep their names.
    """
    encoder, at_half_scale, crop_size = configuration.partition("-0.5-")
    return f"{encoder}-{crop_size}" if at_half_scale else configuration


def accuracy_rows(
    by_configuration: dict[str, np.ndarray], blend: Sequence[float], with_published: bool
) -> list[Row]:
    """The rows of Table 1, each published row below ours where they are to be compared.

    A configuration's row averages over seeds and has the deviation over seeds and folds; the
    blend's has the deviation over folds.

    Args:
      by_configuration: accuracies of each configuration, float64 [S, F].
      blend: accuracies of the blend, [F].
      with_published: whether the data are the paper's.
    """
    rows = []
    ours = {_published_name(name): values for name, values in by_configuration.items()}
    for name, accuracies in (ours | {FUSION: np.array(blend)[None]}).items():
        percent = 100 * accuracies
        by_fold = tuple(percent.mean(axis=0))
        rows.append(Row(name, by_fold, float(percent.mean()), float(percent.std())))
        if with_published and name in PUBLISHED_ACCURACY:
            printed = PUBLISHED_ACCURACY[name], *PUBLISHED_MEAN_AND_DEVIATION[name]
            rows.append(Row(f"published {name}", *printed, published=True))
    return rows


def accuracy_text(rows: Sequence[Row]) -> str:
    """Table 1 as text."""
    names = [f"  {row.name}" if row.published else row.name for row in rows]
    width = max(map(len, names))
    head = "".join(f"{f'f{fold}':>7}" for fold in range(1, len(rows[0].by_fold) + 1))
    lines = [f"{'model':<{width}}{head}{'mean':>8}{'std':>6}"]
    for name, row in zip(names, rows, strict=True):
        cells = "".join(f"{value:7.1f}" for value in row.by_fold)
        lines.append(f"{name:<{width}}{cells}{row.mean:8.1f}{row.deviation:6.1f}")
    return "\n".join(lines)


def published_lines() -> list[str]:
    """The published figures of carcinoma against the rest, as text."""
    mean, deviation = PUBLISHED_TWO_CLASS_ACCURACY
    return [
        f"published, two classes: accuracy {mean} ± {deviation} %, ROC AUC "
        f"{PUBLISHED_TWO_CLASS_AUC}",
        *(
            f"published at {threshold:.2f}: sensitivity {sensitivity} %, specificity "
            f"{specificity} %"
            for threshold, (sensitivity, specificity) in PUBLISHED_SET_POINTS.items()
        ),
    ]


def write_accuracy(path: Path, rows: Sequence[Row]) -> None:
    """Table 1 as CSV."""
    header = ["model", *fold_columns(len(rows[0].by_fold)), "mean", "std"]
    cells = [
        [row.name, *(f"{value:.1f}" for value in (*row.by_fold, row.mean, row.deviation))]
        for row in rows
    ]
    files.write_csv(path, cells, header)


def fold_columns(count: int) -> list[str]:
    """The headers f1, f2, ... of columns by fold."""
    return [f"f{fold}" for fold in range(1, count + 1)]


def confusion_lines(confusion: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The confusion matrix as text, a row for each true class."""
    width = max(9, *(len(name) for name in classes)) + 2
    lines = ["confusion matrix (rows: truth, columns: predicted):"]
    lines.append(" " * width + "".join(f"{name:>{width}}" for name in classes))
    lines += [
        f"{name:>{width}}" + "".join(f"{count:>{width}d}" for count in row)
        for name, row in zip(classes, confusion, strict=True)
    ]
    return lines


def write_out_of_fold(
    path: Path, predictions: LabelledPredictions, folds: Folds, weights: str
) -> None:
    """A row for each image: its label, fold and group, the answer, and the scores.

    Args:
      path: the CSV file.
      predictions: with scores, of the images of `folds`.
      folds: the split.
      weights: a line on the weights, repeated in each row.
    """
    columns = {
        "image": predictions.names,
        "label": [folds.classes[label] for label in folds.labels],
        "fold": folds.folds + 1,
    }
    if folds.groups is not None:
        columns["group"] = folds.groups
    columns["predicted"] = [folds.classes[answer] for answer in predictions.predicted]
    for name, scores in zip(folds.classes, predictions.scores.T, strict=True):
        columns[f"p_{name}"] = [f"{score:.6f}" for score in scores]
    if predictions.positive:
        scores = metrics.positive_score(predictions.scores, predictions.positive)
        columns["positive_score_not_calibrated"] = [f"{score:.6f}" for score in scores]
    columns["weights"] = [weights] * len(predictions.names)
    files.write_csv(path, zip(*columns.values(), strict=True), list(columns))
