"""Thresholds by hand, and that no image is called by a threshold that it helped to choose."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.evaluation import operating_point
from histojax.evaluation.labelled_predictions import LabelledPredictions


@pytest.mark.parametrize(
    ("target", "expected"),
    [(1.0, 0.1), (0.9, 0.1), (0.8, 0.3), (0.75, 0.3), (0.6, 0.4), (0.2, 0.9), (0.1, 0.9)],
)
def test_the_threshold_is_the_highest_that_finds_enough(target, expected):
    score = np.array([0.1, 0.3, 0.4, 0.7, 0.9, 0.95, 0.2])
    is_positive = np.array([True] * 5 + [False] * 2)
    assert operating_point.choose_threshold(score, is_positive, target) == expected


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_the_target_sensitivity_is_reached_and_no_higher_score_would_reach_it(
    seed, target, positives
):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 30, positives + 20) / 30
    is_positive = np.arange(len(score)) < positives
    chosen = operating_point.choose_threshold(score, is_positive, target)
    assert np.mean(score[is_positive] >= chosen) >= target - 1e-9
    for higher in score[is_positive & (score > chosen)]:
        assert np.mean(score[is_positive] >= higher) < target


def labelled(seed: int = 0) -> LabelledPredictions:
    rng = np.random.default_rng(seed)
    truth = np.arange(120) % 2
    malignant = np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0.01, 0.99)
    scores = np.stack([1 - malignant, malignant], axis=1)
    names = tuple(map(str, range(120)))
    return LabelledPredictions(
        names, ("n", "p"), truth, scores.argmax(axis=1), scores, np.arange(120) % 5, None, (1,)
    )


def test_a_fold_does_not_choose_its_own_threshold():
    predictions = labelled()
    there = predictions.folds == 2
    before = operating_point.choose(predictions, 0.9)
    assert before.thresholds[2] == operating_point.choose_threshold(
        predictions.scores[~there, 1], predictions.is_positive[~there], 0.9
    )
    np.testing.assert_array_equal(
        before.called[there], predictions.scores[there, 1] >= before.thresholds[2]
    )
    after = operating_point.choose(
        dataclasses.replace(
            predictions, truth=np.where(there, 1 - predictions.truth, predictions.truth)
        ),
        0.9,
    )
    assert after.thresholds[2] == before.thresholds[2]
    np.testing.assert_array_equal(after.called[there], before.called[there])


def test_the_nested_figures_are_counted_and_fall_short_of_the_choice_on_all_images_only_a_little():
    predictions = labelled()
    point = operating_point.choose(predictions, 0.9)
    values = operating_point.compute_metrics(point, predictions, np.ones((1, 120)))
    assert values["positive_sensitivity", "nested"][0] == np.mean(
        point.called[predictions.is_positive]
    )
    assert values["positive_specificity", "nested"][0] == np.mean(
        ~point.called[~predictions.is_positive]
    )
    assert values["positive_sensitivity", "nested"][0] == pytest.approx(0.9, abs=0.06)


def test_a_score_at_the_threshold_is_called():
    score = np.array([0.2, 0.8, 0.2, 0.8])
    truth, folds = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    scores = np.stack([1 - score, score], axis=1)
    predictions = LabelledPredictions(
        ("a", "b", "c", "d"), ("n", "p"), truth, scores.argmax(axis=1), scores, folds, None, (1,)
    )
    point = operating_point.choose(predictions, 1.0)
    assert point.thresholds == (0.8, 0.8)
    assert point.called.tolist() == [False, True, False, True]


def test_where_one_fold_has_all_positives_there_is_nothing_to_choose_by():
    predictions = labelled()
    assert operating_point.is_possible(predictions)
    apart = dataclasses.replace(predictions, folds=predictions.truth)
    assert not operating_point.is_possible(apart)


def test_without_positives_to_choose_by_everything_is_called():
    assert (
        operating_point.choose_threshold(np.array([0.2, 0.6]), np.array([False, False]), 0.95) == 0
    )
