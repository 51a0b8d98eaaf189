"""The ensemble against a plain loop over lgb.train, its resumption and its refusals."""

import dataclasses
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from histojax.config import Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import boost, ensembles, scoring, trees
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle
from histojax.utils import files
from tests import samples
from tests.running import run

ROOT = Path(__file__).parents[2]
BOOSTING = Boosting(folds=3, seeds=2, rounds=12)
N, A, CLASSES = 36, 3, ("Normal", "Benign", "InSitu", "Invasive")
WIDTHS = {"ResNet-0.5-400": 40, "VGG-0.5-400": 25}
ONE = ("VGG-0.5-400",)


@pytest.fixture(scope="module")
def split() -> Folds:
    labels = np.arange(N) % len(CLASSES)
    return Folds(
        tuple(f"image{i:02d}" for i in range(N)), labels, np.arange(N) // len(CLASSES) % 3, CLASSES
    )


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory, split):
    """Descriptors without manifests, as the authors published theirs."""
    root = tmp_path_factory.mktemp("descriptors")
    samples.write_descriptors(root, split.names, split.labels, WIDTHS, A, spread=1.5)
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory, descriptors, split):
    root = tmp_path_factory.mktemp("models")
    folds.save(split, root / ensembles.FOLDS)
    assert train(descriptors, root, split, workers=2) == 12
    return root


def train(
    descriptors, models, split, boosting=BOOSTING, configurations=tuple(WIDTHS), workers=1
) -> int:
    return boost.train(TrainingJob(descriptors, models, split, configurations), boosting, workers)


def plain_loop(
    x: np.ndarray, split: Folds, seed: int, fold: int, rounds: int, **others
) -> lgb.Booster:
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
        **others,
    }
    train = split.folds != fold
    rows, labels = [], []
    for image, label in zip(x[train], split.labels[train], strict=True):
        for row in image:
            rows.append(row)
            labels.append(label)
    return lgb.train(
        parameters, lgb.Dataset(np.array(rows), np.array(labels)), num_boost_round=rounds
    )


def test_out_of_fold_scores_equal_a_plain_loop_exactly(descriptors, models, split):
    ensemble = ensembles.load(models)
    for configuration in WIDTHS:
        x = store.read(descriptors, configuration, split.names)
        scores = ensembles.out_of_fold(ensemble, configuration)
        assert scores.shape == (2, N, A, 4)
        for seed in range(2):
            for fold in range(3):
                held_out = split.folds == fold
                booster = plain_loop(x, split, seed, fold, BOOSTING.rounds)
                expected = booster.predict(x[held_out].reshape(-1, x.shape[-1])).reshape(-1, A, 4)
                np.testing.assert_array_equal(scores[seed, held_out], expected)
                assert (
                    ensemble.model(configuration, seed, fold).read_text()
                    == booster.model_to_string()
                )


def test_a_saved_model_predicts_what_was_scored(descriptors, models, split):
    x = store.read(descriptors, "VGG-0.5-400", split.names)
    held_out = split.folds == 1
    booster = lgb.Booster(model_file=ensembles.model_path(models, "VGG-0.5-400", 1, 1))
    saved = np.load(ensembles.model_path(models, "VGG-0.5-400", 1, 1).with_suffix(".npy"))
    np.testing.assert_allclose(trees.score(booster, x[held_out]), saved, rtol=1e-12)


FAST = {"max_bin": 15, "bagging_freq": 1, "bagging_fraction": 0.1, "feature_fraction": 0.2}
FAST |= {"enable_bundle": False}
# What the 72 rows of a fold's training change in them.
FEW = {"bagging_freq": 0, "min_data_in_leaf": 3, "min_data_in_bin": 3}


def test_fast_trees_are_the_same_by_any_number_of_workers(
    descriptors, models, split, tmp_path, request
):
    boosting = dataclasses.replace(BOOSTING, boost="fast", rounds=5)
    for workers in (2, 1):
        folds.save(split, tmp_path / str(workers) / ensembles.FOLDS)
        assert train(descriptors, tmp_path / str(workers), split, boosting, workers=workers) == 12
        request.getfixturevalue("in_this_process")
    one, two = (ensembles.load(tmp_path / name) for name in ("1", "2"))
    assert [path.read_text() for path in one.models] == [path.read_text() for path in two.models]
    x = store.read(descriptors, "VGG-0.5-400", split.names)
    expected = plain_loop(x, split, 1, 2, 5, **FAST | FEW).model_to_string()
    assert one.model("VGG-0.5-400", 1, 2).read_text() == expected
    for configuration in WIDTHS:
        scores = ensembles.out_of_fold(one, configuration)
        np.testing.assert_array_equal(scores, ensembles.out_of_fold(two, configuration))
        assert not np.array_equal(
            scores, ensembles.out_of_fold(ensembles.load(models), configuration)
        )


