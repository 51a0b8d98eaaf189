"""Crop modes compared: agreement by hand, effects on metrics, and the script as a user runs it."""

import csv
import dataclasses
import json
from functools import partial

import numpy as np
import pytest

from histojax.datasets import synthetic
from histojax.evaluation import statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.report import crop_modes
from tests import samples
from tests.running import run


def descriptors(*channels):
    """[N, A, C] from C arrays [N, A]."""
    return np.stack([np.array(channel, np.float32) for channel in channels], axis=-1)


def test_agreement_is_that_by_hand():
    exact = descriptors([[1, 2], [3, 4]], [[0, 0], [2, 2]], [[5, 5], [5, 5]])
    hybrid = descriptors([[2, 4], [6, 8]], [[0, 2], [0, 2]], [[5, 5], [5, 7]])
    taps = {"low": 1, "high": 2}
    whole, first, second = crop_modes.agreement("VGG-0.5-400", exact, hybrid, taps, {"low": 0.02})
    assert [row.tap for row in (whole, first, second)] == ["all", "low", "high"]
    assert [(row.channels, row.constant) for row in (whole, first, second)] == [
        (3, 2),
        (1, 0),
        (2, 2),
    ]
    assert (whole.error, first.error, second.error) == (None, 0.02, None)
    # Means over augmentations are (1.5, 3.5), (0, 2), (5, 5) against (3, 7), (1, 1), (5, 6).
    assert first.error_of_images == pytest.approx(1)
    assert second.error_of_images == pytest.approx(np.sqrt(3 / 54))
    assert whole.error_of_images == pytest.approx(np.sqrt(17.5 / 68.5))
    # In the second channel hybrid's means do not vary, in the third exact's: no correlation.
    assert first.correlation == whole.correlation == pytest.approx(1)
    assert second.correlation is None
    # Deviations of 0.5 against 1; none against any.
    assert first.spread == pytest.approx(2)
    assert second.spread is None


def test_agreement_is_numpys_where_there_is_one_tap():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(7, 3, 5)).astype(np.float32)
    hybrid = exact + rng.normal(size=exact.shape).astype(np.float32)
    (row,) = crop_modes.agreement("ResNet-0.5-400", exact, hybrid, {"last": 5}, {})
    images = [
        np.corrcoef(exact[..., c].mean(axis=1), hybrid[..., c].mean(axis=1))[0, 1] for c in range(5)
    ]
    assert row.tap == "last"
    assert row.correlation == pytest.approx(np.mean(images), abs=1e-6)
    deviations = [np.sqrt(rows.var(axis=1).mean()) for rows in (exact, hybrid)]
    assert row.spread == pytest.approx(deviations[1] / deviations[0], rel=1e-5)


def test_what_never_varies_has_no_correlation_and_what_is_zero_no_relative_error():
    zero = np.zeros((2, 2, 3), np.float32)
    (row,) = crop_modes.agreement("VGG-0.5-400", zero, zero, {"dead": 3}, {"dead": 0.0})
    assert (row.constant, row.error, row.error_of_images) == (3, 0.0, None)
    assert (row.spread, row.correlation) == (None, None)


def test_descriptors_of_other_widths_are_a_mistake():
    with pytest.raises(ValueError, match=r"expected both \(N, A, 4\)"):
        crop_modes.agreement("VGG-0.5-400", np.ones((2, 2, 3)), np.ones((2, 2, 3)), {"a": 4}, {})
    with pytest.raises(ValueError, match="expected both"):
        crop_modes.agreement("VGG-0.5-400", np.ones((2, 2, 4)), np.ones((3, 2, 4)), {"a": 4}, {})


