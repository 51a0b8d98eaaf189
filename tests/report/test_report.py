"""The report's table has the paper's form, with the published rows only where the data are BACH."""

import csv

import numpy as np
import pytest

from histojax import metrics, report
from histojax.config import BACH_CLASSES
from histojax.folds import Folds

NAMES = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in range(1, 101))


def judged(names=NAMES, count=10):
    truth = np.repeat(np.arange(4), len(names) // 4)
    folds = Folds(names, truth, np.arange(len(names)) % count, BACH_CLASSES)
    rng = np.random.default_rng(0)
    scores = {
        name: rng.dirichlet(np.ones(4), (2, len(names), 3)) + 0.2 * np.eye(4)[truth][None, :, None]
        for name in ("ResNet-0.5-400", "VGG-1.0-800")
    }
    return metrics.judge(scores, truth, folds.folds, BACH_CLASSES, (2, 3)), folds


def test_on_bach_the_published_rows_stand_below_ours(tmp_path):
    text = report.write(tmp_path, *judged(), "weights: imagenet")
    assert "  published ResNet-400" in text
    assert "  published Model fusion" in text
    assert "published VGG" not in text
    assert "ROC AUC 0.973" in text
    assert "VGG-1.0-800" in text
    with open(tmp_path / "table1.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert list(rows)[:2] == ["ResNet-400", "published ResNet-400"]
    assert (rows["published Model fusion"]["mean"], rows["published Model fusion"]["std"]) == ("87.2", "2.6")


@pytest.mark.parametrize(("names", "count"), [(tuple(f"x{i}" for i in range(400)), 10), (NAMES, 5)])
def test_elsewhere_they_do_not(tmp_path, names, count):
    assert "published" not in report.write(tmp_path, *judged(names, count), "weights: imagenet")


def test_a_row_is_the_mean_over_seeds_and_its_deviation_is_over_seeds_and_folds(tmp_path):
    judgement, folds = judged()
    report.write(tmp_path, judgement, folds, "weights: imagenet")
    accuracies = 100 * judgement.by_configuration["ResNet-0.5-400"]
    with open(tmp_path / "table1.csv") as file:
        row = next(csv.DictReader(file))
    assert row["f3"] == f"{accuracies[:, 2].mean():.1f}"
    assert row["mean"] == f"{accuracies.mean():.1f}"
    assert row["std"] == f"{accuracies.std():.1f}"


def test_where_the_weights_came_from_is_said():
    random = {"weights": {"source": "random, seed 0"}}
    assert "UNTRAINED" in report.provenance([random])
    assert report.provenance([{"weights": {"source": "imagenet"}}] * 2) == "weights: imagenet"
    assert report.provenance([None]) == "weights: not recorded"
