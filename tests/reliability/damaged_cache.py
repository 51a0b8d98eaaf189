"""A cache that is full, cannot be written to, or holds damaged or half-written files.

A case is `COMMAND:HOW:SEED`. What the command writes has to be right, or it says that the cache is
of no use.
"""

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.reliability import trials
from tests.reliability.kills import Bench
from tests.reliability.shim import Action, Kind

_COMPILE = ("extract", "probe", "finetune", "bundle", "predict", "heatmap")
_DAMAGED, _REMOVED = 3, 3  # Files of the cache, at most.


def _truncated(rng: random.Random, content: bytearray) -> bytearray:
    return content[: rng.randrange(len(content))]


def _emptied(rng: random.Random, content: bytearray) -> bytearray:
    return bytearray()


def _zeroed(rng: random.Random, content: bytearray) -> bytearray:
    start = rng.randrange(len(content))
    end = rng.randrange(start, len(content)) + 1
    return content[:start] + bytes(end - start) + content[end:]


def _flipped(rng: random.Random, content: bytearray) -> bytearray:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


_DAMAGES = {"truncated": _truncated, "emptied": _emptied, "zeroed": _zeroed, "flipped": _flipped}
_ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS}
_FAIL = (Kind.OPEN, Kind.WRITE, Kind.RENAME, Kind.MKDIR)


def cases(bench: Bench, name: str, rng: random.Random) -> Iterator[str]:
    """Every way in turn, without end, of a command that compiles programs."""
    while name in _COMPILE:
        yield from (f"{name}:{how}:{rng.randrange(10**6)}" for how in (*_DAMAGES, *_ERRORS))


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    name, how, seed = case.split(":")
    bench.prepare(name)
    rng, cache = random.Random(int(seed)), bench.folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(bench.server.compiled, cache)
    for path in rng.sample(sorted(cache.iterdir()), _REMOVED):
        path.unlink()
    settings = {}
    if how in _ERRORS:
        at = rng.choice((1, rng.randrange(1, 9)))
        settings = {"at": at, "action": Action.FAIL, "error": _ERRORS[how], "kinds": _FAIL}
    else:
        for path in rng.sample(sorted(cache.iterdir()), _DAMAGED):
            _damage(rng, path, how)
    bench.empty()
    ended = bench.run(
        bench.commands[name],
        more=(f"--compilation_cache={cache}",),
        watched=cache,
        environment={"HISTOJAX_CACHE": str(cache)},
        **settings,
    )
    return trials.after(bench, name, ended) + trials.again(bench, name)


def _damage(rng: random.Random, path: Path, how: str) -> None:
    """Damages a file."""
    path.write_bytes(_DAMAGES[how](rng, bytearray(path.read_bytes())))
