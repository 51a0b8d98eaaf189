"""Every metric against scikit-learn and SciPy to 1e-12, weighted and not; the table of metrics.

The arithmetic of weighted.py is tested here too.
"""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from histojax.config import BACH_CLASSES
from histojax.evaluation import metrics, statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import Weighted
from histojax.report import content, summary


def labelled(
    truth, scores=None, predicted=None, classes=BACH_CLASSES, positive=(2, 3)
) -> LabelledPredictions:
    truth = np.asarray(truth)
    predicted = scores.argmax(axis=1) if predicted is None else np.asarray(predicted)
    return LabelledPredictions(
        tuple(f"i{i}" for i in range(len(truth))),
        classes,
        truth,
        predicted,
        scores,
        positive=positive,
    )


def drawn(seed: int, n: int, k: int, ties: bool) -> LabelledPredictions:
    """Random scores, in steps of 1/8 if with ties, and random truth, perhaps without some class."""
    rng = np.random.default_rng(seed)
    scores = rng.multinomial(8, np.ones(k) / k, n) / 8 if ties else rng.dirichlet(np.ones(k), n)
    return labelled(
        rng.integers(0, k, n),
        scores,
        classes=tuple(f"class{i}" for i in range(k)),
        positive=tuple(range(k // 2, k)),
    )


def by_sklearn(predictions: LabelledPredictions, weights: np.ndarray) -> dict:
    """The same metrics by scikit-learn, for one weighting."""
    k, truth, said, scores = (
        len(predictions.classes),
        predictions.truth,
        predictions.predicted,
        predictions.scores,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of classes that are absent.
        matrix = reference.confusion_matrix(truth, said, labels=range(k), sample_weight=weights)
        there = np.unique(np.concatenate([truth[weights > 0], said[weights > 0]]))
        recall = reference.recall_score(
            truth, said, labels=range(k), average=None, sample_weight=weights, zero_division=np.nan
        )
        precision = reference.precision_score(
            truth, said, labels=range(k), average=None, sample_weight=weights, zero_division=np.nan
        )
        values = {
            ("accuracy", ""): reference.accuracy_score(truth, said, sample_weight=weights),
            ("balanced_accuracy", ""): reference.balanced_accuracy_score(
                truth[weights > 0], said[weights > 0], sample_weight=weights[weights > 0]
            ),
            ("macro_f1", ""): reference.f1_score(
                truth, said, labels=there, average="macro", sample_weight=weights, zero_division=0
            ),
            ("kappa", ""): reference.cohen_kappa_score(
                truth, said, labels=range(k), sample_weight=weights
            ),
            ("quadratic_kappa", ""): reference.cohen_kappa_score(
                truth, said, labels=range(k), weights="quadratic", sample_weight=weights
            ),
            ("log_loss", ""): reference.log_loss(
                truth, scores, labels=range(k), sample_weight=weights
            ),
            ("brier", ""): reference.brier_score_loss(
                truth, scores, labels=range(k), scale_by_half=False, sample_weight=weights
            ),
        }
        areas = []
        for i, name in enumerate(predictions.classes):
            of_class = truth == i
            values["sensitivity", name] = recall[i]
            values["specificity", name] = reference.recall_score(
                ~of_class, said != i, sample_weight=weights, zero_division=np.nan
            )
            values["precision", name] = precision[i]
            areas.append(area(of_class, scores[:, i], weights))
            values["auc", name] = areas[-1]
        values["macro_auc", ""] = np.nanmean(areas) if not np.isnan(areas).all() else np.nan
        is_positive, called = (
            np.isin(truth, predictions.positive),
            np.isin(said, predictions.positive),
        )
        score = scores[:, list(predictions.positive)].max(axis=1)
        rest = [i for i in range(k) if i not in predictions.positive]
        score = score / (score + scores[:, rest].max(axis=1))
        values["positive_accuracy", ""] = reference.accuracy_score(
            is_positive, called, sample_weight=weights
        )
        values["positive_auc", ""] = area(is_positive, score, weights)
        for name, decision in {"": called, "0.33": score >= 0.33, "0.50": score >= 0.5}.items():
            for figure, a, b in (
                ("sensitivity", is_positive, decision),
                ("specificity", ~is_positive, ~decision),
            ):
                values[f"positive_{figure}", name] = reference.recall_score(
                    a, b, sample_weight=weights, zero_division=np.nan
                )
    assert matrix.shape == (k, k)
    return values


def area(is_positive, score, weights):
    kinds = {bool(each) for each in is_positive[weights > 0]}
    return (
        reference.roc_auc_score(is_positive, score, sample_weight=weights)
        if len(kinds) == 2
        else np.nan
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 90), st.integers(2, 9), st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_metric_is_scikit_learns(seed, n, k, ties):
    predictions = drawn(seed, n, k, ties)
    rng = np.random.default_rng(seed + 1)
    weights = np.stack([np.ones(n), np.bincount(rng.integers(n, size=n), minlength=n)])
    values = metrics.compute(predictions, weights)
    for row in range(2):
        expected = by_sklearn(predictions, weights[row])
        assert set(values) - set(expected) == {("calibration_error", "")}
        for key, value in expected.items():
            np.testing.assert_allclose(
                values[key][row], value, rtol=0, atol=1e-12, err_msg=f"{key} {row}"
            )


def test_areas_are_scipys_rank_statistic():
    predictions = drawn(3, 80, 4, ties=True)
    for i, name in enumerate(predictions.classes):
        of_class = predictions.truth == i
        u = stats.mannwhitneyu(
            predictions.scores[of_class, i], predictions.scores[~of_class, i]
        ).statistic
        value = metrics.compute(predictions, np.ones((1, 80)))["auc", name][0]
        assert value == pytest.approx(u / of_class.sum() / (~of_class).sum(), abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_count_is_that_many_copies_of_an_image(seed):
    predictions = drawn(seed, 40, 4, ties=True)
    counts = np.random.default_rng(seed).integers(0, 4, 40)
    counts[0] += 1
    many = np.repeat(np.arange(40), counts)
    copied = labelled(
        predictions.truth[many], predictions.scores[many], classes=predictions.classes
    )
    weighted = metrics.compute(predictions, counts[None].astype(float))
    for key, value in metrics.compute(copied, np.ones((1, len(many)))).items():
        np.testing.assert_allclose(weighted[key], value, atol=1e-12, err_msg=str(key))


def test_the_calibration_error_is_a_plain_loop():
    predictions = drawn(5, 300, 4, ties=False)
    confidence, right = predictions.scores.max(axis=1), predictions.predicted == predictions.truth
    expected = 0.0
    for low in np.arange(10) / 10:
        there = (confidence > low) & (confidence <= low + 0.1 + 1e-15)
        if there.any():
            expected += there.mean() * abs(right[there].mean() - confidence[there].mean())
    value = metrics.compute(predictions, np.ones((1, 300)))["calibration_error", ""][0]
    assert value == pytest.approx(expected, abs=1e-12)
    sure = labelled([0, 1], np.eye(4)[[0, 1]])
    assert metrics.compute(sure, np.ones((1, 2)))["calibration_error", ""][0] == 0


def test_what_is_undefined_is_nan_and_raises_nothing():
    only = labelled([0, 0, 0], np.eye(4)[[0, 0, 1]])
    values = metrics.compute(only, np.ones((1, 3)))
    for key in (
        ("sensitivity", "InSitu"),
        ("auc", "Normal"),
        ("positive_auc", ""),
        ("positive_sensitivity", ""),
    ):
        assert np.isnan(values[key][0]), key
    assert values["accuracy", ""][0] == pytest.approx(2 / 3)
    assert values["balanced_accuracy", ""][0] == pytest.approx(2 / 3)
    same = labelled([1, 1], predicted=[1, 1])
    assert np.isnan(metrics.compute(same, np.ones((1, 2)))["kappa", ""][0])


def test_labels_alone_give_what_labels_can():
    values = metrics.compute(labelled([0, 1, 2, 3], predicted=[0, 1, 3, 3]), np.ones((1, 4)))
    names = {name for name, _ in values}
    assert not names & {"log_loss", "brier", "auc", "positive_auc", "calibration_error"}
    assert values["positive_sensitivity", ""][0] == 1
    assert ("positive_sensitivity", "0.33") not in values
    without = metrics.compute(labelled([0, 1], predicted=[0, 1], positive=()), np.ones((1, 2)))
    assert not any(name.startswith("positive") for name, _ in without)


def test_every_row_of_the_table_is_computed_and_has_a_definition():
    computed = metrics.compute(drawn(0, 30, 4, False), np.ones((1, 30)))
    assert {name for name, _ in computed} == set(metrics.METRICS)
    assert all(metric.function.__doc__ for metric in metrics.METRICS.values())
    only = metrics.compute(drawn(0, 30, 4, False), np.ones((1, 30)), ("brier", "auc"))
    assert list(only) == [("brier", ""), *(("auc", f"class{k}") for k in range(4))]
    assert all((only[key] == computed[key]).all() for key in only)


def test_a_new_row_is_in_the_numbers_the_text_and_the_page(monkeypatch):
    def error_rate(weighted: Weighted) -> np.ndarray:
        return 1 - metrics.accuracy(weighted)

    row = metrics.Metric("Error rate", error_rate, percent=True)
    monkeypatch.setitem(metrics.METRICS, "error_rate", row)
    computed = statistics.compute(drawn(0, 60, 4, False), draws=50)
    estimate = computed.estimates["error_rate", ""]
    assert estimate.value == 1 - computed.value("accuracy")
    assert estimate.interval.low < estimate.value < estimate.interval.high
    assert "error_rate" in [row["metric"] for row in summary.as_dict(computed)["figures"]]
    assert "Error rate" in summary.text(computed)
    assert estimate in content.overall(computed)


def test_a_metric_rests_on_the_images_it_counts():
    predictions = labelled([0, 0, 0, 1, 2, 3], predicted=[0, 1, 0, 1, 2, 0])
    rests_on = {
        ("accuracy", ""): [0, 1, 2, 3, 4, 5],
        ("sensitivity", "Normal"): [0, 1, 2],
        ("specificity", "Normal"): [3, 4, 5],
        ("precision", "Normal"): [0, 2, 5],
        ("auc", "Benign"): [3],
        ("positive_sensitivity", "0.33"): [4, 5],
        ("positive_specificity", "nested"): [0, 1, 2, 3],
        ("positive_auc", ""): [4, 5],
        ("positive_accuracy", ""): [0, 1, 2, 3, 4, 5],
    }
    for key, images in rests_on.items():
        assert np.flatnonzero(metrics.rests_on(predictions, key)).tolist() == images, key


def test_an_area_rests_on_the_rarer_kind():
    predictions = labelled([0, 0, 0, 0, 1, 3], predicted=[0] * 6)
    assert np.flatnonzero(metrics.rests_on(predictions, ("auc", "Normal"))).tolist() == [4, 5]
    assert np.flatnonzero(metrics.rests_on(predictions, ("positive_auc", ""))).tolist() == [5]


def test_configurations_count_equally_whatever_their_seeds_and_augmentations():
    one = np.broadcast_to([1.0, 0.0], (1, 2, 1, 2))
    many = np.broadcast_to([0.0, 1.0], (5, 2, 50, 2))
    np.testing.assert_allclose(metrics.mean_scores([one, many]), np.full((2, 2), 0.5), rtol=1e-12)


def test_the_blend_is_the_mean_over_configurations_seeds_and_augmentations():
    scores = np.random.default_rng(0).dirichlet(np.ones(4), (2, 3, 5, 7))
    np.testing.assert_allclose(
        metrics.mean_scores(list(scores)), scores.mean(axis=(0, 1, 3)), rtol=1e-12
    )


def test_the_confusion_has_the_truth_in_rows_and_every_class():
    predictions = labelled([0, 2] * 4, predicted=[0] * 8)
    matrix = Weighted(predictions, np.ones((1, 8))).confusion[0]
    np.testing.assert_array_equal(matrix, [[4, 0, 0, 0], [0] * 4, [4, 0, 0, 0], [0] * 4])


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
    scores = np.array([[0.67, 0.33], [0.68, 0.32], [0.67, 0.33], [0.9, 0.1]])
    predictions = labelled([1, 1, 0, 0], scores, classes=("n", "p"), positive=(1,))
    values = metrics.compute(predictions, np.ones((1, 4)))
    assert (
        values["positive_sensitivity", "0.33"][0],
        values["positive_specificity", "0.33"][0],
    ) == (0.5, 0.5)


def test_the_paper_s_set_point_follows_from_its_counts():
    truth = np.arange(400) // 100
    scores = np.full((400, 4), 0.1) + 0.6 * np.eye(4)[truth]
    scores[200:209] = scores[300:305] = [0.7, 0.1, 0.1, 0.1]  # 9 in situ and 5 invasive missed.
    values = metrics.compute(labelled(truth, scores), np.ones((1, 400)))
    assert values["positive_sensitivity", "0.50"][0] == pytest.approx(0.93)
    assert values["positive_specificity", "0.33"][0] == 1
    assert values["accuracy", ""][0] == values["positive_accuracy", ""][0] == 386 / 400


def test_labels_outside_the_scores_do_not_matter_to_the_order_of_cases():
    predictions = drawn(9, 50, 4, ties=True)
    order = np.random.default_rng(0).permutation(50)
    turned = dataclasses.replace(
        predictions,
        truth=predictions.truth[order],
        predicted=predictions.predicted[order],
        scores=predictions.scores[order],
    )
    for key, value in metrics.compute(predictions, np.ones((1, 50))).items():
        np.testing.assert_allclose(
            metrics.compute(turned, np.ones((1, 50)))[key], value, atol=1e-12
        )
