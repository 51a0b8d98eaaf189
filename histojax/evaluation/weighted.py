"""Labelled predictions under weightings of their images, and the arithmetic of metrics.

N images, B weightings, K classes. Whatever is undefined is NaN.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from histojax.config import SET_POINTS
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.utils import ties

BINS = 10  # Of the reliability curve and of the calibration error.


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Labelled predictions under weights [B, N] of their images: what metrics are functions of."""

    predictions: LabelledPredictions
    weights: np.ndarray

    @functools.cached_property
    def total(self) -> np.ndarray:
        """Sum of the weights, float64 [B]."""
        return self.weights.sum(axis=1)

    @functools.cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weight of correct predictions, of images and of predictions: [B, K] by class."""
        matrix = self.confusion
        return np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=2), matrix.sum(axis=1)

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """Weighted counts, rows the truth, float64 [B, K, K]."""
        k = len(self.predictions.classes)
        cells = self.predictions.truth * k + self.predictions.predicted
        return sums(self.weights, cells, k * k).reshape(-1, k, k)

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """Area under the ROC curve of each class against the rest, float64 [B, K]."""
        truth, scores = self.predictions.truth, self.predictions.scores
        by_class = [area(s, truth == k, self.weights) for k, s in enumerate(scores.T)]
        return np.stack(by_class, axis=1)

    @functools.cached_property
    def decisions(self) -> dict[str, np.ndarray]:
        """Which images are called positive, bool [N]: by the predicted class, at each set-point."""
        decisions = {"": self.predictions.predicted_positive}
        if self.predictions.scores is not None:
            score = positive_score(self.predictions.scores, self.predictions.positive)
            decisions |= {f"{point:.2f}": score >= ties.lower(point) for point in SET_POINTS}
        return decisions


def positive_score(scores: np.ndarray, positive: Sequence[int]) -> np.ndarray:
    """Highest positive score, over the sum of it and the highest negative one: [N, K] -> [N]."""
    is_positive = np.isin(np.arange(scores.shape[1]), positive)
    highest = scores[:, is_positive].max(axis=1)
    return highest / (highest + scores[:, ~is_positive].max(axis=1))


def area(score: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counted half: float [N], bool [N], [B, N] -> float64 [B]."""
    score = ties.merge(score)
    order = np.argsort(score, kind="stable")
    # The first place of each run of equal scores.
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)
    weights, true = weights[:, order], true[order]
    positive = np.add.reduceat(weights * true, starts, axis=1)
    negative = np.add.reduceat(weights * ~true, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def confidence_bins(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest score of each image, float64 [N], and its bin of equal width, int [N]."""
    confidence = scores.max(axis=1)
    return confidence, np.clip(np.ceil(ties.lower(confidence) * BINS).astype(int) - 1, 0, BINS - 1)


def share(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted share of the whole that is part too: bool [N], bool [N], [B, N] -> float64 [B]."""
    return ratio(weights @ (part & whole), weights @ whole)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=undefined, where=whole != 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN: [B, K] -> [B]."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def sums(weights: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Sums of the weights at each place 0 .. count - 1: [B, N], int [N] -> float64 [B, count]."""
    return weights @ (places[:, None] == np.arange(count)).astype(np.float64)


def weighted_kappa(matrix: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """Cohen's (1968) weighted kappa: [B, K, K], [K, K] -> [B]; NaN where chance never errs."""
    images, predictions = matrix.sum(axis=2), matrix.sum(axis=1)
    total = matrix.sum(axis=(1, 2))[:, None, None]
    expected = images[:, :, None] * predictions[:, None, :] / total
    observed = (matrix * disagreement).sum(axis=(1, 2))
    return 1 - ratio(observed, (expected * disagreement).sum(axis=(1, 2)))
