"""What predictions are worth: every metric with its intervals and its values by fold, the ROC curve with its band,
calibration, and the operating point for a wished sensitivity.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import roc_curve

from histojax.evaluation import bootstrap, calibration, metrics, operating_point
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.calibration import CrossFittedTemperature, ReliabilityBin
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import MetricKey
from histojax.evaluation.operating_point import OperatingPoint

ROC_GRID = np.linspace(
    0, 1, 101
)  # False positive rates at which the band of the ROC curve is given.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One metric.

    Attributes:
      name, of: its key: a name of `metrics.LABELS`, and a class, a set-point, or nothing.
      value: over all images.
      images: interval of resampled images.
      groups: interval of resampled groups; None where they are not known.
      by_fold: the metric in each fold, NaN where it is undefined; empty where folds are not known.
    """

    name: str
    of: str
    value: float
    images: Interval
    groups: Interval | None
    by_fold: tuple[float, ...]

    @property
    def label(self) -> str:
        """Sensitivity, InSitu."""
        return metrics.label(self.name, self.of)

    @property
    def interval(self) -> Interval:
        """The one to quote: of groups where they are known."""
        return self.groups or self.images

    @property
    def mean(self) -> float:
        """Over the folds in which it is defined."""
        return float(metrics.mean_of_defined(np.array(self.by_fold))) if self.by_fold else np.nan

    @property
    def deviation(self) -> float:
        """Population standard deviation over those folds, as in the paper's Table 1."""
        defined = np.array(self.by_fold)[~np.isnan(self.by_fold)] if self.by_fold else np.array([])
        return float(defined.std()) if defined.size else np.nan


@dataclasses.dataclass(frozen=True)
class RocCurve:
    """The ROC curve of the carcinoma score, float64 [M] each, and a pointwise 95 % band, [101], at ROC_GRID."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is known of a set of cases.

    Attributes:
      cases: they.
      figures: every metric, by key.
      confusion: int [K, K], rows the truth.
      roc: None without scores or positive classes, or where all images are of one kind.
      reliability: None without scores.
      temperature: None without scores and folds.
      calibrated: metrics of the tempered scores; empty where there are none.
      calibrated_reliability: of the tempered scores.
      operating: None without scores, folds and positive classes, or where some fold has all carcinomas.
    """

    predictions: LabelledPredictions
    estimates: dict[MetricKey, Estimate]
    confusion: np.ndarray
    roc: RocCurve | None = None
    reliability: tuple[ReliabilityBin, ...] | None = None
    temperature: CrossFittedTemperature | None = None
    calibrated: dict[MetricKey, Estimate] = dataclasses.field(default_factory=dict)
    calibrated_reliability: tuple[ReliabilityBin, ...] | None = None
    operating_point: OperatingPoint | None = None

    def value(self, name: str, of: str = "") -> float:
        """A metric over all images; NaN where the cases do not allow it."""
        figure = self.estimates.get((name, of))
        return np.nan if figure is None else figure.value


def compute(
    cases: LabelledPredictions,
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    draws: int = DRAWS,
) -> Statistics:
    """Judges predictions by everything that they allow."""
    found = measure(lambda weights: metrics.compute(cases, weights), cases, draws)
    matrix = metrics.confusion(cases, np.ones((1, len(cases.truth))))[0].astype(int)
    judgement = Statistics(cases, found, matrix)
    if cases.scores is None:
        return judgement
    judgement = dataclasses.replace(judgement, reliability=calibration.reliability_curve(cases))
    both_kinds = bool(cases.positive) and 0 < cases.is_positive.sum() < len(cases.truth)
    if both_kinds:
        judgement = dataclasses.replace(judgement, roc=roc(cases, draws))
    if cases.folds is None or cases.folds.max() < 1:
        return judgement
    if operating_point.is_possible(cases):
        point = operating_point.choose(cases, target_sensitivity)
        chosen = measure(
            lambda weights: operating_point.compute_metrics(point, cases, weights), cases, draws
        )
        judgement = dataclasses.replace(judgement, operating_point=point, estimates=found | chosen)
    tempered = calibration.cross_fit(cases)
    return dataclasses.replace(
        judgement,
        temperature=tempered,
        calibrated=measure(
            lambda weights: calibrated_figures(tempered.predictions, weights), cases, draws
        ),
        calibrated_reliability=calibration.reliability_curve(tempered.predictions),
    )