def test_layout_histogram_pool_and_bundling_change_no_tree_of_dense_descriptors(descriptors, split):
    x = store.read(descriptors, "ResNet-0.5-400", split.names)
    trees_of = {}
    for name, value in (
        ("force_col_wise", True),
        ("force_row_wise", True),
        ("histogram_pool_size", 0.2),  # Of 14 leaves' histograms it holds two.
        ("enable_bundle", False),
        ("num_leaves", 128),  # As many as seven levels can have.
    ):
        text = plain_loop(x, split, 0, 1, 12, **{"min_data_in_leaf": 4, name: value})
        trees_of[name] = text.model_to_string().split("end of trees")[0]
    assert max(text.count("Tree=") for text in trees_of.values()) == 48
    assert max(map(int, re.findall(r"num_leaves=(\d+)", trees_of["num_leaves"]))) > 5
    assert len(set(trees_of.values())) == 1


def test_bins_of_all_folds_together_would_make_other_models(descriptors, split):
    x = store.read(descriptors, "VGG-0.5-400", split.names)
    rows, labels = x.reshape(-1, x.shape[-1]), np.repeat(split.labels, A)
    chosen = trees.parameters(BOOSTING, len(CLASSES), 0, 1, len(rows))
    together = lgb.Dataset(rows, labels, params=chosen).construct()
    training = np.flatnonzero(np.repeat(split.folds != 1, A))
    shared = lgb.train(chosen, together.subset(training), num_boost_round=12)
    texts = [b.model_to_string() for b in (shared, plain_loop(x, split, 0, 1, 12))]
    thresholds = [set(re.findall(r"^threshold=.*", text, re.MULTILINE)) for text in texts]
    assert thresholds[0] != thresholds[1]


@pytest.mark.parametrize("mode", ["paper", "fast"])
@pytest.mark.usefixtures("in_this_process")
def test_models_never_see_what_is_held_out(descriptors, split, tmp_path, mode):
    boosting = dataclasses.replace(BOOSTING, boost=mode, seeds=1, rounds=5)
    held_out = split.folds == 1
    for name, is_held_out in zip(split.names, held_out, strict=True):
        x = store.read(descriptors, "VGG-0.5-400", [name])[0]
        store.write(tmp_path / "spoilt", "VGG-0.5-400", name, 1000 - x if is_held_out else x)
    texts = []
    for root in (descriptors, tmp_path / "spoilt"):
        models = tmp_path / root.name / "models"
        folds.save(split, models / ensembles.FOLDS)
        train(root, models, split, boosting, configurations=ONE)
        texts.append(
            [ensembles.model_path(models, "VGG-0.5-400", 0, fold).read_text() for fold in range(3)]
        )
    assert [a == b for a, b in zip(*texts, strict=True)] == [False, True, False]


def test_a_folds_rows_are_binned_once_for_all_seeds_and_bins_do_not_stay(
    descriptors, split, tmp_path, monkeypatch
):
    written, write_bins = [], trees.write_bins
    monkeypatch.setattr(
        trees,
        "write_bins",
        lambda path, *rest: written.append(path.name) or write_bins(path, *rest),
    )
    job = TrainingJob(descriptors, tmp_path, split, ONE)
    (models,) = job.start("trees", BOOSTING).values()
    for task in boost.prepare_tasks(job, *ONE, models, BOOSTING, tmp_path):
        boost.run_task(task)
    assert written == [f"VGG-0.5-400-fold{fold:02d}.bin" for fold in (1, 2, 3)]


