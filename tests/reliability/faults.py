"""Faults other than kills: disks, caches, clocks, other processes, replaced files, lack of memory.

A case is `KIND:CASE`, where the module of the kind says what its cases are.
"""

import contextlib
import random
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.reliability import (
    damaged_cache,
    full_disk,
    harness,
    memory,
    replaced,
    together,
    wrong_clock,
)
from tests.reliability.commands import COMMANDS
from tests.reliability.kills import Bench
from tests.reliability.torture import Count, Fault, Outcome

# Each is a module with
#   cases(bench: Bench, name: str, rng: random.Random) -> Iterable[str], perhaps without end
#   try_case(bench: Bench, case: str) -> list[str], what is wrong
KINDS = {
    "disk": full_disk,
    "cache": damaged_cache,
    "together": together,
    "clock": wrong_clock,
    "replaced": replaced,
    "memory": memory,
}


def campaign(seed: int, minutes: float, folder: Path, case: str | None = None) -> Outcome:
    """Tries faults of every kind on every command, in turn, for so many minutes."""
    with (
        harness.server(folder / "server") as serving,
        contextlib.closing(Bench(serving, folder / "faults")) as bench,
    ):
        if case:
            return _outcome([(case, try_case(bench, case))])
        end, results = time.monotonic() + 60 * minutes, []
        for drawn in draw(bench, random.Random(seed), COMMANDS, KINDS):
            if time.monotonic() > end:
                break
            results.append((drawn, try_case(bench, drawn)))
        return _outcome(results)


def draw(
    bench: Bench, rng: random.Random, names: Collection[str], kinds: Collection[str]
) -> Iterator[str]:
    """Cases of all kinds and commands in turn, until there are no more.

    A command is prepared when its first case is due.
    """

    def of_command(name: str, kind: str) -> Iterator[str]:
        bench.prepare(name)
        yield from (f"{kind}:{case}" for case in KINDS[kind].cases(bench, name, rng))

    streams = [of_command(name, kind) for name in names for kind in kinds]
    while streams:
        for stream in list(streams):
            if case := next(stream, None):
                yield case
            else:
                streams.remove(stream)


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case, which is printed, too."""
    kind, _, rest = case.partition(":")
    wrong = KINDS[kind].try_case(bench, rest)
    if wrong:
        print(f"faults: {case}: {'; '.join(wrong)}", file=sys.stderr, flush=True)
    return wrong


def _outcome(results: list[tuple[str, list[str]]]) -> Outcome:
    """The counts, by kind and command, of cases and what is wrong with them."""
    rows: dict[str, list[tuple[str, list[str]]]] = {}
    for case, wrong in results:
        rows.setdefault(", ".join(case.split(":")[:2]), []).append((case, wrong))
    return Outcome(
        tuple(
            Count(
                row,
                len(of_row),
                faults=tuple(
                    Fault(case, f"{case}: {'; '.join(wrong)}") for case, wrong in of_row if wrong
                ),
            )
            for row, of_row in sorted(rows.items())
        )
    )
