"""Paired differences: the same draws for both methods, McNemar's test, what cannot be paired."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from histojax.errors import InputError
from histojax.evaluation import bootstrap, comparison, metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions


def two_methods(n: int = 90, seed: int = 1) -> tuple[LabelledPredictions, LabelledPredictions]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    groups = tuple(f"p{i}" for i in rng.integers(0, 20, n))
    methods = []
    for gain in (0.1, 0.6):
        scores = rng.dirichlet(np.ones(3), n) + gain * np.eye(3)[truth]
        scores /= scores.sum(axis=1, keepdims=True)
        names = tuple(f"i{i}" for i in range(n))
        methods.append(
            LabelledPredictions(
                names, ("a", "b", "c"), truth, scores.argmax(axis=1), scores, None, groups, (2,)
            )
        )
    return tuple(methods)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_paired_interval_is_that_of_a_plain_loop(grouped):
    one, other = two_methods()
    if not grouped:
        one = dataclasses.replace(one, groups=None)
    difference = comparison.compare(one, other, draws=300).differences["accuracy", ""]
    drawn = []
    for weights in bootstrap.resampling_weights(one.resampling_groups if grouped else 90, 300):
        for row in weights.astype(int):
            images = np.repeat(np.arange(90), row)
            right = [np.mean(each.predicted[images] == each.truth[images]) for each in (one, other)]
            drawn.append(right[1] - right[0])
    units = bootstrap.effective_size(one.groups) if grouped else 90
    value = np.mean(other.predicted == other.truth) - np.mean(one.predicted == one.truth)
    expected = bootstrap.confidence_interval(value, np.array(drawn), units)
    assert (difference.one, difference.other) == pytest.approx(
        (np.mean(one.predicted == one.truth), difference.one + difference.value)
    )
    assert (difference.interval.low, difference.interval.high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert 0 < difference.interval.low < difference.value < difference.interval.high


def test_no_difference_is_zero_and_swapping_turns_the_sign():
    one, other = two_methods()
    same = comparison.compare(one, one, draws=100)
    assert (same.only_one, same.only_other, same.p_value) == (0, 0, 1.0)
    assert all(
        each.value == 0 and each.interval.low == each.interval.high == 0
        for each in same.differences.values()
    )
    there, back = (
        comparison.compare(one, other, draws=100),
        comparison.compare(other, one, draws=100),
    )
    for key, each in there.differences.items():
        assert back.differences[key].value == pytest.approx(-each.value, abs=1e-12)
        assert back.differences[key].interval.low == pytest.approx(-each.interval.high, abs=1e-12)
    assert (there.only_one, there.only_other) == (back.only_other, back.only_one)


def test_mcnemars_exact_test_is_twice_the_binomial_tail():
    one, other = two_methods()
    compared = comparison.compare(one, other, draws=20)
    right, also = one.predicted == one.truth, other.predicted == other.truth
    assert compared.only_one == np.sum(right & ~also)
    assert compared.only_other == np.sum(~right & also)
    b, n = min(compared.only_one, compared.only_other), compared.only_one + compared.only_other
    assert compared.p_value == pytest.approx(min(1, 2 * binom.cdf(b, n, 0.5)), abs=1e-12)


def test_every_metric_that_both_allow_is_compared():
    one, other = two_methods()
    labels_only = dataclasses.replace(other, scores=None)
    differences = comparison.compare(one, labels_only, draws=20).differences
    assert ("accuracy", "") in differences
    assert ("log_loss", "") not in differences
    assert set(comparison.compare(one, other, draws=20).differences) == set(
        metrics.compute(one, np.ones((1, 90)))
    )


def test_images_are_paired_by_name_whatever_their_order():
    one, other = two_methods()
    order = np.random.default_rng(0).permutation(90)[:70].tolist()
    shuffled = comparison.select(other, order)
    kept = comparison.select(one, sorted(order))
    straight = comparison.compare(kept, comparison.select(other, sorted(order)), draws=50)
    assert comparison.compare(one, shuffled, draws=50) == straight


def test_what_cannot_be_paired_is_refused():
    one, other = two_methods()
    with pytest.raises(InputError, match="no image is in both"):
        comparison.compare(one, dataclasses.replace(other, names=tuple(f"x{i}" for i in range(90))))
    with pytest.raises(InputError, match="they have other labels for 90 images"):
        comparison.compare(one, dataclasses.replace(other, truth=(other.truth + 1) % 3))
    with pytest.raises(InputError, match="the classes are a, b, c and a, b, d"):
        comparison.compare(one, dataclasses.replace(other, classes=("a", "b", "d")))


def test_runs_are_brought_to_the_images_that_all_predicted_with_groups_where_any_knows_them():
    one, other = two_methods()
    unknown = dataclasses.replace(comparison.select(one, list(range(10, 90))), groups=None)
    common = comparison.restrict_to_common_images(
        {"table": unknown, "models": comparison.select(other, list(range(80, -1, -1)))}
    )
    assert common["table"].names == common["models"].names == one.names[10:81]
    assert common["table"].groups == one.groups[10:81]
    with pytest.raises(
        InputError, match="table and models cannot be compared: they have other labels"
    ):
        comparison.restrict_to_common_images(
            {"table": unknown, "models": dataclasses.replace(other, truth=(other.truth + 1) % 3)}
        )


def test_folds_are_the_same_whatever_they_are_called():
    one, other = two_methods()
    folds = np.arange(90) % 3

    def of(predictions, folds):
        return dataclasses.replace(predictions, folds=folds)

    assert comparison.same_folds(of(one, folds), of(other, (folds + 1) % 3))
    assert not comparison.same_folds(of(one, folds), of(other, np.arange(90) % 5))
    assert not comparison.same_folds(of(one, folds), of(other, np.arange(90) // 30))
    assert comparison.same_folds(one, of(other, folds))


@pytest.mark.slow
def test_the_paired_interval_covers_the_true_difference():
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        right = rng.uniform(size=(150, 2)) < (0.7, 0.8)
        truth = np.zeros(150, int)
        pair = [
            LabelledPredictions(tuple(map(str, range(150))), ("a", "b"), truth, (~each).astype(int))
            for each in right.T
        ]
        interval = comparison.compare(*pair, draws=400).differences["accuracy", ""].interval
        held += interval.low <= 0.1 <= interval.high
    assert 930 <= held <= 970
