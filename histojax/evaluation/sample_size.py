"""How many groups or images an interval above chance would take."""

from collections.abc import Callable

import numpy as np
from scipy import special, stats

from histojax.evaluation import bootstrap
from histojax.evaluation.statistics import Estimate

MOST = 100_000  # Larger numbers are not told.


def needed_units(estimate: Estimate, size: float, units: int, chance: float) -> int | None:
    """How many groups or images would bring an estimate's interval above chance, two digits of it.

    Args:
      estimate: above chance, of a metric between 0 and 1; its variance is taken to fall as 1/n.
      size: of the sample that its interval rests on, by `bootstrap.effective_size`.
      units: groups or images, where groups are unknown, that there are.
      chance: above which the interval shall be.

    Returns:
      None if they are more than 100,000.
    """
    value, interval = estimate.value, estimate.interval
    at_bound = value > 1 - 1e-12  # As in `bootstrap.confidence_interval`.
    # Of the lower end alone: of few groups, the upper one may round to 1.
    below = special.logit(value) - special.logit(interval.low)
    error = below / stats.t.ppf((1 + bootstrap.LEVEL) / 2, size - 1)

    def is_enough(count: int) -> bool:
        larger = size * count / units
        if at_bound:  # The exact interval of a share that is all.
            return ((1 - bootstrap.LEVEL) / 2) ** (1 / larger) > chance
        reach = stats.t.ppf((1 + bootstrap.LEVEL) / 2, larger - 1) * error * np.sqrt(size / larger)
        return special.logit(value) - reach > special.logit(chance)

    return _first(is_enough, units, MOST)


def _first(is_enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The first number above `low` that is enough, rounded up to two digits; None above `high`."""
    if not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    unit = 10 ** max(0, len(str(high)) - 2)
    return -(-high // unit) * unit
