"""A map between positions, smoothed, and its regions and areas."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from histojax.heatmap import probability_map
from histojax.heatmap.probability_map import SUBDIVISION, ProbabilityMap
from tests.heatmap import tiny


def ring_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def rings_of(heatmap: ProbabilityMap) -> list[list[list[list[float]]]]:
    features = probability_map.regions(heatmap)["features"]
    return [feature["geometry"]["coordinates"] for feature in features]


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


def test_a_region_with_a_hole_that_touches_the_edge():
    score = np.zeros((9, 8))
    score[0:7, 0:6] = 1
    score[2:4, 2:4] = 0
    (rings,) = rings_of(tiny.map_of(score))
    assert len(rings) == 2
    outer, hole = (np.array(ring) for ring in rings)
    assert ring_area(rings[0]) > 0 > ring_area(rings[1])
    for ring in rings:
        assert ring[0] == ring[-1]
    assert outer.min() == 0  # To the very edge of the field.
    assert outer.max(axis=0) == pytest.approx(
        [240, 280], abs=40 / SUBDIVISION
    )  # Half way to the positions beyond.
    assert hole.min(axis=0) == pytest.approx([80, 80], abs=40 / SUBDIVISION)
    assert hole.max(axis=0) == pytest.approx([160, 160], abs=40 / SUBDIVISION)


def test_regions_are_what_is_at_or_above_the_operating_point():
    """Random maps with glass: a polygon, filled again, is the region, and its area the measured."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        score = rng.uniform(size=(8, 10))
        score[rng.uniform(size=score.shape) < 0.15] = np.nan
        heatmap = tiny.map_of(score, threshold=0.6, size=(311, 390))
        probabilities, squares = probability_map._subdivided(heatmap)
        expected = np.nan_to_num(probabilities[1], nan=-1) >= 0.6
        filled = np.zeros_like(expected)
        step = 40 / SUBDIVISION
        for feature in probability_map.regions(heatmap)["features"]:
            rings = [
                np.array(ring)[:, ::-1] / step - 0.5 for ring in feature["geometry"]["coordinates"]
            ]
            inside = polygon2mask(expected.shape, rings[0])
            for hole in rings[1:]:
                inside &= ~polygon2mask(expected.shape, hole)
            assert not (filled & inside).any()
            filled |= inside
            measurements = feature["properties"]["measurements"]
            area = sum(ring_area(ring) for ring in feature["geometry"]["coordinates"])
            corners = sum(len(ring) for ring in feature["geometry"]["coordinates"])
            assert (
                abs(area - measurements["Area px^2"]) <= corners * step**2
            )  # Corners of squares are cut.
            assert measurements["Area um^2"] == pytest.approx(
                0.25 * measurements["Area px^2"], rel=1e-3
            )
            assert (
                measurements["Largest carcinoma score"]
                >= measurements["Mean carcinoma score"]
                >= 0.6
            )
        # At the far edge a square's centre may lie outside of the field.
        np.testing.assert_array_equal(filled[:-1, :-1], expected[:-1, :-1])


def test_regions_are_annotations_as_qupath_reads_them():
    score = np.zeros((6, 12))
    score[1:3, 1:3] = score[4:6, 8:11] = 0.9
    found = probability_map.regions(tiny.map_of(score))
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 2
    for feature in found["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        about = feature["properties"]
        assert about["objectType"] == "annotation"
        assert about["classification"] == {"name": "malignant", "color": [213, 94, 0]}
        assert all(isinstance(value, float) for value in about["measurements"].values())
    assert probability_map.regions(tiny.map_of(np.zeros((4, 4))))["features"] == []
    assert probability_map.regions(tiny.map_of(np.full((4, 4), np.nan)))["features"] == []


def test_without_positive_classes_regions_are_those_of_the_classes():
    score = np.zeros((6, 8))
    score[:, 4:] = 1
    score[:2, :2] = np.nan
    heatmap = tiny.map_of(score, positive=(), threshold=None)
    features = probability_map.regions(heatmap)["features"]
    assert [each["properties"]["classification"]["name"] for each in features] == [
        "benign",
        "malignant",
    ]
    assert sum(each["properties"]["measurements"]["Area px^2"] for each in features) == 40**2 * 44
    assert [row["name"] for row in probability_map.areas(heatmap)] == [
        "benign",
        "malignant",
        "too little tissue, not scored",
    ]


def test_areas_are_shares_of_the_field():
    score = np.zeros((6, 8))
    score[:, 4:] = 0.45
    score[:3, 4:] = 0.9
    score[:2, :2] = np.nan
    rows = probability_map.areas(tiny.map_of(score, threshold=0.4, size=(220, 320)))
    shares = {row["name"]: row["share"] for row in rows}
    assert shares["too little tissue, not scored"] == pytest.approx(4 * 1600 / (220 * 320))
    assert shares["benign"] + shares["malignant"] + shares[
        "too little tissue, not scored"
    ] == pytest.approx(1)
    assert shares["positive-class score 0.40 and above"] == pytest.approx(0.5, abs=0.03)
    assert rows[0]["mm2"] == pytest.approx(rows[0]["share"] * 220 * 320 * 0.25e-6)
    assert probability_map.areas(tiny.map_of(score, mpp=None))[0]["mm2"] is None
