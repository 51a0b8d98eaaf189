"""The form of an ensemble on disk: manifests, also of earlier versions, scores and times."""

import json

import numpy as np
import pytest

from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import ensembles
from histojax.utils import files

SPLIT = Folds(("a", "b", "c", "d"), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), ("x", "y"))


def make_ensemble(root, learner="linear", split=SPLIT, **parameters):
    """An ensemble of one seed and one configuration, whose scores depend on the image."""
    folds.save(split, root / ensembles.FOLDS)
    ensembles.record_ensemble(root, split, learner, parameters, 1)
    files.write_json(root / "VGG-0.5-400" / ensembles.MANIFEST, {"extraction": None})
    for fold in range(split.count):
        images = np.flatnonzero(split.folds == fold)
        scores = np.array([[[i / 10, 1 - i / 10], [0.5, 0.5]] for i in images])
        content = "text" if learner == "trees" else {"kernel": np.zeros((2, 2), np.float32)}
        ensembles.save_model(
            ensembles.model_path(root, "VGG-0.5-400", 0, fold, learner), content, scores
        )
    return root


def test_scores_are_put_back_into_the_order_of_the_split(tmp_path):
    split = Folds(SPLIT.names, SPLIT.labels, np.array([1, 0, folds.TRAIN_ONLY, 0]), SPLIT.classes)
    ensemble = ensembles.load(make_ensemble(tmp_path, split=split))
    scores = ensembles.out_of_fold(ensemble, "VGG-0.5-400")
    assert scores.shape == (1, 3, 2, 2)
    assert scores[0, :, 0, 0].tolist() == [0, 0.1, 0.3]  # Image c is never held out.
    assert ensemble.folds.held_out().names == ("a", "b", "d")
    assert [path.name for path in ensemble.models] == ["seed0-fold01.npz", "seed0-fold02.npz"]


def test_models_of_the_first_version_are_read_and_continued(tmp_path):
    root = make_ensemble(tmp_path, "trees", rounds=3, seeds=1, boost="paper")
    first = {
        "classes": ["x", "y"],
        "boosting": {"rounds": 3, "seeds": 1},
        "folds_sha256": SPLIT.sha256,
    }
    files.write_json(root / ensembles.MANIFEST, first)
    ensemble = ensembles.load(root)
    assert (ensemble.learner, ensemble.seeds) == ("trees", 1)
    assert ensemble.parameters == {"boost": "paper", "rounds": 3, "seeds": 1}
    ensembles.record_ensemble(root, SPLIT, "trees", {"boost": "paper", "rounds": 3, "seeds": 1}, 1)
    with pytest.raises(InputError, match="parameters.boost: found paper, expected fast"):
        ensembles.record_ensemble(
            root, SPLIT, "trees", {"boost": "fast", "rounds": 3, "seeds": 1}, 1
        )


@pytest.mark.parametrize(
    ("learner", "parameters", "message"),
    [
        ("hidden", {"epochs": 1}, "learner: found linear, expected hidden"),
        ("linear", {"epochs": 2}, "parameters.epochs"),
    ],
)
def test_another_learner_or_other_parameters_are_refused(tmp_path, learner, parameters, message):
    make_ensemble(tmp_path, epochs=1)
    with pytest.raises(InputError, match=message):
        ensembles.record_ensemble(tmp_path, SPLIT, learner, parameters, 1)


def test_a_manifest_of_a_later_version_is_refused(tmp_path):
    root = make_ensemble(tmp_path)
    manifest = json.loads((root / ensembles.MANIFEST).read_text())
    files.write_json(root / ensembles.MANIFEST, manifest | {"learner": "forest"})
    with pytest.raises(InputError, match="of a later version"):
        ensembles.load(root)


def test_times_add_up_over_runs_and_are_not_known_while_some_are_lacking(tmp_path):
    ensemble = ensembles.load(make_ensemble(tmp_path))
    assert ensembles.training_seconds(ensemble) is None
    ensembles.record_training_time(tmp_path, ("2026-11-24", 1, "1.5", 2, "2 CPUs"))
    # The run that made the other model was killed.
    assert ensembles.training_seconds(ensemble) is None
    ensembles.record_training_time(tmp_path, ("2026-11-25", 1, "0.5", 1, "2 CPUs"))
    assert ensembles.training_seconds(ensemble) == 2.0
    assert [row["models"] for row in ensembles.read_training_times(tmp_path)] == ["1", "1"]


def test_a_configuration_that_training_never_reached_is_missing(tmp_path):
    root = make_ensemble(tmp_path)
    files.write_json(root / "VGG-0.5-650" / ensembles.MANIFEST, {"extraction": None})
    with pytest.raises(InputError, match="lacks 2 of 4 models"):
        ensembles.load(root)


def test_what_is_lacking_is_named(tmp_path):
    root = make_ensemble(tmp_path)
    ensembles.scores_path(ensembles.load(root).models[1]).unlink()
    with pytest.raises(InputError, match=r"the first: .*seed0-fold02.npy"):
        ensembles.load(root)
    folds.save(SPLIT, tmp_path / "new" / ensembles.FOLDS)
    ensembles.record_ensemble(tmp_path / "new", SPLIT, "linear", {}, 1)
    with pytest.raises(InputError, match="holds no model yet"):
        ensembles.load(tmp_path / "new")


def test_scores_that_are_no_probabilities_are_refused(tmp_path):
    ensemble = ensembles.load(make_ensemble(tmp_path))
    path = ensembles.scores_path(ensemble.models[0])
    files.write_array(path, np.load(path) * 0.98)
    with pytest.raises(InputError, match="do not sum to 1"):
        ensembles.out_of_fold(ensemble, "VGG-0.5-400")


def test_saved_arrays_hold_no_python_objects(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.write_arrays(tmp_path / "a.npz", {"x": np.array([{}], object)})
    assert not list(tmp_path.iterdir())
