"""The report of an inspection: text, numbers, a row for each image, and an inert page."""

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from PIL import Image

from histojax.config import Extraction, View
from histojax.inspection import inspection
from histojax.report import inspection as pages
from tests import running, samples
from tests.test_browser import CONTRASTS, LEAST_CONTRAST, OVERFLOWING, browser  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_copies")

EXTRACTION = Extraction(views=(View(0.5, 48),))
MARKUP = "<img src=x onerror=alert(1)> & 'q'"
LONG = "a_class_with_a_long_name_that_has_no_blank_to_break_at_and_goes_on"


@pytest.fixture(scope="module")
def inspected(tmp_path_factory, small_copies) -> inspection.Inspection:
    """Two classes of four with hostile names; an unreadable, a blank and a duplicate image."""
    root = tmp_path_factory.mktemp("inspected") / "<b>data & more"
    for i in range(8):
        folder = root / (LONG if i % 2 else "<script>alert(1)<script>")
        folder.mkdir(parents=True, exist_ok=True)
        rgb = np.full((130, 140, 3), 245, np.uint8) if i == 1 else samples.tissue(i, 130, 140)
        Image.fromarray(rgb).save(folder / f"{i} {MARKUP}.png")
    (folder / "7 broken.png").write_bytes(b"")
    Image.fromarray(samples.tissue(7, 130, 140)).save(folder / "8 again.png")
    return inspection.inspect(root, EXTRACTION, inspection.Options(folds=3))


