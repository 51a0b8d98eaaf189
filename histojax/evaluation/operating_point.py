"""The operating point for a wished sensitivity: a threshold of the carcinoma score, chosen where it is not judged.

For each fold the threshold is chosen on all other folds and applied to this one, so that no image is judged by a
threshold that it helped to choose. (The scores of the other folds are by models that trained on this fold's images, as
in any choice from the scores of one cross-validation: to rule that out too would take a cross-validation inside each.)
"""

import dataclasses

import numpy as np

from histojax.evaluation import metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import MetricKey

TARGET_SENSITIVITY = 0.95  # Wished, unless told otherwise.


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Calling carcinoma what scores at least a threshold.

    Attributes:
      wished: the sensitivity asked for.
      thresholds: of each fold, chosen on the others.
      threshold: chosen on all images, for images to come.
      called: bool [N], by the thresholds of the images' own folds.
    """

    target_sensitivity: float
    thresholds: tuple[float, ...]
    threshold: float
    called: np.ndarray


def choose_threshold(score: np.ndarray, truly: np.ndarray, wished: float) -> float:
    """The highest score that, as a threshold, finds at least the wished share of carcinomas: float [N], bool [N].

    0, which calls everything carcinoma, where there is none to choose by.
    """
    found = np.sort(score[truly])
    if not len(found):
        return 0.0
    missed = int(np.floor((1 - wished) * len(found) + 1e-9))
    return float(found[min(missed, len(found) - 1)])


def is_possible(cases: LabelledPredictions) -> bool:
    """Whether there is a carcinoma to choose by outside of each fold, and images of both kinds."""
    truly = cases.is_positive
    elsewhere = [truly[cases.folds != fold].any() for fold in range(cases.folds.max() + 1)]
    return bool(cases.positive) and all(elsewhere) and not truly.all()


def choose(cases: LabelledPredictions, wished: float = TARGET_SENSITIVITY) -> OperatingPoint:
    """Chooses and applies the thresholds: the cases must have scores, folds and positive classes."""
    score, truly = metrics.positive_score(cases.scores, cases.positive), cases.is_positive
    called, thresholds = np.zeros(len(score), bool), []
    for fold in range(cases.folds.max() + 1):
        there = cases.folds == fold
        thresholds.append(choose_threshold(score[~there], truly[~there], wished))
        called[there] = score[there] >= thresholds[-1]
    return OperatingPoint(wished, tuple(thresholds), choose_threshold(score, truly, wished), called)


def compute_metrics(
    point: OperatingPoint, cases: LabelledPredictions, weights: np.ndarray
) -> dict[MetricKey, np.ndarray]:
    """Sensitivity and specificity of the nested decisions under weights [B, N]: float64 [B] each."""
    called, truly, name = point.called, cases.is_positive, "nested"
    return {
        ("carcinoma_sensitivity", name): metrics.ratio(weights @ (called & truly), weights @ truly),
        ("carcinoma_specificity", name): metrics.ratio(
            weights @ (~called & ~truly), weights @ ~truly
        ),
    }
