"""The estimator against scikit-learn's checks, against `boost.train`, and with little data."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from histojax.config import Boosting
from histojax.datasets import Dataset, folds
from histojax.estimator import FoldEnsembleClassifier, _assign_folds
from histojax.extraction import store
from histojax.learners import boost, ensembles, scoring
from histojax.learners.training import TrainingJob
from tests import samples

SMALL = {"folds": 3, "seeds": 2, "rounds": 8}
CLASSES = ("Benign", "InSitu", "Invasive", "Normal")
N, A, D = 40, 6, 12


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(N) % len(CLASSES)


@pytest.fixture(scope="module")
def y(labels) -> np.ndarray:
    return np.array(CLASSES)[labels]


@pytest.fixture(scope="module")
def x(labels) -> np.ndarray:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(CLASSES), D))
    return rng.normal(means[labels][:, None], 0.7, (N, A, D)).astype(np.float32)


@parametrize_with_checks([FoldEnsembleClassifier(**SMALL)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([FoldEnsembleClassifier()])
def test_scikit_learns_own_checks_with_the_papers_parameters(estimator, check):
    check(estimator)


def test_parameters_and_defaults_are_those_of_the_library():
    actual = FoldEnsembleClassifier().get_params()
    assert actual.pop("n_jobs") is None
    actual["fold_seed"] = actual.pop("random_state")
    assert actual == dataclasses.asdict(Boosting())


def trees(model: str) -> str:
    """A model's text without the parameters it was asked for."""
    return model.partition("\nend of trees\n")[0]


@pytest.mark.parametrize(("mode", "jobs"), [("paper", None), ("fast", 2)])
def test_models_and_scores_are_those_on_disk_bit_for_bit(x, y, labels, tmp_path, mode, jobs):
    dataset = Dataset(
        {f"image{i:02d}": Path(f"image{i:02d}.png") for i in range(N)},
        tuple(labels.tolist()),
        CLASSES,
    )
    split = folds.make(dataset, SMALL["folds"], seed=7)
    for name, descriptors in zip(split.names, x, strict=True):
        store.write(tmp_path, "VGG-0.5-400", name, descriptors)
    folds.save(split, tmp_path / ensembles.FOLDS)
    job = TrainingJob(tmp_path, tmp_path, split, ("VGG-0.5-400",))
    with samples.trees_in_this_process():
        boost.train(job, Boosting(**SMALL, fold_seed=7, boost=mode), workers=1)
    ensemble = ensembles.load(tmp_path)

    estimator = FoldEnsembleClassifier(**SMALL, boost=mode, random_state=7, n_jobs=jobs).fit(x, y)
    np.testing.assert_array_equal(estimator.folds_, split.folds)
    scores = ensembles.out_of_fold(ensemble, "VGG-0.5-400")
    np.testing.assert_array_equal(estimator.oof_scores_, scores.mean(axis=(0, 2)))
    assert estimator.feature_importances_.sum() > 0.99  # Trees have grown.
    for booster, path in zip(estimator.models_, ensemble.models, strict=True):
        assert trees(booster.model_to_string()) == trees(path.read_text())
    expected = scoring.load_models(ensemble).score({"VGG-0.5-400": x + np.float32(0.1)}).mean
    np.testing.assert_allclose(
        estimator.predict_proba(x + np.float32(0.1)), expected, rtol=0, atol=1e-12
    )


def test_an_image_is_never_scored_by_a_model_that_saw_it(x, y, labels):
    shuffled = np.random.default_rng(1).permutation(
        y
    )  # Labels that can only be known by having been seen.
    estimator = FoldEnsembleClassifier(**SMALL | {"rounds": 40}).fit(x, shuffled)
    assert estimator.score(x, shuffled) > 0.9
    assert (estimator.classes_[estimator.oof_scores_.argmax(axis=1)] == shuffled).mean() < 0.6
    for fold in range(3):
        assert (np.bincount(labels[estimator.folds_ == fold], minlength=4) > 0).all()


