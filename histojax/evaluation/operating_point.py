"""The threshold of the positive score for a target sensitivity, chosen out of fold.

The threshold of each fold is chosen on all other folds, so that no image is called by a threshold
that it helped to choose. (The scores of the other folds are by models that trained on this fold's
images, as in any choice from the scores of one cross-validation; to rule that out too would take a
cross-validation inside each fold.)
"""

import dataclasses

import numpy as np

from histojax.evaluation import calibration
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import NESTED, MetricKey
from histojax.evaluation.weighted import positive_score, share
from histojax.utils import ties

TARGET_SENSITIVITY = 0.95  # Unless another is asked for.


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Images that score at least a threshold are called positive.

    Attributes:
      target_sensitivity: the sensitivity asked for.
      thresholds: of each fold, chosen on the others.
      threshold: chosen on all images, for images to come.
      called: bool [N], by the thresholds of the images' own folds.
    """

    target_sensitivity: float
    thresholds: tuple[float, ...]
    threshold: float
    called: np.ndarray


def choose_threshold(
    score: np.ndarray, is_positive: np.ndarray, target_sensitivity: float
) -> float:
    """The highest score that, as a threshold, finds at least the target share of positive images.

    Args:
      score: float [N].
      is_positive: bool [N].
      target_sensitivity: between 0 and 1.

    Returns:
      A score; 0, which calls every image positive, where there is no positive image to choose by.
    """
    scores = np.sort(score[is_positive])
    if not len(scores):
        return 0.0
    missed = int(np.floor((1 - target_sensitivity) * len(scores) + 1e-9))
    return float(scores[min(missed, len(scores) - 1)])


def is_possible(predictions: LabelledPredictions) -> bool:
    """Whether every fold leaves a positive image to choose by, and some image is negative."""
    is_positive, folds = predictions.is_positive, predictions.folds
    outside = [is_positive[folds != fold].any() for fold in range(predictions.fold_count)]
    return bool(predictions.positive) and all(outside) and not is_positive.all()


def choose(
    predictions: LabelledPredictions,
    target_sensitivity: float = TARGET_SENSITIVITY,
    temperature: float = 1.0,
) -> OperatingPoint:
    """Chooses the thresholds and applies them.

    Args:
      predictions: with scores, folds and positive classes.
      target_sensitivity: between 0 and 1.
      temperature: that calibrates the scores of images to come. Thresholds are of the calibrated
        score; which images reach them does not depend on it.
    """
    scores = calibration.apply_temperature(predictions.scores, temperature)
    score = positive_score(scores, predictions.positive)
    is_positive = predictions.is_positive
    called, thresholds = np.zeros(len(score), bool), []
    for fold in range(predictions.fold_count):
        inside = predictions.folds == fold
        threshold = choose_threshold(score[~inside], is_positive[~inside], target_sensitivity)
        called[inside] = score[inside] >= ties.lower(threshold)
        thresholds.append(threshold)
    overall = choose_threshold(score, is_positive, target_sensitivity)
    return OperatingPoint(target_sensitivity, tuple(thresholds), overall, called)


def compute_metrics(
    point: OperatingPoint, predictions: LabelledPredictions, weights: np.ndarray
) -> dict[MetricKey, np.ndarray]:
    """Sensitivity and specificity of the nested decisions: weights [B, N] -> float64 [B] by key."""
    called, positive = point.called, predictions.is_positive
    return {
        ("positive_sensitivity", NESTED): share(called, positive, weights),
        ("positive_specificity", NESTED): share(~called, ~positive, weights),
    }
