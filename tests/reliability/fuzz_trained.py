"""Samples that take training: descriptors, ensembles, models, bundles, predictions; a TFDS set."""

import dataclasses
import functools
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from histojax.config import Boosting, Extraction, View
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.evaluation import test_set
from histojax.extraction import manifests, store
from histojax.extraction.store import StainQCRow
from histojax.learners import boost, ensembles, xgboost_trees
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, outputs
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import archive, files
from tests.reliability.fuzz_samples import Sample, images, of_folder, undated

CONFIGURATION, CLASSES = "VGG-0.5-400", ("benign", "malignant")
NAMES = tuple(f"image{i:02d}" for i in range(12))
_LABELS = np.arange(12) % 2


@functools.cache
def _made(which: str) -> dict[str, dict[str, Sample]]:
    """Samples that a process of its own makes: OpenMP, which training uses, does not fork."""
    with tempfile.TemporaryDirectory() as folder:
        path, root = Path(folder) / "samples", Path(__file__).parents[2]
        command = [sys.executable, "-m", "tests.reliability.fuzz_trained", which, str(path)]
        subprocess.run(command, cwd=root, capture_output=True, check=True)
        return pickle.loads(path.read_bytes())


def _folds() -> Folds:
    groups = tuple(f"g{i // 2}" for i in range(12))
    return Folds(NAMES, _LABELS, np.arange(12) % 3, CLASSES, groups, "made up")


def manifest() -> dict:
    """Of descriptors that were extracted."""
    extraction = Extraction(encoders=("VGG",), views=(View(0.5, 400),), augmentations=2, crops=1)
    view = extraction.views[0]
    made = manifests.of(extraction, "VGG", view, "imagenet", f"{7:064x}")
    return made | {"versions": {"numerics": manifests.NUMERICS, "jax": "0.10.2"}}


def write_descriptors(root: Path) -> None:
    """Descriptors of 12 images with their manifest, stain_qc.csv and the like."""
    rng = np.random.default_rng(0)
    for name, label in zip(NAMES, _LABELS, strict=True):
        values = rng.normal(label, 0.5, (2, 4)).astype(np.float32)
        store.write(root, CONFIGURATION, name, values)
    rows = [StainQCRow(n, "0.5", 0.5, 30.0, 1.9, 1.0, "ok", "ab" * 32) for n in NAMES]
    store.write_stain_qc(root, {(row.image, row.scale): row for row in rows})
    files.write_json(root / CONFIGURATION / "manifest.json", manifest())


@functools.cache
def descriptors() -> dict[str, Sample]:
    """A folder of descriptors."""
    return {"descriptors": of_folder(write_descriptors)}


def _train(root: Path, boost_by: str) -> Boosting:
    boosting = Boosting(folds=3, seeds=1, rounds=2, boost=boost_by)
    split, models = _folds(), root / "models"
    folds.save(split, models / ensembles.FOLDS)
    write_descriptors(root / "descriptors")
    job = TrainingJob(root / "descriptors", models, split, (CONFIGURATION,))
    (missing,) = job.start(boosting.learner, boosting).values()
    for task in boost.prepare_tasks(job, CONFIGURATION, missing, boosting, root):
        boost.run_task(task)
    ensembles.record_training_time(models, ("2026-01-01", 3, 12.5, 1, "a machine"))
    return boosting


def _ensemble(root: Path, boost_by: str = "fast") -> None:
    """Models with all that may stand beside them."""
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder), boost_by)
        for path in (path for path in (Path(folder) / "models").rglob("*.*") if path.is_file()):
            target = root / path.relative_to(Path(folder) / "models")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    tested = test_set.TestSet(("x", "y"), CLASSES, ("g", "h"))
    test_set.save(root / test_set.TABLE, tested)
    for path in [*root.glob("*/seed*.npy")]:
        model = path.with_suffix(".txt")
        files.write_array(test_set.scores_path(model), np.full((2, 2, 2), 0.5))


