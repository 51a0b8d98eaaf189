"""Draws of images and of groups, intervals by their formulas, and that they cover the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from histojax.evaluation import bootstrap, metrics, statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions


def all_draws(groups, count, seed=0):
    return np.concatenate(list(bootstrap.resampling_weights(groups, count, seed)))


def test_each_draw_takes_as_many_images_as_there_are():
    drawn = all_draws(30, 200)
    assert drawn.shape == (200, 30)
    np.testing.assert_array_equal(drawn.sum(axis=1), 30)
    assert abs(drawn.var() - 29 / 30) < 0.05  # Of a binomial count.


def test_groups_are_drawn_whole():
    groups = ["a", "b", "a", "c", "c", "c"]
    drawn = all_draws(groups, 300)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    np.testing.assert_array_equal(drawn[:, 3], drawn[:, 5])
    np.testing.assert_array_equal(drawn[:, 0] + drawn[:, 1] + drawn[:, 3], 3)
    assert len(set(drawn.sum(axis=1))) > 1


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    whole = all_draws(25, 40, seed=3)
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 60)
    np.testing.assert_array_equal(all_draws(25, 40, seed=3), whole)
    assert not np.array_equal(all_draws(25, 40, seed=4), whole)


def test_the_standard_error_is_the_textbooks():
    right = np.arange(200) < 150
    drawn = bootstrap.resample(lambda w: {("x", ""): w @ right / w.sum(axis=1)}, 200, 4000)["x", ""]
    assert drawn.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 200), rel=0.05)


@given(st.floats(0.02, 0.98), st.floats(0.001, 0.2), st.integers(5, 500))
@settings(max_examples=60, deadline=None)
def test_a_share_s_interval_is_students_on_the_logit(value, spread, units):
    drawn = value + spread * np.array([-1.0, 1.0])
    interval = bootstrap.confidence_interval(value, drawn, units, (0.0, 1.0))
    reach = (
        stats.t.ppf(0.975, units - 1)
        * spread
        * np.sqrt(units / (units - 1))
        / (value * (1 - value))
    )
    expected = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + reach * np.array([-1, 1]))))
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-9, atol=1e-300)
    assert 0 <= interval.low <= value <= interval.high <= 1


def test_intervals_on_other_scales():
    drawn = np.array([0.9, 1.1])
    reach = stats.t.ppf(0.975, 49) * 0.1 * np.sqrt(50 / 49)
    plain = bootstrap.confidence_interval(1.0, drawn, 50)
    assert (plain.low, plain.high) == pytest.approx((1 - reach, 1 + reach))
    loss = bootstrap.confidence_interval(1.0, drawn, 50, (0.0, np.inf))
    assert (loss.low, loss.high) == pytest.approx((np.exp(-reach), np.exp(reach)))
    kappa = bootstrap.confidence_interval(0.5, drawn - 0.5, 50, (-1.0, 1.0))
    spread = reach / (1 - 0.5**2)
    assert (kappa.low, kappa.high) == pytest.approx(
        (np.tanh(np.arctanh(0.5) - spread), np.tanh(np.arctanh(0.5) + spread))
    )


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, np.inf), (-1.0, 1.0)])
def test_a_figure_next_to_its_bound_has_an_interval_within_it(bounds):
    interval = bootstrap.confidence_interval(bounds[0] + 2.6e-9, np.array([0.0, 0.04]), 30, bounds)
    assert bounds[0] <= interval.low <= bounds[0] + 2.6e-9 <= interval.high <= bounds[1]


def test_all_or_nothing_has_the_exact_interval():
    full = bootstrap.confidence_interval(1.0, np.ones(10), 50, (0.0, 1.0))
    expected = stats.binomtest(50, 50).proportion_ci(0.95)
    assert (full.low, full.high) == pytest.approx((expected.low, 1))
    none = bootstrap.confidence_interval(0.0, np.zeros(10), 20, (0.0, 1.0))
    expected = stats.binomtest(0, 20).proportion_ci(0.95)
    assert (none.low, none.high) == pytest.approx((0, expected.high))


def test_undefined_draws_are_counted_and_left_out():
    interval = bootstrap.confidence_interval(0.5, np.array([0.4, 0.6, np.nan]), 30, (0.0, 1.0))
    same = bootstrap.confidence_interval(0.5, np.array([0.4, 0.6]), 30, (0.0, 1.0))
    assert (interval.low, interval.high, interval.left_out) == (same.low, same.high, 1)
    nothing = bootstrap.confidence_interval(0.5, np.full(3, np.nan), 30, (0.0, 1.0))
    assert np.isnan([nothing.low, nothing.high]).all()
    assert nothing.left_out == 3
    assert np.isnan(bootstrap.confidence_interval(0.5, np.array([0.4, 0.6]), 1, (0.0, 1.0)).low)


def test_units_are_counted_among_the_images_a_figure_rests_on():
    groups = ["a", "b", "a", "c"]
    assert bootstrap.effective_size(groups) == pytest.approx(16 / 6)
    assert bootstrap.effective_size(["a", "b", "c"]) == 3
    assert bootstrap.effective_size(groups, np.array([True, False, True, False])) == 1
    assert bootstrap.effective_size(4, np.array([True, False, True, False])) == 2


def test_percentiles_are_widened_for_few_units():
    drawn = np.random.default_rng(0).normal(size=20_000)
    many, few = (bootstrap.percentile_interval(drawn, size) for size in (10_000, 8))
    assert many == pytest.approx((-1.96, 1.96), abs=0.06)
    assert few[1] == pytest.approx(stats.t.ppf(0.975, 7) * np.sqrt(8 / 7), rel=0.05)


KEYS = (
    ("accuracy", ""),
    ("balanced_accuracy", ""),
    ("macro_f1", ""),
    ("kappa", ""),
    ("quadratic_kappa", ""),
    ("log_loss", ""),
    ("brier", ""),
    ("macro_auc", ""),
    ("positive_accuracy", ""),
    ("positive_auc", ""),
    ("positive_sensitivity", ""),
    ("positive_specificity", ""),
)


def simulated(rng: np.random.Generator, images: int, groups: int | None) -> LabelledPredictions:
    """Scores of four classes; most images of a group share their class, and how hard they are."""
    if groups is None:
        truth, group, shift = rng.integers(4, size=images), None, 0.0
    else:
        group = np.repeat(np.arange(groups), rng.integers(1, 2 * images // groups + 1, groups))
        truth = np.where(
            rng.random(len(group)) < 0.2,
            rng.integers(4, size=len(group)),
            rng.integers(4, size=groups)[group],
        )
        shift = rng.normal(0, 0.8, (groups, 4))[group]
    logits = rng.normal(size=(len(truth), 4)) + shift + 2.2 * np.eye(4)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(map(str, range(len(truth))))
    labels = None if group is None else tuple(map(str, group))
    return LabelledPredictions(
        names, ("a", "b", "c", "d"), truth, scores.argmax(axis=1), scores, None, labels, (2, 3)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("images", "groups"), [(400, None), (100, None), (400, 60)])
def test_the_95_percent_interval_holds_the_truth_in_93_to_97_percent_of_1000_draws(images, groups):
    population = simulated(
        np.random.default_rng(99), 400_000, groups and 400_000 * groups // images
    )
    truth = {
        key: value[0]
        for key, value in metrics.compute(population, np.ones((1, len(population.truth)))).items()
    }
    rng, held = np.random.default_rng(7), dict.fromkeys(KEYS, 0)
    for _ in range(1000):
        predictions = simulated(rng, images, groups)
        intervals = statistics.intervals(
            lambda w, c=predictions: metrics.compute(c, w),
            predictions,
            predictions.resampling_groups or images,
            500,
        )
        for key in KEYS:
            held[key] += intervals[key].low <= truth[key] <= intervals[key].high
    print(images, groups, {" ".join(key): count / 10 for key, count in held.items()})
    assert {key: count for key, count in held.items() if not 930 <= count <= 970} == {}
