"""Processes that are killed for lack of memory, and limits of memory: a message, or all is done.

A case is `COMMAND:NUMBER:writer`, the process that comes to that event is killed, which may be one
that another started; `COMMAND:SECONDS:worker`, some process that another started is killed then; or
`COMMAND:MEGABYTES:limit`, the run may take so much more memory than it has when it starts.
"""

import contextlib
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.reliability import harness, trials
from tests.reliability.kills import Bench
from tests.reliability.shim import Action

_LIMITS = (1, 2000)  # Megabytes, of which logarithms are drawn evenly.
_WORKERS = ("train", "train_dask")  # Commands that start processes.


def cases(bench: Bench, name: str, rng: random.Random) -> Iterator[str]:
    """Random events, moments and limits, without end."""
    while True:
        if name in _WORKERS:
            yield f"{name}:{rng.randrange(1, len(bench.events[name]) + 1)}:writer"
            yield f"{name}:{rng.uniform(0, bench.seconds[name]):.3f}:worker"
        least, most = _LIMITS
        yield f"{name}:{least * (most / least) ** rng.random():.0f}:limit"


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    name, at, how = case.split(":")
    bench.prepare(name)
    bench.empty()
    if how == "limit":
        ended = _run_limited(bench, name, int(at))
        if ended.code and not ended.error and not ended.hung:
            return trials.again(bench, name)  # XLA and OpenMP end it themselves, with their line.
    elif how == "writer":
        ended = bench.run(bench.commands[name], int(at), Action.KILL_BEFORE, group=False)
    else:
        killing = threading.Thread(target=_kill_worker, args=(bench.server.pid, float(at)))
        killing.start()
        ended = bench.run(bench.commands[name])
        killing.join()
    if ended.code == -signal.SIGKILL and how == "writer":
        return trials.again(bench, name)  # It was the run's own process, which can say nothing.
    return trials.after(bench, name, ended) + trials.again(bench, name)


def _run_limited(bench: Bench, name: str, megabytes: int) -> harness.Ended:
    """Runs a command with a limit of its address space."""
    bench.arm()
    command = [bench.commands[name].script, *bench.arguments(bench.commands[name])]
    return harness.as_script(
        bench.server.call("tests.reliability.memory:run_limited", megabytes, *command)
    )


def run_limited(megabytes: int, script: str, *arguments: str) -> tuple[int, str, str]:
    """What a server's child does: it limits its memory to more than it has, then runs a script."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return harness.run_script(script, *arguments)


def _kill_worker(server: int, seconds: float) -> None:
    """After some seconds, kills a process that a run started, the newest one, if there is one."""
    time.sleep(seconds)
    runs = _children(server)
    workers = [child for run in runs for child in _children(run)]
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(max(workers), signal.SIGKILL)


def _children(parent: int) -> list[int]:
    """The processes that a process started, which still run."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError):
        return [int(pid) for pid in listed.read_text().split()]
    return []