def test_augmentations_are_rows_and_their_mean_is_the_image(x, y):
    estimator = FoldEnsembleClassifier(**SMALL).fit(x, y)
    assert estimator.n_features_in_ == D
    by_row = estimator.predict_proba(x.reshape(-1, D)).reshape(N, A, -1)
    np.testing.assert_allclose(estimator.predict_proba(x), by_row.mean(axis=1), rtol=1e-12)
    alone = FoldEnsembleClassifier(**SMALL).fit(x[:, 0], y)
    np.testing.assert_array_equal(
        alone.oof_scores_, FoldEnsembleClassifier(**SMALL).fit(x[:, :1], y).oof_scores_
    )
    assert estimator.score(x, y) > 0.9
    assert (
        estimator.predict(x) == estimator.classes_[estimator.predict_proba(x).argmax(axis=1)]
    ).all()
    with pytest.raises(ValueError, match="13 features"):
        estimator.predict(np.zeros((2, A, 13)))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[40, 39\]"):
        estimator.fit(x, y[1:])


def test_importances_are_shares_of_the_channels_that_decide(labels, y):
    noise = np.random.default_rng(2).normal(size=(N, D))
    noise[:, 4] = labels + 0.01 * noise[:, 4]
    shares = (
        FoldEnsembleClassifier(**SMALL | {"feature_fraction": 1.0})
        .fit(noise, y)
        .feature_importances_
    )
    assert shares.shape == (D,)
    assert shares.argmax() == 4
    assert shares.sum() == pytest.approx(1)
    constant = FoldEnsembleClassifier(**SMALL).fit(np.zeros((N, D)), y)
    assert (constant.feature_importances_ == 0).all()


def test_random_state_splits_anew_only_where_it_is_none(x, y):
    def actual(random_state) -> list[int]:
        return (
            FoldEnsembleClassifier(**SMALL | {"rounds": 1}, random_state=random_state)
            .fit(x, y)
            .folds_.tolist()
        )

    assert actual(3) == actual(3) == actual(np.random.RandomState(3)) != actual(4)
    assert len({tuple(actual(None)) for _ in range(3)}) > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"folds": 1}, "^folds is 1, expected at least 2"),
        ({"learning_rate": -1}, "^learning_rate is -1"),
        ({"boost": "faster"}, "^boost is faster, expected paper, fast or xgboost"),
        ({"boost": "xgboost"}, "^boost is xgboost, expected paper or fast: LightGBM"),
    ],
)
def test_parameters_without_sense_are_refused(x, y, parameters, message):
    with pytest.raises(ValueError, match=message):
        FoldEnsembleClassifier(**parameters).fit(x, y)


