"""An evaluation has the statistics of blended out-of-fold scores, and of a test set."""

import numpy as np
import pytest

from histojax.evaluation import evaluate, test_set
from histojax.learners import ensembles
from tests.evaluation.conftest import TEST, WIDTHS


def test_an_evaluation_has_the_test_set_s_figures_and_the_curve_over_folds(place):
    ensemble = ensembles.load(place / "models")
    test_set.score(ensemble, place / "descriptors", TEST)
    evaluation = evaluate.evaluate(place / "models", draws=50)
    blended = np.mean(
        [test_set.load_scores(ensemble, name).mean(axis=(0, 1, 3)) for name in WIDTHS], axis=0
    )
    assert evaluation.test.value("accuracy") == np.mean(blended.argmax(axis=1) == np.arange(9) % 3)
    assert [point.count for point in evaluation.curves["folds"]] == [1, 2, 3]
    assert evaluation.curves["folds"][-1].accuracy == pytest.approx(
        evaluation.test.value("accuracy")
    )
    assert evaluation.test.predictions.groups == TEST.groups
    np.testing.assert_allclose(evaluation.test.predictions.scores, blended, rtol=1e-12)


def test_an_evaluation_blends_out_of_fold_scores_and_judges_each_seed_of_a_configuration_by_itself(
    place,
):
    ensemble = ensembles.load(place / "models")
    evaluation = evaluate.evaluate(place / "models", draws=50)
    scores = {name: ensembles.out_of_fold(ensemble, name) for name in WIDTHS}
    blended = np.mean([each.mean(axis=(0, 2)) for each in scores.values()], axis=0)
    np.testing.assert_allclose(evaluation.out_of_fold.predictions.scores, blended, rtol=1e-12)
    np.testing.assert_array_equal(
        evaluate.load_out_of_fold(place / "models").scores,
        evaluation.out_of_fold.predictions.scores,
    )
    split = ensemble.folds
    for name, each in scores.items():
        for seed in range(2):
            right = each[seed].mean(axis=1).argmax(axis=1) == split.labels
            expected = [right[split.folds == fold].mean() for fold in range(3)]
            np.testing.assert_allclose(evaluation.by_configuration[name][seed], expected)
