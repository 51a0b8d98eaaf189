"""Groups that are left out are predicted by models of the others alone; metrics by hand."""

import csv
import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
from scipy import special

from histojax import datasets
from histojax.config import Boosting
from histojax.datasets import Dataset
from histojax.errors import InputError
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners import boost
from histojax.prediction import bundle, leave_groups_out, predict
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.report import leave_groups_out as pages
from histojax.utils import files
from tests import samples
from tests.running import run

GROUPS, EACH = 5, 6
NAMES = [f"g{group}-{i}" for group in range(GROUPS) for i in range(EACH)]
LABELS = [i % 2 for _ in range(GROUPS) for i in range(EACH)]
WIDTHS = {"VGG-0.5-400": 12, "ResNet-0.5-400": 9}
BOOSTING = Boosting(folds=4, seeds=1, rounds=4)
COVERAGES = (0.6, 0.95)


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """Trains in this process: others take longer to start than to train so little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            boost, "run_tasks", lambda tasks, workers: [boost.run_task(task) for task in tasks]
        )
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A table of images with groups, their descriptors, and what the script made of them."""
    folder = tmp_path_factory.mktemp("transfer")
    rows = [
        (f"{name}.png", "ab"[label], name[:2]) for name, label in zip(NAMES, LABELS, strict=True)
    ]
    files.write_csv(folder / "groups.csv", rows, ("image", "label", "group"))
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(b"")  # Never read.
    samples.write_descriptors(
        folder / "descriptors", NAMES, LABELS, WIDTHS, 6, 3.0
    )  # LightGBM asks for 20 rows a leaf.
    done = leave_out(folder, folder / "out")
    assert done.returncode == 0, done.stderr
    assert "Positive class: b (named by --positive_classes)." in done.stdout
    return folder


def leave_out(folder, out, *more):
    return run(
        "leave_groups_out",
        f"--data={folder}/groups.csv",
        f"--descriptors={folder}/descriptors",
        f"--out={out}",
        "--folds=4",
        "--seeds=1",
        "--rounds=4",
        "--coverages=0.6,0.95",
        "--workers=1",
        "--positive_classes=b",
        *more,
    )


@pytest.fixture(scope="module")
def left_out(root):
    """The same from Python; the models are there already."""
    data = datasets.load(root / "groups.csv")
    return leave_groups_out.run(
        data,
        root / "descriptors",
        root / "out",
        tuple(WIDTHS),
        BOOSTING,
        leave_groups_out.Options(coverages=COVERAGES, positive_classes=("b",)),
    )


def test_every_group_is_predicted_once_by_models_of_the_others(root):
    for part in range(GROUPS):
        rows = files.read_csv(
            root / "out" / f"part{part + 1:02d}" / "models" / "folds.csv", ("image", "group")
        )
        assert {row["group"] for row in rows} == {f"g{group}" for group in range(GROUPS)} - {
            f"g{part}"
        }
    rows = files.read_csv(
        root / "out" / "predictions.csv", ("coverage", "part", "image", "group", "score_a")
    )
    for coverage in ("0.6", "0.95"):
        assert sorted(row["image"] for row in rows if row["coverage"] == coverage) == NAMES
    assert len(rows) == 2 * len(NAMES)
    assert all(row["group"] == f"g{int(row['part']) - 1}" == row["image"][:2] for row in rows)


def test_a_part_is_predicted_as_predict_does(root, left_out, tmp_path):
    models = root / "out" / "part02" / "models"
    names = [name for name in NAMES if name.startswith("g1")]
    for configuration in WIDTHS:
        (tmp_path / "new" / configuration).mkdir(parents=True)
        for name in names:
            shutil.copy(
                store.file_of(root / "descriptors", configuration, name),
                tmp_path / "new" / configuration,
            )
    trained = bundle.from_models(models, ("b",), descriptors=root / "descriptors")
    for coverage in COVERAGES:
        summary = predict.predict_descriptors(
            trained, tmp_path / "new", tmp_path / f"out{coverage}", PredictionOptions(coverage)
        )
        ours = sorted(
            (each for each in left_out.predictions[coverage] if each.image.startswith("g1")),
            key=lambda each: each.image,
        )
        assert [each.image for each in ours] == names
        for one, other in zip(ours, summary.predictions, strict=True):
            assert dataclasses.replace(one, file="") == dataclasses.replace(other, file="")
            given_out = left_out.calibrated[left_out.images.names.index(one.image)]
            np.testing.assert_array_equal(list(one.probabilities.values()), given_out)


