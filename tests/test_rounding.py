"""The last bits of scores and descriptors decide no rank, count, p-value or answer.

Scores here are twentieths, so that ties, and values at the bounds of bins, are common.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy.stats import rankdata

from histojax.datasets.folds import Folds
from histojax.evaluation import ablation, chance, several, statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.prediction import conformal, out_of_distribution
from histojax.report import images
from histojax.utils import ties

N, FOLDS, CLASSES = 40, 3, ("a", "b", "c")
DRAWS = 20


def by_one_ulp(rng, values):
    return np.nextafter(values, np.where(rng.random(values.shape) < 0.5, -np.inf, np.inf))


def by_a_trillionth(rng, values):
    return values * (1 + rng.uniform(-1e-12, 1e-12, values.shape))


noises = st.sampled_from([by_one_ulp, by_a_trillionth])
seeds = st.integers(0, 2**32 - 1)
few = hypothesis.settings(max_examples=6, deadline=None)


def labelled(seed: int, noise=lambda rng, values: values) -> LabelledPredictions:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(N) % 3)
    scores = noise(rng, (rng.multinomial(17, np.ones(3) / 3, N) + np.eye(3)[truth] * 3) / 20)
    groups = tuple(f"g{i // 3}" for i in range(N))
    names = tuple(f"i{i}" for i in range(N))
    folds = np.arange(N) // 3 % FOLDS
    best = ties.argmax(scores)
    return LabelledPredictions(names, CLASSES, truth, best, scores, folds, groups, (1, 2))


@hypothesis.given(seeds, noises)
@few
def test_statistics(seed, noise):
    exact, noisy = (statistics.compute(labelled(seed, of), draws=DRAWS) for of in (_none, noise))
    assert exact.chance.p == noisy.chance.p
    np.testing.assert_array_equal(exact.confusion, noisy.confusion)
    np.testing.assert_array_equal(exact.operating_point.called, noisy.operating_point.called)
    counts = [[each.count for each in of.reliability] for of in (exact, noisy)]
    assert counts[0] == counts[1]
    for key, estimate in exact.estimates.items():
        other = noisy.estimates[key]
        assert estimate.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
        assert estimate.by_fold == pytest.approx(other.by_fold, rel=1e-9, abs=1e-9, nan_ok=True)
        ends = [(of.interval.low, of.interval.high) for of in (estimate, other)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-6, abs=1e-6, nan_ok=True)
    np.testing.assert_allclose(exact.roc.true_positive_rate, noisy.roc.true_positive_rate)
    np.testing.assert_allclose(exact.roc.low, noisy.roc.low)


def _none(rng, values):
    return values


@hypothesis.given(seeds, noises)
@few
def test_a_permutation_test(seed, noise):
    tests = [chance.permutation_test(labelled(seed, of), draws=100) for of in (_none, noise)]
    assert tests[0].value == pytest.approx(tests[1].value, rel=1e-12)
    assert tests[0].p == tests[1].p


@hypothesis.given(seeds, noises)
@few
def test_curves_of_ensembles(seed, noise):
    rng, predictions = np.random.default_rng(seed), labelled(seed)
    scores = rng.multinomial(4, np.ones(3) / 3, (2, N, 3)) / 4
    noisy = {name: noise(rng, scores) for name in "xy"}
    for curve in (ablation.by_seeds, ablation.by_augmentations, ablation.by_configuration_left_out):
        exact = curve(dict.fromkeys("xy", scores), predictions)
        assert [each.accuracy for each in exact] == pytest.approx(
            [each.accuracy for each in curve(noisy, predictions)]
        )


@hypothesis.given(seeds, noises)
@few
def test_equal_methods_do_not_differ(seed, noise):
    """The first of them is the best one, and no interval tells them apart."""
    runs = {"first": labelled(seed, noise), "second": labelled(seed)}
    for quantity in several.of_metrics(runs, draws=DRAWS):
        if "calibrated" not in quantity.name:  # Its temperature is sought, to a millionth.
            assert quantity.best(runs) == "first"
            (contrast,) = quantity.contrasts([("first", "second")])
            assert not contrast.is_told
    assert several.choose_by_other_folds(runs)[1] == ["first"] * FOLDS


@hypothesis.given(seeds, noises)
@few
def test_prediction_sets(seed, noise):
    rng, cases = np.random.default_rng(seed), labelled(seed)
    new = rng.multinomial(20, np.ones(3) / 3, (N, FOLDS)) / 20
    exact, noisy = conformal.calibrate(cases), conformal.calibrate(labelled(seed, noise))
    for coverage in (0.5, 0.8, 0.9):
        np.testing.assert_array_equal(
            conformal.sets(exact, new, coverage), conformal.sets(noisy, noise(rng, new), coverage)
        )
        np.testing.assert_array_equal(
            conformal.out_of_fold(cases, coverage),
            conformal.out_of_fold(labelled(seed, noise), coverage),
        )


@pytest.mark.parametrize("rows", [1, 7, N])
def test_p_values_of_images_that_were_trained_on(rows):
    """Each lies exactly as far as its own distance: a tie, whatever images come in one batch."""
    rng = np.random.default_rng(0)
    means = {"x": rng.normal(size=(N, 64)).astype(np.float32)}
    split = Folds(tuple(f"i{i}" for i in range(N)), np.zeros(N, int), np.arange(N) % 3, ("a", "b"))
    reference = out_of_distribution.fit(split, means, {})
    whole = out_of_distribution.descriptors_p_values(reference, means)
    for start in range(0, N, rows):
        part = np.nextafter(means["x"][start : start + rows], np.float32(9))
        p = out_of_distribution.descriptors_p_values(reference, {"x": part})
        assert p == pytest.approx(whole[start : start + rows], abs=1e-9)


@hypothesis.given(seeds, noises)
@few
def test_the_order_of_pictures(seed, noise):
    exact, noisy = labelled(seed), labelled(seed, noise)
    assert images.by_cell(exact) == images.by_cell(noisy)
    assert images.mistakes(exact) == images.mistakes(noisy)


def test_ties_are_merged_and_nothing_else():
    values = np.array([0.3, 0.1 + 0.2, 0.25, 0.3 * (1 + 3e-9), 0.0, 1e-30, 1e-30 * (1 + 1e-10)])
    ranks = rankdata(ties.merge(values))
    np.testing.assert_array_equal(ranks, [5.5, 5.5, 4, 7, 1, 2.5, 2.5])
    np.testing.assert_array_equal(ties.argmax(np.array([[0.3, 0.1 + 0.2], [0.2, 0.3]])), [0, 1])
    low = ties.lower(np.array([1.0, -1.0, 0.0, np.inf]))
    assert low[0] < 1
    assert low[1] < -1
    assert (low[2], low[3]) == (0, np.inf)


def test_scores_apart_keep_their_ranks():
    values = np.random.default_rng(0).random(10_000)
    assert (np.diff(np.sort(values)) > 1e-9).all()
    np.testing.assert_array_equal(ties.merge(values), values)
