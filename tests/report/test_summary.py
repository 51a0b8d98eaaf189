"""The statistics of anybody's predictions are written in full, whatever is known of them."""

import csv
import json

import numpy as np
import pytest

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import compute
from histojax.report.write import write_statistics

TRUTH = np.arange(60) % 3
NAMES = tuple(f"image {i}" for i in range(60))


def statistics_of(**known):
    """Statistics of three classes, two fifths of the answers wrong; `known` replaces fields."""
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    scores[np.arange(60), np.where(np.arange(60) % 5 < 3, TRUTH, (TRUTH + 1) % 3)] += 1
    scores /= scores.sum(axis=1, keepdims=True)
    predictions = LabelledPredictions(
        NAMES, ("a", "b", "c"), TRUTH, scores.argmax(axis=1), scores, positive=(2,)
    )
    return compute(LabelledPredictions(**(vars(predictions) | known)), draws=50)


def read(folder):
    numbers = json.loads(
        (folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    with open(folder / "tables" / "statistics.csv", newline="") as file:
        return numbers, list(csv.DictReader(file))


def test_with_folds_and_groups_everything_is_written(tmp_path):
    statistics = statistics_of(
        folds=np.arange(60) % 4, groups=tuple(f"p{i // 3}" for i in range(60))
    )
    text = write_statistics(tmp_path, statistics)
    numbers, rows = read(tmp_path)
    assert (tmp_path / "summary.txt").read_text() == text
    assert "60 images of 3 classes (a, b, c), 4 folds" in text
    assert "bootstrap of 20 whole groups" in text
    assert "for a sensitivity of 95.0 %" in text
    assert (
        len(rows)
        == len(numbers["figures"])
        == len(statistics.estimates) + len(statistics.calibrated)
    )
    accuracy = rows[0]
    assert (accuracy["label"], accuracy["resampled"]) == ("Accuracy", "groups")
    estimate = statistics.estimates["accuracy", ""]
    assert float(accuracy["value"]) == estimate.value
    assert (float(accuracy["low"]), float(accuracy["high"])) == (
        estimate.groups.low,
        estimate.groups.high,
    )
    assert float(accuracy["low_of_images"]) == estimate.images.low != estimate.groups.low
    assert np.mean([float(accuracy[f"f{fold}"]) for fold in range(1, 5)]) == pytest.approx(
        float(accuracy["mean"])
    )
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in ("confusion", "roc", "reliability") for kind in ("png", "pdf")
    )


def test_labels_without_scores(tmp_path):
    text = write_statistics(tmp_path, statistics_of(scores=None, positive=()))
    numbers, rows = read(tmp_path)
    assert numbers["roc"] is numbers["reliability"] is numbers["operating"] is None
    assert not {"log_loss", "auc", "positive_auc"} & {row["metric"] for row in rows}
    assert "± deviation" not in text
    assert "bootstrap of 60 images" in text
    assert [path.name for path in (tmp_path / "figures").iterdir() if path.suffix == ".png"] == [
        "confusion.png"
    ]


@pytest.mark.parametrize("folds", [np.zeros(60, int), None])
def test_with_one_fold_or_none_nothing_is_fitted(tmp_path, folds):
    write_statistics(tmp_path, statistics_of(folds=folds))
    numbers, _ = read(tmp_path)
    assert numbers["temperature"] is None
    assert numbers["roc"] is not None


def test_an_undefined_value_is_null_an_empty_cell_and_a_dash(tmp_path):
    predicted = np.where(TRUTH == 1, 0, TRUTH)
    text = write_statistics(tmp_path, statistics_of(scores=None, predicted=predicted))
    numbers, rows = read(tmp_path)
    figures = {row["label"]: row for row in numbers["figures"]}
    assert figures["Precision, b"]["value"] is None
    assert {row["label"]: row["value"] for row in rows}["Precision, b"] == ""
    line = next(line for line in text.splitlines() if line.startswith("Precision, b"))
    assert "–" in line
    assert "nan" not in text