def calibrated_figures(
    cases: LabelledPredictions, weights: np.ndarray
) -> dict[MetricKey, np.ndarray]:
    """The metrics that a temperature changes."""
    found = metrics.probability_metrics(cases, weights)
    return {(name, ""): found[name, ""] for name in ("log_loss", "brier", "calibration_error")}


def measure(
    statistic: Callable[[np.ndarray], dict[MetricKey, np.ndarray]],
    cases: LabelledPredictions,
    draws: int = DRAWS,
) -> dict[MetricKey, Estimate]:
    """A statistic of weights [B, N] as figures with intervals and values by fold."""
    value = statistic(np.ones((1, len(cases.truth))))
    of_images = sure(statistic, cases, len(cases.truth), draws)
    of_groups = (
        sure(statistic, cases, cases.resampling_groups, draws) if cases.resampling_groups else None
    )
    by_fold = None
    if cases.folds is not None:
        by_fold = statistic(
            (np.arange(cases.folds.max() + 1)[:, None] == cases.folds).astype(np.float64)
        )
    return {
        key: Estimate(
            *key,
            float(value[key][0]),
            of_images[key],
            of_groups and of_groups[key],
            tuple(by_fold[key].tolist()) if by_fold else (),
        )
        for key in value
    }


def sure(
    statistic: Callable[[np.ndarray], dict[MetricKey, np.ndarray]],
    cases: LabelledPredictions,
    groups: Sequence[str] | int,
    draws: int,
) -> dict[MetricKey, Interval]:
    """The interval of each figure of a statistic, images or groups resampled."""
    value = statistic(np.ones((1, len(cases.truth))))
    found = bootstrap.resample(statistic, groups, draws)
    return {
        key: bootstrap.confidence_interval(
            float(value[key][0]),
            drawn,
            bootstrap.effective_size(groups, metrics.witnesses(cases, key)),
            metrics.BOUNDS.get(key[0], (0.0, 1.0)),
        )
        for key, drawn in found.items()
    }


def roc(cases: LabelledPredictions, draws: int = DRAWS) -> RocCurve:
    """The ROC curve of the carcinoma score with its band, of groups where they are known."""
    score, truly = metrics.positive_score(cases.scores, cases.positive), cases.is_positive
    groups = cases.resampling_groups or len(score)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf) < 0)  # Of each run of equal scores.
    drawn = [
        curve
        for weights in bootstrap.resampling_weights(groups, draws)
        for curve in sampled_curves(weights[:, order], truly[order], ends)
    ]
    units = bootstrap.effective_size(groups)
    band = np.array([bootstrap.percentile_interval(column, units) for column in np.array(drawn).T])
    false_positive_rate, true_positive_rate, _ = roc_curve(truly, score, drop_intermediate=False)
    return RocCurve(false_positive_rate, true_positive_rate, band[:, 0], band[:, 1])


def sampled_curves(weights: np.ndarray, truly: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """True positive rates at ROC_GRID of each draw that has both kinds: [B, N], bool [N], int [M]; best score first."""
    found = np.cumsum(weights * truly, axis=1)[:, ends]
    false = np.cumsum(weights * ~truly, axis=1)[:, ends]
    return [
        np.interp(ROC_GRID, np.append(0, f / f[-1]), np.append(0, t / t[-1]))
        for t, f in zip(found, false, strict=True)
        if t[-1] and f[-1]
    ]