def test_less_coverage_has_smaller_sets(left_out):
    sizes = [
        np.mean([len(each.prediction_set) for each in left_out.predictions[at]]) for at in COVERAGES
    ]
    assert sizes[0] < sizes[1] == 2  # Four groups promise 0.8 at most.


def test_a_second_run_trains_nothing_and_says_the_same(root):
    def written():
        return {path: path.stat().st_mtime_ns for path in (root / "out").rglob("seed*")}

    before, text = written(), (root / "out" / "summary.txt").read_text()
    done = leave_out(root, root / "out")
    note = "note: column group keeps images of one group together: 5 groups, 30 images\n"
    out = root / "out"
    files = f"\n{out}/summary.txt, summary.md, summary.json, predictions.csv\n"
    assert done.stdout == note + text + files
    assert written() == before
    assert len(before) == GROUPS * len(WIDTHS) * 4 * 2  # Models and their scores.


def test_bundles_of_groups_are_left_out_together(root, tmp_path):
    done = leave_out(root, tmp_path, "--parts=2", "--folds=2", "--configurations=VGG-0.5-400")
    assert done.returncode == 0, done.stderr
    rows = files.read_csv(tmp_path / "predictions.csv", ("part", "group"))
    parts = {row["group"]: row["part"] for row in rows}
    assert len(rows) == 2 * len(NAMES)
    assert sorted(parts) == [f"g{i}" for i in range(GROUPS)]
    assert set(parts.values()) == {"1", "2"}
    assert {(row["group"], row["part"]) for row in rows} == set(parts.items())


def prediction(name, predicted, classes, abstain=()) -> Prediction:
    return Prediction(
        image=name,
        file=f"{name}.png",
        predicted=predicted,
        probabilities={"a": 0.5, "b": 0.5},
        positive_score=None,
        positive=None,
        spread_augmentations=0.0,
        spread_models=0.0,
        prediction_set=tuple(classes),
        stain_p=None,
        descriptors_p=0.5,
        abstain=tuple(abstain),
    )


@pytest.fixture
def by_hand() -> leave_groups_out.LeftOut:
    """Three images of group p, one of q, one of r; the truth is a, a, b, b, b."""
    names, groups = ("p0", "p1", "p2", "q0", "r0"), ("p", "p", "p", "q", "r")
    scores = np.array([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.4, 0.6], [0.6, 0.4]])
    truth = np.array([0, 0, 1, 1, 1])
    cases = LabelledPredictions(
        names,
        ("a", "b"),
        truth,
        scores.argmax(axis=1),
        scores,
        np.array([0, 0, 0, 1, 2]),
        groups,
        (1,),
    )
    predictions = (
        prediction("p0", "a", "a"),
        prediction("p1", "b", "b", ["stain far from training"]),
        prediction("p2", "b", "b"),
        prediction("q0", "b", "ba", ["stain far from training", "prediction set too large"]),
        prediction("r0", "a", "a"),
    )
    return leave_groups_out.LeftOut(
        cases, scores[:, ::-1], {0.7: predictions}, 2 / 3, {"VGG-0.5-400": None}
    )


