"""Calibration: the reliability curve, and a temperature that is fitted out of fold."""

import dataclasses

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from histojax.evaluation.bootstrap import LEVEL
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import confidence_bins
from histojax.utils import ties

TEMPERATURE_RANGE = (0.02, 50.0)  # In which a temperature is sought.
_NEAR_BOUND = 0.9  # Above this share of its largest value, or likewise below, it is at its bound.
_FEW_WRONG = 0.05  # Up to this share of wrong answers, nearly all are right.


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
    """softmax(log p / T): [N, K], T a number or one for each image [N] -> [N, K].

    A T of 1 leaves the scores as they are, to the last bit.
    """
    if np.ndim(temperature) == 0 and temperature == 1:
        return scores
    return np.exp(log_softmax(_logits(scores) / np.reshape(temperature, (-1, 1)), axis=1))


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.log(np.clip(scores, np.finfo(np.float64).eps, 1))


@dataclasses.dataclass(frozen=True)
class CrossFittedTemperature:
    """A temperature for each fold that the fold's own images did not choose.

    Attributes:
      by_fold: the T of each fold, fitted on all others.
      overall: the T fitted on all images.
      losses: the log-loss of the scores as they are, and of those calibrated fold by fold.
      briers: the Brier score of both.
      predictions: with the scores calibrated fold by fold; no temperature changes which class
        scores highest.
    """

    by_fold: tuple[float, ...]
    overall: float
    losses: tuple[float, float]
    briers: tuple[float, float]
    predictions: LabelledPredictions

    @property
    def applied(self) -> float:
        """The T for images to come: the overall one, or 1 where it makes them worse or where
        nothing is wrong to fit it by.
        """
        before, after = self.losses
        return 1.0 if ties.lower(after) > before or self._is_lowest else self.overall

    @property
    def text(self) -> str:
        """Whether a temperature is applied, and what it means, in a sentence or two."""
        before, after = self.losses
        losses = f"log-loss {before:.3f} without it and {after:.3f} with that of the other folds"
        if self._is_lowest:
            return (
                "No temperature is applied (T = 1): all or nearly all images are classified "
                "correctly out of fold, which leaves nothing to calibrate by "
                f"({self.overall:.3f} would fit best, {losses})."
            )
        if self.applied != self.overall:
            return (
                f"No temperature is applied (T = 1): that of {self.overall:.3f}, fitted on all "
                f"folds, would make images it was not fitted on worse ({losses})."
            )
        said = f"Probabilities are calibrated by a temperature of {self.overall:.3f} ({losses})."
        before, after = self.briers
        if ties.lower(after) > before:
            said += f" Their Brier score gets worse by it ({before:.3f} to {after:.3f})."
        low, high = TEMPERATURE_RANGE
        if self.overall > _NEAR_BOUND * high:
            said += (
                f" It lies at the upper end of its range ({low:g} to {high:g}): the scores do not "
                "tell the classes apart."
            )
        elif self._is_at_lower_end:
            said += (
                f" It lies at the lower end of its range ({low:g} to {high:g}): the scores hardly "
                "differ from image to image, though their order tells the classes apart."
            )
        return said

    @property
    def _is_lowest(self) -> bool:
        """Whether the temperature is as low as can be, for want of wrong predictions."""
        wrong = (self.predictions.predicted != self.predictions.truth).mean()
        return bool(wrong == 0 or (self._is_at_lower_end and wrong <= _FEW_WRONG))

    @property
    def _is_at_lower_end(self) -> bool:
        return self.overall < TEMPERATURE_RANGE[0] / _NEAR_BOUND


def cross_fit(predictions: LabelledPredictions) -> CrossFittedTemperature:
    """Fits a temperature for each fold on all others; needs scores and at least two folds."""
    scores, truth = predictions.scores, predictions.truth
    calibrated, by_fold = np.empty_like(scores), []
    for fold in range(predictions.fold_count):
        inside = predictions.folds == fold
        by_fold.append(fit_temperature(scores[~inside], truth[~inside]))
        calibrated[inside] = apply_temperature(scores[inside], by_fold[-1])
    overall = fit_temperature(scores, truth)
    losses = log_loss(scores, truth), log_loss(calibrated, truth)
    briers = _brier(scores, truth), _brier(calibrated, truth)
    predictions = dataclasses.replace(predictions, scores=calibrated)
    return CrossFittedTemperature(tuple(by_fold), overall, losses, briers, predictions)


def log_loss(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -ln(probability of the true class): float64 [N, K], int [N]."""
    return float(-_logits(scores)[np.arange(len(truth)), truth].mean()) + 0.0  # Never -0.0.


def _brier(scores: np.ndarray, truth: np.ndarray) -> float:
    """The Brier score, as `metrics.brier`: float64 [N, K], int [N]."""
    return float(((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1).mean())
