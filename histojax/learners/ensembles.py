"""An ensemble on disk, whatever its learner: its models, their scores, and what it was made of.

<models>/manifest.json            classes, learner, its parameters, seeds, identity of the split
<models>/folds.csv, folds.json    who was held out when, and how that was decided
<models>/times.csv                how long each run of training took
<models>/test.csv                 images of a test set, with labels where they are known
<models>/<configuration>/manifest.json            its descriptors, and how they were made
<models>/<configuration>/seed0-fold01.txt         a model: LightGBM's text, XGBoost's
                                                  .json, or .npz of arrays
<models>/<configuration>/seed0-fold01.npy         its scores of held-out images: float64 [n, A, K]
<models>/<configuration>/seed0-fold01.test.npy    its scores of the test set: float64 [T, A, K]

A learner that is added needs a row in `LEARNERS`, and a module that writes models and scores in
this form by `save_model`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histojax.config import in_order
from histojax.datasets import folds as splits
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import manifest_form, manifests, modules
from histojax.extraction.provenance import is_imported
from histojax.learners import heads, trees, xgboost_trees
from histojax.utils import files
from histojax.utils.array_files import npz

MANIFEST = "manifest.json"
FOLDS = "folds.csv"
TIMES = "times.csv"
# What decides nothing: the file of an encoder's weights, beside the SHA-256 of its variables; how
# far descriptors are from exact crops.
_MOST_SEEDS = 10_000
_UNDECISIVE = ("extraction.weights.file", "extraction.crop_error")
# What the digests in a manifest mean, for whoever reads that they differ.
_MEANINGS = {
    "folds_sha256": "the split: other images, labels or folds",
    "images_sha256": "the images: one or more of the files have changed since",
    "descriptors_sha256": "the descriptors: made again since, or of other images or features",
}
_TIMES_COLUMNS = ("date", "models", "seconds", "workers", "machine")


class Learner(NamedTuple):
    """How the models of a learner are stored and used.

    Attributes:
      suffix: of a model's file.
      command: of `histojax`, that trains it; reports tell how to run it again.
      parse: the content of a model's file, and its name for messages, to a model; None for a
        learner whose models score images, not descriptors.
      channels: a model to D.
      score: a model and descriptors [N, A, D] to class probabilities, float64 [N, A, K].
    """

    suffix: str
    command: str
    parse: Callable[[bytes, str | Path], Any] | None = None
    channels: Callable[[Any], int] | None = None
    score: Callable[[Any, np.ndarray], np.ndarray] | None = None


LEARNERS = {
    "trees": Learner(".txt", "train", trees.parse, trees.channels, trees.score),
    "xgboost": Learner(
        ".json", "train", xgboost_trees.parse, xgboost_trees.channels, xgboost_trees.score
    ),
    "linear": Learner(".npz", "probe", partial(heads.parse, "linear"), heads.channels, heads.score),
    "hidden": Learner(".npz", "probe", partial(heads.parse, "hidden"), heads.channels, heads.score),
    "finetuned": Learner(".npz", "finetune"),
}

# Where the missing models of a configuration go, by (seed, fold).
MissingModels = dict[tuple[int, int], Path]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A complete ensemble on disk.

    Attributes:
      root: its folder.
      folds: images, labels and folds it was trained on.
      learner: a key of `LEARNERS`.
      parameters: of the learner.
      seeds: S.
      configurations: names such as ResNet-0.5-400.
      extractions: the manifest of each configuration's descriptors, None for the authors'.
    """

    root: Path
    folds: Folds
    learner: str
    parameters: dict[str, Any]
    seeds: int
    configurations: tuple[str, ...]
    extractions: dict[str, manifests.Manifest | None]

    def model(self, configuration: str, seed: int, fold: int) -> Path:
        """The file of a model."""
        return model_path(self.root, configuration, seed, fold, self.learner)

    @property
    def models(self) -> list[Path]:
        """The files of all models, configuration by configuration, seed by seed."""
        return [
            self.root / name
            for configuration in self.configurations
            for name in model_names(configuration, self.seeds, self.folds.count, self.learner)
        ]


def model_names(configuration: str, seeds: int, folds: int, learner: str) -> list[str]:
    """The files of a configuration's models, relative to the ensemble's folder, seed by seed."""
    return [
        model_path(Path(), configuration, seed, fold, learner).as_posix()
        for seed in range(seeds)
        for fold in range(folds)
    ]


def model_path(
    models: Path, configuration: str, seed: int, fold: int, learner: str = "trees"
) -> Path:
    """The file of a model; folds are counted from 1 on disk and from 0 in arrays."""
    return models / configuration / f"seed{seed}-fold{fold + 1:02d}{LEARNERS[learner].suffix}"


