"""Metrics of labelled predictions, and METRICS, the one table that names them.

To add a metric, write a function of `Weighted` and give it a row of METRICS: metrics.json, the
tables and the report take its name, label, interval and format from there.

A metric is computed under B weightings of the N images at once. Weights of one give the metric
itself; how often each image was drawn gives a bootstrap sample of it. K classes. A metric that is
undefined (no image of a class, say) is NaN. Definitions are scikit-learn's.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import (
    BINS,
    Weighted,
    area,
    confidence_bins,
    mean_of_defined,
    positive_score,
    ratio,
    share,
    sums,
    weighted_kappa,
)
from histojax.utils import ties

# A metric's name, and the class or set-point it is of; "" where it is of all.
MetricKey = tuple[str, str]

# What a metric is of: all images, each class, or each way to call an image positive (the predicted
# class, and each set-point of the score).
ALL, CLASS, DECISION = "all", "class", "decision"
NESTED = "nested"  # What decisions by the operating point are called in a metric's key.


def accuracy(weighted: Weighted) -> np.ndarray:
    """Share of images whose class is predicted."""
    return weighted.counts[0].sum(axis=1) / weighted.total


def balanced_accuracy(weighted: Weighted) -> np.ndarray:
    """Mean sensitivity of the classes."""
    return mean_of_defined(sensitivity(weighted))


def macro_f1(weighted: Weighted) -> np.ndarray:
    """Mean over classes of the harmonic mean of precision and sensitivity."""
    correct, images, predictions = weighted.counts
    return mean_of_defined(ratio(2 * correct, images + predictions))


def kappa(weighted: Weighted) -> np.ndarray:
    """Agreement beyond chance; all errors count alike."""
    return weighted_kappa(weighted.confusion, 1 - np.eye(len(weighted.predictions.classes)))


def quadratic_kappa(weighted: Weighted) -> np.ndarray:
    """Agreement beyond chance; an error counts by the squared distance of its classes in order."""
    order = range(len(weighted.predictions.classes))
    return weighted_kappa(weighted.confusion, np.subtract.outer(order, order) ** 2)


def sensitivity(weighted: Weighted) -> np.ndarray:
    """Share of a class's images that are called it."""
    correct, images, _ = weighted.counts
    return ratio(correct, images)


def specificity(weighted: Weighted) -> np.ndarray:
    """Share of all other images that are not called it."""
    correct, images, predictions = weighted.counts
    others = weighted.total[:, None] - images
    return ratio(others - predictions + correct, others)


def precision(weighted: Weighted) -> np.ndarray:
    """Share of the images called a class that are of it."""
    correct, _, predictions = weighted.counts
    return ratio(correct, predictions)


def positive_accuracy(weighted: Weighted) -> np.ndarray:
    """Accuracy of the predicted classes, collapsed to positive and negative."""
    predictions = weighted.predictions
    correct = predictions.predicted_positive == predictions.is_positive
    return weighted.weights @ correct / weighted.total


def positive_auc(weighted: Weighted) -> np.ndarray:
    """Area under the ROC curve of the positive score."""
    predictions = weighted.predictions
    score = positive_score(predictions.scores, predictions.positive)
    return area(score, predictions.is_positive, weighted.weights)


def positive_sensitivity(weighted: Weighted) -> np.ndarray:
    """Share of positive images that are called positive."""
    positive, decisions = weighted.predictions.is_positive, weighted.decisions.values()
    return np.stack([share(called, positive, weighted.weights) for called in decisions], axis=1)


def positive_specificity(weighted: Weighted) -> np.ndarray:
    """Share of negative images that are called negative."""
    negative, decisions = ~weighted.predictions.is_positive, weighted.decisions.values()
    return np.stack([share(~called, negative, weighted.weights) for called in decisions], axis=1)


def log_loss(weighted: Weighted) -> np.ndarray:
    """Mean of -ln(probability of the true class), at least the float64 epsilon."""
    truth, scores = weighted.predictions.truth, weighted.predictions.scores
    of_truth = np.clip(scores[np.arange(len(scores)), truth], np.finfo(np.float64).eps, 1)
    return weighted.weights @ -np.log(of_truth) / weighted.total


def brier(weighted: Weighted) -> np.ndarray:
    """Mean squared error of the probabilities, summed over the classes."""
    truth, scores = weighted.predictions.truth, weighted.predictions.scores
    errors = ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1)
    return weighted.weights @ errors / weighted.total


def calibration_error(weighted: Weighted) -> np.ndarray:
    """Mean distance of confidence from accuracy over bins (Guo et al. 2017, equation 3)."""
    truth, scores = weighted.predictions.truth, weighted.predictions.scores
    confidence, bins = confidence_bins(scores)
    gaps = weighted.weights * (confidence - (ties.argmax(scores) == truth))
    return np.abs(sums(gaps, bins, BINS)).sum(axis=1) / weighted.total


def macro_auc(weighted: Weighted) -> np.ndarray:
    """Mean over classes of the area under the ROC curve of each against the rest."""
    return mean_of_defined(weighted.areas)


