"""The LightGBM ensemble on a Dask cluster: each model is one task, trained by `boost` in one thread of a worker.

The workers need histojax and its requirements, but no file of ours: a configuration's descriptors [N, A, D] go to the
cluster once, a task puts a fold's rows into bins for all its seeds, and models and scores come back to be written here.
All of it is tasks, so what dies with a worker is made again elsewhere. Needs requirements-cluster.txt.
"""

import collections
import contextlib
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import boost, ensembles
from histojax.utils.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 20  # Seconds in which the scheduler must answer, and a worker be there.
KEPT = "models finished so far are kept: run the same command again"


def train(
    descriptors_root: Path,
    models: Path,
    folds: Folds,
    configurations: Iterable[str],
    boosting: Boosting,
    scheduler: str,
) -> int:
    """Trains what is still missing of the ensemble; returns the number of models trained now.

    The models are those of `boost.train`, bit for bit. A configuration's descriptors are sent when there is little
    left to do of those before, so that two are in the cluster at most times.

    Args:
      descriptors_root: the folder `extract` wrote, or the authors' files.
      models: where models go, with `folds.csv` already there.
      scheduler: where the cluster is, such as tcp://host:8786.

    Raises:
      InputError: descriptors are missing or damaged, the folder holds models of other data or parameters, or the
        cluster cannot be reached, has no workers, or loses them one after the other.
    """
    start, configurations = time.monotonic(), tuple(configurations)
    with connected(scheduler) as client:
        ensembles.record_ensemble(
            models, folds, "trees", dataclasses.asdict(boosting), boosting.seeds
        )
        for configuration in configurations:  # Read twice, so that a damaged file is known at once.
            ensembles.load_training_descriptors(models, configuration, descriptors_root, folds)
        missing = {name: boost.missing(models, folds, name, boosting) for name in configurations}
        wanted = [path for paths in missing.values() for path in paths.values()]
        threads = client.nthreads()
        try:
            run_all(client, descriptors_root, models, folds, boosting, missing)
        finally:
            machine = f"Dask cluster of {len(threads)} processes"
            boost.record(models, wanted, start, sum(threads.values()), machine)
    return len(wanted)


@contextlib.contextmanager
def connected(scheduler: str) -> Iterator["Client"]:
    """A client of the cluster, which has a worker at least."""
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--dask_scheduler needs a package that is missing: pip install -r requirements-cluster.txt"
        ) from error
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler} ({error}): expected an address such as tcp://host:8786"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise InputError(
                f"the scheduler at {scheduler} has no workers: start some with `dask worker`"
            ) from error
        yield client


def run_all(
    client: "Client",
    root: Path,
    models: Path,
    folds: Folds,
    boosting: Boosting,
    missing: dict[str, dict[tuple[int, int], Path]],
) -> None:
    """Keeps the cluster busy, configuration by configuration, and writes each model as it comes."""
    from distributed import as_completed

    waiting = collections.deque(name for name, paths in missing.items() if paths)
    places: dict[Future, Path] = {}
    finished = as_completed(loop=client.loop)
    with Progress("train", sum(map(len, missing.values())), "models") as bar:
        while waiting or places:
            while waiting and len(places) < 2 * sum(client.nthreads().values()):
                name = waiting.popleft()
                descriptors = ensembles.load_training_descriptors(models, name, root, folds)
                submitted = submit(client, descriptors, folds, boosting, missing[name])
                places |= submitted
                finished.update(submitted)
            future = next(finished)
            ensembles.save_model(places.pop(future), *result(future))
            bar.add(1)


def submit(
    client: "Client",
    descriptors: np.ndarray,
    folds: Folds,
    boosting: Boosting,
    missing: dict[tuple[int, int], Path],
) -> dict["Future", Path]:
    """A task for each missing model of a configuration, and where the model goes."""
    chosen = {place: boost.parameters(boosting, len(folds.classes), *place) for place in missing}
    with warnings.catch_warnings():
        # An argument of a task stays with the scheduler; what is scattered would be lost with the worker that has it.
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        sent = client.submit(keep, descriptors, pure=False)
    binned = {
        fold: client.submit(
            bin_fold, sent, folds.labels, folds.folds == fold, parameters, pure=False
        )
        for (_, fold), parameters in chosen.items()
    }
    return {
        client.submit(fit, binned[place[1]], chosen[place], boosting, pure=False): path
        for place, path in missing.items()
    }


def keep(descriptors: np.ndarray) -> np.ndarray:
    """A configuration's descriptors, on a worker: [N, A, D]."""
    return descriptors


def bin_fold(
    descriptors: np.ndarray, labels: np.ndarray, held_out: np.ndarray, parameters: dict[str, Any]
) -> tuple[bytes, np.ndarray]:
    """What the seeds of a fold share: the rows to train on, in bins, and the descriptors held out [N in fold, A, D]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        boost.write_bins(path, descriptors, ~held_out, labels, parameters)
        return path.read_bytes(), descriptors[held_out]


def fit(
    shared: tuple[bytes, np.ndarray], parameters: dict[str, Any], boosting: Boosting
) -> tuple[str, np.ndarray]:
    """A model as text, and its scores of the images it never saw: float64 [N in fold, A, K]."""
    bins, unseen = shared
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        path.write_bytes(bins)
        return boost.fit_bins(path, unseen, parameters, boosting)


def result(future: "Future") -> tuple[str, np.ndarray]:
    """What a task gave; InputError where the cluster is at fault."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise InputError(
            f"Dask workers die on the same model, mostly for want of memory; {KEPT} with more memory or fewer threads "
            "a worker"
        ) from error
    except CancelledError as error:
        raise InputError(f"the Dask scheduler was lost; {KEPT} when it is back") from error
    except ImportError as error:
        raise InputError(
            f"a Dask worker lacks a package ({error}): install histojax and its requirements there"
        ) from (error)
