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


def test_accuracies_and_confusion_are_scikit_learns(case, judgement):
    _, truth, folds = case
    for fold in range(5):
        held_out = folds == fold
        expected = reference.accuracy_score(truth[held_out], judgement.predicted[held_out])
        assert judgement.accuracies[fold] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(judgement.confusion, reference.confusion_matrix(truth, judgement.predicted))


def test_a_configuration_is_judged_seed_by_seed(case, judgement):
    scores, truth, folds = case
    alone = judgement.by_configuration["VGG-0.5-650"]
    assert alone.shape == (SEEDS, 5)
    predicted = scores["VGG-0.5-650"][1].mean(axis=1).argmax(axis=1)
    assert alone[1, 2] == np.mean(predicted[folds == 2] == truth[folds == 2])


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


def test_the_paper_s_set_point_follows_from_its_counts():
    truth = np.arange(400) // 100
    scores = np.full((400, 4), 0.1) + 0.6 * np.eye(4)[truth]
    scores[200:209] = scores[300:305] = [0.7, 0.1, 0.1, 0.1]  # 9 in situ and 5 invasive missed.
    judged = metrics.judge({"VGG-0.5-400": scores[None, :, None]}, truth, np.arange(400) % 10, BACH_CLASSES, (2, 3))
    assert judged.two_class.set_points[1].sensitivity == pytest.approx(0.93)
    assert judged.confusion.sum() == 400
    assert judged.confusion[2, 0] == 9


@pytest.mark.parametrize(
    ("classes", "named", "expected"),
    [
        (BACH_CLASSES, (), (2, 3)),
        (BACH_CLASSES, ("Benign",), (1,)),
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
