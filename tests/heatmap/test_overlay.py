"""Pictures of a map with their legends, and what is drawn and said on them."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from histojax.heatmap import overlay
from histojax.prediction.uncertainty import FAR_STAIN
from tests.heatmap import tiny


def test_a_colour_means_its_probability_and_glass_keeps_the_image():
    score = np.full((20, 20), 0.25)
    score[:, 10:] = np.nan
    heatmap = tiny.map_of(score, thumbnail=np.full((700, 700, 3), (180, 120, 170), np.uint8))
    picture = overlay.pictures(heatmap)["2-malignant"]
    assert (picture[300, 600] == (180, 120, 170)).all()
    grey = np.asarray(Image.new("RGB", (1, 1), (180, 120, 170)).convert("L"))[0, 0]
    expected = 0.45 * 255 * np.array(matplotlib.colormaps["viridis"](64)[:3]) + 0.55 * grey
    np.testing.assert_allclose(picture[300, 100], expected, atol=1)


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
        heatmap = tiny.map_of(score, **others)
        drawn = overlay.pictures(heatmap)
        assert len(drawn) == len(heatmap.classes) + 2
        assert not any("/" in name for name in drawn)
        image = overlay._enlarged(heatmap.thumbnail)
        assert max(image.shape) >= 600
        for picture in drawn.values():
            legend = picture[image.shape[0] :]
            assert legend.shape[0] >= 40
            assert (legend.min(axis=(0, 2)) < 100).any()  # Something is written there.
            assert picture.shape[1] >= 440


def test_a_scale_bar_is_as_long_as_it_says():
    for microns, longest in ((0.5, 200), (0.13, 310), (7.0, 160)):
        bar = np.asarray(overlay._scale_bar(microns, longest))
        assert bar.shape[1] > 20
        row = bar[bar.shape[0] // 2 - 1]
        length = int(np.flatnonzero(row.max(axis=-1) > 250)[0])
        assert 0.39 * longest <= length <= longest
        assert f"{length * microns:.1g}"[0] in "125"


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=-1)


@pytest.mark.parametrize("tissue", [245, 25])
def test_outlines_are_dark_within_light_so_that_any_tissue_shows_them(tissue):
    score = np.zeros((20, 20))
    score[5:15, 5:15] = 0.9
    heatmap = tiny.map_of(score, thumbnail=np.full((800, 800, 3), tissue, np.uint8))
    row = overlay.pictures(heatmap)["positive"][400]
    dark = np.flatnonzero(has_colour(row, overlay._INK))
    light = np.flatnonzero(has_colour(row, overlay._PAPER))
    edges = 200, 600
    for edge in edges:
        inside = dark[abs(dark - edge) < 20]
        beside = light[abs(light - edge) < 20]
        assert len(inside) >= 3
        assert beside.min() < inside.min() <= inside.max() < beside.max()


def test_what_is_far_from_training_is_hatched_on_every_picture():
    score = np.full((10, 10), 0.1)
    far = np.zeros((10, 10), bool)
    far[:, 5:] = True
    thumbnail = np.full((600, 600, 3), 120, np.uint8)
    plain = overlay.pictures(tiny.map_of(score, thumbnail=thumbnail, far={FAR_STAIN: far & False}))
    hatched = overlay.pictures(tiny.map_of(score, thumbnail=thumbnail, far={FAR_STAIN: far}))
    for name, picture in hatched.items():
        changed = (picture[:600, :600] != plain[name][:600, :600]).any(axis=-1)
        assert not changed[:, :300].any()
        assert 0.2 < changed[:, 300:].mean() < 0.4  # The tissue below stays visible.


def test_a_picture_says_below_it_that_predict_abstains():
    score = np.full((10, 10), 0.1) + np.arange(10) / 100
    thumbnail = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    answered = tiny.map_of(score, thumbnail=thumbnail, prediction=tiny.prediction())
    reasons = [FAR_STAIN, "prediction set too large", "a third reason for the sake of a long line"]
    abstained = tiny.map_of(score, thumbnail=thumbnail, prediction=tiny.prediction(*reasons))
    plain, warned = overlay.pictures(answered), overlay.pictures(abstained)
    for name, picture in warned.items():
        assert not has_colour(plain[name], overlay._WARNING).any()
        band = has_colour(picture[600:], overlay._WARNING)
        assert band.sum(axis=1).max() == picture.shape[1]
        assert (band.sum(axis=1) > 0).sum() >= 2 * overlay._TEXT  # The reasons fill two lines.


def test_a_notebook_shows_a_map_as_a_picture():
    score = np.random.default_rng(1).uniform(size=(5, 6))
    for others, name in (({}, "positive"), ({"positive": (), "threshold": None}, "classes")):
        heatmap = tiny.map_of(score, **others)
        shown = np.asarray(Image.open(io.BytesIO(heatmap._repr_png_())))
        np.testing.assert_array_equal(shown, overlay.pictures(heatmap)[name])
