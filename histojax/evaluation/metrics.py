"""Metrics of predictions, each under B weightings of the N images at once: weights of ones give the figure itself,
numbers of times that an image was drawn give a bootstrap sample of it.

K classes. A metric that is undefined (no image of a class, say) is NaN. scikit-learn's definitions throughout.
"""

from collections.abc import Sequence

import numpy as np

from histojax.config import BACH_CARCINOMA, SET_POINTS
from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions

# What a figure is of: its name, and a class, a set-point, or nothing.
MetricKey = tuple[str, str]

LABELS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen's kappa",
    "quadratic_kappa": "Quadratic kappa",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "calibration_error": "Expected calibration error",
    "macro_auc": "Mean one-vs-rest ROC AUC",
    "auc": "ROC AUC against the rest",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "carcinoma_accuracy": "Carcinoma accuracy",
    "carcinoma_auc": "Carcinoma ROC AUC",
    "carcinoma_sensitivity": "Carcinoma sensitivity",
    "carcinoma_specificity": "Carcinoma specificity",
}
# Between which a metric lies, where it is not 0 and 1.
BOUNDS = {
    "kappa": (-1.0, 1.0),
    "quadratic_kappa": (-1.0, 1.0),
    "log_loss": (0.0, np.inf),
    "brier": (0.0, 2.0),
}
BINS = 10  # Of the reliability curve and of the calibration error.


def label(name: str, of: str = "") -> str:
    """A metric in words: Sensitivity, InSitu."""
    return LABELS[name] + (f", {of}" if of else "")


