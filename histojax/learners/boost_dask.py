"""Training of the LightGBM ensemble on a Dask cluster: each model is one task of one thread.

Workers need histojax and its requirements, but none of our files: the descriptors of a
configuration [N, A, D] are sent once, a task bins a fold's rows for all its seeds, and models and
scores come back to be written here. All of these are tasks, so that what is lost with a worker is
computed again on another. Needs requirements-cluster.txt.
"""

import collections
import contextlib
import platform
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import boost, ensembles, training, trees
from histojax.learners.ensembles import MissingModels
from histojax.learners.training import TrainingJob
from histojax.utils.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

_TIMEOUT = 20  # Seconds in which the scheduler must answer, and a worker must be there.
_KEPT = "models finished so far are kept: run the same command again"


def train(job: TrainingJob, boosting: Boosting, scheduler: str) -> int:
    """Trains the missing models of an ensemble, and returns how many there were.

    The models equal those of `boost.train`, bit for bit.

    Args:
      job: descriptors, folds, and the folder for models.
      boosting: the learner's parameters.
      scheduler: the cluster's address, such as tcp://host:8786.

    Raises:
      InputError: the learner is not LightGBM; descriptors are missing or damaged; the folder holds
        models of other data or parameters; or the cluster cannot be reached, has no workers, or
        keeps losing them.
    """
    if boosting.learner != "trees":
        raise InputError(
            f"--boost={boosting.boost} trains on this machine alone: pass it without "
            "--dask_scheduler, or take --boost=fast"
        )
    with _connect(scheduler) as client:
        missing = job.start("trees", boosting)
        paths = [path for models in missing.values() for path in models.values()]
        threads = client.nthreads()
        machine = f"Dask cluster of {len(threads)} processes, {platform.machine()}"
        with training.record_time(job.models, paths, sum(threads.values()), machine):
            for name in missing:
                # Now too, so that a damaged file is found at once.
                boost.load_descriptors(job, name, boosting, not missing[name])
            _run_tasks(client, job, boosting, missing)
    return len(paths)


@contextlib.contextmanager
def _connect(scheduler: str) -> Iterator["Client"]:
    """A client of the cluster, which has at least one worker; InputError otherwise."""
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--dask_scheduler needs a package that is missing: pip install -r "
            "requirements-cluster.txt or, without that file, pip install "
            "'distributed>=2025.1,<2027'"
        ) from error
    try:
        client = Client(scheduler, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler} ({error}): expected an address such as "
            "tcp://host:8786"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError as error:
            raise InputError(
                f"the scheduler at {scheduler} has no workers: start some with `dask worker`"
            ) from error
        yield client


def _run_tasks(
    client: "Client", job: TrainingJob, boosting: Boosting, missing: dict[str, MissingModels]
) -> None:
    """Trains configuration by configuration, and writes each model as it arrives.

    Descriptors are sent when few tasks are left of those before, so that the cluster mostly holds
    two configurations.
    """
    from distributed import as_completed

    waiting = collections.deque(name for name, models in missing.items() if models)
    paths: dict[Future, Path] = {}
    finished = as_completed(loop=client.loop)
    with Progress("train", sum(map(len, missing.values())), "models") as bar:
        while waiting or paths:
            while waiting and len(paths) < 2 * sum(client.nthreads().values()):
                name = waiting.popleft()
                descriptors = boost.load_descriptors(job, name, boosting)
                submitted = _submit(client, descriptors, job.folds, boosting, missing[name])
                paths |= submitted
                finished.update(submitted)
            future = next(finished)
            ensembles.save_model(paths.pop(future), *_result(future))
            bar.add(1)


def _submit(
    client: "Client",
    descriptors: np.ndarray,
    folds: Folds,
    boosting: Boosting,
    models: MissingModels,
) -> dict["Future", Path]:
    """Submits a task for each missing model of a configuration; returns where the models go."""
    parameters = {}
    for seed, fold in models:
        rows = trees.training_rows(folds.folds, fold, descriptors.shape[1])
        parameters[seed, fold] = trees.parameters(boosting, len(folds.classes), seed, fold, rows)
    with warnings.catch_warnings():
        # The scheduler keeps a task's argument; scattered data is lost with the worker that has it.
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        sent = client.submit(_keep, descriptors, pure=False)
    # The bins are the same for all seeds.
    of_fold = {fold: of_model for (_, fold), of_model in parameters.items()}
    binned = {
        fold: client.submit(
            _bin_fold, sent, folds.labels, folds.folds == fold, of_model, pure=False
        )
        for fold, of_model in of_fold.items()
    }
    return {
        client.submit(_fit, binned[fold], parameters[seed, fold], boosting.rounds, pure=False): path
        for (seed, fold), path in models.items()
    }


def _keep(descriptors: np.ndarray) -> np.ndarray:
    """A configuration's descriptors [N, A, D], on a worker."""
    return descriptors


def _bin_fold(
    descriptors: np.ndarray, labels: np.ndarray, held_out: np.ndarray, parameters: dict[str, Any]
) -> tuple[bytes, np.ndarray]:
    """What the seeds of a fold share: training rows in bins, and held-out descriptors [n, A, D]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        trees.write_bins(path, descriptors, ~held_out, labels, parameters)
        return path.read_bytes(), descriptors[held_out]


def _fit(
    binned: tuple[bytes, np.ndarray], parameters: dict[str, Any], rounds: int
) -> tuple[str, np.ndarray]:
    """A model as text, and its scores of the held-out images: float64 [N in fold, A, K]."""
    bins, held_out = binned
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        path.write_bytes(bins)
        return trees.fit_bins(path, held_out, parameters, rounds)


def _result(future: "Future") -> tuple[str, np.ndarray]:
    """The result of a task; InputError if the cluster failed."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise InputError(
            "Dask workers die on the same model, most likely for lack of memory; "
            f"{_KEPT} with more memory or fewer threads a worker"
        ) from error
    except CancelledError as error:
        raise InputError(f"the Dask scheduler was lost; {_KEPT} when it is back") from error
    except RuntimeError as error:
        if "deserialization of the task graph" not in str(error):
            raise
        cause = error.__cause__ or "its packages differ from ours"
        raise InputError(
            f"the Dask scheduler cannot read our tasks ({cause}): install histojax and its "
            "requirements where the scheduler runs, too, in the versions that are here"
        ) from error
    except ImportError as error:
        raise InputError(
            f"a Dask worker lacks a package ({error}): install histojax and its requirements there"
        ) from error