def _probe(root: Path) -> None:
    """Heads in place of trees."""
    _ensemble(root)
    path = root / ensembles.MANIFEST
    files.write_json(path, files.read_json(path, ()) | {"learner": "linear"})
    for model in [*root.glob("*/seed*.txt")]:
        head = {"kernel": np.eye(4, 2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
        files.write_arrays(model.with_suffix(".npz"), head)
        model.unlink()


@functools.cache
def _make_models() -> dict[str, Sample]:
    """Ensembles of LightGBM's trees and of linear heads."""
    return {"trees": of_folder(_ensemble), "linear": of_folder(_probe)}


@functools.cache
def _make_model_files() -> dict[str, Sample]:
    """One model of each learner."""
    trees = next(v for k, v in _make_models()["trees"].items() if k.endswith("fold01.txt"))
    values = np.arange(24, dtype=np.float32).reshape(12, 1, 2)
    held_out, given = np.arange(12) < 4, Boosting(rounds=2, boost="xgboost")
    parameters = xgboost_trees.parameters(given, 2, 0, 0, 8)
    text, _ = xgboost_trees.fit(values, held_out, _LABELS, parameters, 2)
    layers = {"hidden_kernel": (4, 3), "hidden_bias": (3,), "kernel": (3, 2), "bias": (2,)}
    hidden = {name: np.ones(shape, np.float32) for name, shape in layers.items()}
    linear = {name: hidden[name] for name in ("kernel", "bias")}
    return {
        "trees": {"model.txt": trees},
        "xgboost": {"model.json": text.encode()},
        "linear": {"model.npz": undated(archive.to_npz(linear))},
        "hidden": {"model.npz": undated(archive.to_npz(hidden))},
    }


@functools.cache
def _make_bundles() -> dict[str, Sample]:
    """A bundle as one file."""
    return {"bundle": of_folder(lambda root: _bundle(root, root / "mine.histojax"))}


def _bundle(root: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder)
        _train(trained, "fast")
        made = bundle.from_models(trained / "models", ("malignant",), 0.9, trained / "descriptors")
        weights = {"VGG": {"conv/kernel": np.ones((3, 3), np.float32)}}
        made = dataclasses.replace(made, about=made.about | {"created": "2026-01-01"})
        bundle.write(path, made, trained / "models", "a card", weights)


@functools.cache
def bundle_parts() -> dict[str, Sample]:
    """The parts of a bundle, each a file, from which another is sealed."""
    (content,) = bundles()["bundle"].values()
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        names = [name for name in opened.namelist() if name != archive.CONTENTS]
        return {"parts": {name: opened.read(name) for name in names}}


@functools.cache
def _make_predictions() -> dict[str, Sample]:
    """The files of a prediction that was stopped, by the models of `bundles`."""
    return {"run": of_folder(_predicted)}


def _predicted(root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.histojax"
        path.write_bytes(_make_bundles()["bundle"]["mine.histojax"])
        made = bundle.load(path)
    scores = dict.fromkeys(CLASSES, 0.5)
    known = {"probabilities": scores, "prediction_set": CLASSES, "abstain": ("too far",)}
    numbers = {"positive_score": 0.5, "positive": True, "stain_p": 0.25, "descriptors_p": None}
    spreads = {"spread_augmentations": 0.125, "spread_models": 0.0}
    with outputs.open_writer(made, root, PredictionOptions()) as writer:
        for name in ("a", "b", "c"):
            prediction = Prediction(
                image=name, file=f"{name}.png", predicted="benign", **known, **numbers, **spreads
            )
            writer.add(prediction, "ab" * 32)


def _make_tfds() -> dict[str, Sample]:
    """Four labelled images as TFDS prepares them, with its metadata."""
    import tensorflow_datasets
    from tensorflow_datasets import features

    encoded = images()["png"]["image.png"]

    class Slides(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            known = {"image": features.Image(), "label": features.ClassLabel(names=CLASSES)}
            of_text = {"name": features.Text(), "patient": features.Text()}
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=features.FeaturesDict(known | of_text)
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, name in enumerate("abcd"):
                texts = {"name": f"{name}.png", "patient": f"p{i // 2}"}
                yield i, {"image": encoded, "label": i % 2} | texts

    Slides.name = "slides"
    write = lambda root: Slides(data_dir=root, file_format="array_record").download_and_prepare()  # noqa: E731
    return {"array_record": of_folder(write)}


# What takes a process of its own, by the name of the function that gives it.
_TRAINED = {
    "models": _make_models,
    "model_files": _make_model_files,
    "bundles": _make_bundles,
    "predictions": _make_predictions,
}
models, model_files, bundles, predictions = (
    functools.partial(lambda name: _made("trained")[name], name) for name in _TRAINED
)


def tfds() -> dict[str, Sample]:
    """A data set that TFDS prepared."""
    return _made("tfds")["tfds"]


if __name__ == "__main__":
    makers = _TRAINED if sys.argv[1] == "trained" else {"tfds": _make_tfds}
    samples = pickle.dumps({name: make() for name, make in makers.items()})
    Path(sys.argv[2]).write_bytes(samples)
