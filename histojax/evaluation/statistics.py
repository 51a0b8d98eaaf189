"""What predictions are worth: every metric with its intervals and its values by fold, the ROC curve
with its band, calibration, and the operating point for a target sensitivity.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import roc_curve

from histojax.evaluation import bootstrap, calibration, chance, metrics, operating_point
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.calibration import CrossFittedTemperature, ReliabilityBin
from histojax.evaluation.chance import ChanceTest
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import METRICS, MetricKey
from histojax.evaluation.operating_point import OperatingPoint
from histojax.evaluation.weighted import Weighted, mean_of_defined, positive_score
from histojax.utils import ties

# Of weights [B, N] to metrics, float64 [B] each.
Statistic = Callable[[np.ndarray], dict[MetricKey, np.ndarray]]

# With fewer groups an interval is rough, and a band of the ROC curve says nothing.
FEW_GROUPS = 10
ROC_GRID = np.linspace(0, 1, 101)  # False positive rates at which the band of the ROC curve is.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric with its intervals.

    Attributes:
      name, of: its key: a name of METRICS, and a class, a set-point, or nothing.
      value: over all images.
      images: interval from resampled images.
      groups: interval from resampled groups; None where they are not known.
      by_fold: the metric in each fold, NaN where it is undefined; empty where folds are not known.
    """

    name: str
    of: str
    value: float
    images: Interval
    groups: Interval | None
    by_fold: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """The one to quote: from groups where they are known."""
        return self.groups or self.images

    @property
    def mean(self) -> float:
        """Mean over the folds in which it is defined."""
        return float(mean_of_defined(np.array(self.by_fold))) if self.by_fold else np.nan

    @property
    def deviation(self) -> float:
        """Population standard deviation over those folds, as in the paper's Table 1."""
        defined = [value for value in self.by_fold if not np.isnan(value)]
        return float(np.std(defined)) if defined else np.nan


@dataclasses.dataclass(frozen=True)
class RocCurve:
    """The ROC curve of the positive score, float64 [M] each, with a pointwise 95 % band, [101].

    The band is NaN where there are too few groups for one.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def has_band(self) -> bool:
        return not np.isnan(self.low).all()


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Everything that labelled predictions allow to estimate.

    Attributes:
      predictions: that they are of.
      estimates: every metric, by key.
      confusion: int [K, K], rows the truth.
      chance: whether they differ from chance; None where all images are of one class.
      roc: None without scores or positive classes, or where all images are of one kind.
      reliability: None without scores.
      temperature: None without scores or at least two folds.
      calibrated: metrics of the calibrated scores; empty where there are none.
      calibrated_reliability: of the calibrated scores.
      operating_point: None without scores, folds or positive classes, or where it cannot be chosen.
    """

    predictions: LabelledPredictions
    estimates: dict[MetricKey, Estimate]
    confusion: np.ndarray
    chance: ChanceTest | None = None
    roc: RocCurve | None = None
    reliability: tuple[ReliabilityBin, ...] | None = None
    temperature: CrossFittedTemperature | None = None
    calibrated: dict[MetricKey, Estimate] = dataclasses.field(default_factory=dict)
    calibrated_reliability: tuple[ReliabilityBin, ...] | None = None
    operating_point: OperatingPoint | None = None

    def value(self, name: str, of: str = "") -> float:
        """A metric over all images; NaN where the predictions do not allow it."""
        estimate = self.estimates.get((name, of))
        return np.nan if estimate is None else estimate.value


def compute(
    predictions: LabelledPredictions,
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    draws: int = DRAWS,
) -> Statistics:
    """Estimates everything that the predictions allow.

    Args:
      predictions: of N images.
      target_sensitivity: that the operating point is chosen for.
      draws: of each bootstrap, and of the permutation test.
    """

    def estimate(function: Callable[..., dict], *arguments: object) -> dict[MetricKey, Estimate]:
        return _estimates(lambda weights: function(*arguments, weights), predictions, draws)

    weighted = Weighted(predictions, np.ones((1, len(predictions.truth))))
    known = {
        "estimates": estimate(metrics.compute, predictions),
        "confusion": weighted.confusion[0].astype(int),
    }
    if len(np.unique(predictions.truth)) > 1:
        known["chance"] = chance.permutation_test(predictions, draws)
    if predictions.scores is not None:
        known["reliability"] = calibration.reliability_curve(predictions)
        if predictions.positive and 0 < predictions.is_positive.sum() < len(predictions.truth):
            known["roc"] = roc(predictions, draws)
    if predictions.scores is not None and predictions.fold_count > 1:
        temperature = calibration.cross_fit(predictions)
        if operating_point.is_possible(predictions):
            point = operating_point.choose(predictions, target_sensitivity, temperature.applied)
            known["operating_point"] = point
            known["estimates"] |= estimate(operating_point.compute_metrics, point, predictions)
        known["temperature"] = temperature
        known["calibrated"] = estimate(_calibration_metrics, temperature.predictions)
        known["calibrated_reliability"] = calibration.reliability_curve(temperature.predictions)
    return Statistics(predictions, **known)