def test_metrics_by_hand(by_hand):
    values = {
        key: figure.value for key, figure in leave_groups_out.estimate(by_hand, draws=50).items()
    }
    assert values["accuracy", None] == pytest.approx(3 / 5)
    assert values["coverage", 0.7] == pytest.approx((2 / 3 + 1 + 0) / 3)  # Each group weighs one.
    assert values["set_size", 0.7] == pytest.approx(6 / 5)
    assert values["abstained", 0.7] == pytest.approx(2 / 5)
    assert values["accuracy_used", 0.7] == pytest.approx(2 / 3)
    assert values["accuracy_abstained", 0.7] == pytest.approx(1 / 2)
    probabilities = np.array([0.8, 0.3, 0.9, 0.6, 0.4])
    assert values["log_loss", None] == pytest.approx(-np.log(probabilities).mean())
    assert values["log_loss_calibrated", None] == pytest.approx(-np.log(1 - probabilities).mean())
    # Answers of confidence 0.8, 0.7 and 0.9 have a bin each; of the two with 0.6, in the same bin,
    # the first is right and the second wrong.
    assert values["calibration_error", None] == pytest.approx((0.2 + 0.7 + 0.1 + abs(1.2 - 1)) / 5)


def test_intervals_resample_groups(by_hand):
    estimates = leave_groups_out.estimate(by_hand, draws=20_000)
    # Of each group: images, those abstained from, those of them that are right.
    images, left, right = np.array([3, 1, 1]), np.array([1, 1, 0]), np.array([0, 1, 0])
    for name, part, whole, units in (
        ("abstained", left, images, 25 / 11),
        ("accuracy_abstained", right, left, 2),
    ):
        draws = np.array(list(itertools.product(range(3), repeat=3)))
        drawn = metrics.ratio(part[draws].sum(axis=1), whole[draws].sum(axis=1))
        expected = bootstrap.confidence_interval(part.sum() / whole.sum(), drawn, units, (0.0, 1.0))
        interval = estimates[name, 0.7].interval
        reach = [
            special.logit([each.low, each.high]) for each in (interval, expected)
        ]  # So few groups say next to nothing.
        np.testing.assert_allclose(*reach, rtol=0.03)


def test_what_few_groups_allow_is_that_of_the_smallest_part(by_hand):
    both = leave_groups_out.concatenate([dataclasses.replace(by_hand, attainable=0.9), by_hand])
    assert both.attainable == 2 / 3
    assert both.images.names == by_hand.images.names * 2
    assert len(both.predictions[0.7]) == len(both.calibrated) == len(both.images.scores) == 10


def test_what_is_written_agrees(by_hand, tmp_path):
    text = pages.write(tmp_path, by_hand, BOOSTING, draws=50)
    assert text == (tmp_path / "summary.txt").read_text()
    assert "5 images of 3 groups, left out in 3 parts; each predicted by 1 configuration x" in text
    assert "a coverage of 66.7 % at most; sets hold all classes at 70.0 %" in text
    assert "weights: not recorded" in text
    lines = {
        line.split("  ")[0]: line.split("  ", 1)[1].split()
        for line in text.splitlines()
        if "  " in line
    }
    assert lines["- true class in the set"][:2] == ["55.6", "%"]
    assert lines["- abstained: stain far from training"] == ["2", "images"]
    assert lines["- abstained: prediction set too large"] == ["1", "image"]
    markdown = (tmp_path / "summary.md").read_text()
    assert "| - true class in the set | 55.6 % |" in markdown
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers["counts"] == [
        {
            "stated_coverage": 0.7,
            "covered": 3,
            "abstained": 2,
            "causes": {"stain far from training": 2, "prediction set too large": 1},
        }
    ]
    assert {
        (each["figure"], each["stated_coverage"]): each["value"] for each in numbers["figures"]
    } == {
        key: pytest.approx(figure.value)
        for key, figure in leave_groups_out.estimate(by_hand, draws=50).items()
    }
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction_set"] for row in rows] == ["a", "b", "b", "b;a", "a"]
    assert [row["label"] for row in rows] == ["a", "a", "b", "b", "b"]
    assert [float(row["score_b"]) for row in rows] == [0.2, 0.7, 0.9, 0.6, 0.4]
    assert [row["part"] for row in rows] == ["1", "1", "1", "2", "3"]


