"""Crop modes compared: agreement by hand, the paired bootstrap against a plain loop, the script as a user runs it."""

import csv
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from histojax import metrics
from histojax.datasets import synthetic
from histojax.report import crop_modes

ROOT = Path(__file__).parents[2]


def descriptors(*channels):
    """[N, A, C] from C arrays [N, A]."""
    return np.stack([np.array(each, np.float32) for each in channels], axis=-1)


def test_agreement_is_that_by_hand():
    exact = descriptors([[1, 2], [3, 4]], [[0, 0], [2, 2]], [[5, 5], [5, 5]])
    shared = descriptors([[2, 4], [6, 8]], [[0, 2], [0, 2]], [[5, 5], [5, 6]])
    whole, first, second = crop_modes.agreement("VGG-0.5-400", exact, shared, {"low": 1, "high": 2})
    assert [row.tap for row in (whole, first, second)] == ["all", "low", "high"]
    assert [(row.channels, row.constant) for row in (whole, first, second)] == [(3, 1), (1, 0), (2, 1)]
    # Squares of the first channel: 30 exact, 30 of the error; of the second 8 and 8; of the third 100 and 1.
    assert first.relative_error == pytest.approx(1)
    assert second.relative_error == pytest.approx(np.sqrt(9 / 108))
    assert whole.relative_error == pytest.approx(np.sqrt(39 / 138))
    # Twice the exact one; and deviations -1 -1 1 1 against -1 1 -1 1.
    assert (first.correlation, second.correlation) == (pytest.approx(1), pytest.approx(0))
    assert whole.correlation == pytest.approx(0.5)
    # The second channel's means over augmentations are 0, 2 against 1, 1: no correlation.
    assert first.correlation_of_images == pytest.approx(1)
    assert second.correlation_of_images is None


def test_agreement_is_numpys_where_there_is_one_tap():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(7, 3, 5)).astype(np.float32)
    shared = exact + rng.normal(size=exact.shape).astype(np.float32)
    (row,) = crop_modes.agreement("ResNet-0.5-400", exact, shared, {"last": 5})
    each = [np.corrcoef(exact[..., c].ravel(), shared[..., c].ravel())[0, 1] for c in range(5)]
    images = [np.corrcoef(exact[..., c].mean(axis=1), shared[..., c].mean(axis=1))[0, 1] for c in range(5)]
    assert row.tap == "last"
    assert row.correlation == pytest.approx(np.mean(each), abs=1e-6)
    assert row.correlation_of_images == pytest.approx(np.mean(images), abs=1e-6)


def test_what_never_varies_has_no_correlation_and_what_is_zero_no_relative_error():
    zero = np.zeros((2, 2, 3), np.float32)
    (row,) = crop_modes.agreement("VGG-0.5-400", zero, zero, {"dead": 3})
    assert (row.constant, row.relative_error, row.correlation, row.correlation_of_images) == (3, None, None, None)


def test_descriptors_of_other_widths_are_a_mistake():
    with pytest.raises(ValueError, match=r"expected both \(N, A, 4\)"):
        crop_modes.agreement("VGG-0.5-400", np.ones((2, 2, 3)), np.ones((2, 2, 3)), {"a": 4})
    with pytest.raises(ValueError, match="expected both"):
        crop_modes.agreement("VGG-0.5-400", np.ones((2, 2, 4)), np.ones((3, 2, 4)), {"a": 4})


@pytest.fixture(scope="module")
def case():
    """Scores of two methods, the second the better, truth, and groups of unequal size."""
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 3
    one, other = (rng.dirichlet(np.ones(3), 60) + gain * np.eye(3)[truth] for gain in (0.1, 0.6))
    return one, other, truth, [f"p{i}" for i in rng.integers(0, 15, 60)]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_paired_bootstrap_is_a_plain_loop(case, grouped):
    one, other, truth, groups = case
    names = sorted(set(groups)) if grouped else list(range(60))
    members = {name: [i for i in range(60) if (groups[i] if grouped else i) == name] for name in names}
    rng, drawn = np.random.default_rng(5), []
    for _ in range(200):
        chosen = [i for pick in rng.integers(len(names), size=len(names)) for i in members[names[pick]]]
        right = [[scores[i].argmax() == truth[i] for i in chosen] for scores in (one, other)]
        drawn.append(sum(right[1]) / len(chosen) - sum(right[0]) / len(chosen))
    found = metrics.paired_difference(metrics.accuracy, one, other, truth, groups if grouped else None, 200, 5)
    value = np.mean(other.argmax(axis=1) == truth) - np.mean(one.argmax(axis=1) == truth)
    assert (found.value, found.left_out) == (pytest.approx(value), 0)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert 0 < found.low < found.value < found.high


def test_no_difference_is_zero_and_swapping_turns_the_sign(case):
    one, other, truth, groups = case
    assert metrics.paired_difference(metrics.accuracy, one, one, truth, groups) == metrics.Difference(0, 0, 0, 0)
    there = metrics.paired_difference(metrics.accuracy, one, other, truth, groups)
    back = metrics.paired_difference(metrics.accuracy, other, one, truth, groups)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_a_seed_gives_the_same_interval_again(case):
    one, other, truth, groups = case
    interval = functools.partial(metrics.paired_difference, metrics.accuracy, one, other, truth, groups, 100)
    assert interval(seed=3) == interval(seed=3)
    assert interval(seed=3) != interval(seed=4)


