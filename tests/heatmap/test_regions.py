"""Regions of a map and their areas: what they are called, where they lie, what is far."""

import json

import numpy as np
import pytest
from skimage.draw import polygon2mask

from histojax.heatmap import probability_map, regions
from histojax.heatmap.probability_map import SUBDIVISION, ProbabilityMap
from histojax.prediction.uncertainty import FAR_DESCRIPTORS, FAR_STAIN
from tests.heatmap import tiny


def ring_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def rings_of(heatmap: ProbabilityMap) -> list[list[list[list[float]]]]:
    features = regions.regions(heatmap)["features"]
    return [feature["geometry"]["coordinates"] for feature in features]


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


def test_a_field_whose_resampling_was_rounded_down_to_fewer_positions_is_drawn():
    score = np.full((3, 4), 0.9)
    heatmap = tiny.map_of(score, threshold=0.6, size=(121, 161))  # Of 40 px each, and one more.
    probabilities, squares = probability_map.subdivided(heatmap)
    assert probabilities.shape[1:] == squares.shape == (3 * SUBDIVISION, 4 * SUBDIVISION)
    assert probability_map.subdivided_mask(heatmap.scored, squares.shape).shape == squares.shape
    assert len(regions.regions(heatmap)["features"]) == 1


def test_regions_are_what_is_at_or_above_the_operating_point():
    """Random maps with glass: a polygon, filled again, is the region, and its area the measured."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        score = rng.uniform(size=(8, 10))
        score[rng.uniform(size=score.shape) < 0.15] = np.nan
        heatmap = tiny.map_of(score, threshold=0.6, size=(311, 390))
        probabilities, squares = probability_map.subdivided(heatmap)
        expected = np.nan_to_num(probabilities[1], nan=-1) >= 0.6
        filled = np.zeros_like(expected)
        step = 40 / SUBDIVISION
        for feature in regions.regions(heatmap)["features"]:
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
                measurements["Largest score of malignant"]
                >= measurements["Mean score of malignant"]
                >= 0.6
            )
        # At the far edge a square's centre may lie outside of the field.
        np.testing.assert_array_equal(filled[:-1, :-1], expected[:-1, :-1])


def test_regions_are_annotations_as_qupath_reads_them():
    score = np.zeros((6, 12))
    score[1:3, 1:3] = score[4:6, 8:11] = 0.9
    found = regions.regions(tiny.map_of(score))
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 2
    for feature in found["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        about = feature["properties"]
        assert about["objectType"] == "annotation"
        assert about["classification"] == {
            "name": "score at or above 0.50",  # Never a class, still less a diagnosis.
            "color": [213, 94, 0],
        }
        assert all(isinstance(value, float) for value in about["measurements"].values())
    assert regions.regions(tiny.map_of(np.zeros((4, 4))))["features"] == []
    assert regions.regions(tiny.map_of(np.full((4, 4), np.nan)))["features"] == []


def test_without_positive_classes_regions_are_those_of_the_classes():
    score = np.zeros((6, 8))
    score[:, 4:] = 1
    score[:2, :2] = np.nan
    heatmap = tiny.map_of(score, positive=(), threshold=None)
    features = regions.regions(heatmap)["features"]
    assert [each["properties"]["classification"]["name"] for each in features] == [
        "highest score: benign",
        "highest score: malignant",
    ]
    assert sum(each["properties"]["measurements"]["Area px^2"] for each in features) == 40**2 * 44
    assert [row["name"] for row in regions.areas(heatmap)] == [
        "highest score: benign",
        "highest score: malignant",
        "too little tissue, not scored",
    ]


def test_areas_are_shares_of_the_field():
    score = np.zeros((6, 8))
    score[:, 4:] = 0.45
    score[:3, 4:] = 0.9
    score[:2, :2] = np.nan
    rows = regions.areas(tiny.map_of(score, threshold=0.4, size=(220, 320)))
    shares = {row["name"]: row["share"] for row in rows}
    assert shares["too little tissue, not scored"] == pytest.approx(4 * 1600 / (220 * 320))
    assert shares["highest score: benign"] + shares["highest score: malignant"] + shares[
        "too little tissue, not scored"
    ] == pytest.approx(1)
    assert shares["score at or above 0.40"] == pytest.approx(0.5, abs=0.03)
    assert rows[0]["mm2"] == pytest.approx(rows[0]["share"] * 220 * 320 * 0.25e-6)
    assert regions.areas(tiny.map_of(score, mpp=None))[0]["mm2"] is None


def test_what_is_far_from_training_is_a_region_and_counted_as_a_share_of_the_tissue():
    score = np.full((6, 8), 0.2)
    score[:, 4:] = 0.9
    score[0] = np.nan
    by_stain, by_descriptors = np.zeros((2, 6, 8), bool)
    by_stain[0:3, 6:] = True  # One of three rows is glass.
    by_descriptors[2:4, 6:] = True
    far = {FAR_DESCRIPTORS: by_descriptors, FAR_STAIN: by_stain}
    heatmap = tiny.map_of(score, far=far)
    shares = {row["name"]: row["share_of_tissue"] for row in regions.areas(heatmap)}
    assert shares[FAR_STAIN] == shares[FAR_DESCRIPTORS] == pytest.approx(4 / 40)
    assert shares[regions.FAR] == regions.far_share(heatmap) == pytest.approx(6 / 40)
    assert shares[regions.NOT_SCORED] is None
    found = regions.regions(heatmap)
    assert found["properties"]["share_of_tissue_far_from_training"] == pytest.approx(0.15)
    reached, outside = found["features"]
    assert outside["properties"]["classification"]["name"] == "far from training images"
    assert outside["properties"]["measurements"]["Share far from training"] == 1
    assert outside["properties"]["measurements"]["Area px^2"] == 6 * 40**2
    inside = reached["properties"]["measurements"]["Share far from training"]
    assert inside == pytest.approx(
        6 * 40**2 / reached["properties"]["measurements"]["Area px^2"], abs=1e-4
    )
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("values", "answer", "typicality"),
    [
        ({}, "unknown: it was not asked", "unknown"),
        ({"prediction": tiny.prediction()}, "does not abstain", "unknown"),
        (
            {"prediction": tiny.prediction(FAR_STAIN), "far": {}},
            "abstains: stain far from training",
            "0.0% of the tissue",
        ),
    ],
)
def test_every_region_says_whether_predict_abstains_from_its_field(values, answer, typicality):
    found = regions.regions(tiny.map_of(np.full((4, 4), 0.9), **values))
    for about in (found["properties"], found["features"][0]["properties"]["metadata"]):
        assert about["histojax predict"] == answer
        assert about["far from training images"] == typicality
        assert about["use"] == "for research, not for diagnosis"
    abstain = values["prediction"].abstain if "prediction" in values else ()
    assert found["properties"]["abstain"] == list(abstain)
