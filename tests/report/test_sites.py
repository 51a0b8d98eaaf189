"""A report answers the three questions on site and batch, and says what is missing."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments.measuring import site_tests
from histojax.datasets import sites
from histojax.errors import InputError
from histojax.evaluation import site_study
from histojax.evaluation.verdict import SITE
from histojax.extraction import store
from histojax.learners import ensembles
from histojax.report import TEMPLATES
from histojax.report import sites as said
from histojax.report.write import write_report
from histojax.utils import templates
from tests.report import sample_ensemble


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two columns: a site that the class goes with, and a day that it does not."""
    drawn = site_tests.draw(np.random.default_rng(1), in_descriptors=2, patients=15)
    split = dataclasses.replace(drawn.split, labels=(drawn.site > 0).astype(int))
    place = tmp_path_factory.mktemp("study")
    for name, row in zip(split.names, drawn.descriptors, strict=True):
        store.write(place, "VGG-1.0-32", name, row[None])
    day = ["", *np.where(drawn.group % 2, "<b>x</b>", "y")[1:]]
    of = sites.by_name(split.names, {"site": tuple(drawn.sites.tolist()), "day": tuple(day)})
    return site_study.study(split, of, place, ["VGG-1.0-32"], 40)


def test_the_text_answers_the_questions_of_each_column(study):
    text = "\n".join(said.text_lines(study))
    assert "site and batch:\n  Each value of site has images of one class alone: nothing" in text
    assert "Linear heads fitted to all other groups tell site with a balanced accuracy of" in text
    assert "descriptors know it. As the class goes with it, they may know it through" in text
    assert "cannot be computed for benign, found at one value alone (Cramér's V 1.00, by" in text
    assert "Without site0: no other site has images of benign." in text
    assert "The class does not go with day beyond chance (Cramér's V 0." in text
    assert "1 image of unknown day left out of all this." in text
    assert "With whole values of day left out, linear heads have an accuracy of" in text
    assert "Of 2 columns, the class is said to go with one, and descriptors to know one, wh" in text
    assert "day y: benign " in text


def test_what_is_doubtful_is_told_of_the_column_that_the_class_goes_with(study):
    doubt = site_study.doubt(study.columns)
    assert doubt.startswith("Each value of site has images of one class alone")
    assert "Descriptors tell site (balanced accuracy" in doubt
    assert "day" not in doubt


def test_the_page_escapes_names_and_has_a_row_for_each_site(study, tmp_path):
    template = "{% from 'sites.html' import sites_of %}{{ sites_of(study, sites) }}"
    for path in TEMPLATES.glob("*.html"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "here.html").write_text(template)
    page = templates.render(tmp_path, "here.html", study=study, sites=said)
    assert page.count("<tr><th") == 2 + 3 + 2
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert "cannot be computed: no other site has images of benign" in page


def test_every_number_is_ready_for_json(study):
    site, day = json.loads(json.dumps(said.as_dict(study)))["columns"]
    assert (site["confounded"], site["each_site_has_one_class"]) == (True, True)
    assert (day["confounded"], day["each_site_has_one_class"]) == (False, False)
    assert np.shape(site["association"]["counts"]) == (3, 2)
    assert 0 <= site["telling"]["by_chance"] < site["telling"]["accuracy"]["value"] <= 1
    assert [row["left_out"] for row in site["left_out"]["rows"]][0] is None
    change = day["left_out"]["change"]
    assert change["interval"]["low"] < change["value"] < change["interval"]["high"]


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    """Eighteen images of two classes; the scanner is nearly the class, the day is not."""
    place = shutil.copytree(trained / "models", tmp_path_factory.mktemp("sites") / "models")
    split = ensembles.load(place).folds
    scanner = np.where(split.labels == 1, "B", "A")
    scanner[np.flatnonzero(split.labels == 1)[0]] = "A"
    day = tuple("xy"[i % 2] for i in range(len(split.names)))
    sites.save(split.names, {"scanner": tuple(scanner), "day": day}, place)
    return place


@pytest.mark.slow
def test_a_report_has_one_section_and_a_verdict_of_it(models, trained, tmp_path):
    text = write_report(models, tmp_path, descriptors=trained / "descriptors", draws=30)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<section id="sites">') == 1
    assert 'class="verdict bad"' in page
    assert "scanner A: benign 9, malignant 1; accuracy" in text
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    (finding,) = [of for of in numbers["verdict"]["findings"] if of["about"] == SITE]
    assert finding["text"].startswith("The class goes with scanner (Cramér's V 0.89")
    assert finding["text"] in text.split("\n\n")[0]


@pytest.mark.slow
def test_columns_of_the_data_are_taken_where_they_are_asked_for(models, trained, tmp_path):
    images = sorted((trained / "images").glob("*/*.png"))
    with open(tmp_path / "t.csv", "w", newline="") as file:
        rows = [(str(path), path.parent.name, "LR"[i % 2]) for i, path in enumerate(images)]
        csv.writer(file).writerows([("image", "label", "lab"), *rows])
    text = write_report(
        models, tmp_path / "out", draws=2, data=tmp_path / "t.csv", site_columns=["lab"]
    )
    assert "The class does not go with lab" in text
    assert "scanner" not in text


def test_columns_of_no_data_are_refused(tmp_path):
    names = [f"i{i}" for i in range(8)]
    models = sample_ensemble.write(tmp_path / "models", names, ("a", "b"), 2, accuracy=1)
    with pytest.raises(InputError, match="--site_columns=lab are of --data: pass it"):
        write_report(models, tmp_path, draws=2, site_columns=["lab"])
