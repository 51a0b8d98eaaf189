"""XGBoost's models: trained, resumed, scored, packed and refused as LightGBM's are."""

import dataclasses
import importlib
import itertools
import json
import re
import shutil

import numpy as np
import pytest

from histojax import config
from histojax.config import Boosting, Protocol
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import evaluate
from histojax.extraction import store
from histojax.learners import boost, boost_dask, ensembles, growth, scoring, trees, xgboost_trees
from histojax.learners.training import TrainingJob
from tests import samples
from tests.running import ROOT

NAME, N, A, D = "VGG-0.5-400", 24, 3, 12
BOOSTING = Boosting(folds=3, seeds=2, rounds=8, boost="xgboost")


def without_xgboost(monkeypatch):
    """Makes the package missing, whether or not it is installed."""
    find = importlib.import_module

    def fail(name, *rest):
        if name == "xgboost":
            raise ImportError(name)
        return find(name, *rest)

    monkeypatch.setattr(xgboost_trees.importlib, "import_module", fail)


def test_without_the_package_training_says_what_to_install(tmp_path, monkeypatch):
    without_xgboost(monkeypatch)
    split = Folds(("a", "b"), np.arange(2), np.arange(2), ("x", "y"))
    job = TrainingJob(tmp_path, tmp_path / "models", split, (NAME,))
    with pytest.raises(InputError, match="pip install -r requirements-xgboost.txt") as raised:
        boost.train(job, BOOSTING, 1)
    (named,) = re.findall("pip install '(.*?)' .on a Mac '(.*?)'", str(raised.value))
    listed = (ROOT / "requirements-xgboost.txt").read_text()
    by_system = re.findall(r'(?m)^(\S+); sys_platform != "darwin"\n(\S+); sys_pl', listed)
    assert by_system == [named]
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="pip install -r requirements-xgboost.txt"):
        xgboost_trees.parse(b"{}", "seed0-fold01.json")


def test_what_would_do_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="--dask_scheduler, or take --boost=fast"):
        boost_dask.train(None, BOOSTING, "tcp://nowhere:1")
    with pytest.raises(InputError, match="--tree_device=cuda is for --boost=xgboost"):
        boost.check(Boosting(), "cuda")
    idle = {"feature_fraction": 0.3, "bagging_fraction": 0.3, "bagging_freq": 1}
    for boost_name, name in itertools.product(("fast", "xgboost"), idle):
        boosting = Boosting(boost=boost_name, **{name: idle[name]})
        with pytest.raises(InputError, match=f"--{name} is .* --boost={boost_name} has its own"):
            config.check(Protocol(boosting=boosting))


def test_depth_without_a_limit_is_zero_for_xgboost():
    chosen = xgboost_trees.parameters(dataclasses.replace(BOOSTING, max_depth=-1), 2, 0, 0, 5000)
    assert chosen["max_depth"] == 0


@pytest.mark.parametrize(("rows", "drawn"), [(18, 1), (400, 1), (800, 0.5), (18000, 0.1)])
def test_a_round_draws_a_tenth_of_the_rows_but_no_fewer_than_400(rows, drawn):
    assert xgboost_trees.parameters(BOOSTING, 2, 0, 0, rows)["subsample"] == drawn
    assert trees.parameters(dataclasses.replace(BOOSTING, boost="fast"), 2, 0, 0, rows)[
        "bagging_fraction"
    ] == (drawn if rows > 400 else 0.1)  # Then bagging is off.


