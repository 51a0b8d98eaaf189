"""Every reader of files, with samples of what it reads: the table that the campaigns go through."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from histojax import datasets
from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset, groups, kather, paper_folds, tables, tfds, unlabelled
from histojax.datasets import folds as splits
from histojax.evaluation import labelled_predictions, test_set
from histojax.extraction import manifests, store
from histojax.features import arrays, feature_sets
from histojax.images import reader, slide
from histojax.learners import ensembles, scoring
from histojax.prediction import bundle, outputs
from histojax.prediction.uncertainty import PredictionOptions
from histojax.utils import archive, array_files
from histojax.utils.array_files.stored import read_float32
from tests.reliability import fuzz_samples as samples
from tests.reliability import fuzz_trained as trained
from tests.reliability.fuzz_samples import Sample


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads files of a kind.

    Attributes:
      samples: sound files by kind; made at the first call.
      read: reads all that is in a folder, as a step of the pipeline does.
      sealed: whether the files carry a checksum, so that no change may be read.
      heavy: whether it needs packages that take seconds to import; left out of short runs.
    """

    samples: Callable[[], dict[str, Sample]]
    read: Callable[[Path], Any]
    sealed: bool = False
    heavy: bool = False


def _only(folder: Path, pattern: str = "*.*") -> Path:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())[0]


def _image(folder: Path) -> None:
    path = _only(folder)
    size = slide.size(path)
    whole = reader.read(path)
    slide.pixel_sides(path)
    with slide.open_slide(path) as opened:
        assert opened.size == whole.shape[:2] == size
        small = opened.thumbnail(16)
        assert opened.read(0, 0, *opened.size).shape == whole.shape
    assert whole.dtype == small.dtype == np.uint8


def _slide(folder: Path) -> None:
    path = _only(folder)
    slide.digest(path)
    slide.pixel_sides(path)
    with slide.open_slide(path) as opened:
        opened.thumbnail(64)
        height, width = opened.size
        opened.read(0, 0, min(height, 300), min(width, 300))
        for level in opened.coarser:
            level.read_window(0, 0, *(min(side, 300) for side in level.size))


def _descriptors(folder: Path) -> None:
    names = store.image_names(folder, trained.CONFIGURATION)
    store.read(folder, trained.CONFIGURATION, names)
    store.width(folder, trained.CONFIGURATION)
    store.pixel_sizes(folder)
    made = manifests.read(folder, trained.CONFIGURATION)
    manifests.differences(made, trained.manifest())
    manifests.weights_text([made])
    manifests.extraction_of({trained.CONFIGURATION: made}, str(folder))


def _features(folder: Path) -> None:
    path = _only(folder)
    for contents in arrays.contents(path):
        assert sum(map(len, contents.blocks())) == contents.rows
    feature_sets.find([path], "encoder")


def _weights(folder: Path) -> None:
    with array_files.open_arrays(_only(folder)) as (_, arrays):
        for name, array in arrays.items():
            values = read_float32(name, array) if array.is_floating else array.load()
            assert values.shape == array.shape


def _labels(folder: Path) -> None:
    loaded = datasets.load(_only(folder, "table.*"))
    splits.make(loaded, 2, 0)


def _unlabelled(folder: Path) -> None:
    unlabelled.find_images([_only(folder, "table.*")])


def _groups(folder: Path) -> None:
    groups.read(_only(folder, "table.*"), ("a", "b", "c"))


def _predictions_table(folder: Path) -> None:
    labelled_predictions.load(_only(folder, "table.*"))


def _models(folder: Path) -> None:
    ensemble = ensembles.load(folder)
    for name in ensemble.configurations:
        ensembles.out_of_fold(ensemble, name)
        if test_set.load(ensemble) is not None:
            test_set.load_scores(ensemble, name)
    ensembles.training_seconds(ensemble)
    scoring.load_models(ensemble).score(
        {name: np.zeros((1, 2, 4), np.float32) for name in ensemble.configurations}
    )
    manifests.extraction_of(ensemble.extractions, str(folder))


_CHANNELS = {"trees": 4, "xgboost": 2, "linear": 3, "hidden": 4}


def _model(folder: Path) -> None:
    path = _only(folder)
    kinds = {".txt": ("trees",), ".json": ("xgboost",), ".npz": ("linear", "hidden")}
    learner = kinds[path.suffix][path.suffix == ".npz" and path.stat().st_size > 800]
    scoring.score(learner, path, np.zeros((1, 2, _CHANNELS[learner]), np.float32))


def _bundle(folder: Path) -> None:
    made = bundle.load(_only(folder, "*.histojax"))
    for configuration in made.configurations:
        made.score(configuration, np.zeros((1, 2, 4), np.float32))
    assert made.extraction.encoders
    assert made.temperature > 0


def _bundle_of_parts(folder: Path) -> None:
    parts = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".histojax"
    }
    archive.write(folder / "made.histojax", bundle.KIND, bundle.FORMAT_VERSION, parts)
    _bundle(folder)


_BACH = Dataset(
    {name: Path(name) for name in samples.PAPER_NAMES},
    tuple(samples.PAPER_LABELS.tolist()),
    BACH_CLASSES,
)


def _paper_folds(folder: Path) -> None:
    paper_folds.load(_only(folder), _BACH)


def _kather(folder: Path) -> None:
    kather.unpack(_only(folder), folder / "unpacked", 1)
    kather.tiles_per_class(folder / "unpacked" / kather.LABELS)


@functools.cache
def known_bundle() -> bundle.Bundle:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.histojax"
        path.write_bytes(trained.bundles()["bundle"]["mine.histojax"])
        return bundle.load(path)


def _predictions(folder: Path) -> None:
    with outputs.open_writer(known_bundle(), folder, PredictionOptions()) as writer:
        writer.finish({"a", "b"}, {"c": "a cause"})


def _tfds(folder: Path) -> None:
    tables.read(tfds.label_table("slides", folder, cache=folder / "cache"))


READERS = {
    "images": Reader(samples.images, _image),
    "slides": Reader(samples.whole_slides, _slide),
    "descriptors": Reader(trained.descriptors, _descriptors),
    "features": Reader(samples.feature_files, _features),
    "weights": Reader(samples.weight_files, _weights),
    "labels": Reader(samples.tables, _labels),
    "lists": Reader(samples.tables, _unlabelled),
    "groups": Reader(samples.tables, _groups),
    "prediction-tables": Reader(samples.tables, _predictions_table),
    "ensembles": Reader(trained.models, _models),
    "models": Reader(trained.model_files, _model),
    "bundles": Reader(trained.bundles, _bundle, sealed=True),
    "bundle-parts": Reader(trained.bundle_parts, _bundle_of_parts),
    "paper-folds": Reader(samples.paper_folds, _paper_folds),
    "zips": Reader(samples.published_zips, _kather),
    "predictions": Reader(trained.predictions, _predictions),
    "TFDS": Reader(trained.tfds, _tfds, heavy=True),
}
