"""Interpolation from Chebyshev nodes: polynomials exactly, smooth functions nearly."""

import jax
import numpy as np
import pytest

from histojax.ops import chebyshev

LOW, HIGH = 0.7, 1.3
POINTS = np.random.default_rng(0).uniform(LOW, HIGH, (20, 2)).astype(np.float32)


def interpolate(function, count):
    nodes = chebyshev.nodes(LOW, HIGH, count, axes=2)
    weigh = jax.vmap(lambda point: chebyshev.weights(point, LOW, HIGH, count))
    return np.asarray(weigh(POINTS)) @ function(nodes.astype(float))


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_polynomials_of_each_number_below_the_count_are_interpolated_exactly(count):
    power = count - 1
    found = interpolate(lambda at: at[:, 0] ** power * (1 + at[:, 1]) ** power, count)
    expected = POINTS[:, 0] ** power * (1 + POINTS[:, 1]) ** power
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(interpolate(lambda at: np.ones(len(at)), count), 1, rtol=1e-5)


def test_more_nodes_are_nearer():
    def absorbed(at):
        return np.exp(-2 * at[:, 0] - at[:, 1])

    errors = [np.abs(interpolate(absorbed, n) - absorbed(POINTS)).max() for n in (2, 3, 4)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_nodes_lie_within_the_bounds_and_the_middle_is_one_of_an_odd_number():
    for count in (2, 3, 4, 5):
        nodes = chebyshev.nodes(LOW, HIGH, count, axes=2)
        assert nodes.shape == (count**2, 2)
        assert nodes.dtype == np.float32
        assert (nodes > LOW).all()
        assert (nodes < HIGH).all()
        assert len({*map(tuple, nodes.tolist())}) == count**2
        assert ([1.0, 1.0] in nodes.tolist()) == (count % 2 == 1)
    middle = np.asarray(chebyshev.weights(np.ones(2, np.float32), LOW, HIGH, 3))
    np.testing.assert_allclose(middle, np.eye(9)[4], atol=1e-6)
    assert chebyshev.nodes(LOW, HIGH, 3, axes=1).shape == (3, 1)
