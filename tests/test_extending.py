"""The examples of docs/extending.md run as they stand, and what they add works end to end."""

import contextlib
import functools
import importlib
import json
import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import histojax
from histojax import datasets, encoders
from histojax.config import Boosting
from histojax.datasets import folds, synthetic
from histojax.evaluation import metrics
from histojax.extraction import manifests
from histojax.learners import ensembles
from histojax.learners.training import TrainingJob
from histojax.ops import stain
from histojax.utils import files
from tests.running import ROOT, run

pytestmark = pytest.mark.usefixtures("in_this_process")

TABLES = {"NORMALIZERS": stain, "AUGMENTATIONS": stain, "METRICS": metrics, "LEARNERS": ensembles}
TEXT = (ROOT / "docs" / "extending.md").read_text()
SMALL = ("--weights=random", "--views=1.0-32", "--augmentations=2", "--crops=2")


@contextlib.contextmanager
def rows_removed_again():
    tables = [getattr(module, name) for name, module in TABLES.items()] + [encoders.ENCODERS]
    rows = [dict(table) for table in tables]
    yield
    for table, row in zip(tables, rows, strict=True):
        table.clear()
        table.update(row)


@pytest.fixture(autouse=True)
def _rows_are_removed_again():
    with rows_removed_again():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of class folders, four images of each of four classes, and unlabelled ones."""
    folder = tmp_path_factory.mktemp("images")
    synthetic.write_folder(folder, per_class=4, unlabelled=2, height=64, width=64)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """The flag that takes the encoder of the example, in a file of its own."""
    code, layouts = blocks("An encoder")
    exec(layouts, {})
    file = tmp_path_factory.mktemp("encoder") / re.match(r"# (\S+)\n", code)[1]
    file.write_text(code)
    return f"--encoders={file}:ENCODER"


@pytest.fixture(scope="module")
def descriptors(images, encoder, tmp_path_factory):
    """Descriptors of the images by the encoder of the example."""
    out = tmp_path_factory.mktemp("descriptors")
    with rows_removed_again():
        extract(images, out, encoder)
    return out


@pytest.fixture(scope="module")
def normalised(images, encoder, tmp_path_factory):
    """Descriptors by the stain normaliser of the example, too."""
    out = tmp_path_factory.mktemp("normalised")
    with rows_removed_again():
        add("A stain normaliser")
        extract(images, out, encoder, "--stain_normalizer=reinhard")
    return out


def blocks(section: str) -> list[str]:
    """The code of a section."""
    text = re.search(rf"^## {section}$.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@functools.cache
def run_code(section: str) -> tuple[str, Path, dict]:
    """Runs a section's code: its row, the file that the code is for, and the names afterwards.

    Code for a file that exists runs with the names of that file, and may not redefine any.
    """
    code, row = blocks(section)
    path = Path(re.match(r"# (\S+)\n", code)[1])
    name, file = ".".join(path.with_suffix("").parts), ROOT / path
    known = dict(vars(importlib.import_module(name))) if file.exists() else {"__name__": name}
    scope = dict(known)
    exec(compile(code, path, "exec"), scope)
    assert file.exists() or not row.count(f"{path}, ")
    assert all(scope[key] is known[key] for key in known)
    return row, path, scope


def add(section: str) -> types.SimpleNamespace:
    """Puts a section's row where its first line says; the names that its code defines."""
    row, path, scope = run_code(section)
    place, table = re.match(r"# (\S+), (\w+)\n", row).groups()
    module = TABLES[table]
    assert (ROOT / place).samefile(module.__file__)
    added = types.SimpleNamespace(**scope)
    names = vars(module) | (scope if (ROOT / path).exists() else {path.stem: added})
    getattr(module, table).update(eval(f"{{{row}}}", names))
    return added


def succeed(script: str, *arguments: object) -> str:
    done = run(script, *arguments)
    assert done.returncode == 0, (script, done.stderr)
    return done.stdout


def extract(images, out, *flags: str) -> np.ndarray:
    """The descriptors of a first image."""
    data = images / "train"
    succeed("extract", f"--data={data}", f"--descriptors={out}", *SMALL, *flags)
    return first(out)


def first(descriptors) -> np.ndarray:
    """The descriptors of a first image."""
    return np.load(min(descriptors.glob("*/*.npy")))


def test_an_encoder_is_a_file(images, descriptors, encoder, tmp_path):
    assert first(descriptors).shape == (2, 96)
    assert first(descriptors).std() > 0
    hybrid = extract(images, tmp_path / "h", encoder, "--crop_mode=hybrid")
    assert hybrid.shape == (2, 96)
    module = manifests.read(descriptors, "SmallNet-1.0-32")["module"]
    assert module["reference"] == "smallnet.py:ENCODER"
    assert module["file_sha256"] == files.sha256(
        Path(encoder.split("=")[1].removesuffix(":ENCODER"))
    )


@pytest.mark.parametrize(
    ("flag", "name"), [("stain_normalizer", "reinhard"), ("stain_augmentation", "channels")]
)
def test_a_stain_step_without_a_row_is_refused(images, tmp_path, flag, name):
    refused = run(
        "extract",
        f"--images={images / 'unlabelled'}",
        f"--descriptors={tmp_path}",
        f"--{flag}={name}",
    )
    assert refused.returncode != 0
    assert name in refused.stderr


