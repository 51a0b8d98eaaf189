"""An ensemble on disk, whatever its learner: a model per (configuration, seed, fold), and its scores of unseen images.

<models>/manifest.json                    classes, learner, its parameters, seeds, the identity of the split
<models>/folds.csv, folds.json            who was held out when, and how that was decided
<models>/times.csv                        what each run of training took
<models>/<configuration>/manifest.json    what its descriptors were, and what they were made with
<models>/<configuration>/seed0-fold01.txt    a model: LightGBM's text of trees, .npz of anything else
<models>/<configuration>/seed0-fold01.npy    its scores of the images it never saw: float64 [N in fold, A, K]
<models>/test.csv                         images of a test set, with labels where they are known
<models>/<configuration>/seed0-fold01.test.npy    a model's scores of the test set: float64 [T, A, K]
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import in_order
from histojax.datasets import folds as splits
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.utils import files

MANIFEST = "manifest.json"
FOLDS = "folds.csv"
TIMES = "times.csv"
TIMES_COLUMNS = ("date", "models", "seconds", "workers", "machine")

# The ending of a model's file, by learner.
SUFFIXES = {"trees": ".txt", "linear": ".npz", "hidden": ".npz", "finetuned": ".npz"}


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A trained ensemble on disk, complete.

    Attributes:
      root: its folder.
      folds: images, labels and folds it was trained on.
      learner: a key of `SUFFIXES`.
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
    extractions: dict[str, store.Manifest | None]

    def model(self, configuration: str, seed: int, fold: int) -> Path:
        """Where a model is."""
        return model_path(self.root, configuration, seed, fold, self.learner)

    @property
    def models(self) -> list[Path]:
        """Where all are, configuration by configuration, seed by seed."""
        return [
            self.model(configuration, seed, fold)
            for configuration in self.configurations
            for seed in range(self.seeds)
            for fold in range(self.folds.count)
        ]


def model_names(configuration: str, seeds: int, folds: int, learner: str) -> list[str]:
    """Where the models of a configuration are below the ensemble's folder, seed by seed."""
    return [
        model_path(Path(), configuration, seed, fold, learner).as_posix()
        for seed in range(seeds)
        for fold in range(folds)
    ]


def model_path(
    models: Path, configuration: str, seed: int, fold: int, learner: str = "trees"
) -> Path:
    """Where a model is; its folds are counted from 1 on disk and from 0 in arrays."""
    return models / configuration / f"seed{seed}-fold{fold + 1:02d}{SUFFIXES[learner]}"


def scores_path(model: Path) -> Path:
    """Where a model's out-of-fold scores are."""
    return model.with_suffix(".npy")


def is_finished(model: Path) -> bool:
    """Whether a model and its scores are there."""
    return model.exists() and scores_path(model).exists()


def save_model(model: Path, content: str | dict[str, np.ndarray], scores: np.ndarray) -> None:
    """Writes a model's scores, then the model, text or arrays: what has a model file is finished."""
    files.write_array(scores_path(model), scores)
    if isinstance(content, str):
        files.write_text(model, content)
    else:
        files.write_arrays(model, content)


def record_ensemble(
    models: Path, folds: Folds, learner: str, parameters: dict[str, Any], seeds: int
) -> None:
    """Records what an ensemble is made of, or refuses to mix it with another; `folds.csv` must be there already.

    Raises:
      InputError: the folder holds models of another learner, split, or other parameters.
    """
    wanted = {
        "classes": list(folds.classes),
        "learner": learner,
        "parameters": parameters,
        "seeds": seeds,
        "folds_sha256": folds.sha256,
    }
    record_manifest(models / MANIFEST, wanted)


def load_training_descriptors(
    models: Path, configuration: str, descriptors_root: Path, folds: Folds
) -> np.ndarray:
    """The descriptors to train on, float32 [N, A, D]; records what they are, or refuses where models are of others.

    Raises:
      InputError: they are missing, damaged, or not those the models in the folder were trained on.
    """
    descriptors = store.read(descriptors_root, configuration, folds.names)
    wanted = {
        "shape": list(descriptors.shape),
        "descriptors_sha256": hashlib.sha256(descriptors).hexdigest(),
        "extraction": store.read_manifest(descriptors_root, configuration),
    }
    record_manifest(models / configuration / MANIFEST, wanted)
    return descriptors