def scores_path(model: Path) -> Path:
    """The file of a model's out-of-fold scores."""
    return model.with_suffix(".npy")


def is_finished(model: Path) -> bool:
    """Whether a model and its scores are there."""
    return model.exists() and scores_path(model).exists()


def missing_models(
    models: Path, configuration: str, learner: str, seeds: int, folds: int
) -> MissingModels:
    """The models of a configuration that are still to be trained, seed by seed."""
    paths = {
        (seed, fold): model_path(models, configuration, seed, fold, learner)
        for seed in range(seeds)
        for fold in range(folds)
    }
    return {place: path for place, path in paths.items() if not is_finished(path)}


def save_model(model: Path, content: str | dict[str, np.ndarray], scores: np.ndarray) -> None:
    """Writes the scores of held-out images, float64 [n, A, K], then the model: text or arrays.

    In this order, a model that is there is finished.
    """
    files.write_array(scores_path(model), scores)
    if isinstance(content, str):
        files.write_text(model, content)
    else:
        files.write_arrays(model, content)


def record_ensemble(
    models: Path, folds: Folds, learner: str, parameters: dict[str, Any], seeds: int
) -> None:
    """Records what an ensemble is made of; `folds.csv` must be there already.

    Raises:
      InputError: the folder holds models of another learner, split, or other parameters.
    """
    manifest = {
        "classes": list(folds.classes),
        "learner": learner,
        "parameters": parameters,
        "seeds": seeds,
        "folds_sha256": folds.sha256,
    }
    record_manifest(models / MANIFEST, manifest)


def record_manifest(path: Path, manifest: dict[str, Any], ignored: tuple[str, ...] = ()) -> None:
    """Writes a manifest, or raises InputError if models made with another are there.

    Keys that start with one of `ignored` may differ.
    """
    if not path.exists():
        files.write_json(path, manifest)
        return
    recorded = _upgrade(files.read_json(path, ()))
    lines = files.differences(recorded, manifest)
    lines = [line for line in lines if not line.startswith((*_UNDECISIVE, *ignored))]
    if modules.same(*(made.get("extraction") or {} for made in (recorded, manifest))):
        lines = [line for line in lines if not line.startswith("extraction.module.")]
    # Where learners differ, all else follows from it.
    lines = [line for line in lines if line.startswith("learner")] or lines
    for name, meaning in _MEANINGS.items():
        lines = [f"{line} ({meaning})" if line.startswith(name) else line for line in lines]
    if not lines:
        return
    if any(path.parent.rglob("seed*-fold*")):
        raise InputError(
            f"{path.parent} holds models of other data or parameters; name another folder, or "
            "remove it:\n" + "\n".join(f"  {line}" for line in lines)
        )
    files.write_json(path, manifest)


def digest_of(descriptors: np.ndarray) -> str:
    """SHA-256 of the descriptors that models are trained on, float32 [N, A, D], for a manifest."""
    return hashlib.sha256(descriptors).hexdigest()


def _upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest in today's form; histojax 0.1 had only trees, and called parameters `boosting`."""
    if "boosting" not in manifest:
        return manifest
    rest = {name: value for name, value in manifest.items() if name != "boosting"}
    if not isinstance(manifest["boosting"], dict):
        return rest
    boosting = {"boost": "paper"} | manifest["boosting"]
    return {"learner": "trees", "parameters": boosting, "seeds": boosting.get("seeds")} | rest


def load(models: Path) -> Ensemble:
    """Reads what is in a folder of models; the models themselves are left to `scoring`.

    Raises:
      InputError: there are no models, or the ensemble is not complete.
    """
    models = files.as_path(models)
    if not (models / MANIFEST).exists():
        raise InputError(
            f"{models} holds no trained models (no {MANIFEST}): run histojax train first"
        )
    manifest = _upgrade(files.read_json(models / MANIFEST, ("classes", "folds_sha256")))
    if not _is_sound(manifest):
        raise InputError(
            f"{models / MANIFEST} is damaged, or of a later version: train into another folder"
        )
    folds = splits.load(models / FOLDS, tuple(manifest["classes"]))
    if folds.sha256 != manifest["folds_sha256"]:
        raise InputError(
            f"{models / FOLDS} is not the split the models were trained with: it was changed since"
        )
    # A run may have stopped before a configuration's first model, so its manifest counts too.
    suffix = LEARNERS[manifest["learner"]].suffix
    paths = [*models.glob(f"*/{MANIFEST}"), *models.glob(f"*/seed*{suffix}")]
    configurations = in_order({path.parent.name for path in paths})
    extractions = {name: _extraction(models / name / MANIFEST) for name in configurations}
    made_of = (folds, manifest["learner"], manifest["parameters"], manifest["seeds"])
    ensemble = Ensemble(models, *made_of, configurations, extractions)
    _require_complete(ensemble)
    return ensemble


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the values of an ensemble's manifest may be used."""
    classes, learner, seeds = (manifest.get(key) for key in ("classes", "learner", "seeds"))
    return (
        isinstance(classes, list)
        and all(isinstance(label, str) for label in classes)
        and len(set(classes)) == len(classes)
        and isinstance(learner, str)
        and learner in LEARNERS
        and type(seeds) is int
        and 0 < seeds <= _MOST_SEEDS
        and isinstance(manifest.get("parameters"), dict)
    )


