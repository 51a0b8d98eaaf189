"""The one command: what it asks and decides, that it goes on, and training beside extraction."""

import contextlib
import csv
import dataclasses
import re
import shutil
import sys
import time
import types

import numpy as np
import pytest

from experiments import models, pipeline, splits
from histojax import datasets
from histojax.config import Boosting, Protocol
from histojax.datasets import Dataset, folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.inspection import inspection
from histojax.inspection.findings import PROBLEM, Finding
from histojax.learners import background, boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle
from histojax.report import inspection as pages
from histojax.utils import files
from tests import samples
from tests.running import run

pytestmark = pytest.mark.usefixtures("narrow_vgg")

BOOSTING = Boosting(folds=3, seeds=2, rounds=8)
# What `samples.train_small` was trained with.
FLAGS = [
    *("--encoders=VGG", "--weights=random", "--views=0.5-32,0.5-40"),
    *("--augmentations=5", "--crops=1"),
    *("--protocol=paper", "--folds=3", "--seeds=2", "--rounds=8"),
]


def contents(root, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob(pattern)}


def test_it_goes_on_and_ends_with_predictions_and_code_3(trained, tmp_path, monkeypatch):
    reported = []
    problem, note = Finding(PROBLEM, "size", "Two sizes."), Finding("note", "blank", "Blank.")
    found = types.SimpleNamespace(findings=(problem, note))
    monkeypatch.setattr(inspection, "inspect", lambda *given: found)
    monkeypatch.setattr(pages, "write", lambda out, inspected: None)
    monkeypatch.setattr(
        pipeline, "write_report", lambda *given: reported.append(given) or "The verdict.\n\nTables"
    )
    for step in ("descriptors", "models"):
        shutil.copytree(trained / step, tmp_path / step)
    lost = tmp_path / "descriptors" / "VGG-0.5-32" / "benign0.npy"
    expected = lost.read_bytes()
    lost.unlink()
    new = tmp_path / "new"
    shutil.copytree(trained / "new", new)
    (new / "broken.png").write_text("no image")
    done = run("mine", trained / "images", new, f"--run={tmp_path}", "--noheatmaps", *FLAGS)
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    starts = [
        "data: 18 images, benign 9, malignant 9",
        "positive class: malignant",
        "protocol: pap",
    ]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=False)] == starts
    assert "encoders: VGG, random, seed 0, on 2 x cpu" in done.stdout
    assert "extraction: 1 images in" in done.stdout
    assert f"17 were done before: {tmp_path / 'descriptors'}" in done.stdout
    assert f"training: 12 models: {tmp_path / 'models'}" in done.stdout
    assert lost.read_bytes() == expected
    assert contents(trained / "models", "VGG*/seed*") == contents(tmp_path / "models", "VGG*/seed*")
    models, report, *_, descriptors = reported[0]
    assert (models, descriptors) == (tmp_path / "models", tmp_path / "descriptors")
    assert f"The verdict.\nevaluation: {report / 'report.html'}" in done.stdout
    assert "Tables" not in done.stdout
    page = tmp_path / "inspection" / "inspection.html"
    assert f"PROBLEM: Two sizes.\ninspection: 1 problem, 1 note: {page}" in done.stdout
    assert lines[-1] == "all this rests on images with 1 problem, listed above"
    for place in ("bundle.histojax", "bundle.md"):
        assert (tmp_path / place).is_file()
        assert place in done.stdout
    with open(tmp_path / "predictions" / "predictions.csv") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["test0", "test1", "test2"]
    assert not (tmp_path / "heatmaps").exists()
    packed = (tmp_path / "bundle.histojax").read_bytes()
    facts = bundle._facts
    monkeypatch.setattr(bundle, "_facts", lambda *given: facts(*given) | {"created": "2099-01-01"})
    beside = []

    @contextlib.contextmanager
    def training(job, boosting, workers):
        yield beside.extend

    monkeypatch.setattr(background, "training", training)
    again = run("mine", trained / "images", f"--run={tmp_path}", "--overlap", *FLAGS)
    assert again.returncode == 0, again.stderr
    assert beside == ["VGG-0.5-32", "VGG-0.5-40"]
    assert (tmp_path / "bundle.histojax").read_bytes() == packed
    monkeypatch.setitem(sys.modules, "xgboost", None)  # As if it were not installed.
    for flag, message in (
        ("--boost=xgboost", "pip install -r requirements-xgboost.txt"),
        ("--views=0.5-32", "holds models of VGG-0.5-40, which this run would not train"),
        ("--rounds=9", "parameters.rounds: found 8, expected 9"),
        ("--crops=2", "protocol.crops: found 1, expected 2"),
    ):
        refused = run("mine", trained / "images", f"--run={tmp_path}", *FLAGS, flag)
        assert message in refused.stderr
        assert "inspection:" not in refused.stdout


