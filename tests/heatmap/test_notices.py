"""What speaks against believing a map: nothing in the field, nothing in the scores, and doubt."""

import dataclasses

import numpy as np

from histojax.heatmap import notices
from histojax.prediction.uncertainty import FAR_STAIN
from tests.heatmap import tiny

TISSUE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
SCORE = np.random.default_rng(1).uniform(size=(4, 6))
KNOWN = {"thumbnail": TISSUE, "prediction": tiny.prediction(), "far": {}, "mpp": 0.5}


def said(score: np.ndarray, **others) -> dict[str, notices.Notice]:
    return {one.kind: one for one in notices.of_map(tiny.map_of(score, **(KNOWN | others)))}


def test_of_an_ordinary_map_nothing_is_said():
    assert said(SCORE) == {}


def test_a_field_without_tissue_is_said_to_be_blank():
    (notice,) = said(np.full((4, 6), np.nan)).values()
    assert notice.text.startswith("There is no tissue in this field")
    assert notice.is_serious


def test_a_black_image_is_said_to_be_of_one_colour():
    (notice,) = said(SCORE, thumbnail=np.zeros((40, 60, 3), np.uint8)).values()
    assert "of one colour (RGB 0, 0, 0)" in notice.text
    assert notice.is_serious


def test_a_map_of_one_score_is_said_to_show_nothing():
    (notice,) = said(np.full((4, 6), 0.31)).values()
    assert "All 24 positions have the same scores (benign 0.69, malignant 0.31)" in notice.text
    assert "trees did not grow" in notice.text
    one_position = np.full((4, 6), np.nan)
    one_position[2, 2] = 0.31
    assert said(one_position) == {}


def test_more_far_than_not_is_serious_and_a_little_is_told():
    far = np.zeros((4, 6), bool)
    far[0, 0] = True
    little = said(SCORE, far={FAR_STAIN: far})["partly far from training"]
    assert little.text.startswith("4.2% of the tissue")
    assert not little.is_serious
    assert said(SCORE, far={FAR_STAIN: ~far})["partly far from training"].is_serious


def test_the_most_serious_comes_first():
    kinds = list(said(SCORE, prediction=tiny.prediction(FAR_STAIN), far=None, mpp=None))
    assert kinds == [
        "abstained from by histojax predict",
        "typicality unknown",
        "pixel size unknown (--mpp gives areas in mm²)",
    ]


def test_without_a_target_the_resolution_of_the_training_images_is_said_to_be_unknown():
    (notice,) = said(SCORE, made_with={"target_mpp": 0.0}).values()
    assert "0.5 µm per pixel. The models were trained without --target_mpp" in notice.text
    assert not notice.is_serious


def test_a_map_of_a_training_image_says_so():
    prediction = dataclasses.replace(tiny.prediction(), trained_on=True)
    (notice,) = said(SCORE, prediction=prediction).values()
    assert "trained on this very file" in notice.text
    assert notice.is_serious