@pytest.mark.usefixtures("in_this_process")
def test_what_a_run_took_is_kept_if_it_trained_anything(descriptors, split, tmp_path):
    folds.save(split, tmp_path / ensembles.FOLDS)
    boosting = dataclasses.replace(BOOSTING, rounds=2)
    for expected in (6, 0):
        assert (
            train(descriptors, tmp_path, split, boosting, configurations=ONE, workers=2) == expected
        )
    (row,) = ensembles.read_training_times(tmp_path)
    assert (row["models"], row["workers"]) == ("6", "2")
    assert datetime.date.fromisoformat(row["date"])
    assert 0 < float(row["seconds"]) < 600
    assert row["machine"] == f"{boost.default_workers()} CPUs, {platform.machine()}"
    ensembles.model_path(tmp_path, "VGG-0.5-400", 0, 0).unlink()
    train(descriptors, tmp_path, split, boosting, configurations=ONE, workers=2)
    assert [(row["models"], row["workers"]) for row in ensembles.read_training_times(tmp_path)] == [
        ("6", "2"),
        ("1", "1"),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_killed_training_goes_on_and_ends_as_an_unbroken_one(descriptors, split, tmp_path):
    rows = [
        (f"{name}.png", split.classes[label])
        for name, label in zip(split.names, split.labels, strict=True)
    ]
    for name, _ in rows:
        (tmp_path / name).touch()
    files.write_csv(tmp_path / "table.csv", rows, ("image", "label"))
    flags = [f"--data={tmp_path}/table.csv", f"--descriptors={descriptors}", "--workers=2"]
    command = [
        sys.executable,
        "-m",
        "experiments.train",
        *flags,
        "--folds=3",
        "--seeds=3",
        "--rounds=40",
    ]
    unbroken = run("train", *command[3:], f"--models={tmp_path}/unbroken")
    assert "18 models trained, 18 are there" in unbroken.stdout
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [*command, f"--models={killed}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and len(list(killed.rglob("seed*.txt"))) < 2:
            time.sleep(0.01)
        process.kill()
    time.sleep(2.5)  # Workers outlive the training by two seconds at most.
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("seed*.txt")}
    assert 2 <= len(before) < 18
    done = run("train", *command[3:], f"--models={killed}")
    assert f"{18 - len(before)} models trained, 18 are there" in done.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    resumed, unbroken_ensemble = (
        ensembles.load(tmp_path / name) for name in ("killed", "unbroken")
    )
    assert [path.read_text() for path in resumed.models] == [
        path.read_text() for path in unbroken_ensemble.models
    ]
    for configuration in WIDTHS:
        np.testing.assert_array_equal(
            *(
                ensembles.out_of_fold(ensemble, configuration)
                for ensemble in (resumed, unbroken_ensemble)
            )
        )


def damaged(models, tmp_path, damage):
    """A copy of the models with one file changed."""
    shutil.copytree(models, tmp_path / "models")
    damage(ensembles.model_path(tmp_path / "models", "VGG-0.5-400", 1, 2))
    return tmp_path / "models"


def cut(path):
    path.write_bytes(path.read_bytes()[: int(0.9 * path.stat().st_size)])


def cut_trees(path):
    path.write_text(path.read_text().split("\nend of trees")[0])


def nonsense(path):
    path.write_text("hello")


@pytest.mark.parametrize("damage", [cut, cut_trees, nonsense, lambda path: path.write_text("")])
def test_a_damaged_model_is_refused_by_name(models, descriptors, split, tmp_path, damage):
    ensemble = ensembles.load(damaged(models, tmp_path, damage))
    with pytest.raises(InputError, match="seed1-fold03.txt is not a complete LightGBM model"):
        scoring.load_models(ensemble)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.with_suffix(".npy").write_bytes(b"x"), "cannot be read"),
        (
            lambda path: np.save(path.with_suffix(".npy"), np.full((12, 3, 4), np.nan)),
            "does not hold finite scores",
        ),
        (lambda path: np.save(path.with_suffix(".npy"), np.full((11, 3, 4), 0.25)), "have shape"),
        (lambda path: path.with_suffix(".npy").unlink(), "lacks 1 of 12 models"),
        (lambda path: path.unlink(), "lacks 1 of 12 models"),
        (lambda path: (path.parent / "manifest.json").unlink(), "cannot be read as JSON"),
        (lambda path: (path.parent / "manifest.json").write_text("{}"), "without extraction"),
        (lambda path: (path.parents[1] / "manifest.json").write_text("[]"), "damaged"),
    ],
)
def test_damaged_scores_and_manifests_are_refused(models, tmp_path, damage, message):
    folder = damaged(models, tmp_path, damage)

    def scores():
        return ensembles.out_of_fold(ensembles.load(folder), "VGG-0.5-400")

    with pytest.raises(InputError, match=message):
        scores()


@pytest.mark.usefixtures("in_this_process")
def test_lost_scores_are_made_anew(models, descriptors, split, tmp_path):
    folder = damaged(models, tmp_path, lambda path: path.with_suffix(".npy").unlink())
    assert train(descriptors, folder, split) == 1
    for configuration in WIDTHS:
        before, after = (
            ensembles.out_of_fold(ensembles.load(root), configuration) for root in (models, folder)
        )
        np.testing.assert_array_equal(before, after)


