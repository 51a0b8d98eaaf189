"""What is shown of a map: between places, regions and their holes, areas, pictures, the page."""

import dataclasses
import datetime
import html.parser

import matplotlib
import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from histojax.heatmap import overlay, probability_map
from histojax.heatmap.probability_map import FINER, ProbabilityMap


def made(
    carcinoma: np.ndarray, stride: float = 40, size: tuple[int, int] | None = None, **others
) -> ProbabilityMap:
    """A map of two classes from the probability of the second, NaN where there is glass."""
    grid = np.stack([1 - carcinoma, carcinoma]).astype(np.float32)
    size = size or tuple(round(stride * count) for count in carcinoma.shape)
    rng = np.random.default_rng(0)
    values = {
        "name": "a",
        "classes": ("benign", "malignant"),
        "positive": (1,),
        "threshold": 0.5,
        "grid": grid,
        "smoothed": grid,
        "size": size,
        "stride": stride,
        "window": 4 * stride,
        "mpp": 0.5,
        "thumbnail": rng.integers(
            0, 255, (round(size[0] / 2), round(size[1] / 2), 3), dtype=np.uint8
        ),
        "made_with": {
            "augmentations": 4,
            "classes": ["benign", "malignant"],
            "size_px": list(size),
        },
    }
    return ProbabilityMap(**(values | others))


def ring_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def rings_of(shown: ProbabilityMap) -> list[list[list[list[float]]]]:
    return [
        each["geometry"]["coordinates"] for each in probability_map.regions_of(shown)["features"]
    ]


def test_between_places_it_is_bilinear_and_of_tissue_alone():
    grid = np.random.default_rng(0).uniform(size=(2, 4, 5))
    grid[:, 1, 2] = np.nan
    at_places = probability_map.interpolated(grid, np.arange(4) + 0.5, np.arange(5) + 0.5)
    np.testing.assert_allclose(at_places, grid)
    between = probability_map.interpolated(grid, np.array([0.75, 2.5]), np.array([0.5, 1.0, 4.9]))
    np.testing.assert_allclose(between[:, 0, 0], 0.75 * grid[:, 0, 0] + 0.25 * grid[:, 1, 0])
    np.testing.assert_allclose(between[:, 1, 1], grid[:, 2, :2].mean(axis=1))
    np.testing.assert_allclose(between[:, 1, 2], grid[:, 2, 4])  # Beyond the last place's middle.
    beside = probability_map.interpolated(grid, np.array([0.9]), np.array([2.5]))[:, 0, 0]
    np.testing.assert_allclose(beside, grid[:, 0, 2])  # What is known, in place of glass.
    assert np.isnan(probability_map.interpolated(grid, np.array([1.2]), np.array([2.1]))).all()


def test_a_region_with_a_hole_that_touches_the_edge():
    score = np.zeros((9, 8))
    score[0:7, 0:6] = 1
    score[2:4, 2:4] = 0
    (rings,) = rings_of(made(score))
    assert len(rings) == 2
    outer, hole = (np.array(ring) for ring in rings)
    assert ring_area(rings[0]) > 0 > ring_area(rings[1])
    for ring in rings:
        assert ring[0] == ring[-1]
    assert outer.min() == 0  # To the very edge of the field.
    assert outer.max(axis=0) == pytest.approx(
        [240, 280], abs=40 / FINER
    )  # Half way to the places beyond.
    assert hole.min(axis=0) == pytest.approx([80, 80], abs=40 / FINER)
    assert hole.max(axis=0) == pytest.approx([160, 160], abs=40 / FINER)


