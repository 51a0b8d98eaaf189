"""The LightGBM ensemble: trees for every (configuration, seed, fold), trained by processes of one thread each.

Never imports jax. What is written, and where, is `ensembles`' to say.
"""

import concurrent.futures
import dataclasses
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

from histojax import ensembles
from histojax.config import Boosting
from histojax.errors import InputError
from histojax.folds import Folds
from histojax.progress import Progress

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
    ensembles.save(task.model, booster.model_to_string(), score(booster, descriptors[held_out]))


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
    ensembles.claim(models, folds, "trees", dataclasses.asdict(boosting), boosting.seeds)
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
    descriptors = ensembles.claim_descriptors(models, configuration, root, folds)
    array = shared / f"{configuration}.npy"
    tasks = [
        Task(array, folds.labels, folds.folds, len(folds.classes), boosting, seed, fold, path)
        for seed in range(boosting.seeds)
        for fold in range(folds.count)
        if not ensembles.is_done(path := ensembles.model_path(models, configuration, seed, fold))
    ]
    if tasks:
        np.save(array, descriptors)
    return tasks


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


def read_model(path: Path) -> lgb.Booster:
    """A saved model; InputError where it is damaged (LightGBM ends the process on some files that are cut)."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if text.startswith("tree\n") and "\nend of trees\n" in text and "\nend of parameters\n" in text:
        try:
            return lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError:
            pass
    raise InputError(f"{path} is no whole LightGBM model: remove it and train again")