@pytest.mark.usefixtures("in_this_process")
def test_a_claim_without_models_binds_nobody(descriptors, split, tmp_path):
    ensembles.record_manifest(tmp_path / ensembles.MANIFEST, {"parameters": {"rounds": 99}})
    folds.save(split, tmp_path / ensembles.FOLDS)
    assert train(descriptors, tmp_path, split, configurations=ONE) == 6
    assert not (tmp_path / boost._WORK_FOLDER).exists()
    assert Boosting(**ensembles.load(tmp_path).parameters) == BOOSTING


@pytest.mark.parametrize("word", ["glibc.malloc.hugetlb=1", "glibc.malloc.hugetlb=0"])
def test_training_asks_for_large_pages_unless_the_user_says_otherwise(word, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", word)
    if word.endswith("1"):  # As they are asked for.
        monkeypatch.delenv("GLIBC_TUNABLES")
    boost.run_tasks([], workers=1)
    assert os.environ["GLIBC_TUNABLES"] == word


def test_seeds_differ(models):
    scores = ensembles.out_of_fold(ensembles.load(models), "ResNet-0.5-400")
    assert not np.array_equal(scores[0], scores[1])


@pytest.mark.usefixtures("in_this_process")
def test_training_resumes_and_makes_only_what_is_missing(descriptors, models, split):
    kept = ensembles.model_path(models, "ResNet-0.5-400", 0, 0)
    lost = ensembles.model_path(models, "ResNet-0.5-400", 1, 2)
    text, time = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    with pytest.raises(InputError, match="lacks 1 of 12 models"):
        ensembles.load(models)
    assert train(descriptors, models, split) == 1
    assert lost.read_text() == text
    assert kept.stat().st_mtime_ns == time


def test_other_parameters_folds_or_descriptors_are_refused(descriptors, models, split, tmp_path):
    with pytest.raises(InputError, match="parameters.rounds: found 12, expected 13"):
        train(descriptors, models, split, dataclasses.replace(BOOSTING, rounds=13))
    other = dataclasses.replace(split, folds=np.roll(split.folds, 4))
    with pytest.raises(InputError, match="folds_sha256"):
        train(descriptors, models, other)
    for name in split.names:
        store.write(tmp_path, "VGG-0.5-400", name, np.zeros((A, 25), np.float32))
    with pytest.raises(InputError, match=r"descriptors_sha256.*the descriptors: made again"):
        train(tmp_path, models, split, configurations=ONE)


def test_new_images_get_the_mean_of_all_models(descriptors, models, split):
    ensemble = ensembles.load(models)
    names = split.names[:5]
    expected = np.zeros((5, 4))
    for configuration in WIDTHS:
        x = store.read(descriptors, configuration, names)
        for seed in range(2):
            for fold in range(3):
                booster = lgb.Booster(
                    model_file=ensembles.model_path(models, configuration, seed, fold)
                )
                expected += (
                    booster.predict(x.reshape(-1, x.shape[-1])).reshape(5, A, 4).mean(axis=1) / 12
                )
    scores = scoring.load_models(ensemble).score(
        {name: store.read(descriptors, name, names) for name in WIDTHS}
    )
    np.testing.assert_allclose(scores.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(scores.by_augmentation.mean(axis=1), expected, rtol=1e-12)
    np.testing.assert_allclose(scores.by_model.mean(axis=1), expected, rtol=1e-12)


def test_descriptors_of_another_width_are_refused(models):
    loaded = scoring.load_models(ensembles.load(models))
    with pytest.raises(InputError, match="the descriptors have 26"):
        loaded.score(dict.fromkeys(WIDTHS, np.zeros((1, A, 26), np.float32)))


def test_changed_folds_beside_the_models_are_refused(models, split, tmp_path):
    saved = (models / ensembles.FOLDS).read_text()
    try:
        folds.save(
            dataclasses.replace(split, folds=np.roll(split.folds, 4)), models / ensembles.FOLDS
        )
        with pytest.raises(InputError, match="changed since"):
            ensembles.load(models)
    finally:
        files.write_text(models / ensembles.FOLDS, saved)


def test_descriptors_without_a_manifest_train_but_cannot_describe_new_images(models):
    with pytest.raises(InputError, match="unknown protocol"):
        bundle.from_models(models).extraction  # noqa: B018 - asked for, not kept.
