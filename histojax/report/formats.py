"""How a report prints numbers and metrics' names, and how it writes them as JSON.

Shares are percentages, everything else has three decimals, and a dash stands for what is undefined.
"""

import math
from typing import Any

import numpy as np

from histojax.evaluation import metrics
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.comparison import Difference
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import METRICS
from histojax.evaluation.statistics import Estimate

_DASH = "–"
NO_INTERVAL = "no interval"  # Where none can be computed.


def label(metric: Estimate | Difference, predictions: LabelledPredictions) -> str:
    """What a metric is called; one of the positive classes by their names."""
    return metrics.label(metric.name, metric.of, predictions)


def number(metric: str, value: float) -> str:
    """A metric's value: 87.2 %, or 0.973."""
    unit = " %" if METRICS[metric].percent else ""
    return bare(metric, value) + unit if math.isfinite(value) else _DASH


def bare(metric: str, value: float) -> str:
    """A metric's value without its unit: 87.2, or 0.973."""
    if not math.isfinite(value):
        return _DASH
    return f"{100 * value:.1f}" if METRICS[metric].percent else f"{value:.3f}"


def interval(metric: str, ends: Interval) -> str:
    """83.1 to 90.4 %; `no interval` where neither end is known."""
    if math.isnan(ends.low) and math.isnan(ends.high):
        return NO_INTERVAL
    return f"{bare(metric, ends.low)} to {number(metric, ends.high)}"


def signed_interval(ends: Interval) -> str:
    """-0.0302 to +0.0646, of a difference; `no interval` where an end is not known."""
    if math.isnan(ends.low) or math.isnan(ends.high):
        return NO_INTERVAL
    return f"{ends.low:+.4f} to {ends.high:+.4f}"


def no_interval(predictions: LabelledPredictions) -> str:
    """Why some metrics of these predictions have no interval, in words."""
    groups = predictions.resampling_groups
    of = f"{len(set(groups))} groups" if groups else f"{len(predictions.names)} images"
    unit = "groups of similar size" if groups else "images"
    return (
        f"{NO_INTERVAL}: it takes images of at least two {unit}, of each kind that the "
        f"metric is of, so it cannot be computed from these {of}"
    )


def spread(metric: str, mean: float, deviation: float) -> str:
    """87.2 ± 2.6 %."""
    return _DASH if math.isnan(mean) else f"{bare(metric, mean)} ± {number(metric, deviation)}"


def percent(share: float) -> str:
    """A share as a percentage."""
    return number("accuracy", share)


def points(change: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * change:+.1f}".replace("-", "−") if math.isfinite(change) else _DASH


def for_json(value: Any) -> Any:
    """Arrays as lists, names as text, and None where a number is NaN or infinite."""
    if isinstance(value, dict):
        return {str(key): for_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return for_json(value.tolist())
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    if isinstance(value, np.generic):
        return for_json(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
