"""Methods compared: the table, its files, and the script on tables of predictions."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.evaluation import comparison
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.report import comparisons
from histojax.utils import files
from tests.running import run


def runs_of(gains: dict[str, float], n: int = 60, seed: int = 0) -> dict[str, LabelledPredictions]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    names, groups = tuple(f"i{i}" for i in range(n)), tuple(f"g{i // 3}" for i in range(n))
    runs = {}
    for name, gain in gains.items():
        scores = rng.dirichlet(np.ones(2), n) + gain * np.eye(2)[truth]
        scores /= scores.sum(axis=1, keepdims=True)
        runs[name] = LabelledPredictions(
            names, ("n", "p"), truth, scores.argmax(axis=1), scores, None, groups, (1,)
        )
    return runs


def test_the_table_has_a_row_for_each_run_and_the_files_have_every_number(tmp_path):
    runs = runs_of({"trees": 0.3, "linear": 0.5, "hidden": 0.1})
    text = comparisons.write(tmp_path, runs, {"trees": 12.5, "linear": None}, draws=50)
    lines = text.splitlines()
    assert "paired bootstrap of 20 groups" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["trees", "linear", "hidden"]
    assert lines[2].endswith("12.5")
    expected = comparison.compare(runs["trees"], runs["linear"], draws=50)
    difference = expected.differences["accuracy", ""]
    assert comparisons.difference_text(difference) in lines[3]
    assert f"{difference.groups.low:+.4f} to {difference.groups.high:+.4f}" in lines[3]
    with open(tmp_path / "comparison.csv") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["run"] == "linear" and row["metric"] == "accuracy"
        ]
    assert float(rows[0]["difference"]) == difference.value
    assert float(rows[0]["mcnemar_p"]) == expected.p_value
    numbers = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert numbers["compared_with"] == "trees"
    assert numbers["runs"]["hidden"]["only_first_right"] > 0


def test_a_blend_is_the_mean_of_the_scores_of_common_images():
    runs = runs_of({"one": 0.2, "other": 0.4})
    shuffled = comparison.select(runs["other"], [5, 2, 9])
    blended = comparison.blend([runs["one"], shuffled])
    assert blended.names == ("i2", "i5", "i9")
    place = {name: i for i, name in enumerate(runs["one"].names)}
    for i, name in enumerate(blended.names):
        expected = (runs["one"].scores[place[name]] + runs["other"].scores[place[name]]) / 2
        np.testing.assert_allclose(blended.scores[i], expected)
    with pytest.raises(InputError, match="labels alone cannot be blended"):
        comparison.blend(
            [runs["one"], LabelledPredictions(("a",), ("n", "p"), np.array([0]), np.array([0]))]
        )


def test_the_script_compares_tables(tmp_path):
    for name, predictions in runs_of({"a": 0.2, "b": 0.6}).items():
        rows = [
            (n, predictions.classes[t], *s)
            for n, t, s in zip(
                predictions.names, predictions.truth, predictions.scores.tolist(), strict=True
            )
        ]
        files.write_csv(tmp_path / f"{name}.csv", rows, ("image", "label", "p_n", "p_p"))
    lines = (tmp_path / "b.csv").read_text().splitlines()
    (tmp_path / "b.csv").write_text("\n".join(lines[:-2]) + "\n")
    runs = f"--runs=a={tmp_path}/a.csv,b={tmp_path}/b.csv"
    positive = "--positive_classes=p"
    done = run("compare", runs, f"--out={tmp_path}/out", "--blend", positive)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "positive class: p (named by --positive_classes)"
    *rows, blank, written = done.stdout.splitlines()[3:]
    assert [line.split()[0] for line in rows] == ["a", "b", "blend", "note:"]
    assert (blank, written) == ("", f"{tmp_path}/out/comparison.csv, comparison.json")
    assert (tmp_path / "out" / "comparison.json").exists()
    assert "note: only the 58 images in all runs are compared (of a 60)" in done.stdout
    done = run(
        "compare", runs.replace("b=", "blend="), f"--out={tmp_path}/out", "--blend", positive
    )
    assert "call yours otherwise" in done.stderr
    for wrong, message in (
        (f"--runs={tmp_path}/a.csv,b=x", "expected NAME=PATH"),
        ("--runs=a=x", "at least two"),
    ):
        done = run("compare", wrong, f"--out={tmp_path}/out")
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_where_two_groups_allow_no_interval_words_say_so(tmp_path):
    runs = {
        name: dataclasses.replace(run, groups=("p",) * 50 + ("q",) * 10)
        for name, run in runs_of({"one": 0.3, "other": 0.5}).items()
    }
    text = comparisons.write(tmp_path, runs, {"one": None, "other": None}, draws=20)
    assert "nan" not in text
    assert ", no interval)" in text
    assert "note: no interval: it takes images of at least two groups of similar size" in text
    assert "cannot be computed from these 2 groups" in text


def test_the_run_that_does_not_fit_is_the_one_that_is_named():
    runs = runs_of({"one": 0.3, "other": 0.5, "third": 0.1})
    names = tuple(f"x{i}" for i in range(60))
    with pytest.raises(InputError, match=r"one and third cannot be compared: no image is in both"):
        comparison.restrict_to_common_images(
            runs | {"third": dataclasses.replace(runs["third"], names=names)}
        )
    half = {
        name: comparison.select(runs[name], places)
        for name, places in (("other", range(20)), ("third", range(30, 60)))
    }
    with pytest.raises(InputError, match="no image is in all of one, other, third"):
        comparison.restrict_to_common_images(runs | half)
