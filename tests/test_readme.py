"""The README's Python runs as it stands, on small images with a small protocol in place of the paper's."""

import collections
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from histojax.datasets import synthetic
from tests.running import run

ROOT = Path(__file__).parents[1]

SMALL = """
from histojax.config import Boosting, Extraction, Protocol, View
extraction = Extraction(("VGG",), (View(0.5, 40),), augmentations=2, crops=2, weights="random")
PRESETS = {"paper": Protocol(extraction, Boosting(folds=2, seeds=1, rounds=3))}
"""


def test_the_ten_lines_of_python_run(tmp_path):
    synthetic.write_folder(tmp_path, per_class=2, unlabelled=2, height=96, width=128)
    (tmp_path / "train").rename(tmp_path / "images")
    (tmp_path / "unlabelled").rename(tmp_path / "new")
    block = re.search(
        r"```python\n(from pathlib.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )[1]
    imports, steps = block.split("\n\n", 1)
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


def test_the_commands_of_the_readme_name_scripts_and_flags_that_exist():
    text = (ROOT / "README.md").read_text()
    flags = collections.defaultdict(set)
    for script, line in re.findall(r"^histojax (\w+) +(.*)", text, re.MULTILINE):
        flags[script] |= set(re.findall(r"--(\w+)", line.partition("#")[0]))
    assert flags
    for script, named in flags.items():
        told = run(script, "--help").stdout
        for flag in named:
            assert re.search(rf"^  --(\[no\])?{flag}\b", told, re.MULTILINE), (script, flag)
