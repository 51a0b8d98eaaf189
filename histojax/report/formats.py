"""Numbers as people read them: shares in percent, everything else with three decimals; a dash where there is none."""

import math

from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.metrics import METRICS

NONE = "–"


def bare(metric: str, value: float) -> str:
    """A metric's value without unit: 87.2, or 0.973."""
    if not math.isfinite(value):
        return NONE
    return f"{100 * value:.1f}" if METRICS[metric].percent else f"{value:.3f}"


def unit(metric: str) -> str:
    return " %" if METRICS[metric].percent else ""


def number(metric: str, value: float) -> str:
    """87.2 %, or 0.973."""
    return bare(metric, value) + unit(metric) if math.isfinite(value) else NONE


def interval(metric: str, found: Interval | None) -> str:
    """83.1 to 90.4 %; a dash where there is none, or only one end."""
    if found is None or math.isnan(found.low) and math.isnan(found.high):
        return NONE
    return f"{bare(metric, found.low)} to {number(metric, found.high)}"


def spread(metric: str, mean: float, deviation: float) -> str:
    """87.2 ± 2.6 %."""
    return NONE if math.isnan(mean) else f"{bare(metric, mean)} ± {number(metric, deviation)}"


def percent(value: float) -> str:
    """A share in percent."""
    return number("accuracy", value)


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−") if math.isfinite(value) else NONE
