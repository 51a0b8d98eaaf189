"""Scores of a test set by every model: kept, resumed, equal to the models' own, refused where they make no sense."""

import dataclasses

import numpy as np
import pytest

from histojax.config import Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import evaluate, test_set
from histojax.evaluation.test_set import TestSet
from histojax.extraction import store
from histojax.learners import boost, ensembles, scoring
from histojax.learners.training import TrainingJob
from histojax.utils import files
from tests import samples

CLASSES, A, WIDTHS = ("a", "b", "c"), 2, {"ResNet-0.5-400": 6, "VGG-0.5-400": 5}
TEST = TestSet(
    tuple(f"t{i}" for i in range(9)), tuple("abc" * 3), tuple(f"p{i // 2}" for i in range(9))
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("testset")
    labels = np.arange(60) % 3
    split = Folds(tuple(f"i{i}" for i in range(60)), labels, np.arange(60) // 3 % 3, CLASSES)
    names, of = (*split.names, *TEST.names), [*labels, *(np.arange(9) % 3)]
    samples.write_descriptors(root / "descriptors", names, of, WIDTHS, A, spread=1.0)
    folds.save(split, root / "models" / ensembles.FOLDS)
    boost.train(
        TrainingJob(root / "descriptors", root / "models", split, tuple(WIDTHS)),
        Boosting(folds=3, seeds=2, rounds=4),
        1,
    )
    return root


def test_every_model_scores_the_test_set_once(place):
    ensemble = ensembles.load(place / "models")
    assert test_set.load(ensemble) is None
    assert test_set.score(ensemble, place / "descriptors", TEST) == 12
    assert test_set.load(ensemble) == TEST
    for configuration in WIDTHS:
        found = test_set.load_scores(ensemble, configuration)
        assert found.shape == (2, 3, 9, A, 3)
        x = store.read(place / "descriptors", configuration, TEST.names)
        np.testing.assert_array_equal(
            found[1, 2], scoring.score("trees", ensemble.model(configuration, 1, 2), x)
        )
    lost = test_set.scores_path(ensemble.model("VGG-0.5-400", 0, 1))
    lost.unlink()
    with pytest.raises(InputError, match="seed0-fold02.test.npy is not there"):
        test_set.load_scores(ensemble, "VGG-0.5-400")
    assert test_set.score(ensemble, place / "descriptors", TEST) == 1


def test_an_evaluation_has_the_test_set_s_figures_and_the_curve_over_folds(place):
    ensemble = ensembles.load(place / "models")
    test_set.score(ensemble, place / "descriptors", TEST)
    found = evaluate.evaluate(place / "models", draws=50)
    blended = np.mean(
        [test_set.load_scores(ensemble, name).mean(axis=(0, 1, 3)) for name in WIDTHS], axis=0
    )
    assert found.test.value("accuracy") == np.mean(blended.argmax(axis=1) == np.arange(9) % 3)
    assert [point.count for point in found.curves["folds"]] == [1, 2, 3]
    assert found.curves["folds"][-1].accuracy == pytest.approx(found.test.value("accuracy"))
    assert found.test.predictions.groups == TEST.groups
    np.testing.assert_allclose(found.test.predictions.scores, blended, rtol=1e-12)


def test_an_evaluation_blends_out_of_fold_scores_and_judges_each_seed_of_a_configuration_by_itself(
    place,
):
    ensemble = ensembles.load(place / "models")
    found = evaluate.evaluate(place / "models", draws=50)
    scores = {name: ensembles.out_of_fold(ensemble, name) for name in WIDTHS}
    blended = np.mean([each.mean(axis=(0, 2)) for each in scores.values()], axis=0)
    np.testing.assert_allclose(found.out_of_fold.predictions.scores, blended, rtol=1e-12)
    np.testing.assert_array_equal(
        evaluate.load_out_of_fold(place / "models").scores, found.out_of_fold.predictions.scores
    )
    split = ensemble.folds
    for name, each in scores.items():
        for seed in range(2):
            right = each[seed].mean(axis=1).argmax(axis=1) == split.labels
            expected = [right[split.folds == fold].mean() for fold in range(3)]
            np.testing.assert_allclose(found.by_configuration[name][seed], expected)


def test_what_makes_no_sense_is_refused(place):
    ensemble = ensembles.load(place / "models")
    test_set.score(ensemble, place / "descriptors", TEST)
    with pytest.raises(InputError, match="1 test images were trained on: i3"):
        test_set.score(ensemble, place / "descriptors", TestSet(("i3",)))
    with pytest.raises(InputError, match="the test set has classes z"):
        test_set.score(
            ensemble, place / "descriptors", dataclasses.replace(TEST, labels=("z",) * 9)
        )
    with pytest.raises(InputError, match="names another test set"):
        test_set.score(ensemble, place / "descriptors", TestSet(TEST.names[:4]))
    path = test_set.scores_path(ensemble.model("VGG-0.5-400", 0, 0))
    kept = np.load(path)
    files.write_array(path, kept[:5])
    with pytest.raises(InputError, match="differ in shape"):
        test_set.load_scores(ensemble, "VGG-0.5-400")
    files.write_array(path, kept)