def auc(weighted: Weighted) -> np.ndarray:
    """Area under the ROC curve of a class's score against the rest."""
    return weighted.areas


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of METRICS.

    Attributes:
      label: what people read.
      function: of weighted predictions, float64 [B]; [B, K] of each class; [B, D] of each decision.
      of: ALL, CLASS or DECISION.
      needs: `scores`, `positive` (classes that count as positive), or both.
      rests_on: the images that decide how wide its interval is: `all`, those `true` or `false` for
        the class, those `called` it, or the `rarer` of true and false.
      bounds: between which it lies.
      percent: whether people read it in percent.
      calibration: whether it is also reported of calibrated scores.
    """

    label: str
    function: Callable[[Weighted], np.ndarray]
    of: str = ALL
    needs: tuple[str, ...] = ()
    rests_on: str = "all"
    bounds: tuple[float, float] = (0.0, 1.0)
    percent: bool = False
    calibration: bool = False

    def is_defined(self, predictions: LabelledPredictions) -> bool:
        """Whether the predictions have what it needs."""
        known = {"scores": predictions.scores is not None, "positive": bool(predictions.positive)}
        return all(known[need] for need in self.needs)


_OF_POSITIVE = "Positive-class "  # Begins the labels of metrics of the positive classes.
_POSITIVE, _SCORES, _BOTH = ("positive",), ("scores",), ("positive", "scores")

# In the order of metrics.json, where neighbours that are of each class, or decision, alternate.
METRICS = {
    "accuracy": Metric("Accuracy", accuracy, percent=True),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy, percent=True),
    "macro_f1": Metric("Macro F1", macro_f1, percent=True),
    "kappa": Metric("Cohen's kappa", kappa, bounds=(-1.0, 1.0)),
    "quadratic_kappa": Metric("Quadratic kappa", quadratic_kappa, bounds=(-1.0, 1.0)),
    "sensitivity": Metric("Sensitivity", sensitivity, CLASS, (), "true", percent=True),
    "specificity": Metric("Specificity", specificity, CLASS, (), "false", percent=True),
    "precision": Metric("Precision", precision, CLASS, (), "called", percent=True),
    "positive_accuracy": Metric(
        f"{_OF_POSITIVE}accuracy", positive_accuracy, ALL, _POSITIVE, percent=True
    ),
    "positive_auc": Metric(f"{_OF_POSITIVE}ROC AUC", positive_auc, ALL, _BOTH, "rarer"),
    "positive_sensitivity": Metric(
        f"{_OF_POSITIVE}sensitivity",
        positive_sensitivity,
        DECISION,
        _POSITIVE,
        "true",
        percent=True,
    ),
    "positive_specificity": Metric(
        f"{_OF_POSITIVE}specificity",
        positive_specificity,
        DECISION,
        _POSITIVE,
        "false",
        percent=True,
    ),
    "log_loss": Metric("Log-loss", log_loss, ALL, _SCORES, bounds=(0.0, np.inf), calibration=True),
    "brier": Metric("Brier score", brier, ALL, _SCORES, bounds=(0.0, 2.0), calibration=True),
    "calibration_error": Metric(
        "Expected calibration error", calibration_error, ALL, _SCORES, calibration=True
    ),
    "macro_auc": Metric("Mean one-vs-rest ROC AUC", macro_auc, ALL, _SCORES),
    "auc": Metric("ROC AUC against the rest", auc, CLASS, _SCORES, "rarer"),
}


def compute(
    predictions: LabelledPredictions, weights: np.ndarray, names: Collection[str] = METRICS.keys()
) -> dict[MetricKey, np.ndarray]:
    """The named metrics that the predictions allow: weights [B, N] -> float64 [B] by key."""
    weighted, values = Weighted(predictions, weights), {}
    rows = [
        (name, metric)
        for name, metric in METRICS.items()
        if name in names and metric.is_defined(predictions)
    ]
    for of, neighbours in itertools.groupby(rows, key=lambda row: row[1].of):
        columns = {
            name: metric.function(weighted).reshape(len(weights), -1) for name, metric in neighbours
        }
        for i, qualifier in enumerate(_qualifiers(weighted, of)):
            values |= {(name, qualifier): column[:, i] for name, column in columns.items()}
    return values


def _qualifiers(weighted: Weighted, of: str) -> Sequence[str]:
    """Names of the classes or decisions that a metric's columns stand for."""
    if of == ALL:
        return ("",)
    return weighted.predictions.classes if of == CLASS else tuple(weighted.decisions)


def label(name: str, of: str = "", predictions: LabelledPredictions | None = None) -> str:
    """A metric in words: `Sensitivity, Benign`.

    With the predictions that it is of, the positive classes are called carcinoma where they are
    BACH's (`Carcinoma ROC AUC`), and by their own names everywhere else (`malignant: ROC AUC`).
    """
    metric = METRICS[name]
    text = metric.label + (f", {of}" if of else "")
    if of and metric.of == DECISION:
        where = "the operating point" if of == NESTED else f"a score of {of}"
        text = f"{metric.label} at {where}"
    if predictions is None or "positive" not in METRICS[name].needs:
        return text
    kind = "Carcinoma " if predictions.positive_is_carcinoma else f"{predictions.positive_names}: "
    return kind + text.removeprefix(_OF_POSITIVE)


def rests_on(predictions: LabelledPredictions, key: MetricKey) -> np.ndarray:
    """The images that a metric rests on, bool [N]; for a sensitivity, those of its class."""
    name, of = key
    true, called = predictions.is_positive, predictions.predicted_positive
    if METRICS[name].of == CLASS:
        k = predictions.classes.index(of)
        true, called = predictions.truth == k, predictions.predicted == k
    return {
        "all": np.ones(len(true), bool),
        "true": true,
        "false": ~true,
        "called": called,
        "rarer": true if true.sum() <= len(true) / 2 else ~true,
    }[METRICS[name].rests_on]


def mean_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over configurations, seeds and augmentations: [S, N, A, K] each -> float64 [N, K]."""
    return np.mean([configuration.mean(axis=(0, 2)) for configuration in scores], axis=0)