def assert_other_descriptors(before, after, **recorded: str) -> None:
    """They differ, and the manifest says by what."""
    assert np.isfinite(first(after)).all()
    assert not np.allclose(first(before), first(after))
    protocol = manifests.read(after, "SmallNet-1.0-32")["protocol"]
    assert recorded.items() <= protocol.items()


def test_a_stain_normaliser_is_functions_and_a_row(descriptors, normalised):
    assert_other_descriptors(descriptors, normalised, stain_normalizer="reinhard")


def test_an_augmentation_is_functions_and_a_row_and_all_predict_and_map(
    images, normalised, encoder, tmp_path
):
    for section in ("A stain normaliser", "An augmentation"):
        add(section)
    steps = {"stain_normalizer": "reinhard", "stain_augmentation": "channels"}
    flags = [f"--{flag}={name}" for flag, name in steps.items()]
    extract(images, tmp_path / "after", encoder, *flags)
    assert_other_descriptors(normalised, tmp_path / "after", **steps)
    succeed(
        *("train", f"--data={images / 'train'}", f"--descriptors={tmp_path / 'after'}"),
        *(f"--models={tmp_path / 'm'}", "--folds=2", "--seeds=1", "--rounds=3", "--workers=1"),
    )
    for script in ("predict", "heatmap"):
        augmentations = ("--augmentations=1",) if script == "heatmap" else ()
        succeed(
            *(script, f"--models={tmp_path / 'm'}", f"--images={images / 'unlabelled'}"),
            *(f"--out={tmp_path / script}", "--positive_classes=Invasive", *augmentations, encoder),
        )
    assert (tmp_path / "predict" / "predictions.csv").exists()
    assert len(list((tmp_path / "heatmap").glob("*/grid.npy"))) == 2


def test_reinhard_brings_tissue_to_its_target():
    module = add("A stain normaliser")
    rgb = synthetic.render("Benign", 0, 128, 128)
    normalised, quality = jax.jit(stain.NORMALIZERS["reinhard"].normalize)(rgb)
    before, density = (
        -np.log((np.asarray(image).reshape(-1, 3) + 1.0) / stain.WHITE)
        for image in (rgb, normalised)
    )
    assert int(quality.status) == 0
    mean = density[(before >= stain.TISSUE_DENSITY).all(axis=1)].mean(axis=0)
    np.testing.assert_allclose(mean, module.TARGET_MEAN, atol=0.03)


def test_a_metric_is_a_function_and_a_row(tmp_path):
    add("A metric")
    (tmp_path / "scores.csv").write_text(
        "image,label,p_a,p_b,p_c\n" + "x,a,.6,.3,.1\ny,b,.6,.3,.1\nz,c,.6,.3,.1\nw,c,.1,.1,.8\n"
    )
    out = succeed("score", f"--scores={tmp_path / 'scores.csv'}", f"--out={tmp_path / 'out'}")
    assert "Top-two accuracy" in out
    numbers = (tmp_path / "out").glob("*.json")
    assert "top_two_accuracy" in json.dumps([json.loads(path.read_text()) for path in numbers])


def test_a_learner_is_a_module_and_a_row(images, descriptors, encoder, tmp_path):
    centroid = add("A learner")
    models = tmp_path / "m"
    dataset = datasets.load(images / "train")
    split = folds.load_or_make(models / ensembles.FOLDS, dataset, 2, Boosting.fold_seed)
    job = TrainingJob(descriptors, models, split, ("SmallNet-1.0-32",))
    assert centroid.train(job, centroid.Centroid()) == 2
    assert centroid.train(job, centroid.Centroid()) == 0
    assert "accuracy" in succeed(
        "evaluate", f"--models={models}", f"--report={tmp_path / 'report'}"
    )
    bundle = tmp_path / "centroid.histojax"
    succeed("bundle", f"--models={models}", f"--descriptors={descriptors}", f"--out={bundle}")
    predict = "predict", f"--bundle={bundle}", f"--images={images / 'unlabelled'}"
    refused = run(*predict, f"--out={tmp_path / 'p'}")
    assert refused.returncode == 1
    assert "needs the module of its encoder SmallNet, smallnet.py:ENCODER" in refused.stderr
    assert "SmallNet: an encoder of smallnet.py:ENCODER" in bundle.with_suffix(".md").read_text()
    assert "SmallNet is of smallnet.py:ENCODER" in succeed(
        *predict, f"--out={tmp_path / 'p'}", encoder
    )
    code, _ = blocks("An encoder")
    (tmp_path / "other.py").write_text(code.replace('name="SmallNet"', 'name="Other"'))
    other = run(*predict, f"--out={tmp_path / 'p'}", f"{encoder},{tmp_path / 'other.py'}:ENCODER")
    assert "--encoders names Other, expected of the encoders of" in other.stderr
    del encoders.ENCODERS["SmallNet"]
    model = histojax.load_bundle(bundle, encoders=encoder.removeprefix("--encoders="))
    assert model.bundle.extraction.encoders == ("SmallNet",)
    assert "SmallNet" in encoders.ENCODERS
    assert len((tmp_path / "p" / "predictions.csv").read_text().splitlines()) == 3
