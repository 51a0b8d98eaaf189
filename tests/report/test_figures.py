"""Figures as SVG and as files; whether a report has them all: test_write."""

import errno
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from histojax.evaluation import evaluate
from histojax.report import figures
from tests import limits
from tests.report import sample_ensemble


def test_a_figure_of_the_page_takes_its_colours_and_has_ids_of_its_own(tmp_path):
    evaluation = evaluate.evaluate(sample_ensemble.write(tmp_path), draws=50)
    figure = figures.draw_statistics(evaluation.out_of_fold)["roc"]
    text = figures.svg(figure, "figure-roc", 'a "curve" & <more>')
    text = text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    root = ElementTree.fromstring(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(name.startswith("figure-roc-") for name in ids)
    assert root.get("aria-label") == 'a "curve" & <more>'
    assert "var(--blue)" in text
    assert not any(color in text for color in figures.CSS_VARIABLES)
    assert "InSitu + Invasive" in "".join(root.itertext())


def test_a_class_may_be_called_like_mathematics_or_in_letters_that_the_font_lacks(
    tmp_path, shipped_style, monkeypatch
):
    monkeypatch.setattr(figures, "_STYLE", shipped_style)
    names = ("$x^2$ & <y>", "乳腺")
    figure = figures.draw_confusion(np.eye(2, dtype=int), names)
    assert set(names) <= {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert "$x^2$ &amp; &lt;y&gt;" in figures.svg(figure, "figure", "")
    figures.save_all(tmp_path, {"confusion": figure}, "$note$")
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "confusion.pdf"}
    # TrueType fonts, which journals ask for.
    assert b"/FontFile2" in (tmp_path / "confusion.pdf").read_bytes()


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_figure_that_the_disk_has_no_room_for_is_one_error(tmp_path, kind):
    figure = Figure(figsize=(1, 1))
    figure.text(0.1, 0.5, "abcdefghijklm")  # Its font takes more room in the PDF than all else.
    figures.save_all(tmp_path, {"text": figure})
    png, pdf = (tmp_path / f"text.{kind}" for kind in ("png", "pdf"))
    room = png.stat().st_size if kind == "pdf" else 10
    assert room < pdf.stat().st_size
    with limits.file_size(room), pytest.raises(OSError) as raised:
        figures.save_all(tmp_path / "full", {"text": figure})
    path = tmp_path / "full" / f"text.{kind}"
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert not path.exists()
