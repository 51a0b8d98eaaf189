"""The LightGBM ensemble: a model per (configuration, seed, fold), its out-of-fold scores beside it. Never imports jax.

<models>/manifest.json                    classes, boosting parameters, configurations
<models>/folds.csv                        who was held out when
<models>/<configuration>/manifest.json    what its descriptors were, and what they were made with
<models>/<configuration>/seed0-fold01.txt    a model, in LightGBM's text format
<models>/<configuration>/seed0-fold01.npy    its scores of the images it never saw: float64 [N in fold, A, K]
"""

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from histojax import files, store
from histojax import folds as splits
from histojax.config import Boosting, in_order
from histojax.errors import InputError
from histojax.folds import Folds
from histojax.progress import Progress

MANIFEST = "manifest.json"
FOLDS = "folds.csv"
SHARED = ".shared"  # Descriptors in one array a configuration, while training runs.


def parameters(boosting: Boosting, classes: int, seed: int, fold: int) -> dict[str, Any]:
    """LightGBM's parameters of one model; the seeds are those of the paper's code."""
    feature_seed = 1 + 10 * seed + fold
    return {
        "objective": "multiclass",
        "num_class": classes,
        "learning_rate": boosting.learning_rate,
        "num_leaves": boosting.num_leaves,
        "max_depth": boosting.max_depth,
        "feature_fraction": boosting.feature_fraction,
        "bagging_fraction": boosting.bagging_fraction,
        "bagging_freq": boosting.bagging_freq,
        "feature_fraction_seed": feature_seed,
        "bagging_seed": feature_seed + 1,
        "num_threads": 1,
        "verbosity": -1,
    }


@dataclasses.dataclass(frozen=True)
class Task:
    """One model to train; the descriptors are memory-mapped, so that all workers share one copy."""

    descriptors: Path
    labels: np.ndarray
    folds: np.ndarray
    classes: int
    boosting: Boosting
    seed: int
    fold: int
    model: Path


def model_path(models: Path, configuration: str, seed: int, fold: int) -> Path:
    """Where a model is; its folds are counted from 1 on disk and from 0 in arrays."""
    return models / configuration / f"seed{seed}-fold{fold + 1:02d}.txt"


def is_done(model: Path) -> bool:
    """Whether a model and its scores are there."""
    return model.exists() and model.with_suffix(".npy").exists()


def fit(descriptors: np.ndarray, labels: np.ndarray, parameters: dict[str, Any], rounds: int) -> lgb.Booster:
    """Trains on every augmentation of every image as a row of its own: [N, A, D], int [N]."""
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    data = lgb.Dataset(rows, np.repeat(labels, descriptors.shape[1]), params={"verbosity": -1, "num_threads": 1})
    return lgb.train(parameters, data, num_boost_round=rounds)


