"""The Python of docs/guide/python.md, once the README's, runs as it is, with a small protocol."""

import functools
import re

import numpy as np
import pytest
import sklearn

from histojax.config import Boosting, Extraction, Protocol, View
from histojax.datasets import synthetic
from tests import narrow
from tests.running import ROOT

PAGE = (ROOT / "docs" / "guide" / "python.md").read_text()

SMALL = Protocol(
    Extraction(("VGG",), (View(0.5, 40),), augmentations=2, crops=2, weights="random"),
    Boosting(folds=2, seeds=1, rounds=3),
)


def python_block(first_line: str) -> str:
    """The block of Python that begins with the line."""
    return re.search(rf"```python\n({re.escape(first_line)}\n.*?)```", PAGE, re.DOTALL)[1]


@pytest.mark.usefixtures("in_this_process")
def test_the_ten_lines_of_python_run(tmp_path, monkeypatch, capsys):
    synthetic.write_folder(tmp_path, per_class=2, unlabelled=2, height=96, width=128)
    (tmp_path / "train").rename(tmp_path / "images")
    (tmp_path / "unlabelled").rename(tmp_path / "new")
    imports, steps = python_block("from histojax import datasets").split("\n\n", 1)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(imports, names)
    names["PRESETS"] = {"paper": SMALL}
    with narrow.vgg():
        exec(steps, names)
    assert "Model fusion" in capsys.readouterr().out
    assert len((tmp_path / "predictions" / "predictions.csv").read_text().splitlines()) == 3
    assert len(steps.strip().splitlines()) <= 10


def test_the_encoders_of_the_page():
    names = {"images": np.zeros((2, 32, 32, 3), np.uint8)}
    exec(python_block("from histojax import encoders"), names)
    variables, images = names["variables"], names["images"]
    assert names["vgg"].descriptors(variables, images).shape == (2, 1408)
    assert names["fast"].width == 1408


def test_the_classifier_of_the_page(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 12)
    names = {
        "x": rng.normal(size=(24, 3)) + y[:, None],
        "y": y,
        "new": rng.normal(size=(2, 3)),
        "patients": np.arange(24) // 2,
    }
    imports, steps = python_block("import sklearn").split("\n\n", 1)
    exec(imports, names)
    small = functools.partial(names["FoldEnsembleClassifier"], folds=2, seeds=1, rounds=2)
    names["FoldEnsembleClassifier"] = small
    with sklearn.config_context():
        exec(steps, names)
    assert names["model"].oof_scores_.shape == (24, 2)
    assert names["model"].folds == 2
