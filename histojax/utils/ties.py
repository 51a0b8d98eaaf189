"""Values that differ by rounding alone are tied, wherever values are ranked, counted or compared.

A sum in another order (of other batches, devices or processes) differs in its last bits, so that
chance would decide which of two equal scores is the higher one. Two values are tied here where they
differ by no more than a tolerance, relative to their size: far above rounding, far below any
difference that means something.
"""

import numpy as np

FLOAT64 = 1e-9  # Of sums of doubles, such as scores.
FLOAT32 = 1e-5  # Of what is computed from single precision, such as distances of descriptors.


def merge(values: np.ndarray) -> np.ndarray:
    """The values with ties made equal, each to the least of its run: float64 [N] -> [N].

    A run is of values that follow each other within the tolerance.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.diff(ordered, prepend=-np.inf) > FLOAT64 * np.abs(ordered)
    run = np.cumsum(starts) - 1
    merged = np.empty_like(ordered)
    merged[order] = ordered[starts][run]
    return merged


def lower(values: np.ndarray, tolerance: float = FLOAT64) -> np.ndarray:
    """The values less the tolerance: x reaches a bound b where x >= lower(b), and is below it where
    x < lower(b).
    """
    return values * (1 - np.copysign(tolerance, values))


def argmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """The index of the highest score along an axis, the first of those tied."""
    return (scores >= lower(scores.max(axis=axis, keepdims=True))).argmax(axis=axis)