def test_groups_stay_whole(x, y, labels):
    groups = np.array(
        [f"patient{i}" for i in np.arange(N) // 8 * 4 + labels]
    )  # Two images a patient, of one class.
    estimator = FoldEnsembleClassifier(**SMALL).fit(x, y, groups=groups)
    assert set(estimator.folds_) == {0, 1, 2}
    assert all(len(set(estimator.folds_[groups == group])) == 1 for group in set(groups))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(x, y, groups=groups[1:])


@pytest.mark.parametrize(
    ("labels", "groups", "count", "never_held_out"),
    [
        ([0] * 5 + [1] * 5, None, 5, 0),  # As many as asked for.
        ([0] * 6 + [1] * 3, None, 3, 0),  # As many as the rarest class has images.
        ([0] * 4 + [1] * 4 + [2], None, 4, 1),  # A single image only trains.
        ([0, 0, 1], None, 2, 1),
        ([0, 1], None, 0, 2),  # None can be held out.
        ([0, 0, 0, 1, 1, 1], [5, 5, 6, 7, 8, 8], 2, 0),  # As many as the rarest class has groups.
        ([0, 0, 0, 0, 1, 1], [5, 6, 7, 8, 9, 9], 4, 2),  # A single group only trains.
        ([0, 1, 0, 1], [5, 5, 5, 5], 0, 4),
        ([0, 0, 1, 0, 1, 1], [3, 1, 3, 3, 0, 3], 0, 6),  # One of the two models would lack a class.
    ],
)
def test_folds_are_as_many_as_little_data_allows(labels, groups, count, never_held_out):
    labels = np.array(labels)
    actual = _assign_folds(labels, None if groups is None else np.array(groups), 5, 0)
    assert actual.max() + 1 == count
    assert (actual == -1).sum() == never_held_out
    for fold in range(count):
        assert set(labels[actual != fold]) == set(labels)


@pytest.mark.parametrize("seed", range(20))
def test_no_model_lacks_a_class_and_no_fold_is_empty(seed):
    rng = np.random.default_rng(seed)
    groups, labels = rng.integers(0, 9, 30), rng.permutation(np.repeat([0, 1, 2, 3], [16, 8, 5, 1]))
    actual = _assign_folds(labels, groups, 10, seed)
    assert sorted(set(actual) - {-1}) == list(range(actual.max() + 1))
    assert (actual[labels == 3] == -1).all()
    for fold in range(actual.max() + 1):
        assert set(labels[actual != fold]) == {0, 1, 2, 3}
    for group in range(9):
        assert len(set(actual[groups == group])) <= 1


def test_single_images_train_and_have_no_scores(x):
    y = ["a"] * 6 + ["b"] * 5 + ["c"]
    estimator = FoldEnsembleClassifier(**SMALL).fit(x[:12], y)
    assert estimator.folds_[11] == -1
    assert np.isnan(estimator.oof_scores_[11]).all()
    assert np.isfinite(estimator.oof_scores_[:11]).all()
    np.testing.assert_allclose(estimator.oof_scores_[:11].sum(axis=1), 1)
    assert (estimator.oof_scores_[:11, 2] > 0.01).all()  # The class is known to every model.


@pytest.mark.parametrize("mode", ["paper", "fast"])
def test_where_folds_are_impossible_all_is_trained_on(mode):
    estimator = FoldEnsembleClassifier(**SMALL, boost=mode).fit([[0.0], [1.0]], ["a", "b"])
    assert len(estimator.models_) == SMALL["seeds"]
    assert np.isnan(estimator.oof_scores_).all()
    assert estimator.predict([[-1.0], [2.0]]).tolist() == ["a", "b"]


def test_groups_reach_fit_by_metadata_routing(x, y):
    groups = np.arange(N) // 4
    seen = []

    class Spy(FoldEnsembleClassifier):
        def fit(self, X, y, groups=None):
            seen.append(groups)
            return super().fit(X, y, groups)

    with sklearn.config_context(enable_metadata_routing=True):
        estimator = Spy(folds=2, seeds=1, rounds=4).set_fit_request(groups=True)
        scores = cross_val_score(estimator, x, y, cv=GroupKFold(2), params={"groups": groups})
        search = GridSearchCV(estimator, {"rounds": [1, 4]}, cv=GroupKFold(2)).fit(
            x, y, groups=groups
        )
    assert scores.mean() > 0.7
    assert search.best_estimator_.folds_.max() == 1
    assert [len(actual) for actual in seen] == [N // 2] * 6 + [N]
    assert set(seen[0]) | set(seen[1]) == set(groups)
    assert not set(seen[0]) & set(seen[1])


def test_it_stands_at_the_end_of_a_pipeline(x, y):
    pipeline = make_pipeline(StandardScaler(), FoldEnsembleClassifier(**SMALL)).fit(x[:, 0], y)
    assert pipeline.score(x[:, 1], y) > 0.7
    assert pipeline[-1].oof_scores_.shape == (N, 4)


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_unknown_groups_are_refused(unknown):
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    groups = np.array([*"aabbccddee", unknown, unknown], object)
    with pytest.raises(ValueError, match="groups holds None or NaN"):
        FoldEnsembleClassifier(folds=2, seeds=1, rounds=2).fit(x, y, groups=groups)