@pytest.fixture(scope="module")
def out(inspected, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    pages.write(folder, inspected)
    return folder


def test_text_has_what_is_there_then_findings_then_what_to_do(inspected):
    text = pages.text(inspected)
    parts = [
        "10 images of 2 classes; 3 problems, 1 note",
        "sizes: 140 x 130 px (9), unknown (1)",
        "PROBLEM: 1 image cannot be used",
        "7 broken.png: is no TIFF",
        "PROBLEM: 1 pair (2 images) of copies of one image: in two folds, one is trained on while",
        "PROBLEM: 1 image with hardly any tissue",
        "recommended:",
        "Take out the 1 image that cannot be used first",
        "--folds=3 --group_copies",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_unreadable_files_are_all_listed_and_others_are_cut(inspected):
    details = tuple(f"image {i}" for i in range(30))
    for kind, shown in (("unreadable", 30), ("crop", pages.TEXT_DETAILS)):
        finding = pages.Finding("problem", kind, "says", details)
        text = pages.text(dataclasses.replace(inspected, findings=(finding,)))
        assert text.count("    image ") == shown
        assert ("and 20 more" in text) == (kind == "crop")


def test_numbers_and_rows_say_the_same(inspected, out):
    numbers = json.loads((out / pages.NUMBERS).read_text())
    with (out / pages.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(pages.COLUMNS)
    assert numbers["images"] == len(rows) == 10
    assert numbers["usable"] == sum(int(row["usable"]) for row in rows) == 9
    assert numbers["classes"] == {"<script>alert(1)<script>": 4, LONG: 6}
    for finding in numbers["findings"]:
        assert {
            row["image"] for row in rows if finding["kind"] in row["findings"].split(";")
        } == set(finding["images"])
    (blank,) = [row for row in rows if "blank" in row["findings"]]
    assert (blank["tissue_fraction"], blank["stain_status"]) == (
        "0.0000",
        "fallback: too little tissue",
    )
    assert (blank["white_r"], blank["absorbed_r"], blank["stain_angle_degrees"]) == ("245", "", "")
    (broken,) = [row for row in rows if row["usable"] == "0"]
    assert "is no TIFF" in broken["cause"]
    assert broken["file_sha256"] == broken["width"] == ""
    assert numbers["suggestion"]["commands"] == list(inspected.commands)
    assert numbers["sizes"] == {"140 x 130 px": 9, "unknown": 1}


def test_the_page_carries_everything_and_runs_nothing(out):
    page = (out / pages.PAGE).read_text()
    assert "<b>data" not in page
    assert "<img src=x" not in page
    assert page.count("<script>") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count('<li class="problem">') == 4
    assert "&amp; more&#39;</span>" in page  # Commands can be copied: the folder's name is quoted.


def test_problem_images_come_first(inspected):
    for shown, more in pages.contact_sheet(inspected).values():
        marked = [image.severity == "problem" for image in shown]
        assert marked == sorted(marked, reverse=True)
        assert more == 0


def test_thousands_of_images_make_no_huge_page(inspected):
    times = 300
    subject = inspected.image_set
    many = dataclasses.replace(
        subject,
        names=subject.names * times,
        images=subject.images * times,
        labels=subject.labels * times,
    )
    everything = tuple(many.measured())
    finding = pages.Finding("note", "colour", "says", tuple(map(str, everything)), everything)
    large = dataclasses.replace(inspected, image_set=many, findings=(finding,))
    sheet = pages.contact_sheet(large)
    assert sum(len(shown) for shown, _ in sheet.values()) == pages.CONTACT_SHEET
    assert sum(more for _, more in sheet.values()) == 10 * times - pages.CONTACT_SHEET
    page = pages.page(large, pages.datetime.datetime(2026, 1, 2))
    assert "240 of them shown" in page
    assert f"and {9 * times - pages.PAGE_DETAILS} more" in page
    assert page.count("<img") <= pages.CONTACT_SHEET + pages.FINDING_IMAGES
    assert len(page) < 8e6


def test_no_finding_and_no_usable_image(inspected):
    assert "no problem was found" in pages.text(dataclasses.replace(inspected, findings=()))
    nothing = dataclasses.replace(inspected, recommendation=None, commands=())
    assert "recommended" not in pages.text(nothing)
    assert "no image can be used" in pages.page(nothing, pages.datetime.datetime(2026, 1, 2))
    assert pages.numbers(nothing)["suggestion"] is None


@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser_there_are_no_errors_and_nothing_overflows(browser, out, width):  # noqa: F811
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, messages, requests = context.new_page(), [], []
        page.on("console", lambda message, log=messages: log.append(message.text))
        page.on("pageerror", lambda error, log=messages: log.append(str(error)))
        page.on("dialog", lambda dialog, log=messages: (log.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request, log=requests: log.append(request.url))
        page.goto((out / pages.PAGE).as_uri())
        page.locator("details").evaluate_all("(all) => all.forEach((node) => (node.open = true))")
        assert messages == []
        assert [url for url in requests if not url.startswith("data:")] == [page.url]
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert page.evaluate(OVERFLOWING) == []
        assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < LEAST_CONTRAST] == []
        assert page.evaluate(
            "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        )
        context.close()


@pytest.fixture
def run():
    """run(*arguments): the script in this process, without its change of the log level."""
    level = logging.get_verbosity()
    yield lambda *arguments: running.run("inspect_data", *arguments)
    logging.set_verbosity(level)


def test_the_script_takes_a_folder_without_a_flag(run, inspected, tmp_path):
    done = run(inspected.place, f"--out={tmp_path}/out", "--views=0.5-48", "--folds=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(pages.text(inspected))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "inspection.html",
        "inspection.json",
        "images.csv",
    }


def test_without_a_folder_to_write_to_it_prints_alone(run, inspected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(f"--data={inspected.place}", "--views=0.5-48", "--folds=3")
    assert (done.returncode, done.stdout) == (0, pages.text(inspected))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}"], "{empty} holds no image"),
        ([], "name what to inspect"),
        (["{empty}", "--tfds=bach"], "pass --data or --tfds, not both"),
        (["{empty}", "more"], "unexpected argument 'more'"),
        (["{empty}", "--out={empty}/out"], "lies inside --data={empty}"),
    ],
)
def test_the_script_refuses(run, tmp_path, arguments, message):
    done = run(*(argument.format(empty=tmp_path) for argument in arguments))
    assert done.returncode == 1
    assert message.format(empty=tmp_path) in done.stderr