def train(models, descriptors, split, boosting=BOOSTING) -> int:
    tasks = TrainingJob(descriptors, models, split, (NAME,))
    return boost.train(tasks, boosting, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Split, descriptors, and the ensemble of them, trained in this process."""
    pytest.importorskip("xgboost", reason="pip install -r requirements-xgboost.txt")
    root = tmp_path_factory.mktemp("xgboost")
    labels = np.arange(N) % 2
    names = tuple(f"i{i:02d}" for i in range(N))
    split = Folds(names, labels, np.arange(N) // 2 % 3, ("a", "b"))
    samples.write_descriptors(root / "d", names, labels, {NAME: D}, A, spread=0.5)
    folds.save(split, root / "m" / ensembles.FOLDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boost, "run_tasks", lambda tasks, _: [boost.run_task(t) for t in tasks])
        assert train(root / "m", root / "d", split) == 6
    return split, root / "d", root / "m"


@pytest.fixture
def here(monkeypatch):
    """Trains in this process, the last model first."""

    def backwards(tasks, workers):
        for task in reversed(tasks):
            boost.run_task(task)

    monkeypatch.setattr(boost, "run_tasks", backwards)


def test_out_of_fold_scores_are_those_of_the_saved_models_and_of_xgboost_itself(made):
    import xgboost

    split, descriptors, models = made
    ensemble = ensembles.load(models)
    assert ensemble.learner == "xgboost"
    x = store.read(descriptors, NAME, split.names)
    scores = ensembles.out_of_fold(ensemble, NAME)
    held_out = split.folds == 1
    path = ensemble.model(NAME, 1, 1)
    np.testing.assert_array_equal(scoring.score("xgboost", path, x[held_out]), scores[1, held_out])
    np.testing.assert_allclose(scores[1].sum(axis=-1), 1, rtol=1e-14)  # Float32 would be 1e-7 off.
    parameters = {
        "objective": "multi:softprob",
        "num_class": 2,
        "eta": 0.1,
        "max_leaves": 191,
        "max_depth": 7,
        "tree_method": "hist",
        "max_bin": 16,
        "subsample": 1.0,  # So few rows are all drawn.
        "colsample_bytree": 0.2,
        "seed": 12,
        "nthread": 1,
    }
    rows = xgboost.DMatrix(x[~held_out].reshape(-1, D), np.repeat(split.labels[~held_out], A))
    plain = xgboost.train(parameters, rows, 8)
    expected = plain.predict(xgboost.DMatrix(x[held_out].reshape(-1, D))).reshape(-1, A, 2)
    np.testing.assert_allclose(scores[1, held_out], expected, atol=1e-6)
    assert growth.check(ensemble) == growth.Growth(6, 0)
    assert evaluate.doubts(models) is not None


def test_what_is_missing_is_trained_again_and_is_the_same(made, here):
    split, descriptors, models = made
    lost = [ensembles.model_path(models, NAME, *place, "xgboost") for place in ((0, 2), (1, 0))]
    texts = [path.read_text() for path in lost]
    for path in lost:
        path.unlink()
    assert train(models, descriptors, split) == 2
    assert [path.read_text() for path in lost] == texts
    other = dataclasses.replace(BOOSTING, boost="fast")
    with pytest.raises(InputError, match="learner: found xgboost, expected trees"):
        train(models, descriptors, split, other)
    manifest = json.loads((models / NAME / ensembles.MANIFEST).read_text())
    few = {"subsample_by_fold": [1.0] * 3, "device": "cpu"}  # All of their rows.
    assert manifest["xgboost"] == xgboost_trees.SETTINGS | few


def test_complete_models_of_other_settings_stay_and_are_not_mixed_with_todays(
    made, here, monkeypatch, tmp_path
):
    split, descriptors, models = made
    shutil.copytree(models, tmp_path / "m")
    monkeypatch.setitem(xgboost_trees.SETTINGS, "max_bin", 32)
    assert train(tmp_path / "m", descriptors, split) == 0
    ensembles.model_path(tmp_path / "m", NAME, 0, 2, "xgboost").unlink()
    with pytest.raises(InputError, match="xgboost.max_bin: found 16, expected 32"):
        train(tmp_path / "m", descriptors, split)


def test_models_that_learned_nothing_are_told_with_what_to_do(made, tmp_path):
    shutil.copytree(made[2], tmp_path / "m")
    ensemble = ensembles.load(tmp_path / "m")
    path = ensembles.scores_path(ensemble.models[0])
    np.save(path, np.full_like(np.load(path), 0.5))
    told = growth.check(ensemble).text
    assert "1 of 6 models learned nothing" in told
    assert "the tenth of the rows that a round draws" in told
    assert "--boost=fast" in told


def test_a_model_is_trained_on_the_device_that_is_recorded(made, monkeypatch, tmp_path):
    split, descriptors, _ = made
    devices = []

    def fit(descriptors, held_out, labels, parameters, rounds):
        devices.append(parameters["device"])
        return "", np.zeros((1, A, 2))

    monkeypatch.setattr(xgboost_trees, "fit", fit)
    job = TrainingJob(descriptors, tmp_path / "m", split, (NAME,))
    paths = {(0, 1): tmp_path / "model.json"}
    (task,) = boost.prepare_tasks(job, NAME, paths, BOOSTING, tmp_path, "cuda")
    boost.run_task(task)
    manifest = json.loads((job.models / NAME / ensembles.MANIFEST).read_text())
    assert [manifest["xgboost"]["device"], *devices] == ["cuda", "cuda"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("multi:softprob", "reg:squarederror"),
        lambda text: json.dumps(json.loads(text) | {"learner": {"objective": {}}}),
    ],
)
def test_damaged_models_are_refused(made, damage):
    content = ensembles.model_path(made[2], NAME, 0, 0, "xgboost").read_text()
    with pytest.raises(InputError, match="m is not a complete XGBoost model"):
        xgboost_trees.parse(damage(content).encode(), "m")


def test_cuda_is_refused_by_a_build_without_it(monkeypatch):
    package = pytest.importorskip("xgboost", reason="pip install -r requirements-xgboost.txt")
    monkeypatch.setattr(package, "build_info", lambda: {"USE_CUDA": False})
    with pytest.raises(InputError, match="needs an XGBoost built for CUDA"):
        boost.check(BOOSTING, "cuda")
    monkeypatch.setattr(package, "build_info", lambda: {"USE_CUDA": True})
    boost.check(BOOSTING, "cuda")
    chosen = xgboost_trees.parameters(BOOSTING, 2, 0, 0, 9, "cuda")
    assert chosen["device"] == "cuda"
