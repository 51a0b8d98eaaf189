"""Reliability bins by hand, temperatures that undo over-confidence, none chosen by its own fold."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn import metrics as reference

from histojax.evaluation import calibration
from histojax.evaluation.labelled_predictions import LabelledPredictions


def over_confident(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logits are `factor` times those the truth was drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    truth = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(factor * logits, axis=1), truth


def labelled(scores, truth, folds=None) -> LabelledPredictions:
    names = tuple(map(str, range(len(truth))))
    return LabelledPredictions(names, ("a", "b", "c"), truth, scores.argmax(axis=1), scores, folds)


def test_bins_are_counted_by_hand():
    scores = np.array([[0.95, 0.05, 0], [0.92, 0.05, 0.03], [0.5, 0.4, 0.1], [0.45, 0.3, 0.25]])
    bins = calibration.reliability_curve(labelled(scores, np.array([0, 1, 0, 0])))
    assert [(b.count, b.right) for b in bins] == [(2, 1.0), (2, 0.5)]
    assert [b.confidence for b in bins] == pytest.approx([0.475, 0.935])
    exact = stats.binomtest(1, 2).proportion_ci(0.95)
    assert (bins[1].low, bins[1].high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_was_done_to_the_logits(factor):
    scores, truth = over_confident(20_000, factor)
    assert calibration.fit_temperature(scores, truth) == pytest.approx(factor, rel=0.05)


def test_the_temperature_is_the_minimum_of_the_log_loss():
    scores, truth = over_confident(300, 2.0)
    best = calibration.fit_temperature(scores, truth)

    def loss(t):
        return -np.log(calibration.apply_temperature(scores, t)[np.arange(300), truth]).mean()

    assert loss(best) <= min(loss(best * 1.01), loss(best / 1.01))


def test_tempered_scores_are_probabilities_in_the_same_order():
    scores, _ = over_confident(50, 3.0)
    calibrated = calibration.apply_temperature(scores, 3.0)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(calibrated.argsort(axis=1), scores.argsort(axis=1))
    np.testing.assert_allclose(calibration.apply_temperature(scores, 1.0), scores, rtol=1e-9)
    certain = calibration.apply_temperature(np.array([[1.0, 0.0, 0.0]]), 2.0)
    assert np.isfinite(certain).all()


def test_a_fold_does_not_choose_its_own_temperature():
    scores, truth = over_confident(300, 2.0)
    folds = np.arange(300) % 3
    before = calibration.cross_fit(labelled(scores, truth, folds))
    spoiled = truth.copy()
    spoiled[folds == 1] = (spoiled[folds == 1] + 1) % 3
    after = calibration.cross_fit(labelled(scores, spoiled, folds))
    assert after.by_fold[1] == before.by_fold[1]
    assert after.by_fold[0] != before.by_fold[0]
    np.testing.assert_array_equal(
        after.predictions.scores[folds == 1], before.predictions.scores[folds == 1]
    )
    others = folds != 2
    assert before.by_fold[2] == calibration.fit_temperature(scores[others], truth[others])
    assert before.overall == calibration.fit_temperature(scores, truth)
    np.testing.assert_allclose(
        before.predictions.scores[folds == 2],
        calibration.apply_temperature(scores[folds == 2], before.by_fold[2]),
        rtol=1e-12,
    )


def test_a_temperature_that_makes_other_folds_worse_is_not_applied():
    # One fold is too sure of itself and the other not sure enough: each is spoilt by the other's T.
    truth, folds = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    is_right = np.where(folds == 0, np.arange(80) % 5 > 1, True)
    sure = np.where(folds == 0, 0.99, 0.6)
    first = np.where((truth == 0) == is_right, sure, 1 - sure)
    fitted = calibration.cross_fit(labelled(np.stack([first, 1 - first], axis=1), truth, folds))
    before, after = fitted.losses
    assert before == pytest.approx(reference.log_loss(truth, np.stack([first, 1 - first], axis=1)))
    assert after > before
    assert fitted.applied == 1
    assert f"No temperature is applied (T = 1): that of {fitted.overall:.3f}" in fitted.text
    assert f"log-loss {before:.3f} without it and {after:.3f} with" in fitted.text


def test_a_temperature_that_helps_is_applied():
    scores, truth = over_confident(300, 2.0)
    fitted = calibration.cross_fit(labelled(scores, truth, np.arange(300) % 3))
    assert fitted.applied == fitted.overall != 1
    assert fitted.text.startswith(
        f"Probabilities are calibrated by a temperature of {fitted.overall:.3f} (log-loss "
    )
    assert "end of its range" not in fitted.text
    before, after = fitted.briers
    errors = (scores - np.eye(scores.shape[1])[truth]) ** 2
    assert before == pytest.approx(errors.sum(axis=1).mean(), rel=1e-12)
    assert after < before
    assert "Brier" not in fitted.text
    worse = dataclasses.replace(fitted, briers=(0.2911, 0.398))
    assert worse.text == fitted.text + " Their Brier score gets worse by it (0.291 to 0.398)."


def test_flat_scores_that_are_often_wrong_are_calibrated_all_the_same():
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    first = 0.5 + 0.002 * np.where(rng.random(200) < 0.7, 1, -1) * np.where(truth == 0, 1, -1)
    fitted = calibration.cross_fit(
        labelled(np.stack([first, 1 - first], axis=1), truth, np.arange(200) // 50)
    )
    assert fitted.applied == fitted.overall < 0.023
    assert "the lower end of its range" in fitted.text


@pytest.mark.parametrize(
    ("right", "end"),
    [
        (1.0, "No temperature is applied (T = 1): all or nearly all images are classified"),
        (0.5, "the upper end"),
    ],
)
def test_a_temperature_at_the_end_of_its_range_is_told_with_what_it_means(right, end):
    truth = np.arange(80) % 2
    is_right = np.arange(80) // 2 % 2 < 2 * right
    first = np.where((truth == 0) == is_right, 0.7, 0.3)
    fitted = calibration.cross_fit(
        labelled(np.stack([first, 1 - first], axis=1), truth, np.arange(80) // 20)
    )
    assert end in fitted.text
    assert (fitted.applied == 1) == (right == 1)