def mean_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over configurations, seeds and augmentations: [S, N, A, K] of each configuration -> float64 [N, K]."""
    return np.mean([each.mean(axis=(0, 2)) for each in scores], axis=0)


def positive_classes(classes: Sequence[str], named: Sequence[str] = ()) -> tuple[int, ...]:
    """Indices of the classes that count as carcinoma.

    Those named; else BACH's InSitu and Invasive where they are classes; else the second of two; else none, and then
    there are no two-class figures.

    Raises:
      InputError: a named class does not exist, or all classes are named.
    """
    if unknown := [name for name in named if name not in classes]:
        raise InputError(
            f"no class {', '.join(unknown)} to count as positive; there are {', '.join(classes)}"
        )
    chosen = set(named) or (set(BACH_CARCINOMA) if set(BACH_CARCINOMA) <= set(classes) else set())
    if not chosen and len(classes) == 2:
        chosen = {classes[1]}
    if len(chosen) == len(classes) and not named:
        return ()
    if len(chosen) == len(classes):
        raise InputError(
            f"all of {', '.join(classes)} are named as positive; leave at least one out"
        )
    return tuple(i for i, name in enumerate(classes) if name in chosen)


def positive_score(scores: np.ndarray, positive: Sequence[int]) -> np.ndarray:
    """The larger positive score against the larger negative one, renormalised to sum to 1: [N, K] -> [N]."""
    is_positive = np.isin(np.arange(scores.shape[1]), positive)
    highest = scores[:, is_positive].max(axis=1)
    return highest / (highest + scores[:, ~is_positive].max(axis=1))


def compute(cases: LabelledPredictions, weights: np.ndarray) -> dict[MetricKey, np.ndarray]:
    """Every metric that the cases allow, by name and what it is of: weights [B, N] -> float64 [B] each."""
    found = of_labels(confusion(cases, weights), cases.classes)
    if cases.positive:
        found |= of_two_classes(cases, weights)
    if cases.scores is not None:
        found |= probability_metrics(cases, weights)
    return found


def of_labels(matrix: np.ndarray, classes: Sequence[str]) -> dict[MetricKey, np.ndarray]:
    """What a confusion matrix says: [B, K, K], rows the truth."""
    total = matrix.sum(axis=(1, 2))
    right = np.diagonal(matrix, axis1=1, axis2=2)
    truth, said = matrix.sum(axis=2), matrix.sum(axis=1)
    sensitivity = ratio(right, truth)
    found = {
        ("accuracy", ""): right.sum(axis=1) / total,
        ("balanced_accuracy", ""): mean_of_defined(sensitivity),
        ("macro_f1", ""): mean_of_defined(ratio(2 * right, truth + said)),
        ("kappa", ""): kappa(matrix, 1 - np.eye(len(classes))),
        ("quadratic_kappa", ""): kappa(
            matrix, np.subtract.outer(range(len(classes)), range(len(classes))) ** 2
        ),
    }
    specificity = ratio(total[:, None] - truth - said + right, total[:, None] - truth)
    precision = ratio(right, said)
    for k, name in enumerate(classes):
        found["sensitivity", name] = sensitivity[:, k]
        found["specificity", name] = specificity[:, k]
        found["precision", name] = precision[:, k]
    return found


def of_two_classes(cases: LabelledPredictions, weights: np.ndarray) -> dict[MetricKey, np.ndarray]:
    """Carcinoma against the rest: of the argmax over all classes, collapsed to two; and of scores at the set-points."""
    called, truly = np.isin(cases.predicted, cases.positive), cases.is_positive
    found = {("carcinoma_accuracy", ""): weights @ (called == truly) / weights.sum(axis=1)}
    decisions = {"": called}
    if cases.scores is not None:
        score = positive_score(cases.scores, cases.positive)
        found["carcinoma_auc", ""] = area(score, truly, weights)
        decisions |= {f"{point:.2f}": score >= point for point in SET_POINTS}
    for name, decision in decisions.items():
        found["carcinoma_sensitivity", name] = ratio(weights @ (decision & truly), weights @ truly)
        found["carcinoma_specificity", name] = ratio(
            weights @ (~decision & ~truly), weights @ ~truly
        )
    return found


def probability_metrics(
    cases: LabelledPredictions, weights: np.ndarray
) -> dict[MetricKey, np.ndarray]:
    """Metrics of probabilities: log-loss, Brier score (sum over classes), calibration error, one-vs-rest areas."""
    scores, total = cases.scores, weights.sum(axis=1)
    true = np.eye(len(cases.classes))[cases.truth]
    of_truth = np.clip(scores[np.arange(len(scores)), cases.truth], np.finfo(np.float64).eps, 1)
    areas = [area(scores[:, k], cases.truth == k, weights) for k in range(len(cases.classes))]
    found = {
        ("log_loss", ""): weights @ -np.log(of_truth) / total,
        ("brier", ""): weights @ ((scores - true) ** 2).sum(axis=1) / total,
        ("calibration_error", ""): calibration_error(scores, cases.truth, weights),
        ("macro_auc", ""): mean_of_defined(np.stack(areas, axis=1)),
    }
    return found | {("auc", name): each for name, each in zip(cases.classes, areas, strict=True)}


def witnesses(cases: LabelledPredictions, key: MetricKey) -> np.ndarray:
    """The images that a metric rests on, bool [N]: a sensitivity on those of its class, an area on the rarer kind."""
    name, of = key
    every = np.ones(len(cases.truth), bool)
    if name.startswith("carcinoma"):
        kind, called = cases.is_positive, np.isin(cases.predicted, cases.positive)
    elif of in cases.classes:
        kind, called = (
            cases.truth == cases.classes.index(of),
            cases.predicted == cases.classes.index(of),
        )
    else:
        return every
    rarer = kind if kind.sum() <= len(kind) / 2 else ~kind
    return {"sensitivity": kind, "specificity": ~kind, "precision": called, "auc": rarer}.get(
        name.removeprefix("carcinoma_"), every
    )


def confusion(cases: LabelledPredictions, weights: np.ndarray) -> np.ndarray:
    """Weighted counts, rows the truth: [B, N] -> float64 [B, K, K]."""
    k = len(cases.classes)
    cells = cases.truth * k + cases.predicted
    return sums(weights, cells, k * k).reshape(-1, k, k)


def sums(weights: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Sums of the weights at each place 0 .. count - 1: [B, N], int [N] -> float64 [B, count]."""
    return weights @ (places[:, None] == np.arange(count)).astype(np.float64)


def kappa(matrix: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """Cohen's (1968) kappa, weighted by disagreement [K, K]; NaN where chance alone would never disagree: -> [B]."""
    expected = (
        matrix.sum(axis=2)[:, :, None]
        * matrix.sum(axis=1)[:, None, :]
        / matrix.sum(axis=(1, 2))[:, None, None]
    )
    return 1 - ratio(
        (matrix * disagreement).sum(axis=(1, 2)), (expected * disagreement).sum(axis=(1, 2))
    )


def area(score: np.ndarray, truly: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counted half: float [N], bool [N], [B, N] -> float64 [B]."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(
        np.diff(score[order], prepend=-np.inf) > 0
    )  # Of each run of equal scores.
    weights, truly = weights[:, order], truly[order]
    positive = np.add.reduceat(weights * truly, starts, axis=1)
    negative = np.add.reduceat(weights * ~truly, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def bins_of(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each answer, float64 [N], and its bin of equal width, int [N]; as in Guo et al. 2017."""
    confidence = scores.max(axis=1)
    return confidence, np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def calibration_error(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error of the answers (Guo et al. 2017, eq. 3): [N, K], int [N], [B, N] -> float64 [B]."""
    confidence, bins = bins_of(scores)
    gap = sums(weights * (confidence - (scores.argmax(axis=1) == truth)), bins, BINS)
    return np.abs(gap).sum(axis=1) / weights.sum(axis=1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(
        part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0
    )


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN: [B, K] -> [B]."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
