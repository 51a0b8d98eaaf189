"""Whether a probability means what it says: the reliability curve, and a temperature fitted out of fold."""

import dataclasses

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from histojax.evaluation import metrics
from histojax.evaluation.bootstrap import LEVEL
from histojax.evaluation.labelled_predictions import LabelledPredictions

TEMPERATURE_RANGE = (0.02, 50.0)  # In which a temperature is looked for.


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """Answers of about equal confidence: their mean confidence, the share that was right, its exact 95 % interval."""

    count: int
    confidence: float
    right: float
    low: float
    high: float


def reliability_curve(cases: LabelledPredictions) -> tuple[ReliabilityBin, ...]:
    """The reliability curve of the answers, in bins of equal width; empty ones are left out (Guo et al. 2017).

    The intervals are Clopper and Pearson's, of independent images.
    """
    confidence, bins = metrics.bins_of(cases.scores)
    right = cases.predicted == cases.truth
    found = []
    for place in np.unique(bins):
        there = bins == place
        interval = binomtest(int(right[there].sum()), int(there.sum())).proportion_ci(LEVEL)
        found.append(
            ReliabilityBin(
                int(there.sum()),
                float(confidence[there].mean()),
                float(right[there].mean()),
                float(interval.low),
                float(interval.high),
            )
        )
    return tuple(found)


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """The T that minimises the log-loss of softmax(log p / T): float64 [N, K], int [N]."""
    logits = np.log(np.clip(scores, np.finfo(np.float64).eps, 1))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[
            np.arange(len(truth)), truth
        ].mean()

    low, high = np.log(TEMPERATURE_RANGE)
    return float(
        np.exp(
            minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x
        )
    )


def apply_temperature(scores: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(log p / T): [N, K], T a number or one for each image [N] -> [N, K]."""
    logits = np.log(np.clip(scores, np.finfo(np.float64).eps, 1))
    return np.exp(log_softmax(logits / np.reshape(temperature, (-1, 1)), axis=1))


@dataclasses.dataclass(frozen=True)
class CrossFittedTemperature:
    """Scores calibrated by a temperature that the image's own fold did not choose.

    Attributes:
      by_fold: the T used on each fold, fitted on all others.
      overall: the T fitted on all images, for images to come.
      cases: with the calibrated scores; answers are the same, for a temperature changes no order.
    """

    by_fold: tuple[float, ...]
    overall: float
    predictions: LabelledPredictions


def cross_fit(cases: LabelledPredictions) -> CrossFittedTemperature:
    """Fits a temperature on all folds but one, for each: the cases must have scores and at least two folds."""
    by_fold = []
    scores = np.empty_like(cases.scores)
    for fold in range(cases.folds.max() + 1):
        there = cases.folds == fold
        by_fold.append(fit_temperature(cases.scores[~there], cases.truth[~there]))
        scores[there] = apply_temperature(cases.scores[there], by_fold[-1])
    overall = fit_temperature(cases.scores, cases.truth)
    return CrossFittedTemperature(
        tuple(by_fold), overall, dataclasses.replace(cases, scores=scores)
    )
