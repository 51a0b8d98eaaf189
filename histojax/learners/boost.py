"""Training of an ensemble of trees, for every (configuration, seed, fold), by local processes.

Each process has one thread. A fold's rows are binned once, by the first process that needs them,
and all its seeds share the file; held-out images never influence the bins. XGBoost cannot keep bins
in a file, so that its models bin their own. Never imports JAX.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import platform
import shutil
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import ensembles, training, trees, xgboost_trees
from histojax.learners.ensembles import MissingModels
from histojax.learners.training import TrainingJob
from histojax.utils import files, processes
from histojax.utils.progress import Progress

# Temporary folder that exists only during training: each configuration's descriptors in one array,
# and the bins of its folds.
_WORK_FOLDER = ".shared"


@dataclasses.dataclass(frozen=True)
class Task:
    """One model to train.

    Attributes:
      descriptors: the file of a float32 array [N, A, D]; it is memory-mapped, so that all
        processes share one copy.
      folds: images, labels and folds.
      boosting: the learner's parameters.
      seed, fold: of the model.
      model: where it goes.
      device: that XGBoost trains on, cpu or cuda.
    """

    descriptors: Path
    folds: Folds
    boosting: Boosting
    seed: int
    fold: int
    model: Path
    device: str = "cpu"

    @property
    def bins(self) -> Path:
        """The file of the fold's binned rows, once a process has written it."""
        return self.descriptors.with_name(f"{self.descriptors.stem}-fold{self.fold + 1:02d}.bin")


def train(job: TrainingJob, boosting: Boosting, workers: int, device: str = "cpu") -> int:
    """Trains the missing models of an ensemble, and returns how many there were.

    Args:
      job: descriptors, folds, and the folder for models.
      boosting: the learner's parameters.
      workers: processes, each with one thread.
      device: that XGBoost trains on, cpu or cuda.

    Raises:
      InputError: as for `check`; descriptors are missing or damaged; the folder holds models of
        other data or parameters; the calling script has no main guard; or a process was killed.
    """
    processes.require_main_guard()
    check(boosting, device)
    with processes.only_one(job.models, "training"):
        return _train(job, boosting, workers, device)


def check(boosting: Boosting, device: str = "cpu") -> None:
    """Raises InputError if XGBoost is asked for and missing, or cannot use the device."""
    if boosting.learner == "xgboost":
        xgboost_trees.require(device)
    elif device != "cpu":
        raise InputError(f"--tree_device={device} is for --boost=xgboost: LightGBM's use the CPU")


def _train(job: TrainingJob, boosting: Boosting, workers: int, device: str) -> int:
    missing = job.start(boosting.learner, boosting)
    model_paths = [path for by_model in missing.values() for path in by_model.values()]
    workers = max(1, min(workers, len(model_paths)))
    machine = f"{default_workers()} CPUs, {platform.machine()}"
    work_folder = job.models / _WORK_FOLDER
    shutil.rmtree(work_folder, ignore_errors=True)  # Left by a run that was killed.
    work_folder.mkdir(parents=True)
    try:
        with training.record_time(job.models, model_paths, workers, machine):
            tasks = []
            for configuration, paths in missing.items():
                tasks += prepare_tasks(job, configuration, paths, boosting, work_folder, device)
            run_tasks(tasks, workers)
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)
    return len(model_paths)


def load_descriptors(
    job: TrainingJob,
    configuration: str,
    boosting: Boosting,
    complete: bool = False,
    device: str = "cpu",
) -> np.ndarray:
    """The descriptors of a configuration, [N, A, D]; records what they decide.

    `complete` as for `TrainingJob.load_descriptors`.

    Raises:
      InputError: as for `TrainingJob.load_descriptors`.
    """
    if boosting.learner == "xgboost":
        decided = functools.partial(xgboost_trees.decided, job.folds, device=device)
    else:
        decided = functools.partial(trees.decided, boosting, job.folds)
    return job.load_descriptors(configuration, decided, complete)


def prepare_tasks(
    job: TrainingJob,
    configuration: str,
    paths: MissingModels,
    boosting: Boosting,
    work_folder: Path,
    device: str = "cpu",
) -> list[Task]:
    """Writes a configuration's descriptors as one array to a folder; returns a task per model."""
    descriptors = load_descriptors(job, configuration, boosting, not paths, device)
    array = work_folder / f"{configuration}.npy"
    if paths:
        files.write_array(array, descriptors)
    return [
        Task(array, job.folds, boosting, seed, fold, path, device)
        for (seed, fold), path in paths.items()
    ]


def run_task(task: Task) -> None:
    """Trains a model, and writes its scores, then the model."""
    descriptors = np.load(task.descriptors, mmap_mode="r", allow_pickle=False)
    held_out = task.folds.folds == task.fold
    classes, rounds = len(task.folds.classes), task.boosting.rounds
    rows = trees.training_rows(task.folds.folds, task.fold, descriptors.shape[1])
    of_model = (task.boosting, classes, task.seed, task.fold, rows)
    if task.boosting.learner == "xgboost":
        parameters = xgboost_trees.parameters(*of_model, task.device)
        labels = task.folds.labels
        text, scores = xgboost_trees.fit(descriptors, held_out, labels, parameters, rounds)
        ensembles.save_model(task.model, text, scores)
        return
    parameters = trees.parameters(*of_model)
    # Two processes may both write this file. That is harmless (the write is atomic) and rare, given
    # the task order.
    if not task.bins.exists():
        trees.write_bins(task.bins, descriptors, ~held_out, task.folds.labels, parameters)
    text, scores = trees.fit_bins(task.bins, descriptors[held_out], parameters, rounds)
    ensembles.save_model(task.model, text, scores)


def run_tasks(tasks: list[Task], workers: int) -> None:
    """Runs tasks in new processes, which inherit no threads of this one, as forked ones would.

    Raises:
      InputError: a process was killed.
    """
    _ask_for_large_pages()
    remaining = collections.Counter(task.bins for task in tasks)
    with Progress("train", len(tasks), "models") as bar:
        if not tasks:
            return
        with concurrent.futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=processes.start,
            initargs=(os.getpid(),),
        ) as pool:
            with processes.interrupts_held():
                bins_of = {pool.submit(run_task, task): task.bins for task in tasks}
            try:
                for future in concurrent.futures.as_completed(bins_of):
                    future.result()
                    bar.add(1)
                    bins = bins_of[future]
                    remaining[bins] -= 1
                    if not remaining[bins]:
                        bins.unlink(missing_ok=True)  # XGBoost made none.
            except BrokenProcessPool as error:
                raise InputError(
                    "a training process was killed, most likely for lack of memory; models "
                    "finished so far are kept: run again with fewer --workers"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _ask_for_large_pages() -> None:
    """Has Linux hold bins and histograms of processes started from here on in pages of 2 MiB.

    Rows are looked up in them at random, so that a model takes a tenth less time. glibc reads this
    as a process starts, nothing else does, and what the user has set is left as it is.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


def default_workers() -> int:
    """One process for each CPU that this one may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
