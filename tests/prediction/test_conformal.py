"""Prediction sets by hand, by loops over fractions, and over many draws with a stated coverage."""

import dataclasses
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.prediction import conformal

SURE = 1e-4  # Chance by which a simulation may miss its bound.


def cases_of(scores, truth, folds, groups=None) -> LabelledPredictions:
    scores, truth = np.asarray(scores, float), np.asarray(truth)
    names = tuple(f"image{i}" for i in range(len(truth)))
    classes = tuple("abcdef"[: scores.shape[1]])
    return LabelledPredictions(
        names, classes, truth, scores.argmax(axis=1), scores, np.asarray(folds), groups
    )


@st.composite
def drawn_cases(draw) -> LabelledPredictions:
    """Few images whose scores are sixteenths, so that sums are exact and ties are common."""
    n, folds, classes = draw(st.integers(4, 14)), draw(st.integers(2, 3)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.multinomial(16, np.ones(classes) / classes, n) / 16
    fold = np.concatenate([np.arange(folds), rng.integers(folds, size=n - folds)])
    names = draw(st.sampled_from([("p", "q", "r", ""), ("",), ("p", "q", "r", "s", "t")]))
    groups = tuple(rng.choice(names, n).tolist())
    return cases_of(scores, rng.integers(classes, size=n), fold, groups)


def new_scores(cases: LabelledPredictions, count: int, seed: int = 0) -> np.ndarray:
    """By fold [N, F, K], in sixteenths."""
    classes, folds = len(cases.classes), int(cases.folds.max()) + 1
    return (
        np.random.default_rng(seed).multinomial(16, np.ones(classes) / classes, (count, folds)) / 16
    )


def by_loops(
    cases: LabelledPredictions, by_fold: np.ndarray, coverage: Fraction, among=None
) -> np.ndarray:
    """Sets as the papers define them, in exact fractions; `among` are the calibration images."""
    among = list(range(len(cases.names)) if among is None else among)
    unit = [
        (cases.groups[i] or cases.names[i]) if cases.groups else cases.names[i]
        for i in range(len(cases.names))
    ]
    size = {name: sum(unit[j] == name for j in among) for name in {unit[j] for j in among}}

    def above(p, y):
        return sum(Fraction(float(value)) for value in p if value > p[y])

    in_set = np.zeros((len(by_fold), by_fold.shape[2]), bool)
    for i, scores in enumerate(by_fold):
        for y in range(by_fold.shape[2]):
            below = sum(
                Fraction(1, size[unit[j]])
                for j in among
                if above(cases.scores[j], cases.truth[j]) < above(scores[cases.folds[j]], y)
            )
            in_set[i, y] = below < coverage * (len(size) + 1)
        in_set[i, scores.mean(axis=0).argmax()] = True
    return in_set


def test_nonconformity_is_the_probability_of_likelier_classes():
    scores = np.array([[0.2, 0.5, 0.3], [0.375, 0.25, 0.375]])
    np.testing.assert_allclose(conformal.nonconformity(scores), [[0.8, 0, 0.5], [0, 0.75, 0]])


def test_a_case_worked_by_hand():
    # Nonconformities 0, 0.5, 0.75, 0; group p has two images of mass 1/2, the other groups have one
    # image each: G + 1 = 4.
    scores = [[0.75, 0.25, 0], [0.5, 0.375, 0.125], [0.125, 0.75, 0.125], [0, 0, 1]]
    cases = cases_of(scores, [0, 1, 2, 2], [0, 0, 1, 1], ("p", "q", "p", "r"))
    calibration = conformal.calibrate(cases)
    np.testing.assert_allclose(calibration.nonconformity, [0, 0.5, 0.75, 0])
    np.testing.assert_allclose(calibration.masses, [0.5, 1, 0.5, 1])
    # Fold 0's models rank a, b, c with 0, 0.625, 0.875 above; fold 1's b, a, c with 0, 0.5, 0.875.
    new = np.array([[[0.625, 0.25, 0.125], [0.375, 0.5, 0.125]]])
    # a: 0 of fold 0, 1 (r) of fold 1; b: 1.5 (p's first, q) and 0; c: 1.5 and 1.5; each of 4.
    for coverage, expected in (
        (0.2, "a"),
        (0.25, "a"),
        (0.26, "a"),
        (0.375, "a"),
        (0.38, "ab"),
        (0.75, "ab"),
        (0.76, "abc"),
    ):
        in_set = conformal.sets(calibration, new, coverage)[0]
        assert (
            "".join(name for name, included in zip("abc", in_set, strict=True) if included)
            == expected
        ), coverage


@hypothesis.given(cases=drawn_cases(), twentieths=st.integers(1, 19))
@hypothesis.settings(max_examples=150, deadline=None)
def test_sets_are_those_of_loops_over_fractions(cases, twentieths):
    new = new_scores(cases, 6)
    in_set = conformal.sets(conformal.calibrate(cases), new, twentieths / 20)
    np.testing.assert_array_equal(in_set, by_loops(cases, new, Fraction(twentieths, 20)))


@hypothesis.given(cases=drawn_cases(), twentieths=st.integers(1, 19))
@hypothesis.settings(max_examples=60, deadline=None)
def test_sets_out_of_fold_are_those_of_the_other_folds_by_loops(cases, twentieths):
    in_set = conformal.out_of_fold(cases, twentieths / 20)
    for i, fold in enumerate(cases.folds):
        others = np.flatnonzero(cases.folds != fold)
        alike = np.repeat(cases.scores[i][None, None], cases.folds.max() + 1, axis=1)
        np.testing.assert_array_equal(
            in_set[i : i + 1], by_loops(cases, alike, Fraction(twentieths, 20), others)
        )


@hypothesis.given(cases=drawn_cases(), low=st.floats(0.01, 0.99), high=st.floats(0.01, 0.99))
@hypothesis.settings(max_examples=60, deadline=None)
def test_more_coverage_never_removes_a_class(cases, low, high):
    low, high = sorted((low, high))
    calibration, new = conformal.calibrate(cases), new_scores(cases, 10)
    small, large = conformal.sets(calibration, new, low), conformal.sets(calibration, new, high)
    assert not (small & ~large).any()
    assert not (conformal.out_of_fold(cases, low) & ~conformal.out_of_fold(cases, high)).any()
    assert small[np.arange(10), new.mean(axis=1).argmax(axis=1)].all()


@hypothesis.given(cases=drawn_cases(), seed=st.integers(0, 99))
@hypothesis.settings(max_examples=60, deadline=None)
def test_orders_and_names_do_not_matter_and_images_of_a_group_share_its_mass(cases, seed):
    rng = np.random.default_rng(seed)
    new = new_scores(cases, 8, seed)
    expected = conformal.sets(conformal.calibrate(cases), new, 0.7)

    order = rng.permutation(len(cases.names))
    shuffled = LabelledPredictions(
        tuple(cases.names[i] for i in order),
        cases.classes,
        cases.truth[order],
        cases.predicted[order],
        cases.scores[order],
        cases.folds[order],
        tuple(cases.groups[i] for i in order),
    )
    np.testing.assert_array_equal(conformal.sets(conformal.calibrate(shuffled), new, 0.7), expected)

    # Every image of a group twice: no group gains weight. (Images without a group would become two
    # groups.)
    known = np.flatnonzero(np.array(cases.groups) != "")
    twice = np.concatenate([np.arange(len(cases.names)), known])
    doubled = LabelledPredictions(
        (*cases.names, *(f"again{i}" for i in known)),
        cases.classes,
        cases.truth[twice],
        cases.predicted[twice],
        cases.scores[twice],
        cases.folds[twice],
        tuple(cases.groups[i] for i in twice),
    )
    np.testing.assert_array_equal(conformal.sets(conformal.calibrate(doubled), new, 0.7), expected)

    # Other names of folds go with the models' order.
    turn = rng.permutation(cases.folds.max() + 1)
    turned = dataclasses.replace(cases, folds=turn[cases.folds])
    by_fold = np.empty_like(new)
    by_fold[:, turn] = new
    np.testing.assert_array_equal(
        conformal.sets(conformal.calibrate(turned), by_fold, 0.7), expected
    )

    # Another order of the classes, unless two share the highest mean score: the first of them is
    # the answer.
    mean = new.mean(axis=1)
    if ((mean == mean.max(axis=1, keepdims=True)).sum(axis=1) == 1).all():
        change = rng.permutation(len(cases.classes))
        changed = dataclasses.replace(
            cases, scores=cases.scores[:, change], truth=np.argsort(change)[cases.truth]
        )
        in_set = conformal.sets(conformal.calibrate(changed), new[..., change], 0.7)
        np.testing.assert_array_equal(in_set, expected[:, change])


def test_the_most_uncertain_answer_has_the_largest_set():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(4) * 0.3, 60)
    truth = (scores.cumsum(axis=1) > rng.random((60, 1))).argmax(axis=1)
    calibration = conformal.calibrate(cases_of(scores, truth, np.arange(60) % 3))
    flat, sure = np.full((1, 3, 4), 0.25), np.tile([0.97, 0.01, 0.01, 0.01], (1, 3, 1))
    assert conformal.sets(calibration, flat, 0.8).sum() == 4
    assert conformal.sets(calibration, sure, 0.8).sum() == 1


