"""95 % intervals from a bootstrap of images, or of whole groups, for metrics and their differences.

A draw takes N images with replacement. With groups it takes as many groups as there are, each with
all its images, for images of one patient are not independent (Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8). A draw is a row of counts, so that a metric is
computed in all draws at once.

The draws give the standard error. The interval is Student's, on a scale on which the metric is
unbounded (the logit between two bounds, the logarithm above one: section 5.2.2 there), so that it
stays within the bounds and is skewed as it should be. At a bound itself, where all draws agree, it
is the exact interval of Clopper and Pearson.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

DRAWS = 2000
SEED = 0
LEVEL = 0.95
_COUNTS_AT_ONCE = 4_000_000  # Held in memory at a time.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
      low, high: its ends; NaN where there is none.
      left_out: draws in which the metric was undefined.
    """

    low: float
    high: float
    left_out: int = 0


def resampling_weights(
    groups: Sequence[str] | int, count: int = DRAWS, seed: int = SEED
) -> Iterator[np.ndarray]:
    """How often each image is drawn, some draws at a time: float64 [at most count, N].

    Args:
      groups: of each image; or N, where each image is resampled by itself.
      count: draws in all.
      seed: of numpy's default generator.
    """
    rng = np.random.default_rng(seed)
    if isinstance(groups, int):
        group = np.arange(groups)
    else:
        group = np.unique(list(groups), return_inverse=True)[1]
    units = int(group.max()) + 1
    step = max(1, _COUNTS_AT_ONCE // len(group))
    for start in range(0, count, step):
        drawn = rng.integers(units, size=(min(step, count - start), units))
        rows = np.arange(len(drawn))[:, None] * units
        counts = np.bincount((drawn + rows).ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield counts[:, group].astype(float)


def resample(
    statistic: Callable[[np.ndarray], dict[Any, np.ndarray]],
    groups: Sequence[str] | int,
    count: int = DRAWS,
) -> dict[Any, np.ndarray]:
    """A statistic of weights [B, N] in every draw: float64 [count] by key."""
    parts = [statistic(weights) for weights in resampling_weights(groups, count)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def confidence_interval(
    value: float,
    drawn: np.ndarray,
    size: float,
    bounds: tuple[float, float] | None = None,
    level: float = LEVEL,
) -> Interval:
    """The interval of a metric.

    Args:
      value: the metric itself.
      drawn: it in every draw, float64 [B]; draws in which it is NaN are left out.
      size: of the sample, by `effective_size`; a resample's variance is too small by 1 - 1/size.
      bounds: between which the metric lies, the upper one may be infinite; None for a difference.
      level: of confidence.
    """
    defined = drawn[~np.isnan(drawn)]
    left_out = len(drawn) - defined.size
    if not defined.size or size < 2 or np.isnan(value):
        return Interval(np.nan, np.nan, left_out)
    reach = stats.t.ppf((1 + level) / 2, size - 1) * defined.std() * np.sqrt(size / (size - 1))
    if bounds is None:
        return Interval(float(value - reach), float(value + reach), left_out)
    low, high = bounds
    if value - low <= _ROUNDING or high - value <= _ROUNDING:
        return _interval_at_bound(value, size, bounds, left_out, level)
    if np.isinf(high):
        shift = reach / (value - low)
        with np.errstate(over="ignore"):  # Next to the bound the interval has no upper end.
            ends = [low + (value - low) * np.exp(sign * shift) for sign in (-1, 1)]
    else:
        shift = reach * (high - low) / ((value - low) * (high - value))
        logit = np.log((value - low) / (high - value))
        ends = [low + (high - low) * special.expit(logit + sign * shift) for sign in (-1, 1)]
    return Interval(float(ends[0]), float(ends[1]), left_out)


def _interval_at_bound(
    value: float, size: float, bounds: tuple[float, float], left_out: int, level: float
) -> Interval:
    """The exact interval of a share that is none or all, stretched to the metric's bounds."""
    low, high = bounds
    if np.isinf(high):
        # A loss of exactly zero does not tell how large the loss of another image may be.
        return Interval(float(value), np.nan, left_out)
    width = (high - low) * (1 - ((1 - level) / 2) ** (1 / size))
    if value - low <= _ROUNDING:
        return Interval(low, low + width, left_out)
    return Interval(high - width, high, left_out)


def percentile_interval(drawn: np.ndarray, size: float) -> tuple[float, float]:
    """The percentile interval of draws, for the band of a curve; wider in small samples.

    The percentiles are moved as a t distribution and the too small variance of a resample ask for
    (Hesterberg, What Teachers Should Know about the Bootstrap, 2015, section 5.2).
    """
    if size < 2:
        return np.nan, np.nan
    reach = stats.t.ppf((1 + LEVEL) / 2, size - 1) * np.sqrt(size / (size - 1))
    low, high = np.quantile(drawn, [stats.norm.sf(reach), stats.norm.cdf(reach)])
    return float(low), float(high)


def effective_size(groups: Sequence[str] | int, among: np.ndarray | None = None) -> float:
    """The size of the sample that a metric rests on, among some images, bool [N], or all.

    The number of images where each is resampled by itself. Groups of unequal size count for fewer
    than they are: (sum of sizes)^2 / sum of their squares (Kish, Survey Sampling, 1965).
    """
    if isinstance(groups, int):
        return groups if among is None else int(among.sum())
    kept = [group for i, group in enumerate(groups) if among is None or among[i]]
    sizes = np.array(list(collections.Counter(kept).values()))
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if kept else 0.0
