"""The ensemble against a plain loop over lgb.train, its resumption and its refusals."""

import dataclasses

import lightgbm as lgb
import numpy as np
import pytest

from histojax import boost, files, folds, predict, store
from histojax.config import Boosting
from histojax.errors import InputError
from histojax.folds import Folds
from histojax.progress import Progress

BOOSTING = Boosting(folds=3, seeds=2, rounds=12)
N, A, CLASSES = 36, 3, ("Normal", "Benign", "InSitu", "Invasive")
WIDTHS = {"ResNet-0.5-400": 40, "VGG-0.5-400": 25}


@pytest.fixture(scope="module")
def split() -> Folds:
    labels = np.arange(N) % len(CLASSES)
    return Folds(tuple(f"image{i:02d}" for i in range(N)), labels, np.arange(N) // len(CLASSES) % 3, CLASSES)


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory, split):
    """Descriptors without manifests, as the authors published theirs."""
    root = tmp_path_factory.mktemp("descriptors")
    rng = np.random.default_rng(0)
    for configuration, width in WIDTHS.items():
        means = rng.normal(size=(len(CLASSES), width))
        for name, label in zip(split.names, split.labels, strict=True):
            store.write(root, configuration, name, rng.normal(means[label], 1.5, (A, width)).astype(np.float32))
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory, descriptors, split):
    root = tmp_path_factory.mktemp("models")
    folds.save(split, root / boost.FOLDS)
    assert boost.train(descriptors, root, split, WIDTHS, BOOSTING, workers=2) == 12
    return root


def plain_loop(x: np.ndarray, split: Folds, seed: int, fold: int, rounds: int) -> lgb.Booster:
    """The paper's training, written out: parameters as printed in the protocol, nothing of ours."""
    parameters = {
        "objective": "multiclass",
        "num_class": 4,
        "learning_rate": 0.1,
        "num_leaves": 191,
        "max_depth": 7,
        "feature_fraction": 0.46,
        "bagging_fraction": 0.69,
        "bagging_freq": 0,
        "feature_fraction_seed": 1 + 10 * seed + fold,
        "bagging_seed": 2 + 10 * seed + fold,
        "verbosity": -1,
        "num_threads": 1,
    }
    train = split.folds != fold
    rows, labels = [], []
    for image, label in zip(x[train], split.labels[train], strict=True):
        for row in image:
            rows.append(row)
            labels.append(label)
    return lgb.train(parameters, lgb.Dataset(np.array(rows), np.array(labels)), num_boost_round=rounds)


def test_out_of_fold_scores_equal_a_plain_loop_exactly(descriptors, models, split):
    ensemble = boost.load(models)
    for configuration in WIDTHS:
        x = store.read(descriptors, configuration, split.names)
        scores = boost.out_of_fold(ensemble, configuration)
        assert scores.shape == (2, N, A, 4)
        for seed in range(2):
            for fold in range(3):
                held_out = split.folds == fold
                booster = plain_loop(x, split, seed, fold, BOOSTING.rounds)
                expected = booster.predict(x[held_out].reshape(-1, x.shape[-1])).reshape(-1, A, 4)
                np.testing.assert_array_equal(scores[seed, held_out], expected)


def test_a_saved_model_predicts_what_was_scored(descriptors, models, split):
    x = store.read(descriptors, "VGG-0.5-400", split.names)
    held_out = split.folds == 1
    booster = lgb.Booster(model_file=boost.model_path(models, "VGG-0.5-400", 1, 1))
    saved = np.load(boost.model_path(models, "VGG-0.5-400", 1, 1).with_suffix(".npy"))
    np.testing.assert_allclose(boost.score(booster, x[held_out]), saved, rtol=1e-12)


def test_seeds_differ(models):
    scores = boost.out_of_fold(boost.load(models), "ResNet-0.5-400")
    assert not np.array_equal(scores[0], scores[1])


def test_training_resumes_and_makes_only_what_is_missing(descriptors, models, split):
    kept = boost.model_path(models, "ResNet-0.5-400", 0, 0)
    lost = boost.model_path(models, "ResNet-0.5-400", 1, 2)
    text, time = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    with pytest.raises(InputError, match="lacks 1 of 12 models"):
        boost.load(models)
    assert boost.train(descriptors, models, split, WIDTHS, BOOSTING, workers=1) == 1
    assert lost.read_text() == text
    assert kept.stat().st_mtime_ns == time


def test_other_parameters_folds_or_descriptors_are_refused(descriptors, models, split, tmp_path):
    with pytest.raises(InputError, match="boosting: there .*'rounds': 12"):
        boost.train(descriptors, models, split, WIDTHS, dataclasses.replace(BOOSTING, rounds=13), workers=1)
    other = dataclasses.replace(split, folds=np.roll(split.folds, 4))
    with pytest.raises(InputError, match="folds_sha256"):
        boost.train(descriptors, models, other, WIDTHS, BOOSTING, workers=1)
    for name in split.names:
        store.write(tmp_path, "VGG-0.5-400", name, np.zeros((A, 25), np.float32))
    with pytest.raises(InputError, match="descriptors_sha256"):
        boost.train(tmp_path, models, split, ["VGG-0.5-400"], BOOSTING, workers=1)


def test_new_images_get_the_mean_of_all_models(descriptors, models, split):
    ensemble = boost.load(models)
    names = split.names[:5]
    expected = np.zeros((5, 4))
    for configuration in WIDTHS:
        x = store.read(descriptors, configuration, names)
        for seed in range(2):
            for fold in range(3):
                booster = lgb.Booster(model_file=boost.model_path(models, configuration, seed, fold))
                expected += booster.predict(x.reshape(-1, x.shape[-1])).reshape(5, A, 4).mean(axis=1) / 12
    np.testing.assert_allclose(predict.score(ensemble, descriptors, names), expected, rtol=1e-12)


def test_descriptors_of_another_width_are_refused(models):
    ensemble = boost.load(models)
    with Progress("predict", 1, "models") as bar, pytest.raises(InputError, match="25 channels"):
        boost.predict(ensemble, "VGG-0.5-400", np.zeros((1, A, 26), np.float32), bar)


def test_changed_folds_beside_the_models_are_refused(models, split, tmp_path):
    saved = (models / boost.FOLDS).read_text()
    try:
        folds.save(dataclasses.replace(split, folds=np.roll(split.folds, 4)), models / boost.FOLDS)
        with pytest.raises(InputError, match="changed since"):
            boost.load(models)
    finally:
        files.write_text(models / boost.FOLDS, saved)


def test_descriptors_without_a_manifest_train_but_cannot_describe_new_images(models):
    with pytest.raises(InputError, match="unknown protocol"):
        predict.extraction_of(boost.load(models))
