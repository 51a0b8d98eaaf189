"""Held-out outputs in closed form equal those of heads that are fitted to the other images."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from histojax.learners import ridge


@pytest.mark.parametrize("size", [1, 9])
def test_a_block_is_predicted_as_by_a_ridge_regression_of_the_others(size):
    rng = np.random.default_rng(0)
    descriptors = [rng.normal(2, 3, size=(40, 25)), rng.gamma(2, size=(40, 70))]
    labels, block = rng.integers(0, 3, 40), np.arange(40) < size
    inner = ridge.kernel(descriptors)
    said = ridge.held_out_matrix(ridge.hat_matrix(inner), block) @ ridge.indicators(labels, 3)
    rows = np.concatenate([(each - each.mean(0)) / each.std(0) for each in descriptors], axis=1)
    penalty = (rows**2).sum() / len(rows)
    fitted = Ridge(penalty).fit(rows[~block], np.eye(3)[labels[~block]])
    np.testing.assert_allclose(said, fitted.predict(rows[block]), atol=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_of_images_that_are_all_alike_the_outputs_are_shares():
    hat = ridge.hat_matrix(ridge.kernel([np.ones((6, 4))]))
    block = np.arange(6) < 2
    said = ridge.held_out_matrix(hat, block) @ ridge.indicators(np.array([0, 0, 0, 1, 1, 1]), 2)
    np.testing.assert_allclose(said, [[0.25, 0.75]] * 2)