def test_attainable_is_where_sets_begin_to_hold_all_classes():
    groups = tuple(f"g{i // 2}" for i in range(18))
    sure = np.tile([0.875, 0.125], (18, 1))
    calibration = conformal.calibrate(cases_of(sure, np.zeros(18, int), np.arange(18) // 6, groups))
    assert conformal.attainable_coverage(calibration) == pytest.approx(0.9)
    new = np.tile([0.75, 0.25], (1, 3, 1))
    assert conformal.sets(calibration, new, conformal.attainable_coverage(calibration)).sum() == 1
    assert conformal.sets(calibration, new, 0.901).all()


def nearest_mean(x, y, new, classes=3):
    """Probabilities by distance to the class means, as of normal classes of unit variance."""
    means = np.stack(
        [x[y == k].mean(axis=0) if (y == k).any() else np.zeros(x.shape[1]) for k in range(classes)]
    )
    likelihood = np.exp(-((new[:, None] - means) ** 2).sum(axis=2) / 2)
    return likelihood / likelihood.sum(axis=1, keepdims=True)


def test_new_images_are_covered_as_stated_by_models_that_were_trained():
    draws, n, folds, coverage = 1200, 40, 5, 0.8
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [1.5, 0], [0, 1.5]])
    covered = covered_out_of_fold = 0
    fold = np.arange(n) % folds
    for _ in range(draws):
        truth = rng.integers(3, size=n + 1)
        x = centres[truth] + rng.normal(size=(n + 1, 2))
        scores = np.stack(
            [nearest_mean(x[:n][fold != f], truth[:n][fold != f], x) for f in range(folds)]
        )
        cases = cases_of(scores[fold, np.arange(n)], truth[:n], fold)
        in_set = conformal.sets(conformal.calibrate(cases), scores[None, :, n], coverage)
        covered += in_set[0, truth[n]]
        covered_out_of_fold += conformal.out_of_fold(cases, coverage)[
            np.arange(n), truth[:n]
        ].mean()
    low, high = stats.binom.ppf([SURE, 1 - SURE], draws, [coverage, coverage + 1 / (n + 1)])
    assert low <= covered <= high
    assert coverage - 0.02 <= covered_out_of_fold / draws <= coverage + 0.06


