"""Scores of a test set by every model: kept, resumed, the models' own; nonsense is refused."""

import dataclasses

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.evaluation import test_set
from histojax.evaluation.test_set import TestSet
from histojax.extraction import store
from histojax.learners import ensembles, scoring
from histojax.utils import files
from tests.evaluation.conftest import TEST, WIDTHS, A


def test_every_model_scores_the_test_set_once(place):
    ensemble = ensembles.load(place / "models")
    assert test_set.load(ensemble) is None
    assert test_set.score(ensemble, place / "descriptors", TEST) == 12
    assert test_set.load(ensemble) == TEST
    for configuration in WIDTHS:
        scores = test_set.load_scores(ensemble, configuration)
        assert scores.shape == (2, 3, 9, A, 3)
        x = store.read(place / "descriptors", configuration, TEST.names)
        np.testing.assert_array_equal(
            scores[1, 2], scoring.score("trees", ensemble.model(configuration, 1, 2), x)
        )
    lost = test_set.scores_path(ensemble.model("VGG-0.5-400", 0, 1))
    lost.unlink()
    with pytest.raises(InputError, match="seed0-fold02.test.npy is not there"):
        test_set.load_scores(ensemble, "VGG-0.5-400")
    assert test_set.score(ensemble, place / "descriptors", TEST) == 1


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
