"""A small ensemble of trees, and descriptors of a test set beside it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from histojax.config import Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.evaluation.test_set import TestSet
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from tests import samples

CLASSES, A, WIDTHS = ("a", "b", "c"), 2, {"ResNet-0.5-400": 6, "VGG-0.5-400": 5}
TEST = TestSet(
    tuple(f"t{i}" for i in range(9)), tuple("abc" * 3), tuple(f"p{i // 2}" for i in range(9))
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("testset")
    labels = np.arange(60) % 3
    split = Folds(tuple(f"i{i}" for i in range(60)), labels, np.arange(60) // 3 % 3, CLASSES)
    names, of = (*split.names, *TEST.names), [*labels, *(np.arange(9) % 3)]
    samples.write_descriptors(root / "descriptors", names, of, WIDTHS, A, spread=1.0)
    folds.save(split, root / "models" / ensembles.FOLDS)
    job = TrainingJob(root / "descriptors", root / "models", split, tuple(WIDTHS))
    with samples.trees_in_this_process():
        boost.train(job, Boosting(folds=3, seeds=2, rounds=4), 1)
    return root


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory) -> Path:
    """A copy of descriptors/ and models/, without scores of the test set."""
    copy = tmp_path_factory.mktemp("ensemble") / "copy"
    shutil.copytree(trained, copy)
    return copy
