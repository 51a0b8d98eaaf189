"""A disk that is full, or broken, from one write on: one message, and nothing lost.

A case is `COMMAND:NUMBER:full` or `COMMAND:NUMBER:broken`: from that event on, which writes half of
what it should if it is a write, all others fail with ENOSPC or EIO.
"""

import errno
import random

from tests.reliability import shim, trials
from tests.reliability.kills import Bench
from tests.reliability.shim import Action, Kind

_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO}
_FAIL = (Kind.OPEN, Kind.WRITE, Kind.FSYNC, Kind.RENAME, Kind.MKDIR, Kind.TRUNCATE)


def cases(bench: Bench, name: str, rng: random.Random) -> list[str]:
    """Every event of a command, with either error, in random order."""
    numbers = range(1, len(bench.events[name]) + 1)
    every = [f"{name}:{number}:{error}" for number in numbers for error in _ERRORS]
    return rng.sample(every, len(every))


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    name, number, error = case.split(":")
    bench.prepare(name)
    bench.empty()
    ended = bench.run(
        bench.commands[name], int(number), Action.FAIL, error=_ERRORS[error], kinds=_FAIL
    )
    if not shim.fired(bench.server.control):
        return trials.difference(bench, name)
    return trials.after(bench, name, ended) + trials.again(bench, name)
