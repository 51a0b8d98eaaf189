"""The pages that the pictures show, written below a folder with the run that is behind them."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from markupsafe import Markup

from docs.pictures import pipeline as pipeline_values
from docs.pictures import terminal as terminal_record
from docs.pictures import tissue
from histojax.report import TEMPLATES
from histojax.utils import templates

_HERE = Path(__file__).parent
_MINE = (
    "histojax mine images new --weights=random --encoders=VGG --views=0.5-96,0.5-160 "
    "--augmentations=2 --crops=5 --sensitivity=0.9"
)
_INSPECT = "histojax inspect_data --data=faulty --run=runs/faulty"
_EVALUATE = "histojax evaluate --data=images --run=runs/mine --sensitivity=0.9"
_MAP = "histojax heatmap --images=new/field.png --run=runs/mine"


def _run(command: str, folder: Path) -> bytes:
    """What a command of histojax writes on a terminal."""
    _, script, *arguments = shlex.split(command)
    environment = os.environ | {"PYTHONPATH": str(_HERE.parents[1])}
    module = [sys.executable, "-m", f"experiments.{script}", *arguments]
    return terminal_record.record(module, folder, environment)


def _mined(folder: Path) -> Path:
    """The run behind the pictures, made where it is not there; and what its terminal showed."""
    run, record = folder / "runs" / "mine", folder / "terminal.txt"
    if not record.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tissue.write_labelled(folder / "images")
        tissue.write_new(folder / "new")
        record.write_bytes(_run(_MINE, folder))
    return run


def _render(folder: Path, name: str, **values) -> Path:
    """A page from a template beside this file, in the style of the report."""
    style = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    page = folder / name
    page.write_text(templates.render(_HERE, name, style=style, **values), "utf-8")
    return page


def pipeline(folder: Path) -> Path:
    """The steps from an image to probabilities."""
    run = _mined(folder)
    values = pipeline_values.values(
        folder / "new" / "tissue.png", run / "predictions" / "predictions.csv"
    )
    return _render(folder, "pipeline.html", **values)


def report(folder: Path) -> Path:
    """The report, written anew."""
    run = _mined(folder)
    _run(_EVALUATE, folder)
    return run / "report" / "report.html"


def heatmap(folder: Path) -> Path:
    """The map of a field, made anew."""
    maps = _mined(folder) / "heatmaps" / "field"
    shutil.rmtree(maps, ignore_errors=True)
    _run(_MAP, folder)
    return maps / "overview.html"


def inspection(folder: Path) -> Path:
    """The inspection of images of which some have a fault."""
    _mined(folder)
    if not (folder / "faulty").exists():
        tissue.write_faulty(folder / "faulty")
    _run(_INSPECT, folder)
    return folder / "runs" / "faulty" / "inspection" / "inspection.html"


def terminal(folder: Path) -> Path:
    """The terminal while the bundle is made."""
    _mined(folder)
    written = (folder / "terminal.txt").read_bytes().decode()
    lines = terminal_record.screen(written, "] 36/48 images")
    return _render(folder, "terminal.html", command=_MINE, lines=lines)
