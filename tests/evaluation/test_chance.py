"""The permutation test: exact where exchanges are few, and right as often as it says."""

import math

import numpy as np
import pytest

from histojax.evaluation import chance
from histojax.evaluation.labelled_predictions import LabelledPredictions
from tests import samples


def predictions_of(score, truth, groups=None) -> LabelledPredictions:
    """Two classes, by the score of the second."""
    scores = np.stack([1 - score, score], axis=1)
    names = tuple(f"i{i}" for i in range(len(truth)))
    return LabelledPredictions(
        names, ("a", "b"), np.asarray(truth), scores.argmax(axis=1), scores, groups=groups
    )


def grouped(rng, groups: int, size: int, effect: float, mixed: bool) -> LabelledPredictions:
    """Groups with much in common; each of one class, or each with images of both."""
    group = np.repeat(np.arange(groups), size)
    truth = np.arange(groups * size) % 2 if mixed else group % 2
    shared, own = rng.normal(size=groups)[group], rng.normal(size=groups * size)
    score = 1 / (1 + np.exp(-(effect * truth + 0.9 * shared + 0.4 * own)))
    return predictions_of(score, truth, tuple(f"g{i}" for i in group))


@pytest.mark.parametrize("mixed", [False, True])
def test_it_finds_what_is_not_there_in_one_case_of_twenty(mixed):
    rng = np.random.default_rng(0)
    p = [chance.permutation_test(grouped(rng, 12, 4, 0, mixed), 100).p for _ in range(300)]
    found = np.mean(np.array(p) <= chance.SIGNIFICANT)
    assert 0.015 < found < 0.085  # 0.05, give or take 2.8 standard errors of 300.


def test_images_of_a_group_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    made = [grouped(rng, 12, 4, 0, mixed=False) for _ in range(100)]
    lumped = [predictions_of(images.scores[:, 1], images.truth) for images in made]
    assert np.mean([chance.permutation_test(images, 100).p <= 0.05 for images in lumped]) > 0.2


@pytest.mark.parametrize(("mixed", "effect"), [(False, 3), (True, 0.6)])
def test_it_finds_what_is_there(mixed, effect):
    rng = np.random.default_rng(1)
    p = [chance.permutation_test(grouped(rng, 12, 4, effect, mixed), 100).p for _ in range(50)]
    assert np.mean(np.array(p) <= chance.SIGNIFICANT) > 0.9


def test_few_exchanges_are_all_tried_and_too_few_show_nothing():
    score = np.repeat([0.1, 0.2, 0.8, 0.9], 4)
    groups = tuple(f"g{i // 4}" for i in range(16))
    test = chance.permutation_test(predictions_of(score, np.arange(16) // 8, groups))
    assert (test.value, test.exchanges, test.exact) == (1.0, 6, True)
    assert test.p == 1 / 6
    assert test.is_chance
    assert test.is_powerless


def test_images_of_a_group_of_two_classes_exchange_labels_among_themselves():
    truth = np.array([0, 0, 1, 1, 0, 1, 1, 0, 0])
    groups = ("p", "p", "p", "p", "q", "q", "q", "r", "")
    score = np.linspace(0.05, 0.95, 9)
    test = chance.permutation_test(predictions_of(score, truth, groups))
    # Within p and within q; r and the image of unknown group are both of class a.
    assert test.exchanges == math.comb(4, 2) * 3
    expected = predictions_of(score, truth)
    assert test.value == chance.permutation_test(expected).value


def test_exact_and_random_exchanges_agree():
    rng = np.random.default_rng(2)
    images = grouped(rng, 10, 3, 1, mixed=False)
    exact, random = (chance.permutation_test(images, draws) for draws in (252, 251))
    assert exact.exact
    assert not random.exact
    many = chance.permutation_test(images, 251, seed=1)
    assert exact.p == pytest.approx((random.p + many.p) / 2, abs=0.06)
    assert chance.permutation_test(images, 251) == random


def test_the_statistic_is_that_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    images = samples.published_predictions()
    test = chance.permutation_test(images, 200)
    assert test.value == pytest.approx(
        roc_auc_score(images.truth, images.scores, multi_class="ovr")
    )
    assert test.p == 1 / 200
    labels = LabelledPredictions(images.names, images.classes, images.truth, images.predicted)
    test = chance.permutation_test(labels, 200)
    expected = balanced_accuracy_score(images.truth, images.predicted)
    assert (test.statistic, test.value) == ("balanced_accuracy", pytest.approx(expected))
    assert test.p == 1 / 200


def test_constant_scores_are_chance():
    test = chance.permutation_test(predictions_of(np.full(30, 0.5), np.arange(30) % 2))
    assert (test.value, test.p) == (0.5, 1.0)


def test_many_units_with_few_exchanges_are_tried_at_once():
    score, truth = np.arange(1200.0) / 1200, (np.arange(1200) == 1199).astype(int)
    one = chance.permutation_test(predictions_of(score, truth))
    assert (one.exchanges, one.exact) == (1200, True)
    assert one.p == pytest.approx(1 / 1200)


def test_few_random_exchanges_are_not_taken_for_all_there_are():
    truth = np.arange(60) % 2
    drawn = chance.permutation_test(predictions_of(truth * 1.0, truth), draws=10)
    assert not drawn.exact
    assert not drawn.is_powerless


def test_labels_that_are_all_alike_show_nothing():
    assert chance.permutation_test(predictions_of(np.arange(6.0), np.ones(6, int))).p == 1
