"""A Dask cluster of real processes on this machine, whose worker writes where the shim sees it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.running import ROOT

_PATIENCE = 120.0  # Seconds in which it has to be there.


@contextlib.contextmanager
def cluster(folder: Path, scratch: Path, environment: dict[str, str]) -> Iterator[str]:
    """A scheduler and a worker, which is started again when it dies, until the end of the block.

    Args:
      folder: for the cluster's own files.
      scratch: for the temporary files of tasks.
      environment: what the worker's process has beside the variables of this one.

    Yields:
      The scheduler's address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    described = folder / "scheduler.json"
    described.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> None:
            alone = ["--host=127.0.0.1", "--dashboard-address=127.0.0.1:0", "--no-dashboard"]
            command = [sys.executable, "-m", "dask", *arguments, *alone]
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.terminate)

        start("scheduler", "--port=0", f"--scheduler-file={described}")
        deadline = time.monotonic() + _PATIENCE
        while not described.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Dask scheduler within {_PATIENCE:.0f} s")
            time.sleep(0.05)
        address = json.loads(described.read_text())["address"]
        options = ("--nanny", "--nthreads=1", f"--local-directory={folder}")
        start("worker", address, *options, TMPDIR=str(scratch), **environment)
        yield address