def test_what_is_decided_is_told_and_weights_are_asked_for_before_any_work(trained, tmp_path):
    out = tmp_path / "run"
    inside = run("mine", trained / "images", trained / "new", f"--run={trained / 'new' / 'run'}")
    assert "lies inside --new" in inside.stderr
    inside = run("mine", trained / "images", trained / "images" / "new", f"--run={tmp_path}")
    assert "lies inside --data" in inside.stderr
    small = [f"--run={out}", "--encoders=VGG", f"--weights_dir={tmp_path}"]
    done = run("mine", trained / "images", *small, f"--weights_cache={tmp_path}/cache")
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "--weights_dir" in done.stderr
    assert "--weights=random takes UNTRAINED encoders" in done.stderr
    assert "views: 1.0-96" in done.stdout
    assert "protocol: small, for 18 images, with less work for a CPU" in done.stdout
    assert "4 augmentations of 6 crops; 4 folds, 5 seeds" in done.stdout
    assert not list(out.rglob("*.npy"))


@pytest.mark.parametrize(
    ("names", "flags", "asked"),
    [
        (("type1", "type2"), [], "--positive_classes"),
        (("benign", "malignant"), ["--positive_classes=tumor"], "tumor"),
        (("benign", "malignant"), ["--views=0.5-4000"], "--views=auto"),
    ],
)
def test_what_data_leave_open_is_asked_before_any_work(trained, tmp_path, names, flags, asked):
    for old, new in zip(("benign", "malignant"), names, strict=True):
        shutil.copytree(trained / "images" / old, tmp_path / "images" / new)
    done = run("mine", tmp_path / "images", f"--run={tmp_path}/run", "--weights=random", *flags)
    assert (done.returncode, done.stderr.count("error:")) == (1, 1), done.stderr
    assert asked in done.stderr
    assert not list((tmp_path / "run").rglob("*"))  # What is refused binds nothing.


def test_it_asks_what_to_do_with_copies_that_cross_folds(tmp_path, monkeypatch):
    flags = types.SimpleNamespace(group_copies=None, fold_maker=None)
    monkeypatch.setattr(splits, "FLAGS", flags)
    paths = {name: tmp_path / f"{name}.png" for name in "abcdef"}
    labelled = Dataset(paths, (0, 0, 0, 1, 1, 1), ("x", "y"))
    split = Folds(labelled.names, np.array(labelled.labels), np.arange(6) % 2, ("x", "y"))

    def asked(*pairs, split=split) -> str:
        # The inspected images are in another order, and one is not in the data.
        places = [tmp_path / "unlabelled.png", *reversed(paths.values())]
        found = types.SimpleNamespace(
            images=[types.SimpleNamespace(path=path) for path in places],
            pairs=[types.SimpleNamespace(first=6 - i, second=6 - j) for i, j in pairs],
        )
        try:
            splits.ask_about_copies(found, labelled, split, tmp_path / "page.html")
        except InputError as error:
            return str(error)
        return ""

    assert asked((0, 2), (1, 3), (6, 1)) == ""  # Each within a fold, or not in the data.
    message = asked((0, 2), (0, 1), (3, 4))
    assert message.startswith("in 2 pairs of images that are copies or overlap, one would be")
    assert "pass --group_copies, which keeps them in one fold, or --nogroup_copies" in message
    for name, value in (("group_copies", False), ("fold_maker", "stratified")):
        with monkeypatch.context() as patched:
            patched.setattr(flags, name, value)
            assert asked((0, 1)) == ""
    assert asked((0, 1), split=dataclasses.replace(split, copies=("",) * 6)) == ""


@pytest.mark.parametrize("there", [[], [ensembles.FOLDS]])
def test_what_is_refused_before_there_is_a_model_binds_nothing(tmp_path, there):
    for name in there:
        (tmp_path / name).touch()

    @models.split_kept_with_models(tmp_path)
    def refused():
        for name in (ensembles.FOLDS, "folds.json", ensembles.MANIFEST):
            files.write_text(tmp_path / name, "")
        raise InputError("asked")

    with pytest.raises(InputError, match="asked"):
        refused()
    assert [path.name for path in tmp_path.iterdir()] == there


def test_folds_are_as_many_as_the_groups_can_fill(trained, tmp_path):
    rows = [
        (f"{label}/{label}{i}.png", label, f"patient{i % 3}")
        for label in ("benign", "malignant")
        for i in range(9)
    ]
    shutil.copytree(trained / "images", tmp_path / "images")
    with open(tmp_path / "images" / "labels.csv", "w") as file:
        csv.writer(file).writerows([("image", "label", "group"), *rows])
    table = tmp_path / "images" / "labels.csv"
    for _ in range(2):  # The second finds the folds of the first.
        done = run("mine", table, f"--run={tmp_path}/run", f"--weights_dir={tmp_path}")
        assert "protocol: small, for 18 images in 3 groups" in done.stdout
        assert "3 folds, 5 seeds" in done.stdout, done.stdout
        assert "--weights_dir" in done.stderr