def test_the_figures_are_accuracy_and_area_and_the_report_says_what_it_is_of(tmp_path):
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 3
    groups = tuple(f"p{i}" for i in rng.integers(0, 15, 60))
    rows = crop_modes.agreement("VGG-0.5-400", np.ones((2, 1, 2)), np.ones((2, 1, 2)), {"a": 2}, {})
    names = tuple(f"i{i}" for i in range(60))
    pair = []
    for gain in (0.1, 0.6):
        scores = rng.dirichlet(np.ones(3), 60) + gain * np.eye(3)[truth]
        scores /= scores.sum(axis=1, keepdims=True)
        pair.append(
            LabelledPredictions(
                names, ("a", "b", "c"), truth, scores.argmax(axis=1), scores, None, groups, (2,)
            )
        )
    effects = crop_modes.effects(*pair, draws=50)
    computed = statistics.compute(pair[1], draws=50)
    assert [(difference.name, difference.other) for difference in effects] == [
        (name, computed.value(name)) for name in ("accuracy", "positive_auc")
    ]
    text = crop_modes.write(
        tmp_path,
        crop_modes.CropModeComparison("60 images", "w", "15 whole groups", ("c",), rows, effects),
    )
    assert "ROC AUC of c against the rest" in text
    assert "paired bootstrap of 15 whole groups, 2000 draws" in text
    without = crop_modes.effects(
        *[dataclasses.replace(predictions, positive=()) for predictions in pair], draws=50
    )
    text = crop_modes.text(
        crop_modes.CropModeComparison("60 images", "w", "15 whole groups", (), rows, without)
    )
    assert [difference.name for difference in without] == ["accuracy"]
    assert "no ROC AUC: no class counts as positive" in text


@pytest.fixture(scope="module")
def compare(tmp_path_factory, narrow_vgg):
    """run(*more flags) of the script on small synthetic tissue, and the folder it writes to."""
    root = tmp_path_factory.mktemp("compare")
    synthetic.write_folder(root / "images", per_class=2, unlabelled=0, height=96, width=128)
    small = [
        "--encoders=VGG",
        "--views=1.0-48,1.0-64",
        "--augmentations=2",
        "--crops=2",
        "--pool_crops=12",
        "--gain_nodes=3",
        "--weights=random",
    ]
    small += [
        "--folds=2",
        "--seeds=1",
        "--rounds=3",
        f"--data={root}/images/train",
        f"--out={root}/out",
    ]
    return partial(run, "compare_crop_modes", *small), root / "out"


def test_the_script_describes_trains_and_compares_and_a_second_run_skips(compare):
    script, out = compare
    with samples.trees_in_this_process():
        first = script()
    assert first.returncode == 0, first.stderr
    done = "descriptors extracted from 8 images, 0 were done before, 64 crops in "
    assert first.stdout.count(done) == 2
    assert "UNTRAINED" in first.stdout
    text = (out / "crop_modes.json").read_text()
    with open(out / "crop_modes.csv") as file:
        rows = list(csv.DictReader(file))
    numbers = json.loads(text)
    taps = ["all", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"]
    assert [row["tap"] for row in rows] == 2 * taps
    assert [row["configuration"] for row in rows] == ["VGG-1.0-48"] * 5 + ["VGG-1.0-64"] * 5
    of_images = [row["error_of_images"] for row in numbers["agreements"]]
    assert [float(row["error_of_images"]) for row in rows] == of_images
    assert 0 < max(of_images) < 0.5
    errors = [float(row["error"]) for row in rows if row["tap"] == "block2_conv1"]
    assert 0 < max(errors) < 0.05
    assert all(float(row["spread"]) > 0 for row in rows)
    assert [effect["name"] for effect in numbers["effects"]] == ["accuracy", "positive_auc"]
    assert numbers["resampled"].startswith("8 images")
    split, same = (
        (out / mode / "models" / "folds.csv").read_bytes() for mode in ("exact", "hybrid")
    )
    assert split == same

    second = script()
    assert second.returncode == 0, second.stderr
    done = "descriptors extracted from 0 images, 8 were done before"
    assert second.stdout.count(done) == 2
    assert second.stderr.count("train: nothing left to do") == 2
    assert (out / "crop_modes.json").read_text() == text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--crop_mode=hybrid", "there is no flag --crop_mode"),
        ("--positive_classes=Tumour", "no class Tumour"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(compare, flag, message):
    done = compare[0](flag)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
