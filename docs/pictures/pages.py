"""The pages that the pictures show, written below a folder; the demo's are made first."""

import subprocess
import sys
from pathlib import Path

from markupsafe import Markup

from docs.pictures import pipeline as pipeline_values
from histojax.report import TEMPLATES
from histojax.utils import templates

_ROOT = Path(__file__).parents[2]
_RUN = Path("runs/demo-random-weights")  # As histojax demo has it.


def _demo(folder: Path) -> Path:
    """The folder of the demo, which is run where that has not been done."""
    run = folder / _RUN
    if not (run / "predictions" / "predictions.csv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "experiments.demo", f"--out={run}"], cwd=_ROOT, check=True
        )
    return run


def _render(folder: Path, name: str, **values) -> Path:
    """A page from a template beside this file, in the style of the report."""
    style = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    page = folder / name
    page.write_text(templates.render(Path(__file__).parent, name, style=style, **values), "utf-8")
    return page


def pipeline(folder: Path) -> Path:
    """The steps from an image to probabilities."""
    return _render(folder, "pipeline.html", **pipeline_values.values(_demo(folder)))
