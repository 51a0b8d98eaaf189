"""Scores by all models of an ensemble, for a learner added by a row."""

import numpy as np
import pytest

from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.features.feature_sets import Source
from histojax.features.recipes import Recipe
from histojax.learners import ensembles, scoring
from histojax.learners.ensembles import Learner

SPLIT = Folds(("a", "b", "c", "d"), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), ("x", "y"))


def score_nearest(means: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities by the distance to each class's mean [K, D]: float64 [N, A, K]."""
    distances = np.linalg.norm(descriptors[:, :, None] - means, axis=-1)
    odds = np.exp(-distances)
    return odds / odds.sum(axis=-1, keepdims=True)


NEAREST = Learner(
    ".txt",
    "train",
    lambda content, name: np.array([row.split() for row in content.decode().splitlines()], float),
    lambda means: means.shape[1],
    score_nearest,
)


def test_a_new_learner_needs_a_row_and_what_writes_its_models(tmp_path, monkeypatch):
    monkeypatch.setitem(ensembles.LEARNERS, "nearest", NEAREST)
    descriptors = np.random.default_rng(0).normal(size=(4, 3, 5))
    folds.save(SPLIT, tmp_path / ensembles.FOLDS)
    ensembles.record_ensemble(tmp_path, SPLIT, "nearest", {}, 1)
    ensembles.record_manifest(tmp_path / "VGG-0.5-400" / ensembles.MANIFEST, {"extraction": None})
    missing = ensembles.missing_models(tmp_path, "VGG-0.5-400", "nearest", 1, 2)
    models = []
    for (_, fold), path in missing.items():
        held_out = SPLIT.folds == fold
        means = np.stack(
            [descriptors[~held_out & (SPLIT.labels == k)].mean((0, 1)) for k in (0, 1)]
        )
        text = "\n".join(" ".join(map(repr, row)) for row in means.tolist())
        ensembles.save_model(path, text, score_nearest(means, descriptors[held_out]))
        models.append(means)

    ensemble = ensembles.load(tmp_path)
    assert (ensemble.learner, ensemble.models) == ("nearest", list(missing.values()))
    out_of_fold = ensembles.out_of_fold(ensemble, "VGG-0.5-400")
    for fold, means in enumerate(models):
        held_out = SPLIT.folds == fold
        np.testing.assert_allclose(
            out_of_fold[0, held_out], score_nearest(means, descriptors[held_out])
        )
    again = scoring.score_held_out(ensemble, "VGG-0.5-400", descriptors)
    np.testing.assert_array_equal(again, out_of_fold)
    scores = scoring.load_models(ensemble).score({"VGG-0.5-400": descriptors})
    by_fold = np.stack([score_nearest(means, descriptors).mean(axis=1) for means in models], axis=1)
    np.testing.assert_allclose(scores.by_fold, by_fold)
    np.testing.assert_allclose(scores.by_model, by_fold)
    np.testing.assert_allclose(scores.mean, by_fold.mean(axis=1))
    with pytest.raises(InputError, match="VGG-0.5-400 takes 5 channels, the descriptors have 4"):
        scoring.load_models(ensemble).score({"VGG-0.5-400": descriptors[..., 1:]})


def test_unknown_learners_and_those_that_score_images_are_refused():
    with pytest.raises(InputError, match="no learner is called forest; expected one of trees"):
        scoring.parse_models("forest", 1, 1, ("VGG-0.5-400",), lambda name: b"")
    with pytest.raises(InputError, match="models that are finetuned score images"):
        scoring.parse_models("finetuned", 1, 1, ("VGG-0.5-400",), lambda name: b"")


def test_a_folder_without_a_manifest_does_not_pass_for_imported_features(tmp_path):
    (tmp_path / "uni_v1-20x").mkdir()
    scoring.check_same_extraction({"uni_v1-20x": None}, tmp_path)  # The authors' have none.
    made = Recipe(Source("uni_v1", "TRIDENT", "tile", 4, magnification=20), "mean").manifest()
    with pytest.raises(InputError, match=r"uni_v1-20x has no manifest.json.*uni_v1 \(TRIDENT, 20x"):
        scoring.check_same_extraction({"uni_v1-20x": made}, tmp_path)
