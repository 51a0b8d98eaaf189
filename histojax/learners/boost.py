"""The LightGBM ensemble: trees for every (configuration, seed, fold), trained by processes of one thread each.

A fold's rows are put into bins once, by the first worker that needs them, and its seeds share the file; the bins never
see what is held out. Never imports jax. What is written for good, and where, is `ensembles`' to say.
"""

import collections
import concurrent.futures
import dataclasses
import datetime
import multiprocessing
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import ensembles
from histojax.utils import files
from histojax.utils.progress import Progress

SHARED = ".shared"  # A configuration's descriptors in one array, and the bins of its folds, while training runs.

# What --boost=fast lays over the paper's parameters. Quantised gradients are left out: at so few bins they gain
# little, and LightGBM 4.7 fails on some data with them ("Check failed: best_split_info.left_count > 0").
FAST = {
    "max_bin": 15,  # Half a byte a value, and a seventeenth of the thresholds to try.
    "bagging_freq": 1,  # Rows are drawn anew for each round, which the paper's frequency of 0 never does ...
    "bagging_fraction": 0.3,  # ... and few will do, since an image has 50 rows that are nearly the same.
    "force_row_wise": True,  # Else LightGBM times two layouts of the data and keeps what seemed faster that time.
}
# MiB of histograms that a worker holds, in place of one for each of num_leaves (1.5 GiB at 2,048 channels). LightGBM
# makes those it lacks anew; the trees are the same, bit for bit.
HISTOGRAMS = 256


def parameters(boosting: Boosting, classes: int, seed: int, fold: int) -> dict[str, Any]:
    """LightGBM's parameters of one model; the seeds are those of the paper's code."""
    feature_seed = 1 + 10 * seed + fold
    paper = {
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
        "histogram_pool_size": HISTOGRAMS,
        "num_threads": 1,
        "verbosity": -1,
    }
    return paper | FAST if boosting.boost == "fast" else paper


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

    @property
    def bins(self) -> Path:
        """Where the fold's rows are in bins, once a worker has put them there."""
        return self.descriptors.with_name(f"{self.descriptors.stem}-fold{self.fold + 1:02d}.bin")


def binned(
    images: Sequence[np.ndarray], labels: np.ndarray, parameters: dict[str, Any]
) -> lgb.Dataset:
    """Every augmentation of every image as a row of its own, none copied: N times [A, D], int [N]."""
    rows = np.repeat(labels, [len(image) for image in images])
    return lgb.Dataset(list(images), rows, params=parameters).construct()


def fit(
    descriptors: np.ndarray, labels: np.ndarray, parameters: dict[str, Any], rounds: int
) -> lgb.Booster:
    """Trains on every augmentation of every image: [N, A, D], int [N]."""
    return lgb.train(parameters, binned(descriptors, labels, parameters), num_boost_round=rounds)


