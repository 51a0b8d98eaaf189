"""Calibration: the reliability curve, and a temperature that is fitted out of fold."""

import dataclasses

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from histojax.evaluation.bootstrap import LEVEL
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import confidence_bins

TEMPERATURE_RANGE = (0.02, 50.0)  # In which a temperature is sought.


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence.

    Attributes:
      count: how many they are.
      confidence: their mean.
      right: the share of them that are right.
      low, high: its exact 95 % interval.
    """

    count: int
    confidence: float
    right: float
    low: float
    high: float


def reliability_curve(predictions: LabelledPredictions) -> tuple[ReliabilityBin, ...]:
    """The share of right predictions in bins of equal width of confidence (Guo et al. 2017).

    Empty bins are left out. The intervals are those of Clopper and Pearson, for independent images.
    """
    confidence, bins = confidence_bins(predictions.scores)
    is_right = predictions.predicted == predictions.truth
    curve = []
    for place in np.unique(bins):
        inside = bins == place
        right, count = int(is_right[inside].sum()), int(inside.sum())
        interval = binomtest(right, count).proportion_ci(LEVEL)
        curve.append(
            ReliabilityBin(
                count,
                confidence=float(confidence[inside].mean()),
                right=float(is_right[inside].mean()),
                low=float(interval.low),
                high=float(interval.high),
            )
        )
    return tuple(curve)


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """The T that minimises the log-loss of softmax(log p / T): float64 [N, K], int [N]."""
    logits, images = _logits(scores), np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[images, truth].mean()

    bounds = tuple(np.log(TEMPERATURE_RANGE))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def apply_temperature(scores: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(log p / T): [N, K], T a number or one for each image [N] -> [N, K]."""
    return np.exp(log_softmax(_logits(scores) / np.reshape(temperature, (-1, 1)), axis=1))


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.log(np.clip(scores, np.finfo(np.float64).eps, 1))


@dataclasses.dataclass(frozen=True)
class CrossFittedTemperature:
    """A temperature for each fold that the fold's own images did not choose.

    Attributes:
      by_fold: the T used on each fold, fitted on all others.
      overall: the T fitted on all images, for images to come.
      predictions: with the calibrated scores; no temperature changes which class scores highest.
    """

    by_fold: tuple[float, ...]
    overall: float
    predictions: LabelledPredictions


def cross_fit(predictions: LabelledPredictions) -> CrossFittedTemperature:
    """Fits a temperature for each fold on all others; needs scores and at least two folds."""
    scores, truth = predictions.scores, predictions.truth
    calibrated, by_fold = np.empty_like(scores), []
    for fold in range(predictions.fold_count):
        inside = predictions.folds == fold
        by_fold.append(fit_temperature(scores[~inside], truth[~inside]))
        calibrated[inside] = apply_temperature(scores[inside], by_fold[-1])
    overall = fit_temperature(scores, truth)
    predictions = dataclasses.replace(predictions, scores=calibrated)
    return CrossFittedTemperature(tuple(by_fold), overall, predictions)
