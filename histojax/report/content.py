"""What stands in a report: figures in groups, cells of the confusion matrix, stain quality, protocols. No layout."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import STAIN_OK
from histojax.errors import InputError
from histojax.evaluation import metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import ALL, CLASS, METRICS
from histojax.evaluation.statistics import Estimate, Statistics
from histojax.extraction import store
from histojax.learners.ensembles import Ensemble
from histojax.report import images, tables
from histojax.utils import files

STAIN = {
    "tissue_fraction": ("tissue, % of pixels", 100),
    "stain_angle_degrees": ("stain angle, degrees", 1),
    "max_hematoxylin": ("hematoxylin, 99th percentile", 1),
    "max_eosin": ("eosin, 99th percentile", 1),
}


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """The figures of one class, in the order of `class_columns`; None where there is none."""

    name: str
    images: int
    figures: tuple[Estimate | None, ...]


@dataclasses.dataclass(frozen=True)
class Decision:
    """A way to call carcinoma: how, its two figures, and the published (sensitivity, specificity) in percent."""

    how: str
    sensitivity: Estimate
    specificity: Estimate
    published: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was said of an image: names of classes, confidence and score of the truth (None without scores)."""

    image: str
    truth: str
    predicted: str
    confidence: float | None
    of_truth: float | None
    fold: int | None


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: its share of the row, the answers to show and the names of the others."""

    row: int
    column: int
    count: int
    share: float
    answers: tuple[Answer, ...]
    others: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Stain:
    """How the stain normalisation went: measures [N] by name, whether an image fell back, and rows of those."""

    measures: dict[str, np.ndarray]
    flagged: np.ndarray
    rows: tuple[tuple[str, str, str], ...]


def headline(judgement: Statistics) -> list[Estimate]:
    """The four figures that a reader looks for first."""
    wanted = [("accuracy", "")]
    if judgement.predictions.positive:
        wanted += [
            ("carcinoma_auc", ""),
            ("carcinoma_sensitivity", ""),
            ("carcinoma_specificity", ""),
        ]
    wanted += [("balanced_accuracy", ""), ("macro_auc", ""), ("kappa", ""), ("macro_f1", "")]
    return [judgement.estimates[key] for key in wanted if key in judgement.estimates][:4]


def overall(judgement: Statistics) -> list[Estimate]:
    """Figures of all classes together; ordered kappa only where classes can have an order."""
    names = _metrics_of_all(positive=False)
    # The mean area stands before the other metrics of scores.
    names.sort(key=lambda name: (bool(METRICS[name].needs), name != "macro_auc"))
    if len(judgement.predictions.classes) == 2:
        names.remove("quadratic_kappa")  # It is kappa itself.
    return [judgement.estimates[name, ""] for name in names if (name, "") in judgement.estimates]


def _metrics_of_all(positive: bool) -> list[str]:
    """Metrics of all images together: those of positive classes, or those of all classes."""
    return [
        name
        for name, metric in METRICS.items()
        if metric.of == ALL and ("positive" in metric.needs) == positive
    ]


def by_class(judgement: Statistics) -> list[ClassRow]:
    """A row a class."""
    cases = judgement.predictions
    return [
        ClassRow(
            name,
            int((cases.truth == k).sum()),
            tuple(judgement.estimates.get((metric, name)) for metric in columns),
        )
        for columns in [class_columns(judgement)]
        for k, name in enumerate(cases.classes)
    ]


def class_columns(judgement: Statistics) -> tuple[str, ...]:
    """Names of the metrics of each class."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.of == CLASS and metric.is_defined(judgement.predictions)
    )


def two_classes(judgement: Statistics) -> list[Estimate]:
    """Figures of carcinoma against the rest; none where no class counts as carcinoma."""
    names = _metrics_of_all(positive=True)
    return [judgement.estimates[name, ""] for name in names if (name, "") in judgement.estimates]