def of_imported(models: Path) -> bool:
    """Whether models in a folder, which may be incomplete, were trained on imported features."""
    paths = models.glob(f"*/{MANIFEST}")
    return any(is_imported(_extraction(path)) for path in paths)


def _extraction(path: Path) -> manifests.Manifest | None:
    """The manifest of the descriptors that the models of a configuration were trained on."""
    extraction = files.read_json(path, ["extraction"])["extraction"]
    manifest_form.check(extraction, path)
    return extraction


def _require_complete(ensemble: Ensemble) -> None:
    """Raises InputError if models or scores are missing."""
    paths = ensemble.models
    if not paths:
        raise InputError(f"{ensemble.root} holds no model yet: run the same training again")
    if missing := [path for path in paths if not is_finished(path)]:
        first = scores_path(missing[0]) if missing[0].exists() else missing[0]
        raise InputError(
            f"{ensemble.root} lacks {len(missing)} of {len(paths)} models or their scores (the "
            f"first: {first}): run the same training again, it continues from there; or remove "
            "the folders of configurations that are not wanted"
        )


def out_of_fold(ensemble: Ensemble, configuration: str) -> np.ndarray:
    """Scores of every held-out image by the models that never saw it: float64 [S, N, A, K].

    The images are those of `ensemble.folds.held_out()`, in its order.

    Raises:
      InputError: scores are damaged, or do not fit the split.
    """
    folds = ensemble.folds.held_out()
    augmentations = read_scores(scores_path(ensemble.model(configuration, 0, 0))).shape[1]
    scores = np.empty((ensemble.seeds, len(folds.names), augmentations, len(folds.classes)))
    for seed in range(ensemble.seeds):
        for fold in range(folds.count):
            path = ensemble.model(configuration, seed, fold)
            in_fold = folds.folds == fold
            of_fold = read_scores(scores_path(path))
            expected = scores[seed, in_fold].shape
            if of_fold.shape != expected:
                raise InputError(
                    f"the scores beside {path} have shape {of_fold.shape}, expected {expected}: "
                    "remove both and train again"
                )
            scores[seed, in_fold] = of_fold
    return scores


def read_scores(path: Path) -> np.ndarray:
    """A model's scores, float64 [N, A, K]; InputError if they are damaged."""
    try:
        scores = npz.read_array(path.read_bytes())
    except Exception as error:  # NumPy's header reader raises many kinds.
        raise InputError(
            f"{path} cannot be read as an array of numbers: remove it and train again"
        ) from error
    if scores.ndim != 3 or not np.isfinite(scores).all():
        raise InputError(
            f"{path} does not hold finite scores (images, augmentations, classes): remove it and "
            "train again"
        )
    if (np.abs(scores.sum(axis=-1) - 1) > 1e-6).any():
        raise InputError(
            f"{path} holds scores that do not sum to 1 over the classes: remove it and train again"
        )
    return scores


def record_training_time(models: Path, row: Iterable[Any]) -> None:
    """Adds a row to times.csv: date, models trained, seconds, workers, machine."""
    earlier = [list(run.values()) for run in read_training_times(models)]
    files.write_csv(models / TIMES, [*earlier, list(row)], _TIMES_COLUMNS)


def read_training_times(models: Path) -> list[dict[str, str]]:
    """The rows of times.csv, one for each run of training; empty if it is not there."""
    path = models / TIMES
    return files.read_csv(path, _TIMES_COLUMNS) if path.exists() else []


def training_seconds(ensemble: Ensemble) -> float | None:
    """Wall seconds of all runs of training; None unless all models are accounted for."""
    runs = read_training_times(ensemble.root)
    try:
        if sum(int(run["models"]) for run in runs) < len(ensemble.models):
            return None  # A run was killed.
        return sum(float(run["seconds"]) for run in runs)
    except ValueError as error:
        raise InputError(
            f"{ensemble.root / TIMES} is damaged ({error}): remove it, and what training took is "
            "unknown"
        ) from error