def _calibration_metrics(
    predictions: LabelledPredictions, weights: np.ndarray
) -> dict[MetricKey, np.ndarray]:
    names = [name for name, metric in METRICS.items() if metric.calibration]
    return metrics.compute(predictions, weights, names)


def _estimates(
    statistic: Statistic, predictions: LabelledPredictions, draws: int
) -> dict[MetricKey, Estimate]:
    """A statistic with intervals and values by fold."""
    value = statistic(np.ones((1, len(predictions.truth))))
    groups = predictions.resampling_groups
    from_images = intervals(statistic, predictions, len(predictions.truth), draws)
    from_groups = intervals(statistic, predictions, groups, draws) if groups else {}
    by_fold = {}
    if predictions.folds is not None:
        in_fold = np.arange(predictions.fold_count)[:, None] == predictions.folds
        by_fold = statistic(in_fold.astype(np.float64))
    return {
        key: Estimate(
            *key,
            value=float(value[key][0]),
            images=from_images[key],
            groups=from_groups.get(key),
            by_fold=tuple(by_fold[key].tolist()) if by_fold else (),
        )
        for key in value
    }


def intervals(
    statistic: Statistic, predictions: LabelledPredictions, groups: Sequence[str] | int, draws: int
) -> dict[MetricKey, Interval]:
    """The interval of each metric of a statistic, with images or groups resampled."""
    value = statistic(np.ones((1, len(predictions.truth))))
    return {
        key: bootstrap.confidence_interval(
            float(value[key][0]),
            drawn,
            bootstrap.effective_size(groups, metrics.rests_on(predictions, key)),
            METRICS[key[0]].bounds,
        )
        for key, drawn in bootstrap.resample(statistic, groups, draws).items()
    }


def roc(predictions: LabelledPredictions, draws: int = DRAWS) -> RocCurve:
    """The ROC curve of the positive score; its band resamples groups where they are known."""
    score = ties.merge(positive_score(predictions.scores, predictions.positive))
    groups, is_positive = predictions.resampling_groups or len(score), predictions.is_positive
    false_rate, true_rate, _ = roc_curve(is_positive, score, drop_intermediate=False)
    if (groups if isinstance(groups, int) else len({*groups})) < FEW_GROUPS:
        no_band = np.full(len(ROC_GRID), np.nan)
        return RocCurve(false_rate, true_rate, no_band, no_band)
    order = np.argsort(-score, kind="stable")
    # The last place of each run of equal scores.
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf) < 0)
    curves = [
        curve
        for weights in bootstrap.resampling_weights(groups, draws)
        for curve in _resampled_curves(weights[:, order], is_positive[order], ends)
    ]
    size = bootstrap.effective_size(groups)
    band = np.array([bootstrap.percentile_interval(rates, size) for rates in np.array(curves).T])
    return RocCurve(false_rate, true_rate, band[:, 0], band[:, 1])


def _resampled_curves(
    weights: np.ndarray, is_positive: np.ndarray, ends: np.ndarray
) -> list[np.ndarray]:
    """True positive rates at ROC_GRID in each draw that has images of both kinds.

    Args:
      weights: float64 [B, N], the image with the highest score first.
      is_positive: bool [N].
      ends: int [M], the last place of each run of equal scores.
    """
    true = np.cumsum(weights * is_positive, axis=1)[:, ends]
    false = np.cumsum(weights * ~is_positive, axis=1)[:, ends]
    return [
        np.interp(ROC_GRID, np.append(0, f / f[-1]), np.append(0, t / t[-1]))
        for t, f in zip(true, false, strict=True)
        if t[-1] and f[-1]
    ]
