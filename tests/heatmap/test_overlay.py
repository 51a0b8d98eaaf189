"""Pictures of a map with their legends, and the page that carries them."""

import dataclasses
import datetime
import html.parser

import matplotlib
import numpy as np
import pytest
from PIL import Image

from histojax.heatmap import overlay
from tests.heatmap import tiny


def test_a_colour_means_its_probability_and_glass_keeps_the_image():
    score = np.full((20, 20), 0.25)
    score[:, 10:] = np.nan
    heatmap = tiny.map_of(score, thumbnail=np.full((700, 700, 3), (180, 120, 170), np.uint8))
    picture = overlay.pictures(heatmap)["2-malignant"]
    assert (picture[300, 600] == (180, 120, 170)).all()
    grey = np.asarray(Image.new("RGB", (1, 1), (180, 120, 170)).convert("L"))[0, 0]
    expected = 0.6 * 255 * np.array(matplotlib.colormaps["viridis"](64)[:3]) + 0.4 * grey
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
    heatmap = tiny.map_of(score, classes=("<b>benign</b>", "malignant"))
    text = overlay.page(
        heatmap, overlay.pictures(heatmap), untrained, datetime.datetime(2026, 1, 2)
    )
    reader = Reader()
    reader.feed(text)
    assert reader.images == 5
    assert all(link.startswith("data:") for link in reader.links)
    words = " ".join(reader.words)
    for expected in (
        "not for diagnosis",
        "<b>benign</b>",
        "malignant",
        "oo little tissue",
        "2026-01-02",
        "mm²",
    ):
        assert expected in words
    assert ("Untrained encoders" in words) == untrained
    plain = dataclasses.replace(heatmap, positive=(), threshold=None, mpp=None)
    text = overlay.page(plain, overlay.pictures(plain), untrained, datetime.datetime(2026, 1, 2))
    assert "operating point" not in text
    assert "mm²" not in text
