"""The tables have the paper's form, with the published rows only where the data are BACH; the files are whole."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from histojax.evaluation import evaluate
from histojax.extraction import manifests
from histojax.learners import ensembles
from histojax.report import figures
from histojax.report.write import write_report
from tests.report import sample_ensemble

DRAWS = 50


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bach(tmp_path_factory):
    """(models, report, summary) of an ensemble on BACH's names, with groups of some and a test set."""
    root = tmp_path_factory.mktemp("bach")
    groups = ["" if i % 3 else f"p{i % 37}" for i in range(400)]
    models = sample_ensemble.write(root / "models", groups=groups, test=24)
    return models, root / "report", write_report(models, root / "report", draws=DRAWS)


def test_on_bach_the_published_rows_stand_below_ours(bach):
    _, out, text = bach
    for expected in (
        "  published ResNet-400",
        "  published Model fusion",
        "ROC AUC 0.973",
        "VGG-1.0-800",
        "test set:",
    ):
        assert expected in text
    assert "published VGG" not in text
    rows = {row["model"]: row for row in rows_of(out / "tables" / "table1.csv")}
    assert list(rows)[:2] == ["ResNet-400", "published ResNet-400"]
    assert (rows["published Model fusion"]["mean"], rows["published Model fusion"]["std"]) == (
        "87.2",
        "2.6",
    )
    page = (out / "report.html").read_text()
    assert "published ResNet-400" in page
    assert "96.5 / 88.0 %" in page


def test_a_row_is_the_mean_over_seeds_and_its_deviation_is_over_seeds_and_folds(bach):
    models, out, _ = bach
    ensemble = ensembles.load(models)
    right = (
        ensembles.out_of_fold(ensemble, "ResNet-0.5-400").mean(axis=2).argmax(axis=-1)
        == ensemble.folds.labels
    )
    by_fold = np.array(
        [[100 * each[ensemble.folds.folds == fold].mean() for fold in range(10)] for each in right]
    )
    row = rows_of(out / "tables" / "table1.csv")[0]
    assert row["f3"] == f"{by_fold[:, 2].mean():.1f}"
    assert row["mean"] == f"{by_fold.mean():.1f}"
    assert row["std"] == f"{by_fold.std():.1f}"


def test_every_number_is_in_metrics_json(bach):
    models, out, _ = bach

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    numbers = json.loads((out / "metrics.json").read_text(), parse_constant=refuse)
    judged = evaluate.evaluate(models, draws=DRAWS)
    assert numbers["accuracy"] == judged.out_of_fold.value("accuracy")
    found = {(row["metric"], row["of"]): row for row in numbers["figures"]}
    assert set(judged.out_of_fold.estimates) <= set(found)
    row = found["sensitivity", "InSitu"]
    assert row["value"] == judged.out_of_fold.value("sensitivity", "InSitu")
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
    assert set(tables) == {
        "table1",
        "statistics",
        "test_statistics",
        "out_of_fold",
        "confusion",
        "mistakes",
        "curves",
        "without_each",
        "reliability",
        "leakage",
    }
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
    assert names == {
        "roc",
        "confusion",
        "reliability",
        "test_roc",
        "test_confusion",
        "test_reliability",
        "without_each",
        "accuracy_by_augmentations",
        "accuracy_by_seeds",
        "accuracy_by_configurations",
        "accuracy_by_folds",
    }
    for name in names:
        with Image.open(out / "figures" / f"{name}.png") as image:
            assert min(image.size) > 250
        assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_of_the_page_takes_its_colours_and_has_ids_of_its_own(bach):
    models, _, _ = bach
    judged = evaluate.evaluate(models, draws=DRAWS).out_of_fold
    text = figures.svg(figures.draw_statistics(judged)["roc"], "figure-roc", 'a "curve" & <more>')
    root = ElementTree.fromstring(
        text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    )
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert all(each.startswith("figure-roc-") for each in ids)
    assert root.get("aria-label") == 'a "curve" & <more>'
    assert "var(--blue)" in text
    assert not any(color in text for color in figures.CSS_VARIABLES)
    assert "InSitu + Invasive" in "".join(root.itertext())


def test_a_class_may_be_called_like_mathematics_or_in_letters_that_the_font_lacks(tmp_path):
    figure = figures.draw_confusion(np.eye(2, dtype=int), ("$x^2$ & <y>", "乳腺"))
    assert {"$x^2$ & <y>", "乳腺"} <= {each.get_text() for each in figure.axes[0].get_yticklabels()}
    assert "$x^2$ &amp; &lt;y&gt;" in figures.svg(figure, "figure", "")
    figures.save_all(tmp_path, {"confusion": figure}, "$note$")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("names", "count"), [(tuple(f"x{i}" for i in range(400)), 10), (sample_ensemble.BACH_NAMES, 5)]
)
def test_elsewhere_there_are_no_published_rows(tmp_path, names, count):
    models = sample_ensemble.write(
        tmp_path / "models", names, count=count, configurations=("ResNet-0.5-400",)
    )
    assert "published" not in write_report(models, tmp_path / "report", draws=20)
    assert "published ResNet" not in (tmp_path / "report" / "report.html").read_text()


def test_where_the_weights_came_from_is_said():
    random = {"weights": {"source": "random, seed 0"}}
    assert "UNTRAINED" in manifests.weights_text([random])
    assert manifests.weights_text([{"weights": {"source": "imagenet"}}] * 2) == "weights: imagenet"
    assert manifests.weights_text([None]) == "weights: not recorded"
