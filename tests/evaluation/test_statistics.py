"""Statistics hold what the predictions allow; the paper's own numbers come from its predictions."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as reference

from histojax.config import BACH_CLASSES
from histojax.evaluation import calibration, statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.report import tables
from tests import samples

DRAWS = 60


def labelled(n: int = 120, k: int = 4, seed: int = 0) -> LabelledPredictions:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % k
    scores = rng.dirichlet(np.ones(k), n) + 0.5 * np.eye(k)[truth]
    scores /= scores.sum(axis=1, keepdims=True)
    groups = tuple(f"g{i // 4}" if i % 7 else "" for i in range(n))
    classes = BACH_CLASSES if k == 4 else tuple(f"class{i}" for i in range(k))
    names = tuple(f"i{i}" for i in range(n))
    return LabelledPredictions(
        names,
        classes,
        truth,
        scores.argmax(axis=1),
        scores,
        np.arange(n) // k % 5,
        groups,
        (k - 1,) if k == 2 else (k - 2, k - 1),
    )


def test_figures_have_values_by_fold_and_both_intervals():
    predictions = labelled()
    computed = statistics.compute(predictions, draws=DRAWS)
    accuracy = computed.estimates["accuracy", ""]
    right = predictions.predicted == predictions.truth
    assert accuracy.value == right.mean()
    assert accuracy.by_fold == pytest.approx(
        [right[predictions.folds == fold].mean() for fold in range(5)]
    )
    assert accuracy.mean == pytest.approx(np.mean(accuracy.by_fold))
    assert accuracy.deviation == pytest.approx(np.std(accuracy.by_fold))
    assert accuracy.interval == accuracy.groups != accuracy.images
    np.testing.assert_array_equal(
        computed.confusion, reference.confusion_matrix(predictions.truth, predictions.predicted)
    )
    alone = statistics.compute(
        dataclasses.replace(predictions, groups=None), draws=DRAWS
    ).estimates["accuracy", ""]
    assert (alone.groups, alone.interval) == (None, accuracy.images)
    assert computed.value("accuracy") == accuracy.value
    assert np.isnan(computed.value("accuracy", "nonsense"))


def test_the_roc_curve_is_scikit_learns_inside_its_band():
    predictions = labelled(400)
    roc = statistics.roc(predictions, draws=200)
    assert (roc.false_positive_rate[0], roc.true_positive_rate[-1]) == (0, 1)
    score = predictions.scores[:, 2:].max(axis=1) / (
        predictions.scores[:, 2:].max(axis=1) + predictions.scores[:, :2].max(axis=1)
    )
    area = np.trapezoid(roc.true_positive_rate, roc.false_positive_rate)
    assert area == pytest.approx(reference.roc_auc_score(predictions.truth >= 2, score), abs=1e-12)
    at_grid = np.interp(statistics.ROC_GRID[5:-5], roc.false_positive_rate, roc.true_positive_rate)
    assert np.mean((roc.low[5:-5] <= at_grid) & (at_grid <= roc.high[5:-5])) > 0.95
    assert (np.diff(roc.low) >= -1e-12).all()


def test_a_sampled_curve_is_that_of_copies():
    predictions = labelled(60)
    score, is_positive = predictions.scores[:, 3], predictions.truth == 3
    counts = np.random.default_rng(0).integers(0, 3, 60)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf) < 0)
    curve = statistics._resampled_curves(
        counts[None, order].astype(float), is_positive[order], ends
    )[0]
    copies = np.repeat(np.arange(60), counts)
    false, true, _ = reference.roc_curve(
        is_positive[copies], score[copies], drop_intermediate=False
    )
    np.testing.assert_allclose(
        np.trapezoid(curve, statistics.ROC_GRID), np.trapezoid(true, false), atol=0.02
    )
    assert (
        statistics._resampled_curves((is_positive[order] * 1.0)[None], is_positive[order], ends)
        == []
    )


def test_statistics_hold_what_its_cases_allow():
    predictions = labelled()
    whole = statistics.compute(predictions, 0.9, draws=DRAWS)
    assert whole.operating_point.target_sensitivity == 0.9
    assert ("positive_sensitivity", "nested") in whole.estimates
    expected = calibration.cross_fit(predictions)
    assert whole.temperature.by_fold == expected.by_fold
    assert set(whole.calibrated) == {("log_loss", ""), ("brier", ""), ("calibration_error", "")}
    no_folds = statistics.compute(dataclasses.replace(predictions, folds=None), draws=DRAWS)
    assert (no_folds.temperature, no_folds.operating_point, no_folds.calibrated) == (None, None, {})
    assert no_folds.estimates["accuracy", ""].by_fold == ()
    assert np.isnan(no_folds.estimates["accuracy", ""].mean)
    one_fold = statistics.compute(
        dataclasses.replace(predictions, folds=np.zeros(120, int)), draws=DRAWS
    )
    assert one_fold.operating_point is None
    labels = statistics.compute(dataclasses.replace(predictions, scores=None), draws=DRAWS)
    assert (labels.roc, labels.reliability) == (None, None)
    nobody = statistics.compute(dataclasses.replace(predictions, positive=()), draws=DRAWS)
    assert (nobody.roc, nobody.operating_point) == (None, None)
    assert nobody.temperature is not None


def test_an_undefined_fold_is_left_out_of_the_mean():
    predictions = labelled(40, 2)
    sorted_folds = dataclasses.replace(
        predictions, folds=(predictions.truth == 1).astype(int), positive=(1,)
    )
    computed = statistics.compute(sorted_folds, draws=DRAWS)
    assert np.isnan(computed.estimates["positive_auc", ""].by_fold).all()
    sensitivity = computed.estimates["sensitivity", "class1"]
    assert np.isnan(sensitivity.by_fold[0])
    assert sensitivity.mean == sensitivity.by_fold[1]


@pytest.mark.parametrize(("n", "k"), [(40, 2), (90, 9), (12, 3)])
def test_any_number_of_classes(n, k):
    computed = statistics.compute(labelled(n, k), draws=DRAWS)
    assert computed.confusion.shape == (k, k)
    assert np.isfinite(computed.value("accuracy"))


def test_the_published_figures_come_from_predictions_like_the_papers():
    computed = statistics.compute(samples.published_predictions(), draws=20)
    by_fold = 100 * np.array(computed.estimates["accuracy", ""].by_fold)
    np.testing.assert_allclose(by_fold, tables.PUBLISHED_ACCURACY["Model fusion"], atol=1e-9)
    accuracy, two = computed.estimates["accuracy", ""], computed.estimates["positive_accuracy", ""]
    printed = (round(100 * accuracy.mean, 1), round(100 * accuracy.deviation, 1))
    # 87.25 is printed as 87.2.
    assert (printed[0] in (87.2, 87.3), printed[1]) == (
        True,
        tables.PUBLISHED_MEAN_AND_DEVIATION["Model fusion"][1],
    )
    assert round(100 * two.mean, 1) in (93.7, 93.8)
    assert round(100 * two.deviation, 1) == tables.PUBLISHED_TWO_CLASS_ACCURACY[1]
    for point, (sensitivity, specificity) in tables.PUBLISHED_SET_POINTS.items():
        assert 100 * computed.value("positive_sensitivity", f"{point:.2f}") == pytest.approx(
            sensitivity
        )
        assert 100 * computed.value("positive_specificity", f"{point:.2f}") == pytest.approx(
            specificity
        )
    assert round(computed.value("positive_auc"), 3) == tables.PUBLISHED_TWO_CLASS_AUC
    missed = computed.confusion[:, :2].sum(axis=1)
    assert (missed[2], missed[3]) == (9, 5)
