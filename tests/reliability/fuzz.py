"""Mutation fuzzing of every reader: damaged files are read, or refused with one message.

./run.sh torture --campaigns=fuzz --minutes=5
python -m tests.reliability.fuzz --inputs=10000 --seed=1
python -m tests.reliability.fuzz --case='images/tiff-lzw/1/37'

Each input is a sound sample (`fuzz_samples`, `fuzz_trained`) with a few mutations (`fuzz_formats`),
given to what reads it (`fuzz_readers`). It must be read, or refused by an InputError, within 5 s of
CPU time and 512 MiB of additional memory, without another exception, warning or output; what bears
a checksum must be refused. What is found is named by reader/sample/seed/number, by which it is made
again.
"""

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.reliability.fuzz_readers import READERS
from tests.reliability.fuzz_workers import FAULT, READ, REFUSED, Case, Worker
from tests.reliability.torture import Count, Fault, Outcome

_INPUTS = 10_000  # Of a round of the campaign.


def case_of(text: str) -> Case:
    """The case of a name such as images/tiff-lzw/1/37."""
    reader, sample, seed, number = text.split("/")
    return Case(reader, sample, int(seed), int(number))


def cases(inputs: int, seed: int, names: Sequence[str], first: int = 0) -> list[Case]:
    """Cases of these readers in turn, and of each of its samples in turn, from a number on."""
    kinds = {name: list(READERS[name].samples()) for name in names}
    return [
        Case(name, kinds[name][number % len(kinds[name])], seed, number)
        for number in range(first, first + -(-inputs // len(names)))
        for name in names
    ][:inputs]


@dataclasses.dataclass
class Tally:
    """What became of the inputs of a reader; `most_*` are over all inputs."""

    read: int = 0
    refused: int = 0
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    most_memory: int = 0
    most_seconds: float = 0.0

    @property
    def inputs(self) -> int:
        return self.read + self.refused + len(self.faults)


def run(
    chosen: Sequence[Case],
    folder: Path,
    deadline: float | None = None,
    earlier: dict[str, Tally] | None = None,
) -> dict[str, Tally]:
    """Runs cases one after another in workers, and counts what became of them by reader.

    Args:
      chosen: the cases.
      folder: keeps the files of those that show a fault.
      deadline: by `time.monotonic`, if there is one.
      earlier: counts that are added to.
    """
    tallies = {case.reader: Tally() for case in chosen} | (earlier or {})
    for reader in tallies:
        READERS[reader].samples()  # Once, before the workers are forked.
    remaining = list(reversed(chosen))
    while remaining and not (deadline and time.monotonic() > deadline):
        worker = Worker(remaining, folder)
        with contextlib.closing(worker):
            while remaining and not (deadline and time.monotonic() > deadline):
                kind, text, memory, seconds = worker.answer()
                case = remaining.pop()
                tally = tallies[case.reader]
                tally.read += kind == READ
                tally.refused += kind == REFUSED
                tally.most_memory = max(tally.most_memory, memory)
                tally.most_seconds = max(tally.most_seconds, seconds)
                if kind == FAULT:
                    tally.faults[str(case)] = text
                    _keep(case, folder)
                if worker.ended:
                    break
    return tallies


def _keep(case: Case, folder: Path) -> None:
    for name, content in case.files().items():
        path = folder / "faults" / str(case).replace("/", "-") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def campaign(seed: int, minutes: float, folder: Path, case: str | None) -> Outcome:
    """As many inputs of all readers as there is time for; see `torture`."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline, tallies, first = time.monotonic() + 60 * minutes, {}, 0
    if case:
        tallies = run([case_of(case)], folder)
    while not case and time.monotonic() < deadline:
        tallies = run(cases(_INPUTS, seed, list(READERS), first), folder, deadline, tallies)
        first += _INPUTS
    counts = [
        Count(
            f"{name}: {tally.read:,} read, {tally.refused:,} refused; at most "
            f"{tally.most_memory / 2**20:.0f} MiB, {tally.most_seconds:.2f} s",
            tally.inputs,
            None,
            tuple(Fault(repr(case), text) for case, text in tally.faults.items()),
        )
        for name, tally in tallies.items()
    ]
    return Outcome(tuple(counts))


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """The counts as lines of Markdown."""
    yield "| reader | inputs | read | refused | faults | most memory | longest |"
    yield "|---|---|---|---|---|---|---|"
    for name, tally in tallies.items():
        yield (
            f"| {name} | {tally.inputs:,} | {tally.read:,} | {tally.refused:,} | "
            f"{len(tally.faults)} | {tally.most_memory / 2**20:.0f} MiB | "
            f"{tally.most_seconds:.2f} s |"
        )


def main() -> int:
    """Runs what the command line asks for; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="reader/sample/seed/number: that input alone")
    parser.add_argument("--readers", help="names, separated by commas; by default all")
    parser.add_argument("--light", action="store_true", help="without what takes long to import")
    parser.add_argument("--folder", type=Path, help="where files that show a fault are kept")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="histojax-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = options.readers.split(",") if options.readers else list(READERS)
    names = [name for name in names if not (options.light and READERS[name].heavy)]
    start = time.monotonic()
    one = options.case and [case_of(options.case)]
    tallies = run(one or cases(options.inputs, options.seed, names), folder)
    print(*table(tallies), sep="\n")
    faults = [pair for tally in tallies.values() for pair in tally.faults.items()]
    for case, text in faults:
        print(f"\n--case={case!r}\n{text}")
    inputs = sum(tally.inputs for tally in tallies.values())
    print(f"\n{inputs:,} inputs in {time.monotonic() - start:.0f} s: {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