def job(trained, models) -> TrainingJob:
    shutil.copytree(trained / "models", models, ignore=shutil.ignore_patterns("VGG*"))
    data = datasets.load(trained / "images")
    split = folds.load_or_make(models / ensembles.FOLDS, data, BOOSTING.folds, BOOSTING.fold_seed)
    return TrainingJob(trained / "descriptors", models, split, samples.TRAINED.configurations)


def test_models_trained_in_the_background_are_the_same_and_a_stop_leaves_them(trained, tmp_path):
    models = tmp_path / "models"
    to_do = job(trained, models)

    def train_one_and_stop():
        with background.training(to_do, BOOSTING, 1) as train:
            train(("VGG-0.5-32",))
            deadline = time.monotonic() + 120
            while len(contents(models, "VGG*/seed*.txt")) < 6 and time.monotonic() < deadline:
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_one_and_stop()
    assert contents(models, "VGG*/seed*") == contents(trained / "models", "VGG-0.5-32/seed*")
    assert not (models / ".shared").exists()


def test_training_beside_other_work_gives_way_and_tells_how_many_models_it_finished(
    trained, tmp_path, monkeypatch, capsys
):
    to_do = job(trained, tmp_path / "models")
    niceness = []

    def train_two_and_stop(part, boosting, workers):
        for seed in range(2):
            path = ensembles.model_path(part.models, *part.configurations, seed, 0)
            ensembles.save_model(path, "", np.zeros((1, 1, 2)))
        raise KeyboardInterrupt

    monkeypatch.setattr(background.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(background.processes, "exit_when_parent_dies", lambda parent: None)
    monkeypatch.setattr(background.os, "nice", niceness.append)
    monkeypatch.setattr(boost, "train", train_two_and_stop)
    queue = types.SimpleNamespace(get=lambda: ("VGG-0.5-32",))
    background._train(queue, to_do, BOOSTING, 1, 0)
    (told,) = capsys.readouterr().out.splitlines()
    assert told.startswith("training: VGG-0.5-32, 2 models, ")
    assert niceness == [background._NICENESS]


@pytest.mark.parametrize(
    ("overlap", "platform", "is_beside"),
    [(None, "cpu", False), (True, "cpu", True), (None, "accelerator", True)]
    + [(False, "accelerator", False)],
)
def test_training_is_beside_extraction_on_an_accelerator_or_where_asked_for(
    trained, tmp_path, monkeypatch, overlap, platform, is_beside
):
    begun = []

    @contextlib.contextmanager
    def training(job, boosting, workers):
        begun.append(job)
        yield lambda configurations: None

    monkeypatch.setattr(background, "training", training)
    monkeypatch.setattr(boost, "train", lambda *arguments: 0)
    monkeypatch.setattr(pipeline, "by_configuration", lambda encoder_set: [encoder_set])
    nothing = types.SimpleNamespace(extracted=0, seconds=0.0)
    monkeypatch.setattr(pipeline.extract, "extract_images", lambda *arguments: nothing)
    plan = types.SimpleNamespace(
        job=job(trained, tmp_path / "models"),
        protocol=Protocol(samples.TRAINED, BOOSTING),
        dataset=datasets.load(trained / "images"),
        overlap=overlap,
        workers=1,
        mpp=None,
    )
    engine = types.SimpleNamespace(platform=platform)
    encoder_set = types.SimpleNamespace(engine=engine, extraction=samples.TRAINED)
    pipeline.describe_and_train(plan, encoder_set)
    assert len(begun) == is_beside


def test_a_configuration_is_trained_once_all_its_images_are_there(
    trained, tmp_path, monkeypatch, capsys
):
    seen = []

    @contextlib.contextmanager
    def training(job, boosting, workers):
        yield lambda configurations: seen.append(
            (configurations, sorted(contents(job.descriptors, "*/*.npy")))
        )

    monkeypatch.setattr(background, "training", training)
    monkeypatch.setattr(boost, "train", lambda *arguments: seen.append("the rest"))
    one = job(trained, tmp_path / "models")
    plan = pipeline.Plan(
        run=tmp_path,
        source=trained / "images",
        dataset=datasets.load(trained / "images"),
        split=one.folds,
        protocol=Protocol(samples.TRAINED, BOOSTING),
        overlap=True,
    )
    pipeline.describe_and_train(plan, pipeline.load_encoders(plan.dataset.images, samples.TRAINED))
    first, second, last = seen
    names = [name for name, _ in (first, second)]
    assert names == [("VGG-0.5-32",), ("VGG-0.5-40",)]
    assert (len(first[1]), len(second[1]), last) == (18, 36, "the rest")
    assert contents(tmp_path, "descriptors/*/*.npy") == contents(trained, "descriptors/*/*.npy")
    clock = r"\d\d:\d\d:\d\d"
    told = re.findall(rf"^extraction: (\S+), {clock} to {clock}$", capsys.readouterr().out, re.M)
    assert told == ["VGG-0.5-32", "VGG-0.5-40"]