def decisions(judgement: Statistics, with_published: bool) -> list[Decision]:
    """Sensitivity and specificity for carcinoma by each way to call it."""
    found = []
    for (name, of), figure in judgement.estimates.items():
        if name != "carcinoma_sensitivity":
            continue
        how, said = f"score at least {of}", None
        if not of:
            how = "the answer's class"
        elif of == "nested":
            how = f"for a sensitivity of {100 * judgement.operating_point.target_sensitivity:g} %, threshold chosen on the other folds"
        elif with_published:
            said = tables.PUBLISHED_SET_POINTS.get(float(of))
        found.append(Decision(how, figure, judgement.estimates["carcinoma_specificity", of], said))
    return found


def tempered(judgement: Statistics) -> list[tuple[Estimate, Estimate]]:
    """Figures that a temperature changes, before and after."""
    return [(judgement.estimates[key], after) for key, after in judgement.calibrated.items()]


def answer(cases: LabelledPredictions, i: int) -> Answer:
    """What was said of image i."""
    known = cases.scores is not None
    return Answer(
        image=cases.names[i],
        truth=cases.classes[cases.truth[i]],
        predicted=cases.classes[cases.predicted[i]],
        confidence=float(cases.scores[i, cases.predicted[i]]) if known else None,
        of_truth=float(cases.scores[i, cases.truth[i]]) if known else None,
        fold=None if cases.folds is None else int(cases.folds[i]) + 1,
    )


def cells(judgement: Statistics) -> list[list[Cell]]:
    """The confusion matrix, row by row."""
    cases, matrix = judgement.predictions, judgement.confusion
    there = images.by_cell(cases)
    most = images.in_a_cell(len(there))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        [
            Cell(
                row,
                column,
                int(matrix[row, column]),
                float(share[row, column]),
                tuple(answer(cases, i) for i in there.get((row, column), [])[:most]),
                tuple(cases.names[i] for i in there.get((row, column), [])[most:]),
            )
            for column in range(len(cases.classes))
        ]
        for row in range(len(cases.classes))
    ]


def mistakes(cases: LabelledPredictions) -> list[Answer]:
    """Wrong answers, the most confident first."""
    return [answer(cases, i) for i in images.mistakes(cases)]


def stain(descriptors: Path | None, ensemble: Ensemble) -> Stain | None:
    """The stain quality of an ensemble's images from stain_qc.csv; None where there is none.

    Raises:
      InputError: it is damaged.
    """
    if descriptors is None:
        return None
    if not (descriptors / store.STAIN_QC).exists():
        raise InputError(
            f"{descriptors} has no {store.STAIN_QC}: name the folder that histojax extract wrote, or none"
        )
    names = set(ensemble.folds.names)
    rows = [row for row in store.read_stain_qc(descriptors).values() if row.image in names]
    if not rows:
        return None
    measures = {
        label: factor * np.array([getattr(row, column) for row in rows], float)
        for column, (label, factor) in STAIN.items()
    }
    fallbacks = [row for row in rows if row.status != STAIN_OK]
    flagged = np.array([row.status != STAIN_OK for row in rows])
    return Stain(measures, flagged, tuple((row.image, row.scale, row.status) for row in fallbacks))


def protocols(ensemble: Ensemble) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What the configurations' descriptors were made with: what all have in common, and what each has of its own."""
    flat = {
        name: files.flatten(made_with or {}) for name, made_with in ensemble.extractions.items()
    }
    keys = dict.fromkeys(key for each in flat.values() for key in each)
    first = next(iter(flat.values()))
    common = {
        key: first[key]
        for key in keys
        if all(key in e and e[key] == first.get(key) for e in flat.values())
    }
    own = {
        name: {key: each.get(key) for key in keys if key not in common}
        for name, each in flat.items()
    }
    return common, own


def label(metric: str) -> str:
    """What a metric is called."""
    return metrics.label(metric)
