"""Interpolation of smooth functions of G numbers between low and high, from n^G Chebyshev nodes.

The nodes are products of cos((2k + 1) pi / 2n), k = 0 .. n - 1, stretched from [-1, 1] to
[low, high]; the weights are products of Lagrange's polynomials. For odd n the middle is a node.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np


def _along(count: int) -> np.ndarray:
    """The nodes of one number between -1 and 1, ascending: float64 [n]."""
    angles = (2 * np.arange(count) + 1) * (math.pi / (2 * count))
    # By a sine of the distance from the middle, which for odd n is exactly 0.
    return np.sin(angles - math.pi / 2)


def nodes(low: float, high: float, count: int, axes: int) -> np.ndarray:
    """The nodes: float32 [n^G, G], the last number changing fastest.

    Args:
      low: lower bound of each number.
      high: upper bound of each number.
      count: nodes of each number, n.
      axes: how many numbers, G, at least 1.
    """
    along = (low + high) / 2 + (high - low) / 2 * _along(count)
    return np.array(list(itertools.product(along, repeat=axes)), np.float32)


def weights(point: jax.Array, low: float, high: float, count: int) -> jax.Array:
    """The weight of each node in the value at a point, together 1: float32 [G] -> [n^G].

    Args:
      point: float [G].
      low: as of `nodes`.
      high: as of `nodes`.
      count: as of `nodes`.
    """
    along = [float(node) for node in _along(count)]

    def polynomials(place: jax.Array) -> jax.Array:
        return jnp.stack(
            [
                math.prod((place - other) / (node - other) for other in along if other != node)
                for node in along
            ]
        )

    places = (point - (low + high) / 2) / ((high - low) / 2)
    by_number = [polynomials(place) for place in places]
    return functools.reduce(lambda one, other: jnp.outer(one, other).reshape(-1), by_number)