def test_regions_are_what_is_at_or_above_the_operating_point():
    """Random maps with glass: a polygon, filled again, is the region on its fine squares, and its area the measured."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        score = rng.uniform(size=(8, 10))
        score[rng.uniform(size=score.shape) < 0.15] = np.nan
        shown = made(score, threshold=0.6, size=(311, 390))
        probabilities, squares = probability_map.fine(shown)
        wanted = np.nan_to_num(probabilities[1], nan=-1) >= 0.6
        filled = np.zeros_like(wanted)
        step = 40 / FINER
        for feature in probability_map.regions_of(shown)["features"]:
            rings = [
                np.array(ring)[:, ::-1] / step - 0.5 for ring in feature["geometry"]["coordinates"]
            ]
            inside = polygon2mask(wanted.shape, rings[0])
            for hole in rings[1:]:
                inside &= ~polygon2mask(wanted.shape, hole)
            assert not (filled & inside).any()
            filled |= inside
            taken = feature["properties"]["measurements"]
            area = sum(ring_area(ring) for ring in feature["geometry"]["coordinates"])
            corners = sum(len(ring) for ring in feature["geometry"]["coordinates"])
            assert (
                abs(area - taken["Area px^2"]) <= corners * step**2
            )  # Corners of squares are cut.
            assert taken["Area um^2"] == pytest.approx(0.25 * taken["Area px^2"], rel=1e-3)
            assert taken["Largest carcinoma score"] >= taken["Mean carcinoma score"] >= 0.6
        # At the far edge a square's middle may lie outside of the field.
        np.testing.assert_array_equal(filled[:-1, :-1], wanted[:-1, :-1])


def test_regions_are_annotations_as_qupath_reads_them():
    score = np.zeros((6, 12))
    score[1:3, 1:3] = score[4:6, 8:11] = 0.9
    found = probability_map.regions_of(made(score))
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 2
    for feature in found["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        about = feature["properties"]
        assert about["objectType"] == "annotation"
        assert about["classification"] == {"name": "malignant", "color": [213, 94, 0]}
        assert all(isinstance(value, float) for value in about["measurements"].values())
    assert probability_map.regions_of(made(np.zeros((4, 4))))["features"] == []
    assert probability_map.regions_of(made(np.full((4, 4), np.nan)))["features"] == []


def test_without_carcinoma_regions_are_those_of_the_classes():
    score = np.zeros((6, 8))
    score[:, 4:] = 1
    score[:2, :2] = np.nan
    shown = made(score, positive=(), threshold=None)
    features = probability_map.regions_of(shown)["features"]
    assert [each["properties"]["classification"]["name"] for each in features] == [
        "benign",
        "malignant",
    ]
    assert sum(each["properties"]["measurements"]["Area px^2"] for each in features) == 40**2 * 44
    assert [row["name"] for row in probability_map.areas(shown)] == [
        "benign",
        "malignant",
        "too little tissue, not scored",
    ]


def test_areas_are_shares_of_the_field():
    score = np.zeros((6, 8))
    score[:, 4:] = 0.45
    score[:3, 4:] = 0.9
    score[:2, :2] = np.nan
    rows = probability_map.areas(made(score, threshold=0.4, size=(220, 320)))
    shares = {row["name"]: row["share"] for row in rows}
    assert shares["too little tissue, not scored"] == pytest.approx(4 * 1600 / (220 * 320))
    assert shares["benign"] + shares["malignant"] + shares[
        "too little tissue, not scored"
    ] == pytest.approx(1)
    assert shares["carcinoma score 0.40 and above"] == pytest.approx(0.5, abs=0.03)
    assert rows[0]["mm2"] == pytest.approx(rows[0]["share"] * 220 * 320 * 0.25e-6)
    assert probability_map.areas(made(score, mpp=None))[0]["mm2"] is None


def test_a_colour_means_its_probability_and_glass_keeps_the_image():
    score = np.full((20, 20), 0.25)
    score[:, 10:] = np.nan
    shown = made(score, thumbnail=np.full((700, 700, 3), (180, 120, 170), np.uint8))
    picture = overlay.pictures(shown)["2-malignant"]
    assert (picture[300, 600] == (180, 120, 170)).all()
    grey = np.asarray(Image.new("RGB", (1, 1), (180, 120, 170)).convert("L"))[0, 0]
    wanted = 0.6 * 255 * np.array(matplotlib.colormaps["viridis"](64)[:3]) + 0.4 * grey
    np.testing.assert_allclose(picture[300, 100], wanted, atol=1)


def test_pictures_have_a_legend_whatever_their_size():
    score = np.random.default_rng(1).uniform(size=(5, 6))
    names = ("a rather long name of a class " * 3, "b/c", "ß", "d") * 3
    grid = (
        np.random.default_rng(0)
        .dirichlet(np.ones(12), (5, 6))
        .transpose(2, 0, 1)
        .astype(np.float32)
    )
    tall = np.full((900, 60, 3), 200, np.uint8)
    for others in (
        {},
        {
            "classes": names,
            "grid": grid,
            "smoothed": grid,
            "positive": (1, 2),
            "thumbnail": tall,
            "mpp": 40.0,
        },
    ):
        shown = made(score, **others)
        drawn = overlay.pictures(shown)
        assert len(drawn) == len(shown.classes) + 2
        assert not any("/" in name for name in drawn)
        image = overlay.enlarged(shown.thumbnail)
        assert max(image.shape) >= 600
        for picture in drawn.values():
            legend = picture[image.shape[0] :]
            assert legend.shape[0] >= 40
            assert (legend.min(axis=(0, 2)) < 100).any()  # Something is written there.
            assert picture.shape[1] >= 440


def test_a_scale_bar_is_as_long_as_it_says():
    for microns, longest in ((0.5, 200), (0.13, 310), (7.0, 160)):
        bar = np.asarray(overlay.scale_bar(microns, longest))
        assert bar.shape[1] > 20
        row = bar[bar.shape[0] // 2 - 1]
        length = int(np.flatnonzero(row.max(axis=-1) > 250)[0])
        assert 0.39 * longest <= length <= longest
        assert f"{length * microns:.1g}"[0] in "125"


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.images, self.words = [], 0, []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        self.images += tag == "img"

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("untrained", [True, False])
def test_the_page_carries_everything_and_says_what_it_is(untrained):
    score = np.random.default_rng(2).uniform(size=(5, 6))
    score[0, 0] = np.nan
    shown = made(score, classes=("<b>benign</b>", "malignant"))
    text = overlay.page(shown, overlay.pictures(shown), untrained, datetime.datetime(2026, 1, 2))
    reader = Reader()
    reader.feed(text)
    assert reader.images == 5
    assert all(link.startswith("data:") for link in reader.links)
    words = " ".join(reader.words)
    for wanted in (
        "not for diagnosis",
        "<b>benign</b>",
        "malignant",
        "Too little tissue"[1:],
        "2026-01-02",
        "mm²",
    ):
        assert wanted in words
    assert ("Untrained encoders" in words) == untrained
    plain = dataclasses.replace(shown, positive=(), threshold=None, mpp=None)
    text = overlay.page(plain, overlay.pictures(plain), untrained, datetime.datetime(2026, 1, 2))
    assert "operating point" not in text
    assert "mm²" not in text
