"""Training on a Dask cluster of real processes equals local training, even if workers die."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from histojax.config import Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import boost, boost_dask, ensembles
from histojax.learners.training import TrainingJob
from tests import listening, samples

pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]
N, A, CLASSES = 36, 3, ("Normal", "Benign", "InSitu", "Invasive")
WIDTHS = {"ResNet-0.5-400": 120, "VGG-0.5-400": 90}
BOOSTING = Boosting(folds=3, seeds=3, rounds=12)


@pytest.fixture(scope="module")
def split() -> Folds:
    """Three folds, and four images that are never held out."""
    names, labels = tuple(f"image{i:02d}" for i in range(N)), np.arange(N) % len(CLASSES)
    return Folds(
        names, labels, np.where(np.arange(N) < 32, np.arange(N) // len(CLASSES) % 3, -1), CLASSES
    )


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory, split):
    root = tmp_path_factory.mktemp("descriptors")
    samples.write_descriptors(root, split.names, split.labels, WIDTHS, A, spread=1.5)
    return root


@pytest.fixture
def cluster(tmp_path):
    """A scheduler without workers: its address, and a function that starts a worker; processes."""
    described = tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen:
            alone = ["--host=127.0.0.1", "--dashboard-address=127.0.0.1:0", "--no-dashboard"]
            command = [sys.executable, "-m", "dask", *arguments, *alone]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            out = subprocess.DEVNULL
            process = subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=out, stderr=out
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        start("scheduler", "--port=0", f"--scheduler-file={described}")
        wait_for(lambda: described.exists() and described.read_text())
        address = json.loads(described.read_text())["address"]
        yield (
            address,
            lambda: start(
                "worker", address, "--no-nanny", "--nthreads=1", f"--local-directory={tmp_path}"
            ),
        )


def wait_for(condition) -> None:
    """Returns when it holds; fails after half a minute."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def contents(models: Path) -> dict[str, bytes]:
    """Every file of the ensemble but the times."""
    files = [path for path in models.rglob("*") if path.is_file() and path.name != ensembles.TIMES]
    return {str(path.relative_to(models)): path.read_bytes() for path in files}


def test_models_and_scores_equal_those_trained_here_though_both_workers_die(
    descriptors, split, tmp_path, cluster
):
    local, remote = tmp_path / "here", tmp_path / "there"
    for root in (local, remote):
        folds.save(split, root / ensembles.FOLDS)
    assert (
        boost.train(TrainingJob(descriptors, local, split, tuple(WIDTHS)), BOOSTING, workers=1)
        == 18
    )
    address, start_worker = cluster
    first = start_worker()
    left = []

    def kill_one_after_the_other() -> None:
        """Whoever has the descriptors is killed, at the latest with the second."""
        for victim in (first, start_worker()):
            before = len(list(remote.rglob("seed*.txt")))
            wait_for(lambda before=before: len(list(remote.rglob("seed*.txt"))) > before)
            start_worker()
            left.append(18 - len(list(remote.rglob("seed*.txt"))))
            victim.kill()

    killer = threading.Thread(target=kill_one_after_the_other)
    killer.start()
    with listening.watched() as seen:
        trained = boost_dask.train(
            TrainingJob(descriptors, remote, split, tuple(WIDTHS)), BOOSTING, address
        )
    assert trained == 18
    killer.join()
    assert address.removeprefix("tcp://") in seen
    assert not listening.beyond_loopback(seen)
    assert min(left) > 0
    assert len(left) == 2
    assert contents(remote) == contents(local)
    (row,) = ensembles.read_training_times(remote)
    assert row["models"] == "18"
    assert row["machine"].startswith("Dask cluster of ")


def train(descriptors: Path, models: Path, split: Folds, address: str) -> int:
    """Training that is to be refused."""
    folds.save(split, models / ensembles.FOLDS)
    return boost_dask.train(
        TrainingJob(descriptors, models, split, tuple(WIDTHS)), BOOSTING, address
    )


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x"])
def test_a_scheduler_that_does_not_answer_is_named(
    descriptors, split, tmp_path, monkeypatch, address
):
    monkeypatch.setattr(boost_dask, "_TIMEOUT", 1)
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}"):
        train(descriptors, tmp_path, split, address)


def test_a_cluster_without_workers_is_refused(descriptors, split, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(boost_dask, "_TIMEOUT", 2)
    with pytest.raises(InputError, match="has no workers: start some"):
        train(descriptors, tmp_path, split, cluster[0])


def test_a_scheduler_without_histojax_is_told_in_one_message():
    class Failed:
        def result(self):
            message = "Error during deserialization of the task graph. This frequently\noccurs if"
            raise RuntimeError(message) from ModuleNotFoundError("No module named 'histojax'")

    with pytest.raises(InputError, match=r"No module named 'histojax'\): install histojax and its"):
        boost_dask._result(Failed())


def test_without_the_package_it_says_what_to_install(descriptors, split, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    (listed,) = re.findall("(?m)^distributed.*", (ROOT / "requirements-cluster.txt").read_text())
    message = f"pip install -r requirements-cluster.txt .*pip install '{listed}'"
    with pytest.raises(InputError, match=message):
        train(descriptors, tmp_path, split, "tcp://127.0.0.1:1")
