"""The README's Python runs as it is, with a small protocol and network; its commands exist."""

import collections
import re

import numpy as np
import pytest

from histojax.config import Boosting, Extraction, Protocol, View
from histojax.datasets import synthetic
from tests import narrow
from tests.running import ROOT, run

README = (ROOT / "README.md").read_text()

SMALL = Protocol(
    Extraction(("VGG",), (View(0.5, 40),), augmentations=2, crops=2, weights="random"),
    Boosting(folds=2, seeds=1, rounds=3),
)


def python_block(first_line: str) -> str:
    """The block of Python that begins with the line."""
    return re.search(rf"```python\n({re.escape(first_line)}\n.*?)```", README, re.DOTALL)[1]


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


def test_the_encoders_of_the_readme():
    names = {"images": np.zeros((2, 32, 32, 3), np.uint8)}
    exec(python_block("from histojax import encoders"), names)
    variables, images = names["variables"], names["images"]
    assert names["vgg"].descriptors(variables, images).shape == (2, 1408)
    assert names["fast"].width == 1408


def test_the_commands_of_the_readme_name_scripts_and_flags_that_exist():
    flags = collections.defaultdict(set)
    for script, line in re.findall(r"^histojax (\w+) +(.*)", README, re.MULTILINE):
        flags[script] |= set(re.findall(r"--(\w+)", line.partition("#")[0]))
    assert flags
    for script, flags_of_script in flags.items():
        help_text = run(script, "--help").stdout
        for flag in flags_of_script:
            assert re.search(rf"^  --(\[no\])?{flag}\b", help_text, re.MULTILINE), (script, flag)
