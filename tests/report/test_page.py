"""The page is right and readable whatever the data are called, and whatever is missing."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histojax.report import figures
from histojax.report.write import write_report
from histojax.utils import files
from tests import samples
from tests.report import sample_ensemble

DRAWS = 20
SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br", "input"}
TWENTY = [f"i{i}" for i in range(20)]


@pytest.fixture(autouse=True)
def page_alone(monkeypatch):
    """No PNG and PDF, which take long: test_write looks at them."""
    monkeypatch.setattr(figures, "save_all", lambda *_: None)


class Page(html.parser.HTMLParser):
    """A parsed page.

    Attributes:
      elements: (tag, attributes) in order.
      open: tags that are not closed.
      misnested: tags that are closed out of order.
      text: without scripts and styles.
    """

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.misnested, self.text = [], [], [], ""
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
        """The attributes of all elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(tmp_path, data=None, descriptors=None, positive=None, **ensemble) -> Page:
    """The page of an ensemble, checked for what holds of every page."""
    if positive is None and "classes" not in ensemble:
        positive = ("b",)
    ensemble = {"configurations": ("VGG-0.5-48",), "count": 2, "classes": ("a", "b")} | ensemble
    models = sample_ensemble.write(tmp_path / "models", **ensemble)
    out = tmp_path / "report"
    write_report(models, out, positive or (), data=data, descriptors=descriptors, draws=DRAWS)
    page = Page((out / "report.html").read_text())
    assert not page.misnested
    assert not page.open
    assert len(page.all("script")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert all(attributes["aria-controls"] in ids for attributes in page.all("button"))
    for attributes in page.all("img") + page.all("link") + page.all("use"):
        source = attributes.get("src", attributes.get("href", ""))
        assert not source or source.startswith(("data:", "#"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    assert "For research, not for diagnosis." in page.text
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)
    return page


def test_names_that_are_markup_are_text(tmp_path):
    names = [f"a'b\"c&d <i>{i}</i> 乳" for i in range(40)]
    classes = (SCRIPT, "$x^2$ & y")
    page = page_of(
        tmp_path,
        positive=[SCRIPT],
        names=names,
        classes=classes,
        count=4,
        accuracy=0.7,
        groups=["<b>"] * 40,
    )
    assert SCRIPT in page.text
    assert "$x^2$ & y" in page.text
    assert names[0] in page.text or names[1] in page.text
    assert not page.all("i")
    assert "alert" not in (tmp_path / "report" / "report.html").read_text().split("<script>")[-1]


def test_nine_classes_of_which_none_counts_as_positive(tmp_path):
    classes = [f"class {i}" for i in range(9)]
    page = page_of(tmp_path, names=[f"i{i}" for i in range(90)], classes=classes, count=3)
    assert "No positive class: the names class 0" in page.text
    assert not any("ROC" in attributes["aria-label"] for attributes in page.all("svg"))
    matrices = [table for table in page.all("table") if "confusion" in table.get("class", "")]
    assert len(matrices) == 1


def test_two_classes_with_all_images_classified_correctly(tmp_path):
    page = page_of(tmp_path, names=TWENTY, classes=("benign", "malignant"), accuracy=1.0)
    assert "All 20 images are classified correctly." in page.text
    assert page.text.count("No groups (patients or slides) are known") == 1
    assert "malignant: ROC AUC" in page.text
    assert "arcinoma" not in page.text
    label = "Show 10 images of benign predicted as benign"
    assert page.all("button")[0]["aria-label"] == label


def test_sections_without_content_are_left_out_and_so_are_their_places_in_the_contents(tmp_path):
    page = page_of(tmp_path, names=TWENTY, accuracy=1.0, positive=["b"])
    sections = [attributes["id"] for attributes in page.all("section") if "id" in attributes]
    expected = ["statistics", "table1", "roc", "confusion", "calibration", "ablation", "leakage"]
    expected += ["protocol", "again"]
    assert [name for name in sections if not name.startswith("cell-")] == expected
    assert [attributes["href"] for attributes in page.all("a")] == [f"#{name}" for name in expected]
    assert not any("configurations" in attributes["aria-label"] for attributes in page.all("svg"))


def test_two_classes_are_not_told_twice(tmp_path):
    classes = ("benign", "malignant")
    page = page_of(tmp_path, names=TWENTY, classes=classes, accuracy=0.7, positive=["malignant"])
    statistics = page.text.split("All images")[1].split("Accuracy by fold")[0]
    rows = ("Accuracy", "Balanced accuracy", "Macro F1", "Cohen's kappa", "malignant: ROC AUC")
    rows += ("Precision", "predicted class is positive", "score of at least 0.33")
    assert all(statistics.count(row) == 1 for row in rows)
    repeated = ("Quadratic", "one-vs-rest", "against the rest", "malignant: accuracy", "Log-loss")
    repeated += ("Sensitivity", "Specificity", "score of at least 0.50")
    assert not any(row in statistics for row in repeated)
    assert page.text.count("Log-loss") == 1  # Before and after calibration, in one table.
    text = (tmp_path / "report" / "summary.txt").read_text()
    assert "Quadratic" not in text
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert "quadratic_kappa" in {row["metric"] for row in numbers["figures"]}


def test_the_first_paragraph_says_what_the_numbers_allow(tmp_path):
    names, groups = [f"i{i}" for i in range(16)], [f"p{i // 4}" for i in range(16)]
    ensemble = {"names": names, "groups": groups, "accuracy": 0.6, "source": "random, seed 0"}
    page = page_of(tmp_path, positive=["b"], **ensemble)
    (first,) = (a for tag, a in page.elements if tag == "p" and "bad" in a.get("class", ""))
    assert first["class"] == "verdict bad"
    assert page.text.index("With 16 images of 4 groups") < page.text.index("16 images of 2 classes")
    assert page.text.count("this does not show that the models work") == 1
    # The banner says it already.
    assert "The encoders are untrained" not in page.text
    assert "It has no band: there are too few groups for one." in page.text
    assert "95 % band" not in page.text
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    verdict = numbers["verdict"]
    assert verdict["better_than_chance"] is False
    abouts = [finding["about"] for finding in verdict["findings"]]
    assert abouts[:2] == ["untrained", "evidence"]
    text = (tmp_path / "report" / "summary.txt").read_text()
    lines = [finding["text"] for finding in verdict["findings"]]
    assert text.splitlines()[: len(lines)] == lines
    assert numbers["chance"]["exact"]
    assert numbers["growth"] == {"models": 4, "constant": 0, "cause": "", "remedy": ""}
    assert numbers["roc"]["low"] == [None] * 101


def test_a_class_that_is_never_the_answer_and_images_of_unknown_group(tmp_path):
    names, groups = [f"i{i}" for i in range(60)], ["", "p"] * 30
    classes = ("a", "b", "c")
    page = page_of(
        tmp_path, names=names, classes=classes, count=3, never=1, groups=groups, positive=["c"]
    )
    assert "30 images of unknown group" in page.text
    assert "–" in page.text  # The precision of b.


def test_a_banner_warns_of_untrained_encoders(tmp_path):
    page = page_of(tmp_path, names=TWENTY, source="random, seed 3")
    assert any(attributes.get("class") == "banner" for attributes in page.all("div"))
    assert "--weights=random --weights_seed=3" in page.text


def test_descriptors_of_unknown_origin(tmp_path):
    page = page_of(tmp_path, names=TWENTY, source=None)
    assert "Nothing is recorded" in page.text
    assert "histojax extract" not in page.text


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


def test_images_are_shown_and_missing_ones_are_named(images, tmp_path):
    header = "image,scale,tissue_fraction,stain_angle_degrees,max_hematoxylin,max_eosin,status"
    rows = [f"i{i:02d},0.5,0.4,30,1.2,0.8,ok,00" for i in range(13)]
    rows.append("i13,0.5,0.4,,1.2,0.8,fallback: too little tissue,00")  # Not in the ensemble.
    (tmp_path / "stain_qc.csv").write_text("\n".join([f"{header},file_sha256", *rows]) + "\n")
    names = [*(f"i{i:02d}" for i in range(13)), "absent"]
    page = page_of(tmp_path, images, tmp_path, names=names, accuracy=0.7, source="random, seed 0")
    assert "Missing from --data (1): absent." in page.text
    assert "Unreadable (1): i03." in page.text
    assert "The search for near-duplicates failed:" in page.text
    shown = [attributes["alt"] for attributes in page.all("img")]
    assert {name for name in shown if "," not in name} == set(names) - {"absent", "i03"}
    steps = [name for name in shown if name.startswith("i00, ")]
    assert len(steps) == 2 + 4 + 4
    assert steps[0] == "i00, original"
    assert "All 13 normalisations" in page.text


def picture(uri: str) -> np.ndarray:
    """The grey levels of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"))


def test_near_duplicates_in_two_folds_stand_side_by_side(tmp_path):
    names = [f"i{i:02d}" for i in range(8)]
    for i, name in enumerate(names):
        folder = tmp_path / "data" / ("a", "b")[i // 4]
        folder.mkdir(parents=True, exist_ok=True)
        # i05 is i00 upside down, with another label.
        rgb = samples.tissue(0, 120, 150)[::-1] if i == 5 else samples.tissue(i, 120, 150)
        Image.fromarray(rgb).save(folder / f"{name}.png")
    page = page_of(tmp_path, tmp_path / "data", names=names, accuracy=0.7)
    said = "1 pair of copies of one image, 0 of them the same file (2 images): 1 pair in two folds"
    assert said in page.text
    assert "LABEL CONFLICT" in page.text
    shown = [image for image in page.all("img") if "," not in image["alt"]][-2:]
    pictures = {image["alt"]: picture(image["src"]) for image in shown}
    assert [*pictures] == ["i00", "i05"]
    one, other = (pixels[10:-10, 10:-10].ravel() for pixels in pictures.values())
    assert np.corrcoef(one, other)[0, 1] > 0.9  # It was laid on the first.
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    expected = {"pairs": 1, "same_file": 0, "in_two_folds": 1, "of_two_classes": 1, "overlaps": 0}
    assert numbers["duplicates"].items() >= expected.items()
    text = (tmp_path / "report" / "summary.txt").read_text()
    assert "LEAK, LABEL CONFLICT" in text
    said = (
        "In 1 pair of images that are copies or overlap, one is trained on while the other is "
        "predicted: "
    )
    assert page.text.index(said) < page.text.index("8 images of 2 classes, evaluated in")
    assert text.index(said) < text.index("accuracy")
    assert "duplicates" in {finding["about"] for finding in numbers["verdict"]["findings"]}


def test_the_report_says_how_far_descriptors_are_from_exact_crops(tmp_path):
    models = sample_ensemble.write(tmp_path / "models", names=TWENTY, count=2)
    for path in models.glob("*/manifest.json"):
        manifest = files.read_json(path, ["extraction"])
        manifest["extraction"]["protocol"]["crop_mode"] = "hybrid"
        tap = {"largest_error": 0.021, "mean_error": 0.01, "between_augmentations": 0.2}
        manifest["extraction"]["crop_error"] = {"images": 3, "taps": {"block5_conv3": tap}}
        files.write_json(path, manifest)
    told = "rop mode hybrid: descriptors within 2.1 % of exact crops (the worst tap of 3 images)"
    assert f"\nc{told}" in write_report(models, tmp_path / "report", draws=DRAWS)
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert f"C{told}" in page.text
    assert "crop_error" not in page.text
