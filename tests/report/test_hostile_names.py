"""Names of images, classes, groups and runs are text in every page, and run nothing."""

import base64
import dataclasses
import datetime
import hashlib
import re
import subprocess
from pathlib import Path

import numpy as np

from histojax.heatmap import page as map_page
from histojax.model import Predictions
from histojax.report import TEMPLATES, comparisons, figures, sections
from histojax.report.write import write_report
from tests.heatmap import tiny
from tests.report import sample_ensemble
from tests.report.test_comparisons import runs_of
from tests.report.test_page import Page

ROOT = Path(__file__).parents[2]
NAMES = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"'><svg onload=alert(3)>",
    r"$\frac{1}{0} {{ 7 * 7 }} --><b>&lt;",
)


def read(text: str) -> Page:
    """A page, in which nothing of the names has become markup and only its own script may run."""
    page = Page(text)
    assert not page.open
    assert not page.misnested
    assert not any(attributes.get("src") == "x" for attributes in page.all("img"))
    assert not any(name.startswith("on") for _, held in page.elements for name in held)
    scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    assert len(page.all("script")) == len(scripts) <= 1
    assert not any("alert" in script for script in scripts)
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests] or ["'none'"]
    assert rules["script-src"].split() == allowed
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    return page


def test_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save_all", lambda *_: None)
    names = [f"{NAMES[i % 4]}{i}" for i in range(24)]
    models = sample_ensemble.write(
        *(tmp_path / "models", names, NAMES, 2),
        groups=[NAMES[i % 4] + str(i // 2) for i in range(24)],
        configurations=("VGG-0.5-48",),
        accuracy=0.4,
    )
    write_report(models, tmp_path / "report", (NAMES[0],), draws=20)
    page = read((tmp_path / "report" / "report.html").read_text())
    for name in NAMES:
        assert name in page.text
        assert name in (tmp_path / "report" / "summary.txt").read_text()


def test_other_pages(tmp_path):
    runs = runs_of(dict.fromkeys(NAMES, 0.3), n=12)
    assert NAMES[0] in comparisons.write(tmp_path, runs, dict.fromkeys(NAMES), draws=20)
    table = sections.Table(NAMES[0], NAMES, ((NAMES[0], [sections.Cell(name) for name in NAMES]),))
    path = tmp_path / "sections.html"
    sections.write_page(
        path, NAMES[0], NAMES, [sections.Section(NAMES[1], NAMES, (table,))], NAMES[2]
    )
    assert all(name in read(path.read_text()).text for name in NAMES)
    score = np.linspace(0, 1, 12).reshape(3, 4)
    heatmap = dataclasses.replace(
        tiny.map_of(score, classes=NAMES[:2]), name=NAMES[1], positive_reason=NAMES[3]
    )
    page = read(map_page.render(heatmap, True, datetime.datetime(2026, 1, 2)))
    assert all(name in page.text for name in (NAMES[0], NAMES[1], NAMES[3]))
    prediction = dataclasses.replace(
        tiny.prediction(NAMES[1]), image=NAMES[0], predicted=NAMES[2], prediction_set=NAMES
    )
    held = Page(Predictions([prediction])._repr_html_())
    assert not held.all("script") + held.all("img") + held.all("svg")
    assert all(name in held.text for name in NAMES)


def test_markup_that_is_not_escaped_is_made_of_figures_alone():
    """Everything else that a page is given is escaped: `utils.templates` does so by default."""
    found = subprocess.run(
        ["grep", "-rnE", r"Markup\(|\|\s*safe\b|autoescape", "histojax", "experiments"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line for line in found.splitlines() if ".py:" in line or ".html:" in line]
    places = {line.partition(":")[0] for line in lines if "figures.svg(" not in line}
    assert places == {"histojax/utils/templates.py"}
    assert len(lines) == 4


def test_every_page_has_the_policy():
    """All templates are made of base.html, but for those that are part of another page."""
    parts = {"base.html", "parts.html", "predictions.html", "sites.html"}
    for path in set(TEMPLATES.glob("*.html")) - {TEMPLATES / name for name in parts}:
        assert path.read_text().startswith('{% extends "base.html" %}'), path.name
