"""How sure a figure is: 95 % intervals from a bootstrap of images, or of whole groups, for figures and differences.

A draw takes N images with replacement; with groups it takes as many groups as there are, each with all its images, for
images of one patient are no independent witnesses (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8). A draw is a row of counts, so that every metric sees all draws at once.

The draws give the standard error; the interval is Student's, on a scale on which the figure is unbounded (logit for
what lies between two bounds, log for what has one: section 5.2.2 there), so that it stays within the bounds and is
skewed as it should be. At a bound itself, where all draws agree, it is the exact one of Clopper and Pearson.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special, stats

from histojax.evaluation.metrics import MetricKey

DRAWS = 2000
SEED = 0
LEVEL = 0.95
AT_ONCE = 4_000_000  # Counts held in memory at a time.
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Interval:
    """The ends of a 95 % interval, NaN where there is none, and the draws in which the figure was undefined."""

    low: float
    high: float
    left_out: int = 0


def resampling_weights(
    groups: Sequence[str] | int, count: int = DRAWS, seed: int = SEED
) -> Iterator[np.ndarray]:
    """How often each image is drawn, float64 [at most count, N] at a time.

    Args:
      groups: of each image; or N, where each image stands for itself.
      count: draws in all.
      seed: of numpy's default generator.
    """
    rng = np.random.default_rng(seed)
    group = (
        np.arange(groups)
        if isinstance(groups, int)
        else np.unique(list(groups), return_inverse=True)[1]
    )
    units = int(group.max()) + 1
    step = max(1, AT_ONCE // len(group))
    for start in range(0, count, step):
        drawn = rng.integers(units, size=(min(step, count - start), units))
        rows = np.arange(len(drawn))[:, None] * units
        yield (
            np.bincount((drawn + rows).ravel(), minlength=drawn.size)
            .reshape(drawn.shape)[:, group]
            .astype(float)
        )


def resample(
    statistic: Callable[[np.ndarray], dict[MetricKey, np.ndarray]],
    groups: Sequence[str] | int,
    count: int = DRAWS,
    seed: int = SEED,
) -> dict[MetricKey, np.ndarray]:
    """A statistic of weights [B, N] in every draw: float64 [count] by key."""
    parts = [statistic(weights) for weights in resampling_weights(groups, count, seed)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def confidence_interval(
    value: float, drawn: np.ndarray, units: float, bounds: tuple[float, float] | None = None
) -> Interval:
    """The interval of a figure.

    Args:
      value: the figure itself.
      drawn: it in every draw, float64 [B]; NaN where it is undefined, and those are left out.
      units: images or groups that it rests on, as by `effective_size`; a resample's variance is too small by 1 - 1/units.
      bounds: between which the figure lies, the upper one may be infinite; None for a difference.
    """
    defined = drawn[~np.isnan(drawn)]
    left_out = len(drawn) - defined.size
    if not defined.size or units < 2 or np.isnan(value):
        return Interval(np.nan, np.nan, left_out)
    reach = stats.t.ppf((1 + LEVEL) / 2, units - 1) * defined.std() * np.sqrt(units / (units - 1))
    if bounds is None:
        return Interval(float(value - reach), float(value + reach), left_out)
    low, high = bounds
    if value - low <= ROUNDING or high - value <= ROUNDING:
        return at_a_bound(value, units, bounds, left_out)
    if np.isinf(high):
        shift = reach / (value - low)
        with np.errstate(over="ignore"):  # Next to the bound the interval has no upper end.
            ends = [low + (value - low) * np.exp(sign * shift) for sign in (-1, 1)]
    else:
        shift = reach * (high - low) / ((value - low) * (high - value))
        logit = np.log((value - low) / (high - value))
        ends = [low + (high - low) * special.expit(logit + sign * shift) for sign in (-1, 1)]
    return Interval(float(ends[0]), float(ends[1]), left_out)


def at_a_bound(value: float, units: float, bounds: tuple[float, float], left_out: int) -> Interval:
    """The exact interval of a share that is all or nothing, stretched to the figure's bounds."""
    low, high = bounds
    if np.isinf(high):
        return Interval(
            float(value), np.nan, left_out
        )  # A loss of exactly zero says nothing of the next image.
    width = (high - low) * (1 - ((1 - LEVEL) / 2) ** (1 / units))
    return (
        Interval(low, low + width, left_out)
        if value - low <= ROUNDING
        else Interval(high - width, high, left_out)
    )


def percentile_interval(drawn: np.ndarray, units: float) -> tuple[float, float]:
    """The percentile interval of draws, for a curve's band; widened for few units.

    Their levels are moved as a t distribution and the resample's too small variance ask for (Hesterberg, What Teachers
    Should Know about the Bootstrap, 2015, section 5.2).
    """
    if units < 2:
        return np.nan, np.nan
    reach = stats.t.ppf((1 + LEVEL) / 2, units - 1) * np.sqrt(units / (units - 1))
    low, high = np.quantile(drawn, [stats.norm.sf(reach), stats.norm.cdf(reach)])
    return float(low), float(high)


def effective_size(groups: Sequence[str] | int, among: np.ndarray | None = None) -> float:
    """How many units a figure rests on, among some images, bool [N], or all.

    Groups of unequal size count for fewer: (sum of sizes)^2 / sum of their squares (Kish, Survey Sampling, 1965).
    """
    if isinstance(groups, int):
        return groups if among is None else int(among.sum())
    there = [group for i, group in enumerate(groups) if among is None or among[i]]
    sizes = np.array(list(collections.Counter(there).values()))
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if there else 0.0