def record_manifest(path: Path, wanted: dict[str, Any]) -> None:
    """Writes a manifest, or refuses where models are there that were made with another."""
    if not path.exists():
        files.write_json(path, wanted)
        return
    lines = files.differences(upgraded(files.read_json(path, ())), wanted)
    lines = [
        line for line in lines if line.startswith("learner")
    ] or lines  # The rest follows from it.
    if lines and not any(path.parent.rglob("seed*-fold*")):  # Without models it binds nobody.
        files.write_json(path, wanted)
    elif lines:
        raise InputError(
            f"{path.parent} holds models of other data or parameters; name another folder, or remove it:\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest in today's form; histojax 0.1 knew trees alone and called their parameters `boosting`."""
    if "boosting" not in manifest:
        return manifest
    rest = {name: value for name, value in manifest.items() if name != "boosting"}
    boosting = {"boost": "paper"} | manifest["boosting"]
    return {"learner": "trees", "parameters": boosting, "seeds": boosting.get("seeds")} | rest


def load(models: Path) -> Ensemble:
    """Opens a folder of models.

    Raises:
      InputError: not such a folder, or the ensemble is not complete.
    """
    if not (models / MANIFEST).exists():
        raise InputError(
            f"{models} holds no trained models (no {MANIFEST}): run histojax train first"
        )
    found = upgraded(files.read_json(models / MANIFEST, ("classes", "folds_sha256")))
    if found.get("learner") not in SUFFIXES or not isinstance(found.get("seeds"), int):
        raise InputError(
            f"{models / MANIFEST} is damaged, or of a later version: train into another folder"
        )
    folds = splits.load(models / FOLDS, tuple(found["classes"]))
    if folds.sha256 != found["folds_sha256"]:
        raise InputError(
            f"{models / FOLDS} is not the split the models were trained with: it was changed since"
        )
    # By what was claimed too, not only by what is there: a run may have stopped before a configuration's first model.
    there = [*models.glob(f"*/{MANIFEST}"), *models.glob(f"*/seed*{SUFFIXES[found['learner']]}")]
    configurations = in_order({path.parent.name for path in there})
    extractions = {
        name: files.read_json(models / name / MANIFEST, ["extraction"])["extraction"]
        for name in configurations
    }
    ensemble = Ensemble(
        models,
        folds,
        found["learner"],
        found["parameters"],
        found["seeds"],
        configurations,
        extractions,
    )
    paths = ensemble.models
    missing = [path for path in paths if not is_finished(path)]
    if not paths:
        raise InputError(f"{models} holds no model yet: run the same training again")
    if missing:
        first = scores_path(missing[0]) if missing[0].exists() else missing[0]
        raise InputError(
            f"{models} lacks {len(missing)} of {len(paths)} models or their scores (the first: {first}): run the same "
            "training again, it goes on from there; or remove the folders of configurations that are not wanted"
        )
    return ensemble


def out_of_fold(ensemble: Ensemble, configuration: str) -> np.ndarray:
    """Scores of every judged image by the models that never saw it: float64 [S, N, A, K].

    The images are those of `ensemble.folds.held_out()`, in its order.
    """
    folds = ensemble.folds.held_out()
    augmentations = read_scores(scores_path(ensemble.model(configuration, 0, 0))).shape[1]
    scores = np.empty((ensemble.seeds, len(folds.names), augmentations, len(folds.classes)))
    for seed in range(ensemble.seeds):
        for fold in range(folds.count):
            path = ensemble.model(configuration, seed, fold)
            found, held_out = read_scores(scores_path(path)), folds.folds == fold
            if found.shape != scores[seed, held_out].shape:
                raise InputError(
                    f"the scores beside {path} have shape {found.shape}, expected {scores[seed, held_out].shape}: "
                    "remove both and train again"
                )
            scores[seed, held_out] = found
    return scores


def read_scores(path: Path) -> np.ndarray:
    """A model's scores; InputError where they are damaged."""
    try:
        scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as an array of numbers: remove it and train again"
        ) from error
    if scores.ndim != 3 or not np.isfinite(scores).all():
        raise InputError(
            f"{path} does not hold finite scores (images, augmentations, classes): remove it, train again"
        )
    if (np.abs(scores.sum(axis=-1) - 1) > 1e-6).any():
        raise InputError(
            f"{path} holds scores that do not sum to 1 over the classes: remove it and train again"
        )
    return scores


def record_training_time(models: Path, row: Iterable[Any]) -> None:
    """Adds what a run took to times.csv: date, models trained, seconds, workers, machine."""
    path = models / TIMES
    earlier = (
        [list(found.values()) for found in files.read_csv(path, TIMES_COLUMNS)]
        if path.exists()
        else []
    )
    files.write_csv(path, [*earlier, list(row)], TIMES_COLUMNS)


def read_training_times(models: Path) -> list[dict[str, str]]:
    """What each run of training took; empty where it was not recorded."""
    path = models / TIMES
    return files.read_csv(path, TIMES_COLUMNS) if path.exists() else []


def training_seconds(ensemble: Ensemble) -> float | None:
    """Wall seconds of all runs of training together; None where not all models' were recorded (a run was killed)."""
    rows = read_training_times(ensemble.root)
    recorded = sum(int(row["models"]) for row in rows)
    return sum(float(row["seconds"]) for row in rows) if recorded >= len(ensemble.models) else None