def test_a_figure_of_no_image_is_a_dash_and_null(by_hand, tmp_path):
    none = tuple(dataclasses.replace(each, abstain=()) for each in by_hand.predictions[0.7])
    text = pages.write(
        tmp_path, dataclasses.replace(by_hand, predictions={0.5: none}), BOOSTING, draws=20
    )
    assert "- accuracy of those abstained from      -\n" in text
    assert "sets hold all" not in text
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert [
        each["value"] for each in numbers["figures"] if each["figure"] == "accuracy_abstained"
    ] == [None]


def test_groups_that_cannot_be_left_out_are_refused(root, tmp_path):
    rows = files.read_csv(root / "groups.csv", ("image",))

    def message(groups, *more) -> str:
        table = [
            (root / row["image"], row["label"], group)
            for row, group in zip(rows, groups, strict=True)
        ]
        files.write_csv(tmp_path / "groups.csv", table, ("image", "label", "group"))
        (tmp_path / "descriptors").mkdir(exist_ok=True)
        done = run(
            "leave_groups_out",
            f"--data={tmp_path}/groups.csv",
            f"--descriptors={root}/descriptors",
            f"--out={tmp_path}/out",
            "--positive_classes=b",
            *more,
        )
        assert done.returncode == 1
        return done.stderr

    known = [row["group"] for row in rows]
    assert "1 of 30 images are of unknown group (g0-0)" in message(["", *known[1:]])
    assert "no group is known: give each image its group" in message([""] * len(known))
    assert "2 groups: at least three are needed" in message([str(i % 2) for i in range(len(known))])
    assert "cannot fill 10 folds, for a group is never divided: pass --folds=4" in message(
        known, "--folds=10"
    )
    assert "fewer images than the 60 parts in class" in (asked := message(known, "--parts=60"))
    assert "so some parts would lack it: pass --parts=5, or add images" in asked
    assert "--coverages has 'most'" in message(known, "--coverages=most")
    assert "between 0 and 1" in message(known, "--coverages=1.5")


def test_models_that_learned_nothing_are_told_with_the_remedy(tmp_path, caplog):
    names = [f"i{i:02d}" for i in range(16)]
    labels, groups = [i // 2 % 2 for i in range(16)], tuple(f"g{i // 2}" for i in range(16))
    samples.write_descriptors(tmp_path, names, labels, {"VGG-0.5-400": 3}, 1, 0.5)
    data = Dataset({name: tmp_path / name for name in names}, tuple(labels), ("a", "b"), groups)
    chosen = Boosting(folds=2, seeds=1, rounds=1)
    options = leave_groups_out.Options(2, positive_classes=("b",))
    leave_groups_out.run(data, tmp_path, tmp_path / "out", ("VGG-0.5-400",), chosen, options)
    assert "2 of 2 models learned nothing" in caplog.text
    assert "--boost=fast" in caplog.text


def test_a_split_that_is_impossible_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(boost, "train", lambda *arguments: pytest.fail("trained"))
    groups = tuple(f"g{i // 6}" for i in range(30))
    labels = tuple(int(i >= 26 or i in (0, 6)) for i in range(30))  # Two without the last group.
    data = Dataset({str(i): tmp_path / str(i) for i in range(30)}, labels, ("a", "b"), groups)
    options = leave_groups_out.Options(positive_classes=("b",))
    chosen = Boosting(folds=3, seeds=1, rounds=1)
    with pytest.raises(InputError, match="fewer images than the 3 folds in class b"):
        leave_groups_out.run(data, tmp_path, tmp_path / "out", ("V-1-4",), chosen, options)


def test_unknown_groups_are_refused_from_python():
    data = Dataset({}, (), ("a", "b"))
    with pytest.raises(InputError, match="no group is known"):
        leave_groups_out._parts(data, None, 0)
