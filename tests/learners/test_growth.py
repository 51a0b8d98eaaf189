"""Models that learned nothing are counted, with the cause and the remedy; few rows, few leaves."""

import lightgbm as lgb
import numpy as np
import pytest

from histojax.config import PRESETS, Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import boost, ensembles, growth, trees
from histojax.learners.training import TrainingJob
from histojax.utils import files
from tests import samples

CONFIGURATION = "VGG-0.5-400"
FAST = {"max_bin": 15, "bagging_freq": 1, "bagging_fraction": 0.1, "feature_fraction": 0.2}
FAST |= {"enable_bundle": False}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train(images, augmentations, **boosting): an ensemble of 8 channels in two folds."""
    monkeypatch.setattr(boost, "run_tasks", lambda tasks, _: [boost.run_task(t) for t in tasks])

    def make(images: int, augmentations: int, spread=0.5, **boosting) -> ensembles.Ensemble:
        labels = np.arange(images) % 2
        names = tuple(f"i{i:02d}" for i in range(images))
        split = Folds(names, labels, np.arange(images) // 2 % 2, ("a", "b"))
        root, models = tmp_path / "descriptors", tmp_path / "models"
        samples.write_descriptors(root, names, labels, {CONFIGURATION: 8}, augmentations, spread)
        folds.save(split, models / ensembles.FOLDS)
        chosen = Boosting(**{"folds": 2, "seeds": 1, "rounds": 3} | boosting)
        boost.train(TrainingJob(root, models, split, (CONFIGURATION,)), chosen, 1)
        return ensembles.load(models)

    return make


def test_the_papers_trees_cannot_split_few_rows_and_that_is_told(train):
    found = growth.check(train(24, 2))
    assert (found.constant, found.models) == (2, 2)
    assert found.text == (
        "2 of 2 models learned nothing and give every image the same scores: a fold trains on 24 "
        "rows (12 images x 2 augmentations), and a leaf holds at least 20, so no tree can split "
        "them. Train into another folder with --boost=fast, whose leaves follow the rows there are "
        "(as with --protocol=small, in four folds), or extract more --augmentations."
    )


def test_of_imported_features_the_remedy_is_more_draws(train, monkeypatch):
    monkeypatch.setattr(growth, "are_imported", lambda manifests: True)
    text = growth.check(train(24, 2)).text
    assert "(12 images x 2 draws)" in text
    assert text.endswith("or import with more --draws.")


@pytest.mark.parametrize(
    "boosting", [{"boost": "fast"}, {"boost": PRESETS["small"].boosting.boost}]
)
def test_with_leaves_that_follow_the_rows_they_grow(train, boosting):
    ensemble = train(24, 2, **boosting)
    assert growth.check(ensemble) == growth.Growth(2, 0)
    scores = ensembles.out_of_fold(ensemble, CONFIGURATION).mean(axis=(0, 2))
    assert (scores.argmax(axis=1) == ensemble.folds.labels).mean() > 0.9


def test_bagging_of_earlier_versions_is_named_as_the_cause(train, monkeypatch):
    monkeypatch.setattr(trees, "for_few_rows", lambda rows: {})
    found = growth.check(train(48, 2, boost="fast"))
    assert found.constant == 2
    assert "48 rows (24 images x 2 augmentations), of which a round draws 4" in found.text


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def fail(self, filename):
        raise lgb.basic.LightGBMError("Cannot write binary data to x, wrote 0 of 10 bytes")

    monkeypatch.setattr(lgb.Dataset, "save_binary", fail)
    x, labels = np.random.default_rng(0).normal(size=(8, 1, 2)), np.arange(8) % 2
    path, parameters = tmp_path / "fold01.bin", trees.parameters(Boosting(), 2, 0, 0, 8)
    with pytest.raises(OSError, match="not written whole, as on a full disk: .*fold01.bin"):
        trees.write_bins(path, x, np.ones(8, bool), labels, parameters)
    assert not list(tmp_path.iterdir())


def test_descriptors_that_are_all_alike_are_another_cause(train):
    found = growth.check(train(48, 4, spread=0, boost="fast", max_depth=1, learning_rate=1e-9))
    assert found.constant == 0  # The classes differ.
    alike = np.zeros((12, 4, 8), np.float32)
    parameters = trees.parameters(Boosting(), 2, 0, 0, 48)
    text = trees.fit(alike, np.arange(12) % 2, parameters, 3).model_to_string()
    assert not trees.has_split(text.encode())


def test_models_of_an_earlier_rule_are_loaded_but_not_mixed_with_new_ones(train, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(trees, "for_few_rows", lambda rows: {})
        ensemble = train(24, 2, boost="fast")
    ensemble.models[0].unlink()
    with pytest.raises(InputError, match=r"leaf_by_fold: found None, expected \[1, 1\]"):
        train(24, 2, boost="fast")


def test_from_4000_rows_on_nothing_changes():
    fast = Boosting(boost="fast")
    paper = trees.parameters(Boosting(), 4, 1, 2, 10)
    for rows in (4000, 18_000):
        assert trees.parameters(fast, 4, 1, 2, rows) == paper | FAST
    assert trees.parameters(Boosting(), 4, 1, 2, 18_000) == paper
    split = Folds(("x",) * 400, np.zeros(400, int), np.arange(400) % 10, ("a", "b"))
    assert trees.decided(fast, split, (400, 50, 2048)) == {"fast": FAST}
    assert trees.decided(Boosting(), split, (4, 5, 2048)) == {}


def test_fast_models_of_an_earlier_version_stay_but_are_not_mixed_with_todays(train):
    ensemble = train(24, 2, boost="fast")
    path = ensemble.root / CONFIGURATION / ensembles.MANIFEST
    earlier = files.read_json(path, ["fast"])
    del earlier["fast"]  # Versions before this one recorded no settings.
    files.write_json(path, earlier)
    assert train(24, 2, boost="fast").models == ensemble.models  # None is missing.
    assert "fast" not in files.read_json(path, [])
    ensemble.models[0].unlink()
    with pytest.raises(InputError, match=r"fast.feature_fraction: found None, expected 0.2"):
        train(24, 2, boost="fast")


@pytest.mark.parametrize(
    ("rows", "drawn", "leaf"),
    [(12, 12, 1), (39, 39, 1), (104, 104, 5), (400, 400, 20), (800, 400, 20)],
)
def test_few_rows_are_all_drawn_and_make_small_leaves(rows, drawn, leaf):
    changed = trees.parameters(Boosting(boost="fast"), 2, 0, 0, rows)
    fraction = changed["bagging_fraction"] if changed["bagging_freq"] else 1
    assert (round(rows * fraction), changed["min_data_in_leaf"]) == (drawn, leaf)
