"""Blending and judgement against the formulas of the protocol and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from histojax import metrics
from histojax.config import BACH_CLASSES
from histojax.errors import InputError

N, SEEDS, AUGMENTATIONS = 60, 3, 4


@pytest.fixture(scope="module")
def case():
    """Scores of two configurations, truth and folds."""
    rng = np.random.default_rng(0)
    truth = np.arange(N) % 4
    scores = {}
    for name in ("ResNet-0.5-400", "VGG-0.5-650"):
        logits = rng.normal(size=(SEEDS, N, AUGMENTATIONS, 4)) + 1.3 * np.eye(4)[truth][None, :, None]
        scores[name] = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return scores, truth, np.arange(N) // 4 % 5


@pytest.fixture(scope="module")
def judgement(case):
    scores, truth, folds = case
    return metrics.judge(scores, truth, folds, BACH_CLASSES, (2, 3))


def test_the_blend_is_the_mean_over_configurations_seeds_and_augmentations(case, judgement):
    scores, _, _ = case
    everything = np.stack(list(scores.values()))
    np.testing.assert_allclose(judgement.scores, everything.mean(axis=(0, 1, 3)), rtol=1e-12)
    np.testing.assert_array_equal(judgement.predicted, judgement.scores.argmax(axis=1))


def test_configurations_count_equally_whatever_their_seeds_and_augmentations():
    one = np.broadcast_to([1.0, 0.0], (1, 2, 1, 2))
    many = np.broadcast_to([0.0, 1.0], (5, 2, 50, 2))
    np.testing.assert_allclose(metrics.blend([one, many]), np.full((2, 2), 0.5), rtol=1e-12)


def test_accuracies_by_fold_are_shares_of_each_fold():
    folds, truth = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 0, 1, 2])
    predicted = np.array([0, 1, 2, 0, 1, 1, 0])
    np.testing.assert_array_equal(metrics.accuracy_by_fold(predicted, truth, folds), [0.75, 0.5, 0.0])


def test_accuracies_and_confusion_are_scikit_learns(case, judgement):
    _, truth, folds = case
    for fold in range(5):
        held_out = folds == fold
        expected = reference.accuracy_score(truth[held_out], judgement.predicted[held_out])
        assert judgement.accuracies[fold] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(judgement.confusion, reference.confusion_matrix(truth, judgement.predicted))


def test_the_confusion_has_the_truth_in_rows_and_every_class(judgement):
    np.testing.assert_array_equal(judgement.confusion.sum(axis=1), [15] * 4)
    np.testing.assert_array_equal(judgement.confusion.sum(axis=0), np.bincount(judgement.predicted, minlength=4))
    only_first = np.broadcast_to([0.7, 0.1, 0.1, 0.1], (1, 8, 1, 4))
    truth = np.array([0, 2] * 4)  # No benign and no invasive image, and none called so.
    judged = metrics.judge({"VGG-0.5-400": only_first}, truth, np.arange(8) // 4, BACH_CLASSES, (2, 3))
    np.testing.assert_array_equal(judged.confusion, [[4, 0, 0, 0], [0] * 4, [4, 0, 0, 0], [0] * 4])


def test_a_configuration_is_judged_seed_by_seed(case, judgement):
    scores, truth, folds = case
    alone = judgement.by_configuration["VGG-0.5-650"]
    assert alone.shape == (SEEDS, 5)
    for seed in range(SEEDS):
        predicted = scores["VGG-0.5-650"][seed].mean(axis=1).argmax(axis=1)
        expected = [np.mean(predicted[folds == fold] == truth[folds == fold]) for fold in range(5)]
        np.testing.assert_allclose(alone[seed], expected, rtol=1e-12)
    assert not np.array_equal(alone[0], alone[1])


def test_two_class_figures_are_scikit_learns(case, judgement):
    _, truth, _ = case
    two = judgement.two_class
    blended = judgement.scores
    high, low = np.maximum(blended[:, 2], blended[:, 3]), np.maximum(blended[:, 0], blended[:, 1])
    score, truly = high / (high + low), truth >= 2
    assert two.positive == ("InSitu", "Invasive")
    assert two.auc == pytest.approx(reference.roc_auc_score(truly, score), abs=1e-12)
    assert two.accuracies.mean() == pytest.approx(np.mean((judgement.predicted >= 2) == truly))
    assert [point.threshold for point in two.set_points] == [0.33, 0.50]
    for point in two.set_points:
        called = score >= point.threshold
        assert point.sensitivity == pytest.approx(reference.recall_score(truly, called))
        assert point.specificity == pytest.approx(reference.recall_score(~truly, ~called))


def test_the_area_is_that_under_the_curve_and_counts_ties_by_half(judgement):
    two = judgement.two_class
    curve = two.false_positive_rate, two.true_positive_rate
    assert [(line[0], line[-1]) for line in curve] == [(0, 1), (0, 1)]
    assert two.auc == pytest.approx(np.trapezoid(curve[1], curve[0]), abs=1e-12)
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])  # Pairs: 3 in order and one tie of 4.
    tied = metrics.judge({"VGG": scores[None, :, None]}, np.array([0, 0, 1, 1]), np.arange(4) % 2, ("n", "p"), (1,))
    assert tied.two_class.auc == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], (2, 3), 0.4 / 0.6),
        ([0.4, 0.1, 0.1, 0.4], (2, 3), 0.5),
        ([0.6, 0.1, 0.2, 0.1], (2, 3), 0.25),
        ([0.6, 0.1, 0.2, 0.1], (0,), 0.75),
        ([0.0, 1.0, 0.0, 0.0], (2, 3), 0.0),
        ([0.0, 0.0, 0.0, 1.0], (2, 3), 1.0),
        ([0.3, 0.7], (1,), 0.7),
    ],
)
def test_the_positive_score_is_the_formulas(scores, positive, expected):
    assert metrics.positive_score(np.array([scores]), positive) == pytest.approx([expected])


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_the_positive_score_is_a_share_and_agrees_with_the_argmax(seed, classes):
    scores = np.random.default_rng(seed).dirichlet(np.ones(classes), 20)
    positive = tuple(range(classes // 2, classes))
    score = metrics.positive_score(scores, positive)
    negative = metrics.positive_score(scores, tuple(range(classes // 2)))
    np.testing.assert_allclose(score + negative, 1, rtol=1e-12)
    np.testing.assert_array_equal(score > 0.5, np.isin(scores.argmax(axis=1), positive))


def test_a_score_at_the_set_point_is_positive():
    point = metrics.set_point(np.array([0.33, 0.32, 0.33, 0.1]), np.array([True, True, False, False]), 0.33)
    assert (point.sensitivity, point.specificity) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("threshold", "sensitivity", "specificity"),
    [(0.0, 1, 0), (0.25, 1, 0.25), (0.5, 0.75, 0.5), (np.nextafter(0.5, 1), 0.5, 1), (0.75, 0.5, 1), (1.0, 0.25, 1)],
)
def test_sensitivity_and_specificity_are_counted(threshold, sensitivity, specificity):
    score = np.array([0.25, 0.5, 0.75, 1.0, 0.0, 0.25, 0.5, 0.5])
    truth = np.arange(8) < 4
    assert metrics.set_point(score, truth, threshold) == metrics.SetPoint(threshold, sensitivity, specificity)


def test_the_paper_s_set_point_follows_from_its_counts():
    truth = np.arange(400) // 100
    scores = np.full((400, 4), 0.1) + 0.6 * np.eye(4)[truth]
    scores[200:209] = scores[300:305] = [0.7, 0.1, 0.1, 0.1]  # 9 in situ and 5 invasive missed.
    judged = metrics.judge({"VGG-0.5-400": scores[None, :, None]}, truth, np.arange(400) % 10, BACH_CLASSES, (2, 3))
    assert judged.two_class.set_points[1].sensitivity == pytest.approx(0.93)
    assert [point.specificity for point in judged.two_class.set_points] == [1, 1]
    assert judged.two_class.accuracies.mean() == pytest.approx(386 / 400)
    assert judged.accuracies.mean() == pytest.approx(386 / 400)
    np.testing.assert_array_equal(judged.confusion.sum(axis=1), [100] * 4)
    assert judged.confusion.sum() == 400
    assert judged.confusion[2, 0] == 9


@pytest.mark.parametrize(
    ("classes", "named", "expected"),
    [
        (BACH_CLASSES, (), (2, 3)),
        (BACH_CLASSES, ("Benign",), (1,)),
        (BACH_CLASSES, ("Invasive", "InSitu", "Invasive"), (2, 3)),
        (BACH_CLASSES[::-1], (), (0, 1)),
        (("InSitu", "Invasive", "Other"), (), (0, 1)),
        (("Benign", "InSitu"), (), (1,)),
        (("benign", "malignant"), (), (1,)),
        (("benign", "malignant"), ("benign",), (0,)),
        (("a", "b", "c"), (), ()),
    ],
)
def test_what_counts_as_positive(classes, named, expected):
    assert metrics.positive_classes(classes, named) == expected


def test_positive_classes_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="no class Tumour"):
        metrics.positive_classes(BACH_CLASSES, ("Tumour",))
    with pytest.raises(InputError, match="leave at least one out"):
        metrics.positive_classes(("a", "b"), ("a", "b"))


def test_without_positive_classes_there_are_no_two_class_figures(case):
    scores, truth, folds = case
    assert metrics.judge(scores, truth, folds, ("a", "b", "c", "d"), ()).two_class is None
