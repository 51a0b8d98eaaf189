"""A map between positions, and smoothed."""

import numpy as np

from histojax.heatmap import probability_map


def test_smoothing_uses_positions_with_tissue_alone():
    rng = np.random.default_rng(0)
    grid = rng.dirichlet((1, 1, 1), (7, 9)).transpose(2, 0, 1).astype(np.float32)
    grid[:, 2:4, 3:8] = np.nan
    smoothed = probability_map.smooth(grid, 0.8)
    np.testing.assert_array_equal(np.isnan(smoothed), np.isnan(grid))
    np.testing.assert_allclose(np.nansum(smoothed, axis=0)[~np.isnan(grid[0])], 1, rtol=1e-6)
    row, column = 1, 4
    weights = np.exp(
        -((np.arange(7)[:, None] - row) ** 2 + (np.arange(9)[None] - column) ** 2) / (2 * 0.8**2)
    )
    weights[np.maximum(abs(np.arange(7)[:, None] - row), abs(np.arange(9)[None] - column)) > 3] = 0
    weights = np.where(np.isnan(grid[0]), 0, weights)
    expected = (np.nan_to_num(grid) * weights).sum(axis=(1, 2)) / weights.sum()
    np.testing.assert_allclose(smoothed[:, row, column], expected, rtol=1e-5)
    np.testing.assert_array_equal(probability_map.smooth(grid, 0), grid)


def test_between_positions_it_is_bilinear_and_of_tissue_alone():
    grid = np.random.default_rng(0).uniform(size=(2, 4, 5))
    grid[:, 1, 2] = np.nan
    at_positions = probability_map.interpolate(grid, np.arange(4) + 0.5, np.arange(5) + 0.5)
    np.testing.assert_allclose(at_positions, grid)
    between = probability_map.interpolate(grid, np.array([0.75, 2.5]), np.array([0.5, 1.0, 4.9]))
    np.testing.assert_allclose(between[:, 0, 0], 0.75 * grid[:, 0, 0] + 0.25 * grid[:, 1, 0])
    np.testing.assert_allclose(between[:, 1, 1], grid[:, 2, :2].mean(axis=1))
    np.testing.assert_allclose(between[:, 1, 2], grid[:, 2, 4])  # Beyond the last centre.
    beside = probability_map.interpolate(grid, np.array([0.9]), np.array([2.5]))[:, 0, 0]
    np.testing.assert_allclose(beside, grid[:, 0, 2])  # Scored positions alone.
    assert np.isnan(probability_map.interpolate(grid, np.array([1.2]), np.array([2.1]))).all()