def test_groups_are_drawn_whole_and_both_methods_see_the_same_images(case):
    _, _, truth, groups = case
    _, group = np.unique(groups, return_inverse=True)
    seen = []

    def spy(scores, labels):
        images = scores[:, 0].astype(int)
        np.testing.assert_array_equal(labels, truth[images])
        seen.append(images.tolist())
        return 0.0

    numbered = np.arange(60.0)[:, None]
    metrics.paired_difference(spy, numbered, numbered, truth, groups, draws=20)
    assert seen[0::2] == seen[1::2]
    sizes = np.bincount(group)
    for images in seen:
        times = np.bincount(images, minlength=60)
        assert all(len(set(times[group == i].tolist())) == 1 for i in range(len(sizes)))
        assert sum(times[group == i][0] for i in range(len(sizes))) == len(sizes)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    truth = np.zeros(80, int)
    for _ in range(200):
        right = rng.uniform(size=(80, 2)) < (0.6, 0.75)
        one, other = (np.stack([each, ~each], axis=1).astype(float) for each in right.T)
        found = metrics.paired_difference(metrics.accuracy, one, other, truth, draws=200)
        covered += found.low <= 0.15 <= found.high
    assert 178 <= covered <= 199  # 190 of 200 are expected, with a deviation of 3.


def test_draws_of_one_class_have_no_area_and_are_left_out():
    rng = np.random.default_rng(2)
    truth = np.array([1] + [0] * 19)
    one, other = rng.dirichlet(np.ones(2), (2, 20))
    area = functools.partial(metrics.area, positive=(1,))
    found = metrics.paired_difference(area, one, other, truth, draws=1000)
    assert 0.3 < found.left_out / 1000 < 0.42  # (19 / 20) ^ 20 = 0.36
    assert np.isfinite([found.low, found.high]).all()
    with pytest.raises(ValueError, match="undefined in each of 10 draws"):
        metrics.paired_difference(area, one, other, np.zeros(20, int), draws=10)


def test_the_figures_are_accuracy_and_area_and_the_report_says_what_it_is_of(case, tmp_path):
    one, other, truth, groups = case
    rows = crop_modes.agreement("VGG-0.5-400", np.ones((2, 1, 2)), np.ones((2, 1, 2)), {"a": 2})
    effects = crop_modes.effects(one, other, truth, (2,), groups, draws=50)
    judged = metrics.judge({"x": other[None, :, None]}, truth, truth, ("a", "b", "c"), (2,))
    assert [each.figure for each in effects] == ["accuracy", "ROC AUC"]
    assert effects[0].shared == pytest.approx(judged.accuracies.mean())
    assert effects[1].shared == pytest.approx(judged.two_class.auc)
    assert effects[1].change.value == pytest.approx(effects[1].shared - effects[1].exact)
    text = crop_modes.write(tmp_path, crop_modes.Comparison("60 images", "w", "15 whole groups", ("c",), rows, effects))
    assert "ROC AUC of c against the rest" in text
    assert "paired bootstrap of 15 whole groups, 2000 draws" in text
    without = crop_modes.effects(one, other, truth, (), groups, draws=50)
    text = crop_modes.summary(crop_modes.Comparison("60 images", "w", "15 whole groups", (), rows, without))
    assert [each.figure for each in without] == ["accuracy"]
    assert "no ROC AUC: no class counts as positive" in text


@pytest.fixture(scope="module")
def compare(tmp_path_factory):
    """compare(*more flags): runs the script on small synthetic tissue; and the folder it writes to."""
    root = tmp_path_factory.mktemp("compare")
    synthetic.write_folder(root / "images", per_class=2, unlabelled=0, height=96, width=128)
    small = ["--encoders=VGG", "--views=1.0-48,1.0-64", "--augmentations=2", "--crops=2", "--weights=random"]
    small += ["--folds=2", "--seeds=1", "--rounds=3", f"--data={root}/images/train", f"--out={root}/out"]
    command = [sys.executable, "-m", "experiments.compare_crop_modes", *small]

    def run(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    return run, root / "out"


def test_the_script_describes_trains_and_compares_and_a_second_run_skips(compare):
    run, out = compare
    first = run()
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("8 images described, 0 were before, 64 crops in ") == 2
    assert "UNTRAINED" in first.stdout
    text = (out / "crop_modes.json").read_text()
    with open(out / "crop_modes.csv") as file:
        rows = list(csv.DictReader(file))
    numbers = json.loads(text)
    taps = ["all", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"]
    assert [row["tap"] for row in rows] == 2 * taps
    assert [row["configuration"] for row in rows] == ["VGG-1.0-48"] * 5 + ["VGG-1.0-64"] * 5
    assert [float(row["relative_error"]) for row in rows] == [row["relative_error"] for row in numbers["agreements"]]
    # The first tap sees little beyond a crop's edge.
    assert all(0.7 < float(row["correlation"]) <= 1 for row in rows if row["tap"] == "block2_conv2")
    assert [each["figure"] for each in numbers["effects"]] == ["accuracy", "ROC AUC"]
    assert numbers["resampled"].startswith("8 images")
    split, same = ((out / mode / "models" / "folds.csv").read_bytes() for mode in ("exact", "shared"))
    assert split == same

    second = run()
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("0 images described, 8 were before") == 2
    assert second.stderr.count("train: nothing left to do") == 2
    assert (out / "crop_modes.json").read_text() == text


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--crop_mode=shared", "--crop_mode has no place here"), ("--positive_classes=Tumour", "no class Tumour")],
)
def test_what_makes_no_sense_is_refused_at_once(compare, flag, message):
    done = compare[0](flag)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