def score(booster: lgb.Booster, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    return booster.predict(rows, num_threads=1).reshape(*descriptors.shape[:2], -1)


def work(task: Task) -> None:
    """Trains a model and writes its scores, then the model: what has a model file is finished."""
    descriptors = np.load(task.descriptors, mmap_mode="r", allow_pickle=False)
    held_out = task.folds == task.fold
    chosen = parameters(task.boosting, task.classes, task.seed, task.fold)
    booster = fit(descriptors[~held_out], task.labels[~held_out], chosen, task.boosting.rounds)
    files.write_array(task.model.with_suffix(".npy"), score(booster, descriptors[held_out]))
    files.write_text(task.model, booster.model_to_string())


def train(
    descriptors_root: Path, models: Path, folds: Folds, configurations: Iterable[str], boosting: Boosting, workers: int
) -> int:
    """Trains what is still missing of the ensemble; returns the number of models trained now.

    Args:
      descriptors_root: the folder `extract` wrote, or the authors' files.
      models: where models go, with `folds.csv` already there.
      workers: processes, each with one thread.

    Raises:
      InputError: descriptors are missing or damaged, or the folder holds models of other data or parameters.
    """
    configurations = tuple(configurations)
    claim(
        models / MANIFEST,
        {"classes": list(folds.classes), "boosting": dataclasses.asdict(boosting), "folds_sha256": folds.sha256},
    )
    shared = models / SHARED
    shutil.rmtree(shared, ignore_errors=True)  # Left by a run that was killed.
    shared.mkdir(parents=True)
    try:
        tasks = [
            task
            for configuration in configurations
            for task in prepare(descriptors_root, models, folds, configuration, boosting, shared)
        ]
        run_all(tasks, workers)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    return len(tasks)


def prepare(
    root: Path, models: Path, folds: Folds, configuration: str, boosting: Boosting, shared: Path
) -> list[Task]:  # fmt: skip
    """The models of a configuration still to be trained; its descriptors are put into one array for all workers."""
    descriptors = store.read(root, configuration, folds.names)
    digest = hashlib.sha256(descriptors.tobytes()).hexdigest()
    made_with = store.read_manifest(root, configuration)
    claim(
        models / configuration / MANIFEST,
        {"shape": list(descriptors.shape), "descriptors_sha256": digest, "extraction": made_with},
    )
    array = shared / f"{configuration}.npy"
    tasks = [
        Task(array, folds.labels, folds.folds, len(folds.classes), boosting, seed, fold, path)
        for seed in range(boosting.seeds)
        for fold in range(folds.count)
        if not is_done(path := model_path(models, configuration, seed, fold))
    ]
    if tasks:
        np.save(array, descriptors)
    return tasks


def claim(path: Path, wanted: dict[str, Any]) -> None:
    """Records what models are made of, or refuses to mix them with others."""
    if not path.exists():
        files.write_json(path, wanted)
        return
    lines = files.differences(files.read_json(path, ()), wanted)
    if lines and not any(path.parent.rglob("seed*.txt")):  # Without models it binds nobody.
        files.write_json(path, wanted)
    elif lines:
        raise InputError(
            f"{path.parent} holds models of other data or parameters; name another folder, or remove it:\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def run_all(tasks: list[Task], workers: int) -> None:
    """Runs the tasks in spawned processes: a forked one would inherit the threads of whatever ran before."""
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(workers, len(tasks)))
    with Progress("train", len(tasks), "models") as bar:
        if not tasks:
            return
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=die_with, initargs=(os.getpid(),)
        ) as pool:
            futures = [pool.submit(work, task) for task in tasks]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    bar.add(1)
            except BrokenProcessPool as error:
                raise InputError(
                    "a training process was killed, mostly for want of memory; models finished so far are kept: "
                    "run again with fewer --workers"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def die_with(parent: int) -> None:
    """Ends this worker within a second or two of its parent, which may be killed without a word."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def default_workers() -> int:
    """One process per processor this one may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A trained ensemble on disk, complete.

    Attributes:
      root: its folder.
      folds: images, labels and folds it was trained on.
      boosting: its parameters.
      configurations: names such as ResNet-0.5-400.
      made_with: the manifest of each configuration's descriptors, None for the authors'.
    """

    root: Path
    folds: Folds
    boosting: Boosting
    configurations: tuple[str, ...]
    made_with: dict[str, store.Manifest | None]


def load(models: Path) -> Ensemble:
    """Opens a folder of models.

    Raises:
      InputError: not such a folder, or the ensemble is not complete.
    """
    if not (models / MANIFEST).exists():
        raise InputError(f"{models} holds no trained models (no {MANIFEST}): run experiments.train first")
    found = files.read_json(models / MANIFEST, ("classes", "boosting", "folds_sha256"))
    folds = splits.load(models / FOLDS, tuple(found["classes"]))
    if folds.sha256 != found["folds_sha256"]:
        raise InputError(f"{models / FOLDS} is not the split the models were trained with: it was changed since")
    boosting = Boosting(**found["boosting"])
    configurations = in_order({path.parent.name for path in models.glob("*/seed*.txt")})
    paths = [
        model_path(models, configuration, seed, fold)
        for configuration in configurations
        for seed in range(boosting.seeds)
        for fold in range(folds.count)
    ]
    missing = [path for path in paths if not is_done(path)]
    if missing or not paths:
        raise InputError(
            f"{models} lacks {len(missing)} of {len(paths)} models (the first: {missing[0] if missing else 'all'}): "
            "run experiments.train again, it goes on from there"
        )
    made_with = {
        name: files.read_json(models / name / MANIFEST, ["extraction"])["extraction"] for name in configurations
    }
    return Ensemble(models, folds, boosting, configurations, made_with)


def out_of_fold(ensemble: Ensemble, configuration: str) -> np.ndarray:
    """Scores of every image by the models that never saw it: float64 [S, N, A, K]."""
    folds = ensemble.folds
    augmentations = read_scores(model_path(ensemble.root, configuration, 0, 0)).shape[1]
    scores = np.empty((ensemble.boosting.seeds, len(folds.names), augmentations, len(folds.classes)))
    for seed in range(ensemble.boosting.seeds):
        for fold in range(folds.count):
            path = model_path(ensemble.root, configuration, seed, fold)
            found, held_out = read_scores(path), folds.folds == fold
            if found.shape != scores[seed, held_out].shape:
                raise InputError(
                    f"the scores beside {path} have shape {found.shape}, expected {scores[seed, held_out].shape}: "
                    "remove both and train again"
                )
            scores[seed, held_out] = found
    return scores


def read_scores(model: Path) -> np.ndarray:
    """A model's out-of-fold scores; InputError where they are damaged."""
    path = model.with_suffix(".npy")
    try:
        scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array of numbers: remove it and train again") from error
    if scores.ndim != 3 or not np.isfinite(scores).all():
        raise InputError(f"{path} does not hold finite scores (images, augmentations, classes): remove it, train again")
    return scores


def read_model(path: Path) -> lgb.Booster:
    """A saved model; InputError where it is damaged (LightGBM ends the process on some files that are cut)."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if text.startswith("tree\n") and "\nend of trees\n" in text and "\nend of parameters\n" in text:
        try:
            return lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError:
            pass
    raise InputError(f"{path} is no whole LightGBM model: remove it and train again")


def predict(ensemble: Ensemble, configuration: str, descriptors: np.ndarray, bar: Progress) -> np.ndarray:
    """Mean scores of new images over augmentations, seeds and folds' models: [N, A, D] -> float64 [N, K]."""
    total = np.zeros((len(descriptors), len(ensemble.folds.classes)))
    for seed in range(ensemble.boosting.seeds):
        for fold in range(ensemble.folds.count):
            booster = read_model(model_path(ensemble.root, configuration, seed, fold))
            if booster.num_feature() != descriptors.shape[-1]:
                raise InputError(
                    f"models of {configuration} take {booster.num_feature()} channels, the descriptors have "
                    f"{descriptors.shape[-1]}: they are of another encoder"
                )
            total += score(booster, descriptors).mean(axis=1)
            bar.add(1)
    return total / (ensemble.boosting.seeds * ensemble.folds.count)
