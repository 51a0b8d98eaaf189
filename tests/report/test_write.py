"""The files of a report are complete and agree; published rows stand only beside BACH's."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from histojax.datasets import kather, sites
from histojax.errors import InputError
from histojax.evaluation import evaluate
from histojax.learners import ensembles
from histojax.report import write
from histojax.report.write import write_report
from tests import made_kather
from tests.report import sample_ensemble

DRAWS = 50


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bach(tmp_path_factory):
    """(models, report, summary) of BACH's names, with some groups known, and a test set."""
    root = tmp_path_factory.mktemp("bach")
    groups = ["" if i % 3 else f"p{i % 37}" for i in range(400)]
    models = sample_ensemble.write(root / "models", groups=groups, test=24)
    of_class = tuple("AABC"[i // 100] for i in range(400))
    sites.save(sample_ensemble.BACH_NAMES, {"scanner": of_class}, models)
    return models, root / "report", write_report(models, root / "report", draws=DRAWS)


def test_on_bach_the_published_rows_stand_below_ours(bach):
    _, out, text = bach
    expected = ["  published ResNet-400", "  published Model fusion", "ROC AUC 0.973"]
    expected += ["Carcinoma ROC AUC", "VGG-1.0-800", "test set:"]
    assert all(line in text for line in expected)
    assert "published VGG" not in text
    rows = {row["model"]: row for row in rows_of(out / "tables" / "table1.csv")}
    assert list(rows)[:2] == ["ResNet-400", "published ResNet-400"]
    fusion = rows["published Model fusion"]
    assert (fusion["mean"], fusion["std"]) == ("87.2", "2.6")
    page = (out / "report.html").read_text()
    assert "published ResNet-400" in page
    assert "96.5 / 88.0 %" in page


def test_without_descriptors_the_classes_of_sites_are_told_and_what_is_missing(bach):
    _, out, text = bach
    page = (out / "report.html").read_text()
    section = text[text.index("site and batch:") :]
    assert section.startswith("site and batch:\n  The class goes with scanner (Cramér's V ")
    assert "scanner B: Normal 0, Benign 0, InSitu 100, Invasive 0" in section
    assert "was not computed: pass --descriptors, the folder of the images' descriptors" in section
    assert page.count('<section id="sites">') == 1
    assert "The class goes with scanner" in text.split("\n\n")[0]
    assert json.loads((out / "metrics.json").read_text())["sites"]["columns"][0]["telling"] is None


def test_a_row_is_the_mean_over_seeds_and_its_deviation_is_over_seeds_and_folds(bach):
    models, out, _ = bach
    ensemble = ensembles.load(models)
    folds, labels = ensemble.folds.folds, ensemble.folds.labels
    scores = ensembles.out_of_fold(ensemble, "ResNet-0.5-400").mean(axis=2)
    correct = 100 * (scores.argmax(axis=-1) == labels)
    by_fold = np.array([seed[folds == fold].mean() for seed in correct for fold in range(10)])
    by_fold = by_fold.reshape(-1, 10)
    row = rows_of(out / "tables" / "table1.csv")[0]
    assert row["f3"] == f"{by_fold[:, 2].mean():.1f}"
    assert row["mean"] == f"{by_fold.mean():.1f}"
    assert row["std"] == f"{by_fold.std():.1f}"


def test_every_number_is_in_metrics_json(bach):
    models, out, _ = bach

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    numbers = json.loads((out / "metrics.json").read_text(), parse_constant=refuse)
    evaluation = evaluate.evaluate(models, draws=DRAWS)
    assert numbers["accuracy"] == evaluation.out_of_fold.value("accuracy")
    rows = {(row["metric"], row["of"]): row for row in numbers["figures"]}
    assert set(evaluation.out_of_fold.estimates) <= set(rows)
    row = rows["sensitivity", "InSitu"]
    assert row["value"] == evaluation.out_of_fold.value("sensitivity", "InSitu")
    assert row["resampled"] == "groups"
    assert len(row["by_fold"]) == 10
    assert row["mean"] == pytest.approx(np.mean(row["by_fold"]))
    assert np.sum(numbers["confusion"]) == 400
    assert numbers["test"]["images"] == 24
    assert set(numbers["curves"]) == {"augmentations", "seeds", "configurations", "folds"}
    assert len(numbers["without"]) == 2
    assert numbers["audit"]["sharing"] > 0


def test_every_table_is_a_csv_that_agrees_with_the_numbers(bach):
    _, out, _ = bach
    numbers = json.loads((out / "metrics.json").read_text())
    tables = {path.stem: rows_of(path) for path in (out / "tables").iterdir()}
    names = "table1 statistics test_statistics out_of_fold confusion mistakes curves without_each"
    assert set(tables) == {*names.split(), "reliability", "leakage"}
    assert sum(int(row["images"]) for row in tables["leakage"]) == 400
    wrong = [row for row in tables["out_of_fold"] if row["label"] != row["predicted"]]
    assert len(wrong) == 400 - np.trace(numbers["confusion"]) == len(tables["mistakes"])
    confidences = [float(row["confidence"]) for row in tables["mistakes"]]
    assert confidences == sorted(confidences, reverse=True)
    statistics = {row["label"]: row for row in tables["statistics"]}
    assert float(statistics["Accuracy"]["value"]) == numbers["accuracy"]
    assert "Log-loss, after temperature" in statistics
    assert {"low", "high", "mean", "deviation", "f1", "f10"} <= set(statistics["Accuracy"])


def test_every_figure_is_there_as_png_and_pdf(bach):
    _, out, _ = bach
    names = {path.stem for path in (out / "figures").iterdir()}
    expected = ("roc", "confusion", "reliability")
    by_count = ("augmentations", "seeds", "configurations", "folds")
    assert names == {
        *expected,
        *(f"test_{name}" for name in expected),
        *(f"accuracy_by_{name}" for name in by_count),
        "without_each",
    }
    for name in names:
        with Image.open(out / "figures" / f"{name}.png") as image:
            assert min(image.size) > 250
        assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("names", "count"), [(tuple(f"x{i}" for i in range(400)), 10), (sample_ensemble.BACH_NAMES, 5)]
)
def test_elsewhere_there_are_no_published_rows(tmp_path, names, count):
    models = sample_ensemble.write(
        tmp_path / "models", names, count=count, configurations=("ResNet-0.5-400",)
    )
    text = write_report(models, tmp_path / "report", draws=20)
    assert "published" not in text
    # Nothing tells sites, either.
    page = (tmp_path / "report" / "report.html").read_text()
    assert not any("site and batch" in said.lower() for said in (page, text))
    assert "published ResNet" not in (tmp_path / "report" / "report.html").read_text()


def test_what_was_published_on_kathers_tiles_stands_beside_ours(tmp_path):
    names = [made_kather.name(label, i) for label in range(8) for i in range(8)]
    models = sample_ensemble.write(
        tmp_path / "models",
        [name.removesuffix(".tif") for name in names],
        kather.CLASSES,
        count=2,
        groups=[f"slide{i % 8}" for i in range(64)],
        configurations=("ResNet-1.0-96",),
    )
    first = write_report(models, tmp_path / "report", draws=20).split("\n\n")[0]
    accuracy, published = first.splitlines()[-2:]
    assert re.fullmatch(r"Accuracy: \d+\.\d % \(95 % interval: .*\)\.", accuracy)
    assert published.startswith(
        "Published on these data: an accuracy of 87.4 % by texture features"
    )
    assert published in (tmp_path / "report" / "report.html").read_text()


def test_data_are_read_as_of_the_models_classes(bach, tmp_path, monkeypatch):
    asked = []

    def load(path, classes, *others, **named):
        asked.append(classes)
        raise InputError("read")

    monkeypatch.setattr(write.datasets, "load", load)
    with pytest.raises(InputError, match="read"):
        write_report(bach[0], tmp_path / "report", data=tmp_path)
    assert asked == [ensembles.load(bach[0]).folds.classes]
