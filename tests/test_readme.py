"""The README's Python runs as it is, with a small protocol and network; its commands exist."""

import collections
import os
import re
import subprocess
import sys
import textwrap

import numpy as np

from histojax.datasets import synthetic
from tests.running import ROOT, run

README = (ROOT / "README.md").read_text()

SMALL = """
from tests import narrow
NARROW = narrow.vgg()
NARROW.__enter__()
from histojax.config import Boosting, Extraction, Protocol, View
extraction = Extraction(("VGG",), (View(0.5, 40),), augmentations=2, crops=2, weights="random")
PRESETS = {"paper": Protocol(extraction, Boosting(folds=2, seeds=1, rounds=3))}
"""


def python_block(first_line: str) -> str:
    """The block of Python that begins with the line."""
    return re.search(rf"```python\n({re.escape(first_line)}\n.*?)```", README, re.DOTALL)[1]


def test_the_ten_lines_of_python_run(tmp_path):
    synthetic.write_folder(tmp_path, per_class=2, unlabelled=2, height=96, width=128)
    (tmp_path / "train").rename(tmp_path / "images")
    (tmp_path / "unlabelled").rename(tmp_path / "new")
    imports, steps = python_block("from histojax import datasets").split("\n\n", 1)
    program = f"{imports}\n{SMALL}\nif __name__ == '__main__':\n{textwrap.indent(steps, '    ')}"
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Model fusion" in done.stdout
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
