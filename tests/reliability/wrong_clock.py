"""A clock that jumps, and files that the future has changed: the same results, no negative times.

A case is `COMMAND:NUMBER:SECONDS`: from that event on the clock of the wall is wrong by so many
seconds. `COMMAND:files:SECONDS` moves the times of all files that the command reads instead.
"""

import os
import random
import re
import time
from collections.abc import Iterator

from tests.reliability import trials
from tests.reliability.kills import Bench

_DAY = 86_400
_JUMPS = (_DAY, -365 * _DAY)
_FILES = "files"
# What says when it, or what it is made of, was written.
_DATED = ("bundle.histojax", "sources.csv")
_NEGATIVE = re.compile(r"(?<![\w.-])-\d[\d.:]* ?(?:s|min|h|seconds|minutes|hours|days?)\b")


def cases(bench: Bench, name: str, rng: random.Random) -> Iterator[str]:
    """The times of files, then random events, each with either jump."""
    yield from (f"{name}:{_FILES}:{jump}" for jump in _JUMPS)
    numbers = range(len(bench.events[name]) + 1)
    for number in rng.sample(numbers, len(numbers)):
        yield from (f"{name}:{number}:{jump}" for jump in _JUMPS)


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    name, at, jump = case.split(":")
    bench.prepare(name)
    bench.empty()
    if at == _FILES:
        moved = time.time() + int(jump)
        times = {path: path.stat() for path in (bench.folder / "inputs").rglob("*")}
        for path in times:
            os.utime(path, (moved, moved))
        ended = bench.run(bench.commands[name])
        for path, kept in times.items():
            os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    else:
        ended = bench.run(bench.commands[name], jump=int(jump), jump_at=int(at))
    wrong = [] if ended.code == bench.commands[name].code else [f"it ended with {ended.code}"]
    said = {"what it printed": ended.out + ended.error}
    for path in bench.out.rglob("*"):
        if path.suffix in (".csv", ".json", ".html", ".txt", ".md"):
            said[path.name] = path.read_text()
    wrong += [
        f"a negative time in {where}: {found.group()}"
        for where, text in said.items()
        if (found := _NEGATIVE.search(text))
    ]
    wrong += trials.after(bench, name, ended) + trials.again(bench, name)
    return [line for line in wrong if not any(dated in line for dated in _DATED)]
