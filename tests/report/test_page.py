"""The page is right and readable whatever the data are called, and whatever is missing."""

import dataclasses
import html.parser
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histojax.config import Boosting, Extraction
from histojax.evaluation import evaluate
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import compute
from histojax.learners import ensembles
from histojax.report import commands, content, figures
from histojax.report import images as chosen_images
from histojax.report.write import write_report
from tests import samples
from tests.report import made
from tests.running import run

DRAWS = 20
SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br", "input"}


@pytest.fixture(autouse=True)
def page_alone(monkeypatch):
    """No PNG and PDF, which take long: test_report looks at them."""
    monkeypatch.setattr(figures, "save_all", lambda *_: None)


class Page(html.parser.HTMLParser):
    """What a page holds: elements with their attributes, the text of each kind, and whether all are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.text, self.misnested = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(tmp_path, data=None, descriptors=None, positive=(), **how) -> Page:
    """The page of an ensemble, checked for what holds of all."""
    models = made.ensemble(
        tmp_path / "models", configurations=how.pop("configurations", ("VGG-0.5-48",)), **how
    )
    write_report(
        models, tmp_path / "report", positive, data=data, descriptors=descriptors, draws=DRAWS
    )
    found = Page((tmp_path / "report" / "report.html").read_text())
    assert not found.misnested
    assert not found.open
    assert len(found.all("script")) == 1
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [each["href"] for each in found.all("a")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert all(each["aria-controls"] in ids for each in found.all("button"))
    sources = [
        each.get("src", each.get("href", ""))
        for tag in ("img", "link", "use")
        for each in found.all(tag)
    ]
    assert all(not source or source.startswith(("data:", "#")) for source in sources)
    assert len(found.all("caption")) == len(found.all("table"))
    assert all(each.get("scope") in ("row", "col") for each in found.all("th"))
    assert all(each.get("aria-label") for each in found.all("svg"))
    assert "For research, not for diagnosis." in found.text
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", found.text)
    return found


def test_names_that_are_markup_are_text(tmp_path):
    names = [f"a'b\"c&d <i>{i}</i> 乳" for i in range(40)]
    found = page(
        tmp_path,
        names=names,
        classes=(SCRIPT, "$x^2$ & y"),
        count=4,
        right=0.7,
        groups=["<b>"] * 40,
    )
    assert SCRIPT in found.text
    assert "$x^2$ & y" in found.text
    assert names[0] in found.text or names[1] in found.text
    assert not found.all("i")
    assert "alert" not in (tmp_path / "report" / "report.html").read_text().split("<script>")[-1]


def test_nine_classes_of_which_none_counts_as_positive(tmp_path):
    found = page(
        tmp_path,
        names=[f"i{i}" for i in range(90)],
        classes=[f"class {i}" for i in range(9)],
        count=3,
    )
    assert "no class counts as positive" in found.text
    assert not any("ROC" in each["aria-label"] for each in found.all("svg"))
    assert sum("confusion" in each.get("class", "") for each in found.all("table")) == 1


def test_two_classes_of_which_all_images_are_right(tmp_path):
    found = page(
        tmp_path,
        names=[f"i{i}" for i in range(20)],
        classes=("benign", "malignant"),
        count=2,
        right=1.0,
    )
    assert "There are none: all 20 images are classified correctly." in found.text
    assert "No groups are known" in found.text
    assert "There is only one configuration" in found.text
    assert "These models have no test set" in found.text
    assert {"aria-label": "Show 10 images of benign predicted as benign"}.items() <= found.all(
        "button"
    )[0].items()


def test_a_class_that_is_never_the_answer_and_images_of_unknown_group(tmp_path):
    names = [f"i{i}" for i in range(60)]
    found = page(
        tmp_path,
        names=names,
        classes=("a", "b", "c"),
        count=3,
        never=1,
        groups=["", "p"] * 30,
        positive=["c"],
    )
    assert "30 images of unknown group" in found.text
    assert "–" in found.text  # The precision of b.


def test_untrained_encoders_are_said_loudly(tmp_path):
    found = page(
        tmp_path,
        names=[f"i{i}" for i in range(20)],
        classes=("a", "b"),
        count=2,
        source="random, seed 3",
    )
    assert any(each.get("class") == "banner" for each in found.all("div"))
    assert "--weights=random --weights_seed=3" in found.text


def test_descriptors_of_unknown_origin(tmp_path):
    found = page(
        tmp_path, names=[f"i{i}" for i in range(20)], classes=("a", "b"), count=2, source=None
    )
    assert "Nothing is recorded" in found.text
    assert "histojax extract" not in found.text


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Class folders of 14 images, one of them damaged."""
    root = tmp_path_factory.mktemp("images")
    for i in range(14):
        folder = root / ("a", "b")[i // 7]
        folder.mkdir(exist_ok=True)
        Image.fromarray(samples.tissue(i, 120, 150)).save(folder / f"i{i:02d}.png")
    whole = (root / "a" / "i03.png").read_bytes()
    (root / "a" / "i03.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_with_the_images_their_pictures_are_shown_and_what_is_missing_is_said(images, tmp_path):
    store = tmp_path / "descriptors"
    store.mkdir()
    header = "image,scale,tissue_fraction,stain_angle_degrees,max_hematoxylin,max_eosin,status,file_sha256"
    row = "i%02d,0.5,0.4,%s,1.2,0.8,%s,00"
    rows = [row % (i, "30", "ok") for i in range(13)] + [
        row % (13, "", "fallback: too little tissue")
    ]
    (store / "stain_qc.csv").write_text("\n".join([header, *rows]) + "\n")
    names = [f"i{i:02d}" for i in range(7)] + [f"i{i:02d}" for i in range(7, 13)] + ["absent"]
    found = page(
        tmp_path,
        data=images,
        descriptors=store,
        names=names,
        classes=("a", "b"),
        count=2,
        right=0.7,
        source="random, seed 0",
    )
    assert "Missing from --data (1): absent." in found.text
    assert "Unreadable (1): i03." in found.text
    assert "The search for near-duplicates failed:" in found.text
    shown = [each["alt"] for each in found.all("img")]
    assert {name for name in shown if "," not in name} == set(names) - {"absent", "i03"}
    strip = [name for name in shown if name.startswith("i00, ")]
    assert len(strip) == 2 + 4 + 4
    assert strip[0] == "i00, original"
    assert "All 13 normalisations" in found.text


def test_images_that_are_the_same_on_both_sides_of_the_split_stand_side_by_side(tmp_path):
    names = [f"i{i:02d}" for i in range(8)]
    for i, name in enumerate(names):
        folder = tmp_path / "data" / ("a", "b")[i // 4]
        folder.mkdir(parents=True, exist_ok=True)
        rgb = samples.tissue(
            0 if name == "i05" else i, 120, 150
        )  # i05 is i00, under another label.
        Image.fromarray(rgb[::-1] if name == "i05" else rgb).save(folder / f"{name}.png")
    found = page(
        tmp_path, data=tmp_path / "data", names=names, classes=("a", "b"), count=2, right=0.7
    )
    assert "1 pairs of near-duplicate images, 0 of them the same file: 1 in two folds" in found.text
    assert "LABEL CONFLICT" in found.text
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert numbers["duplicates"] == {
        "pairs": 1,
        "same_file": 0,
        "in_two_folds": 1,
        "of_two_classes": 1,
    }
    assert "LEAK, LABEL CONFLICT" in (tmp_path / "report" / "summary.txt").read_text()


def test_what_fell_back_is_listed(tmp_path):
    models = made.ensemble(
        tmp_path,
        names=["x", "y", "z", "w"],
        classes=("a", "b"),
        count=2,
        configurations=("VGG-0.5-48",),
    )
    header = "image,scale,tissue_fraction,stain_angle_degrees,max_hematoxylin,max_eosin,status,file_sha256"
    rows = [
        "x,0.5,0.4,30,1,1,ok,0",
        "y,0.5,0.01,,1,1,fallback: too little tissue,0",
        "other,0.5,0.4,30,1,1,ok,0",
    ]
    (tmp_path / "stain_qc.csv").write_text("\n".join([header, *rows]) + "\n")
    found = content.stain_quality(tmp_path, ensembles.load(models))
    assert found.fallbacks == (("y", "0.5", "fallback: too little tissue"),)
    assert found.is_fallback.tolist() == [False, True]
    np.testing.assert_array_equal(found.measures["stain angle, degrees"], [30, np.nan])


def many(count: int, classes: int) -> LabelledPredictions:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(classes), count)
    names = tuple(f"image {i}" for i in range(count))
    truth = rng.integers(classes, size=count)
    return LabelledPredictions(
        names, tuple("abcdefghi"[:classes]), truth, scores.argmax(axis=1), scores
    )


@pytest.mark.parametrize("classes", [2, 9])
def test_of_many_images_few_are_shown_and_all_are_named_once_the_most_confident_first(classes):
    cases = many(5000, classes)
    found = [cell for row in content.cells(compute(cases, draws=2)) for cell in row]
    shown = [answer for cell in found for answer in cell.answers]
    assert len(shown) <= chosen_images.ALL_CELLS
    assert (
        chosen_images.ALL_CELLS + chosen_images.MISTAKES
    ) * 25_000 < 10_000_000  # Bytes, of the largest thumbnail.
    assert sorted(
        [each.image for each in shown] + [n for cell in found for n in cell.others]
    ) == sorted(cases.names)
    confidence = dict(zip(cases.names, cases.scores.max(axis=1), strict=True))
    for cell in found:
        assert [each.score_of_predicted for each in cell.answers] == sorted(
            (e.score_of_predicted for e in cell.answers), reverse=True
        )
        assert (
            not cell.others
            or max(confidence[n] for n in cell.others) <= cell.answers[-1].score_of_predicted
        )
    first = content.mistakes(cases)[0]
    wrong = cases.truth != cases.predicted
    assert first.score_of_predicted == cases.scores.max(axis=1)[wrong].max()
    assert first.truth != first.predicted


def test_the_command_lines_make_it_again(tmp_path):
    root = tmp_path / "with a blank"
    models = made.ensemble(
        root, configurations=("ResNet-0.5-400", "ResNet-1.0-800", "VGG-0.5-400", "VGG-1.0-800")
    )
    ensemble = ensembles.load(models)
    lines = [
        each.line
        for each in commands.command_lines(ensemble, tmp_path, None, None, ("InSitu",), 0.9)
    ]
    extract, copy, train, judged = (shlex.split(line) for line in lines)
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in extract[2:])
    assert (flags["encoders"], flags["views"], flags["data"]) == (
        "ResNet,VGG",
        "0.5-400,1.0-800",
        "DATA",
    )
    assert {
        "augmentations": "50",
        "crops": "20",
        "p": "3.0",
        "weights": "imagenet",
    }.items() <= flags.items()
    assert set(flags) - {"data", "descriptors"} <= {
        field.name for field in dataclasses.fields(Extraction)
    }
    assert str(root / "folds.csv") in copy
    boosting = {
        f"--{name}={value}" for name, value in dataclasses.asdict(Boosting(seeds=2)).items()
    }
    assert boosting <= set(train)
    assert {f"--models={root}", "--positive_classes=InSitu", "--sensitivity=0.9"} <= set(judged)


def test_the_script_takes_the_flags_that_the_page_names():
    told = run("evaluate", "--help").stdout
    assert all(
        f"--{flag}:" in told for flag in ("models", "report", "data", "descriptors", "sensitivity")
    )


def test_an_evaluation_without_jax_says_why_it_has_no_pipeline(images, tmp_path, monkeypatch):
    models = made.ensemble(
        tmp_path, [f"i{i:02d}" for i in range(14)], ("a", "b"), 2, configurations=("VGG-0.5-48",)
    )
    monkeypatch.setitem(sys.modules, "jax.numpy", None)
    found = chosen_images.collect(evaluate.evaluate(models, draws=2), images)
    assert not found.pipelines
    assert any("jax" in line for line in found.notices)
    assert found.thumbnails
