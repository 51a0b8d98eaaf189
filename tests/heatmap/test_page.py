"""The page of a map: it carries everything, and says what it is and why not to believe it."""

import dataclasses
import datetime
import html.parser

import numpy as np
import pytest

from histojax.heatmap import page, regions
from histojax.prediction.uncertainty import FAR_STAIN, TOO_LITTLE_TISSUE
from tests.heatmap import tiny


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
    text = page.render(heatmap, untrained, datetime.datetime(2026, 1, 2))
    reader = Reader()
    reader.feed(text)
    assert reader.images == 2  # Of two classes, the score and the likeliest class say it all.
    assert all(link.startswith(("data:", "#")) for link in reader.links)
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
    plain = dataclasses.replace(
        heatmap, positive=(), positive_reason="no class is positive", threshold=None, mpp=None
    )
    text = page.render(plain, untrained, datetime.datetime(2026, 1, 2))
    assert "at or above" not in text
    assert "no operating point" in text
    assert "--mpp=MICRONS_PER_PIXEL" in text
    assert "mm²" not in text.split("<main>")[1]


def words_of(heatmap) -> str:
    reader = Reader()
    reader.feed(page.render(heatmap, False, datetime.datetime(2026, 1, 2)))
    return " ".join(" ".join(reader.words).split())


def test_the_page_repeats_what_predict_says_of_the_field():
    score = np.random.default_rng(2).uniform(size=(5, 6))
    unasked = words_of(tiny.map_of(score))
    assert "Whether histojax predict would abstain from this field is not known" in unasked
    answered = words_of(tiny.map_of(score, prediction=tiny.prediction()))
    assert "benign 0.29, malignant 0.71; score of malignant 0.71, at or above" in answered
    assert "It does not abstain" in answered
    abstained = words_of(tiny.map_of(score, prediction=tiny.prediction(TOO_LITTLE_TISSUE)))
    assert "histojax predict abstains from this field: too little tissue" in abstained
    assert "not an answer to rely on" in abstained
    assert "Positive class: malignant (reads as disease, against benign)." in answered


def test_the_page_hatches_and_counts_what_is_far_and_says_where_that_is_unknown():
    score = np.random.default_rng(2).uniform(size=(5, 6))
    assert "histojax bundle --data=TRAINING_IMAGES" in words_of(tiny.map_of(score))
    far = np.zeros((5, 6), bool)
    far[2, 2:5] = True
    heatmap = tiny.map_of(score, far={FAR_STAIN: far})
    text = page.render(heatmap, False, datetime.datetime(2026, 1, 2))
    assert text.count('<use href="#hatched"/>') == 2
    assert "10.0% of the tissue is unlike any place of the training images" in words_of(heatmap)
    assert f"{regions.FAR} 10.0 10.0" in words_of(heatmap)
    typical = page.render(
        tiny.map_of(score, far={FAR_STAIN: far & False}), False, datetime.datetime(2026, 1, 2)
    )
    assert "hatched" not in typical.split("</style>")[1]


def test_of_more_classes_each_has_a_map():
    grid = np.random.default_rng(0).dirichlet(np.ones(3), (5, 6)).transpose(2, 0, 1)
    others = {"grid": grid, "smoothed": grid, "classes": ("a", "b", "c"), "positive": (1, 2)}
    text = words_of(tiny.map_of(grid[0], **others))
    for title in ("Score of b + c", "Most probable class", *(f"Probability of {k}" for k in "abc")):
        assert title in text


def test_of_a_blank_field_no_scores_are_told():
    nothing = dataclasses.replace(tiny.prediction(TOO_LITTLE_TISSUE), predicted="")
    text = words_of(tiny.map_of(np.full((4, 6), np.nan), prediction=nothing))
    assert "There is no tissue in this field" in text
    assert "the field has no class" in text
    assert "0.71" not in text
