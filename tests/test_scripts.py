"""The scripts as a user runs them: the whole way on small images, and a message for each error."""

import ast
import contextlib
import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from experiments import command_line, protocol, runner
from experiments.__main__ import SCRIPTS
from histojax import encoders
from histojax.config import PRESETS, View
from histojax.datasets import leakage
from histojax.encoders import weights
from histojax.ops import stain
from histojax.utils.files import sha256, write_csv
from tests import samples
from tests.running import ROOT, python, run

pytestmark = pytest.mark.usefixtures("narrow_vgg")

SMALL = [
    "--weights=random",
    "--encoders=VGG",
    "--views=0.5-32,0.5-40",
    "--augmentations=2",
    "--crops=2",
]


def refused(script: str, *arguments: object) -> str:
    """Runs a script that must fail, with one message and no traceback; returns the message."""
    done = run(script, *arguments)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    return done.stderr


def tissue(seed: int, dark: float = 0.5, size: tuple[int, int] = (100, 120)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, [dark, 0.4], (size[0] // 4, size[1] // 4, 2)).repeat(4, 0).repeat(4, 1)
    return np.clip(240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two classes of six images, and three without a label."""
    root = tmp_path_factory.mktemp("data")
    for label, dark in (("benign", 0.3), ("malignant", 0.5)):
        (root / "train" / label).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(tissue(i, dark)).save(root / "train" / label / f"{label}{i:02d}.png")
    (root / "new").mkdir()
    for i in range(3):
        Image.fromarray(tissue(100 + i, 0.5)).save(
            root / "new" / f"test{i}.tif", compression="tiff_lzw"
        )
    return root


@pytest.fixture(scope="module")
def runs(data, narrow_vgg, tmp_path_factory) -> Path:
    """Everything the four scripts write.

    Extraction in a process of its own is tested in test_walls, training in one below.
    """
    out = tmp_path_factory.mktemp("runs")
    small = ["--folds=3", "--seeds=1", "--rounds=10", "--workers=2"]
    for step in (
        ["extract", f"--data={data}/train", f"--descriptors={out}/descriptors", *SMALL],
        [
            "train",
            f"--data={data}/train",
            f"--descriptors={out}/descriptors",
            f"--models={out}/models",
            *small,
        ],
        ["evaluate", f"--models={out}/models", f"--report={out}/report"],
        ["predict", f"--models={out}/models", f"--images={data}/new", f"--out={out}/predictions"],
    ):
        with samples.trees_in_this_process():
            done = run(*step)
        assert done.returncode == 0, done.stderr
        assert step[0] != "train" or f"WARNING: {leakage.NO_GROUPS}" in done.stdout
    return out


def test_the_report_holds_the_table_the_figures_and_says_that_weights_are_random(runs):
    report = runs / "report"
    summary = (report / "summary.txt").read_text()
    assert "UNTRAINED" in summary
    assert "VGG-40" in summary
    assert "Model fusion" in summary
    assert {"benign", "malignant"} <= set(summary.split())
    for figure in ("roc.png", "confusion.png"):
        with Image.open(report / "figures" / figure) as image:
            assert image.size[0] > 400
    numbers = json.loads((report / "metrics.json").read_text())
    assert "UNTRAINED" in numbers["weights"]
    assert np.sum(numbers["confusion"]) == 12
    with open(report / "tables" / "out_of_fold.csv") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert len(rows) == 12
    assert numbers["accuracy"] == pytest.approx(right / 12)
    assert all(
        float(row["p_benign"]) + float(row["p_malignant"]) == pytest.approx(1, abs=1e-5)
        for row in rows
    )


def test_a_table_of_scores_is_judged_as_the_ensemble_is(runs, tmp_path):
    done = run("score", f"--scores={runs}/report/tables/out_of_fold.csv", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        json.loads((folder / "metrics.json").read_text()) for folder in (runs / "report", tmp_path)
    )
    assert theirs["accuracy"] == ours["accuracy"]
    assert theirs["confusion"] == ours["confusion"]
    for one, other in zip(ours["figures"], theirs["figures"], strict=True):
        assert (one["metric"], one["of"]) == (other["metric"], other["of"])
        assert other["value"] == pytest.approx(
            one["value"], abs=1e-4, nan_ok=True
        )  # Six decimals are written.
    assert "95 % interval" in done.stdout


def test_heads_are_judged_compared_blended_and_predict(data, runs, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "folds.csv").write_bytes((runs / "models" / "folds.csv").read_bytes())
    arguments = [
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
        f"--models={tmp_path}/models",
    ]
    done = run("probe", *arguments, "--folds=3", "--seeds=1", "--epochs=3", "--validation_parts=3")
    assert "6 models trained, 6 are there" in done.stdout, done.stderr
    pair = f"--runs=trees={runs}/models,linear={tmp_path}/models"
    done = run("compare", pair, f"--out={tmp_path}/compared", "--blend")
    assert done.returncode == 0, done.stderr
    *rows, blank, written = done.stdout.splitlines()[3:]
    assert [line.split()[0] for line in rows] == ["trees", "linear", "blend"]
    assert (blank, written) == ("", f"{tmp_path}/compared/comparison.csv, comparison.json")
    new = f"--descriptors={runs}/predictions/descriptors"
    done = run("predict", f"--models={tmp_path}/models", new, f"--out={tmp_path}/predictions")
    assert done.returncode == 0, done.stderr


def test_the_audit_reads_the_split_that_models_were_trained_with(data, runs, tmp_path):
    done = run("audit", f"--data={data}/train", f"--models={runs}/models", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "split: stratified, 3 folds, seed 0" in done.stdout
    numbers = json.loads((tmp_path / "audit.json").read_text())
    assert sum(row["images"] for row in numbers["rows"]) == 12


def test_a_test_set_is_scored_kept_and_reported(data, runs, tmp_path):
    labelled = [f"--test_data={data}/test", f"--test_descriptors={tmp_path}/descriptors"]
    for label in ("benign", "malignant"):  # Images like some trained on, under names of their own.
        (data / "test" / label).mkdir(parents=True)
        for i in range(2):
            name = f"unseen-{label}{i}"
            shutil.copy(
                data / "train" / label / f"{label}{i:02d}.png",
                data / "test" / label / f"{name}.png",
            )
            for made in (runs / "descriptors").glob(f"*/{label}{i:02d}.npy"):
                (tmp_path / "descriptors" / made.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(made, tmp_path / "descriptors" / made.parent.name / f"{name}.npy")
    done = run("evaluate", f"--models={runs}/models", f"--report={tmp_path}/report", *labelled)
    assert done.returncode == 0, done.stderr
    assert "test set:" in done.stdout
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert numbers["test"]["images"] == 4
    assert [point["count"] for point in numbers["curves"]["folds"]] == [1, 2, 3]
    for kept in (runs / "models").rglob("*test*"):
        kept.unlink()


def test_predictions_come_with_probabilities_and_in_the_authors_form(runs):
    with open(runs / "predictions" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["test0", "test1", "test2"]
    submission = [
        line.split(",")
        for line in (runs / "predictions" / "submission.csv").read_text().splitlines()
    ]
    assert submission == [[f"test{i}.tif", row["predicted"]] for i, row in enumerate(rows)]
    assert all("UNTRAINED" in row["weights"] for row in rows)


def test_images_described_before_are_predicted_the_same(runs, tmp_path):
    descriptors = runs / "predictions" / "descriptors"
    done = run(
        "predict", f"--models={runs}/models", f"--descriptors={descriptors}", f"--out={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    before, after = (
        (folder / "predictions.csv").read_text() for folder in (runs / "predictions", tmp_path)
    )
    assert before == after


def test_a_second_run_of_every_step_changes_nothing(data, runs):
    times = {
        path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.suffix in (".npy", ".txt")
    }
    times = {path: time for path, time in times.items() if "report" not in path.parts}
    done = run("extract", f"--data={data}/train", f"--descriptors={runs}/descriptors", *SMALL)
    assert "descriptors extracted from 0 images, 12 were done before" in done.stdout
    done = run(
        "train",
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
        f"--models={runs}/models",
        "--folds=3",
        "--seeds=1",
        "--rounds=10",
    )
    assert "0 models trained, 6 are there" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times


# What a script is not started without; of one set, any flag.
REQUIRED = {
    "fetch": [{"name"}],
    "mine": [{"data", "tfds"}],
    "build_bach": [{"manual_dir"}],
    "extract": [{"descriptors"}],
    "train": [{"data", "tfds"}, {"descriptors"}, {"models"}],
    "probe": [{"data", "tfds"}, {"descriptors"}, {"models"}],
    "finetune": [{"data", "tfds"}, {"models"}],
    "evaluate": [{"models"}, {"report"}],
    "bundle": [{"models"}, {"descriptors"}, {"out"}],
    "predict": [{"bundle", "models"}, {"out"}, {"images", "data", "tfds", "descriptors"}],
    "heatmap": [{"bundle", "models"}, {"out"}],
    "score": [{"scores"}, {"out"}],
    "compare": [{"runs"}, {"out"}],
    "audit": [{"data", "tfds"}],
    "leave_groups_out": [{"data", "tfds"}, {"descriptors"}, {"out"}],
    "compare_encoders": [{"data", "tfds"}, {"out"}],
    "ablate_stain": [{"data", "tfds"}, {"out"}],
    "published": [{"data", "tfds"}, {"protocol"}, {"out"}],
    "compare_crop_modes": [{"data", "tfds"}, {"out"}],
    "profile_encoders": [{"out"}],
    "import_descriptors": [{"features"}, {"descriptors"}],
    "export_descriptors": [{"descriptors"}, {"out"}],
}


# The same of flags of which at least one must be passed.
ONE_OF = {"predict": [{"images", "data", "tfds", "descriptors", "features"}]}


def test_help_of_which_head_takes_a_part_ends_without_a_traceback(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as ended:
            runner.run(lambda: None, "A script.", arguments=["script", "--help"])
        assert ended.value.code == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_whole_docstring_and_every_flag(script, monkeypatch):
    defined, usage = {}, runner.usage

    def recording(doc: str, script: str) -> str:
        for module, flags in runner.FLAGS.flags_by_module_dict().items():
            if "experiments" in str(module):
                defined.update({flag.name: flag for flag in flags})
        return usage(doc, script)

    monkeypatch.setattr(runner, "usage", recording)
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    text, words = done.stdout, " ".join(done.stdout.split())
    assert max(map(len, text.splitlines())) <= 100
    doc = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{script}.py").read_text()))
    assert text.startswith(doc)
    assert f"histojax {script}" in doc
    forms = dict(re.findall(r"^  --(?:\[no\])?(\w+)(.*)", text, re.MULTILINE))
    assert set(forms) == set(defined)
    for name, form in forms.items():
        flag = defined[name]
        assert flag.help.endswith("."), name
        assert " ".join(flag.help.split()) in words, name
        choices = "|".join(getattr(flag.parser, "choices", tuple)())
        assert choices in form or (name == "encoders" and form == "=NAME,...")
        listed = [*REQUIRED.get(script, []), *ONE_OF.get(script, [])]
        alternatives = [names for names in listed if name in names]
        others = [f"--{other}" for names in alternatives for other in sorted(names - {name})]
        others += ["--run"] if name in command_line.RUN.get(script, {}) else []
        expected = [{"required", *others}] if alternatives else []
        marks = re.findall(r"  \((.*)\)", form)
        assert [set(re.split(r", or | or ", mark)) for mark in marks] == expected, name


@pytest.mark.parametrize(("script", "required"), REQUIRED.items())
def test_required_flags_are_asked_for(script, required):
    message = refused(script)
    for names in required:
        expected = [f"either --{a} or --{b}" for a in names for b in names - {a}]
        expected = expected or [f"--{name} is required" for name in names]
        if len(names) > 2:
            expected = ["pass one of --images, --data, --tfds, --descriptors or --features"]
        assert any(text in message for text in expected), message
    assert f"(see histojax {script} --help)" in message


def test_one_of_four_flags_of_predict_is_asked_for():
    message = refused("predict", "--bundle=x", "--out=y")
    assert "pass one of --images, --data, --tfds, --descriptors or --features (see" in message


def test_the_list_of_scripts_is_complete_and_has_a_line_each():
    done = python("-m", "experiments")
    assert done.returncode == 0, done.stderr
    listed = done.stdout
    files = (ROOT / "experiments").glob("*.py")
    assert {path.stem for path in files if "runner.run(main" in path.read_text()} == {*SCRIPTS}
    lines = [line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(SCRIPTS)
    assert all(summary.endswith((".", "?")) for _, summary in lines)
    assert max(map(len, listed.splitlines())) <= 100


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("encoders", "vgg,RESNET", ("VGG", "ResNet")),
        ("weights", "Random", "random"),
        (
            "weights",
            "Random,vgg=imagenet,inception=my/file.h5",
            (("ResNet", "random"), ("Inception", "file"), ("VGG", "imagenet")),
        ),
        ("weights", "imagenet,ResNet=ImageNet", "imagenet"),
        ("weights", "Published", "imagenet"),
        ("crop_mode", "HYBRID", "hybrid"),
        ("stain_normalizer", "None", "none"),
        ("stain_augmentation", "Hematoxylin_Eosin", "hematoxylin_eosin"),
        ("boost", "FAST", "fast"),
        ("views", "0.5-400, 1.0-800", (View(0.5, 400), View(1.0, 800))),
        ("p", "inf", float("inf")),
    ],
)
def test_words_are_taken_in_any_case_and_become_the_tables(flag, value, expected):
    parts = {"boost": "boosting"}
    part = parts.get(flag, "extraction")
    known = set(protocol.FLAGS)
    protocol.define_preset(part)
    try:
        protocol.FLAGS(["script", f"--{flag}={value}", "--protocol=PAPER600"])
        chosen = protocol.from_flags(part)
    finally:
        for name in set(protocol.FLAGS) - known:
            delattr(protocol.FLAGS, name)
    assert getattr(getattr(chosen, part), flag) == expected
    unchanged = dataclasses.replace(getattr(PRESETS["paper600"], part), **{flag: expected})
    assert getattr(chosen, part) == unchanged


@pytest.mark.parametrize(
    ("script", "flag", "message"),
    [
        (
            "extract",
            "--encoders=VGG,VGG19",
            "--encoders has 'VGG19', expected one of ResNet, Inception,",
        ),
        ("extract", "--stain_normalizer=reinhard", "'reinhard', expected macenko or none"),
        ("extract", "--weights=cifar", "--weights has 'cifar', expected imagenet or random"),
        (
            "extract",
            "--weights=VGG=",
            "--weights has 'VGG', expected imagenet or random or published or ENCODER",
        ),
        ("extract", "--crops=2.5", "--crops is '2.5', expected a whole number"),
        ("extract", "--p=x", "--p is 'x', expected a number"),
        ("extract", "--pooling=max", "--pooling has 'max', expected xla or pallas"),
        ("extract", "--crops_per_step=0", "--crops_per_step is 0, expected at least 1"),
        ("extract", "--protocol=mine", "'mine', expected paper or paper600 or small or demo"),
        ("train", "--boost=slow", "--boost has 'slow', expected paper or fast"),
        ("train", "--fold_maker=random", "expected stratified or grouped or paper"),
        ("profile_encoders", "--modes=exact,tiled", "'tiled', expected exact or hybrid"),
        ("train", "--weights=random", "there is no flag --weights (see histojax train"),
        ("train", "--modles=x", "there is no flag --modles: did you mean --models? (see"),
        ("evaluate", "--sensitivity=95", "error: --sensitivity is 95, expected 0.01 to 1 (see"),
        ("train", "--workers=0", "error: --workers is 0, expected at least 1 (see histojax train"),
        ("train", "--workers=two", "error: --workers is two, expected a whole number (see"),
        ("extract", "--mpp=1um", "error: --mpp is 1um, expected a number (see histojax extract"),
        ("extract", "--dry_run=maybe", "--dry_run is maybe, expected true or false (--dry_run or"),
        ("extract", "--descriptors", "error: --descriptors has no value: write --descriptors="),
        ("extract", "images", "unexpected argument 'images': flags are written --name=value"),
    ],
)
def test_values_of_flags_are_refused_at_once(script, flag, message):
    assert message in refused(script, flag)


def test_an_unknown_script_is_refused_with_the_list():
    done = python("-m", "experiments", "traine")
    assert done.returncode == 1
    assert "error: there is no script 'traine'" in done.stderr
    assert all(f"  {script} " in done.stderr for script in SCRIPTS)


def test_reports_are_not_mixed_with_models_and_stain_is_not_looked_for_in_vain(runs, tmp_path):
    assert "are the same folder" in refused(
        "evaluate", f"--models={runs}/models", f"--report={runs}/models"
    )
    wrong = refused(
        "evaluate", f"--models={runs}/models", f"--report={tmp_path}", f"--descriptors={tmp_path}"
    )
    assert "has no stain_qc.csv" in wrong
    assert "go together" in refused(
        "evaluate", f"--models={runs}/models", f"--report={tmp_path}", "--test_data=x"
    )


def test_networks_that_score_images_refuse_before_any_image_is_described(data, runs, tmp_path):
    shutil.copytree(runs / "models", tmp_path / "models")
    manifest = json.loads((tmp_path / "models" / "manifest.json").read_text())
    (tmp_path / "models" / "manifest.json").write_text(
        json.dumps(manifest | {"learner": "finetuned"})
    )
    for model in (tmp_path / "models").rglob("seed*.txt"):
        model.rename(model.with_suffix(".npz"))
    said = refused(
        "predict", f"--models={tmp_path}/models", f"--images={data}/new", f"--out={tmp_path}/out"
    )
    assert "models that are finetuned" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("KeyboardInterrupt", "stopped; run the same command again"),
        ("ValueError", "RuntimeError: no more threads"),
    ],
)
def test_only_a_stop_in_a_checkpoint_is_called_one(error, message):
    program = f"""
from experiments import runner
def main():
    try:
        raise {error}
    finally:
        raise RuntimeError("no more threads")
runner.run(main, "A script.")
"""
    done = python("-c", program)
    assert done.returncode == 1
    assert message in done.stderr
    assert ("Traceback" in done.stderr) == (error != "KeyboardInterrupt")


def one_image(folder: Path, name: str = "image.png", size: tuple[int, int] = (100, 120)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tissue(0, size=size)).save(folder / name)
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def small_image(root: Path) -> list[str]:
    return [f"--images={one_image(root / 'a', size=(60, 76))}"]


def truncated_tiff(root: Path) -> list[str]:
    truncate(one_image(root / "a", "image.tif") / "image.tif")
    return [f"--images={root / 'a'}"]


def text_named_png(root: Path) -> list[str]:
    (one_image(root / "a") / "note.png").write_text("no image")
    return [f"--images={root / 'a'}"]


def sixteen_bits(root: Path) -> list[str]:
    Image.fromarray(np.zeros((100, 120), np.uint16)).save(one_image(root / "a") / "deep.png")
    return [f"--images={root / 'a'}"]


def unknown_class_folder(root: Path) -> list[str]:
    for name in ("Normal", "Benign", "InSitu", "Invasive", "Other"):
        one_image(root / "a" / name, f"{name}.png")
    return [f"--data={root / 'a'}"]


def missing_in_table(root: Path) -> list[str]:
    write_csv(
        one_image(root / "a") / "labels.csv",
        [("image.png", "x"), ("gone.png", "y")],
        ["image", "label"],
    )
    return [f"--data={root / 'a' / 'labels.csv'}"]


def read_only_output(root: Path) -> list[str]:
    return [f"--images={one_image(root / 'a')}", "--descriptors=/proc/histojax"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (small_image, "smaller than the 40 px crop. Pass --views=auto"),
        (truncated_tiff, "cut short"),
        (text_named_png, "no TIFF, PNG, JPEG, BMP or WebP"),
        (sixteen_bits, "16 bits per sample"),
        (unknown_class_folder, "Other"),
        (missing_in_table, "gone.png"),
        (read_only_output, "cannot be written to"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_images_and_tables_end_in_one_message_and_nothing_written(tmp_path, make, message):
    arguments = [f"--descriptors={tmp_path / 'out'}", *SMALL, *make(tmp_path)]
    assert message in refused("extract", *arguments)
    assert not list((tmp_path / "out").rglob("*.npy"))
    assert not list(tmp_path.rglob(".*"))


def test_descriptors_of_another_protocol_are_refused(data, runs):
    arguments = [*SMALL[:-1], "--crops=3"]
    message = refused(
        "extract", f"--data={data}/train", f"--descriptors={runs}/descriptors", *arguments
    )
    assert "protocol.crops: found 2, expected 3" in message


def test_fewer_images_in_a_class_than_folds_are_refused(data, runs, tmp_path):
    arguments = [
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
        f"--models={tmp_path}/models",
    ]
    message = refused("train", *arguments, "--folds=7")
    assert "fewer images than the 7 folds" in message


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--learning_rate=-1", "above 0"),
        ("--num_leaves=1", "2 to 131072"),
        ("--feature_fraction=0", "at most 1"),
        ("--folds=1", "at least 2"),
        ("--configurations=vgg-0.5-32,Nope", "no descriptors of Nope; it has VGG-0.5-32, VGG"),
    ],
)
def test_training_flags_that_make_no_sense_are_refused_and_bind_nothing(
    data, runs, tmp_path, flag, expected
):
    arguments = [
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
        f"--models={tmp_path}/models",
    ]
    assert expected in refused("train", *arguments, flag)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("script", ["train", "probe", "leave_groups_out"])
def test_descriptors_of_other_files_of_the_same_names_are_refused(data, runs, tmp_path, script):
    shutil.copytree(data / "train", tmp_path / "data")
    shutil.copy(data / "train/benign/benign00.png", tmp_path / "data/benign/benign01.png")
    arguments = [f"--data={tmp_path}/data", f"--descriptors={runs}/descriptors"]
    out = "--out" if script == "leave_groups_out" else "--models"
    message = refused(script, *arguments, f"{out}={tmp_path}/out")
    assert "(1 of 12 compared, by SHA-256): benign01. Extract descriptors from these" in message
    assert not (tmp_path / "out" / "folds.csv").exists()


def test_output_inside_the_data_is_refused(data):
    message = refused("extract", f"--data={data}/train", f"--descriptors={data}/train/out", *SMALL)
    assert "lies inside" in message
    assert not (data / "train" / "out").exists()


@pytest.mark.usefixtures("in_this_process")
def test_ones_own_split_may_be_in_any_order(data, runs, tmp_path):
    header, *rows = (runs / "models" / "folds.csv").read_text().splitlines()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "folds.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    arguments = [
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
        f"--models={tmp_path}/models",
    ]
    assert run("train", *arguments, "--folds=3", "--seeds=1", "--rounds=10").returncode == 0
    done = run("evaluate", f"--models={tmp_path}/models", f"--report={tmp_path}/report")
    assert done.returncode == 0, done.stderr
    for name in ("tables/table1.csv", "tables/out_of_fold.csv"):
        assert (tmp_path / "report" / name).read_text() == (runs / "report" / name).read_text()


@pytest.mark.usefixtures("in_this_process")
def test_workers_end_with_a_killed_training_and_the_next_run_goes_on(data, runs, tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments.train",
        f"--data={data}/train",
        f"--descriptors={runs}/descriptors",
    ]
    command += [
        f"--models={tmp_path}/models",
        "--folds=3",
        "--seeds=20",
        "--rounds=40",
        "--workers=2",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        for _ in range(600):
            if any(tmp_path.glob("models/*/*.txt")) or process.poll() is not None:
                break
            time.sleep(0.05)
        process.kill()
    deadline = time.monotonic() + 3
    while (alive := workers_of(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == []
    before = len(list(tmp_path.glob("models/*/*.txt")))
    done = run(*command[2].split(".")[1:], *command[3:])
    assert f"{120 - before} models trained, 120 are there" in done.stdout
    assert not (tmp_path / "models" / ".shared").exists()


def workers_of(mark: str) -> list[str]:
    """The processes that map a file below `mark`, as the workers do with the shared descriptors."""
    processes = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            processes += [maps.parent.name] * (mark in maps.read_text())
    return processes


def test_a_descriptor_file_with_nan_is_refused(data, runs, tmp_path):
    for path in (runs / "descriptors").rglob("*"):
        if path.is_file():
            target = tmp_path / "descriptors" / path.relative_to(runs / "descriptors")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    spoilt = tmp_path / "descriptors" / "VGG-0.5-40" / "benign03.npy"
    array = np.load(spoilt)
    array[1, 7] = np.nan
    np.save(spoilt, array)
    arguments = [
        f"--data={data}/train",
        f"--descriptors={tmp_path}/descriptors",
        f"--models={tmp_path}/models",
    ]
    message = refused("train", *arguments, "--folds=3", "--seeds=1", "--rounds=2")
    assert str(spoilt) in message
    assert "NaN" in message


def official_vgg(path: Path, leave_out: str = "") -> None:
    """A file of the official form with random values."""
    with h5py.File(path, "w") as file:
        layers = {}
        for name, shape in weights.shapes(encoders.ENCODERS["VGG"]).items():
            _, layer, leaf = name.split("/")
            layers.setdefault(layer, []).append((f"{layer}/{leaf}:0", shape))
        layers.pop(leave_out, None)
        for layer, datasets in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name, _ in datasets]
            for name, shape in datasets:
                group[name] = np.zeros(shape, np.float32)
        file.attrs["layer_names"] = [layer.encode() for layer in layers]


def test_a_weight_file_with_a_wrong_checksum_is_refused(tmp_path):
    official_vgg(tmp_path / encoders.ENCODERS["VGG"].weight_file.file)
    message = refused(
        "extract",
        f"--images={one_image(tmp_path / 'a')}",
        f"--descriptors={tmp_path}/out",
        "--encoders=VGG",
        "--views=0.5-40",
        f"--weights_dir={tmp_path}",
        f"--weights_cache={tmp_path}/cache",
    )
    assert encoders.ENCODERS["VGG"].weight_file.md5 in message
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("UNI3=a.h5", "--weights names the encoder 'UNI3', expected of ResNet, Inception, VGG, "),
        ("VGG=a.h5,vgg=b.h5", "--weights has two values for VGG, expected one"),
        ("random,imagenet", "--weights has two values for all encoders, expected one"),
        ("VGG=a.h5", "a.h5 does not exist: name the file of weights of VGG"),
        ("ResNet=a.h5", "--weights names ResNet, expected of --encoders=VGG"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(value, message, tmp_path):
    flags = f"--images={one_image(tmp_path / 'a')}", f"--descriptors={tmp_path}/out"
    small = "--encoders=VGG", "--views=0.5-40", f"--weights={value}"
    assert message in refused("extract", *flags, *small)


@pytest.mark.parametrize("idle", ["pool_crops=12", "gain_nodes=2", "checked=1"])
def test_flags_of_crop_mode_hybrid_are_refused_where_they_do_nothing(idle, tmp_path):
    flags = f"--images={one_image(tmp_path / 'a')}", f"--descriptors={tmp_path}/out", f"--{idle}"
    message = refused("extract", *flags, "--encoders=VGG", "--views=0.5-40", "--weights=random")
    name = idle.partition("=")[0]
    assert f"--{name} does nothing in crop mode exact: pass --crop_mode=hybrid" in message
    assert not (tmp_path / "out").exists()


def test_what_is_in_a_weight_file_is_told(tmp_path):
    official_vgg(tmp_path / "vgg.h5")
    told = run("inspect_weights", f"{tmp_path}/vgg.h5").stdout
    assert f"{tmp_path}/vgg.h5: HDF5, SHA-256 {sha256(tmp_path / 'vgg.h5')}\n" in told
    assert re.search(
        r"10 arrays \(10 of float32\), [\d,]+ numbers\nfits VGG, names of Keras\n", told
    )
    (sha256_of_variables,) = re.findall("  SHA-256 of the variables (.*)", told)
    assert sha256_of_variables == weights.checksum(weights.load("VGG", tmp_path / "vgg.h5"))
    official_vgg(tmp_path / "less.h5", leave_out="block4_conv1")
    message = refused("inspect_weights", f"{tmp_path}/less.h5")
    assert "fits no encoder. The closest layout is Keras of VGG (2 missing, 0 extra" in message
    assert "missing: params/block4_conv1/kernel" in message


def test_a_weight_file_with_a_layer_missing_is_refused_listing_it(tmp_path):
    official_vgg(tmp_path / "vgg.h5", leave_out="block4_conv1")
    with pytest.raises(weights.InputError, match="missing: params/block4_conv1/kernel"):
        weights.load("VGG", tmp_path / "vgg.h5")


def test_models_and_folders_that_are_not_there_are_named(tmp_path):
    assert "run histojax train first" in refused(
        "evaluate", f"--models={tmp_path}", f"--report={tmp_path}/r"
    )
    message = refused(
        "train", f"--data={tmp_path}/no", f"--descriptors={tmp_path}", f"--models={tmp_path}/m"
    )
    assert "run histojax extract first" in message
    assert os.listdir(tmp_path) == []


def test_a_prediction_folder_without_images_is_refused(runs, tmp_path):
    images = tmp_path / "new"
    images.mkdir()
    for out, message in {tmp_path / "out": "holds no image", images / "out": "lies inside"}.items():
        told = refused("predict", f"--models={runs}/models", f"--images={images}", f"--out={out}")
        assert message in told