def score(booster: lgb.Booster, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    return booster.predict(rows, num_threads=1).reshape(*descriptors.shape[:2], -1)


def write_bins(
    path: Path,
    descriptors: np.ndarray,
    chosen: np.ndarray,
    labels: np.ndarray,
    parameters: dict[str, Any],
) -> None:
    """Puts the rows of the chosen images, of [N, A, D], into bins: a file of a byte a value or less."""
    images = [descriptors[i] for i in np.flatnonzero(chosen)]
    data = binned(images, labels[chosen], parameters)
    with files.atomic_write(path) as temporary:
        data.save_binary(temporary)


def fit_bins(
    path: Path, unseen: np.ndarray, parameters: dict[str, Any], boosting: Boosting
) -> tuple[str, np.ndarray]:
    """A model of rows in bins, as text, and its scores of the images it never saw: float64 [N in fold, A, K].

    The text is what LightGBM writes where its histograms have no bound, the trees being the same.
    """
    booster = lgb.train(
        parameters, lgb.Dataset(path, params=parameters), num_boost_round=boosting.rounds
    )
    bounded, free = (f"[histogram_pool_size: {size}]" for size in (HISTOGRAMS, -1))
    return booster.model_to_string().replace(bounded, free), score(booster, unseen)


def work(task: Task) -> None:
    """Trains a model and writes its scores, then the model: what has a model file is finished."""
    descriptors = np.load(task.descriptors, mmap_mode="r", allow_pickle=False)
    held_out = task.folds == task.fold
    chosen = parameters(task.boosting, task.classes, task.seed, task.fold)
    if (
        not task.bins.exists()
    ):  # Two workers at once do it twice, to the same end; the tasks' order makes that rare.
        write_bins(task.bins, descriptors, ~held_out, task.labels, chosen)
    ensembles.save_model(
        task.model, *fit_bins(task.bins, descriptors[held_out], chosen, task.boosting)
    )


def train(
    descriptors_root: Path,
    models: Path,
    folds: Folds,
    configurations: Iterable[str],
    boosting: Boosting,
    workers: int,
) -> int:
    """Trains what is still missing of the ensemble; returns the number of models trained now.

    Args:
      descriptors_root: the folder `extract` wrote, or the authors' files.
      models: where models go, with `folds.csv` already there.
      workers: processes, each with one thread.

    Raises:
      InputError: descriptors are missing or damaged, or the folder holds models of other data or parameters.
    """
    start, tasks = time.monotonic(), []
    ensembles.record_ensemble(models, folds, "trees", dataclasses.asdict(boosting), boosting.seeds)
    shared = models / SHARED
    shutil.rmtree(shared, ignore_errors=True)  # Left by a run that was killed.
    shared.mkdir(parents=True)
    try:
        for configuration in tuple(configurations):
            tasks += prepare(descriptors_root, models, folds, configuration, boosting, shared)
        workers = max(1, min(workers, len(tasks)))
        run_all(tasks, workers)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
        record(models, [task.model for task in tasks], start, workers, f"{default_workers()} CPUs")
    return len(tasks)


def missing(
    models: Path, folds: Folds, configuration: str, boosting: Boosting
) -> dict[tuple[int, int], Path]:
    """Where the models of a configuration still to be trained go, by (seed, fold).

    All folds come before the next seed: by then their bins are there.
    """
    return {
        (seed, fold): path
        for seed in range(boosting.seeds)
        for fold in range(folds.count)
        if not ensembles.is_finished(
            path := ensembles.model_path(models, configuration, seed, fold)
        )
    }


def prepare(
    root: Path, models: Path, folds: Folds, configuration: str, boosting: Boosting, shared: Path
) -> list[Task]:
    """The models of a configuration still to be trained; its descriptors are put into one array for all workers."""
    descriptors = ensembles.load_training_descriptors(models, configuration, root, folds)
    array = shared / f"{configuration}.npy"
    tasks = [
        Task(array, folds.labels, folds.folds, len(folds.classes), boosting, seed, fold, path)
        for (seed, fold), path in missing(models, folds, configuration, boosting).items()
    ]
    if tasks:
        np.save(array, descriptors)
    return tasks


def run_all(tasks: list[Task], workers: int) -> None:
    """Runs the tasks in spawned processes: a forked one would inherit the threads of whatever ran before."""
    context = multiprocessing.get_context("spawn")
    left = collections.Counter(task.bins for task in tasks)
    with Progress("train", len(tasks), "models") as bar:
        if not tasks:
            return
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=die_with, initargs=(os.getpid(),)
        ) as pool:
            bins = {pool.submit(work, task): task.bins for task in tasks}
            try:
                for future in concurrent.futures.as_completed(bins):
                    future.result()
                    bar.add(1)
                    left[bins[future]] -= 1
                    if not left[bins[future]]:
                        bins[future].unlink()
            except BrokenProcessPool as error:
                raise InputError(
                    "a training process was killed, mostly for want of memory; models finished so far are kept: "
                    "run again with fewer --workers"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def record(models: Path, wanted: list[Path], start: float, workers: int, machine: str) -> None:
    """Adds a row to times.csv if any of the wanted models was trained, also where the run was stopped."""
    if trained := sum(map(ensembles.is_finished, wanted)):
        seconds = f"{time.monotonic() - start:.1f}"
        today = datetime.date.today().isoformat()
        ensembles.record_training_time(
            models, (today, trained, seconds, workers, f"{machine}, {platform.machine()}")
        )


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


def parse_model(content: bytes, name: str | Path) -> lgb.Booster:
    """A saved model; InputError where it is damaged (LightGBM ends the process on some files that are cut)."""
    text = content.decode(errors="replace")
    if text.startswith("tree\n") and "\nend of trees\n" in text and "\nend of parameters\n" in text:
        try:
            return lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError:
            pass
    raise InputError(f"{name} is no whole LightGBM model: remove it and train again")