def test_new_groups_are_covered_as_stated_where_masses_by_image_would_fail():
    draws, groups, coverage = 1500, 12, 0.8
    rng = np.random.default_rng(2)
    covered = covered_by_images = 0
    for _ in range(draws):
        easy = rng.random(groups + 1) < 0.5
        sizes = np.where(easy, 15, 1)  # The easy groups have most of the images.
        sizes[-1] = 1
        of = np.arange(groups + 1).repeat(sizes)
        scores = rng.dirichlet(np.ones(3), len(of))
        truth = np.where(easy[of], scores.argmax(axis=1), rng.integers(3, size=len(of)))
        names = tuple(map(str, of[:-1]))
        calibration = conformal.calibrate(cases_of(scores[:-1], truth[:-1], of[:-1] % 3, names))
        new = np.tile(scores[-1], (1, 3, 1))
        covered += conformal.sets(calibration, new, coverage)[0, truth[-1]]
        by_image = dataclasses.replace(calibration, masses=np.ones(len(of) - 1))
        covered_by_images += conformal.sets(by_image, new, coverage)[0, truth[-1]]
    assert covered >= stats.binom.ppf(SURE, draws, coverage)
    assert covered_by_images < stats.binom.ppf(SURE, draws, coverage)


def test_what_cannot_be_calibrated_is_refused():
    cases = cases_of(np.eye(2)[[0, 1, 0]], [0, 1, 0], [0, 1, 0])
    calibration, new = conformal.calibrate(cases), np.full((2, 2, 2), 0.5)
    for coverage in (0, 1, -0.1, 90, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            conformal.sets(calibration, new, coverage)
        with pytest.raises(InputError, match="between 0 and 1"):
            conformal.out_of_fold(cases, coverage)
    for shape in ((2, 3, 2), (2, 2, 3), (2, 2)):
        with pytest.raises(InputError, match=r"2 folds and 2 classes \(a, b\)"):
            conformal.sets(calibration, np.full(shape, 0.5), 0.9)
    for field in ("scores", "folds"):
        with pytest.raises(InputError, match=f"but {field} are not known"):
            conformal.calibrate(dataclasses.replace(cases, **{field: None}))
    for folds in ([0, 0, 0], [0, 2, 2]):
        with pytest.raises(InputError, match="at least two folds"):
            conformal.calibrate(dataclasses.replace(cases, folds=np.array(folds)))
