"""Campaigns of faults, as `./run.sh torture` runs them: kills, full disks, bad input.

./run.sh torture [--minutes=N] [--seed=S] [--campaigns=kills,...] [--case=CASE] [--folder=DIR]

Prints how much was tried, of how much, and what was found. The exit code is 1 where a fault was
found, each of which is told with the command that repeats it, or where a campaign had no time to
try anything. With a case, that one alone is tried.
"""

import argparse
import dataclasses
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import shim

# Each is a module of this package with a function
#   campaign(seed: int, minutes: float, folder: Path, case: str | None) -> Outcome
# which writes below `folder` alone.
CAMPAIGNS = ("kills", "faults", "bombs", "fuzz", "coverage_guided")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What went wrong, and the case that shows it."""

    case: str
    what: str


@dataclasses.dataclass(frozen=True)
class Count:
    """A row of the table.

    Attributes:
      what: was tried, such as "train, kills at writes".
      tried: how often.
      of: how many cases there are; None where there is no end to them.
      faults: that were found.
    """

    what: str
    tried: int
    of: int | None = None
    faults: tuple[Fault, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a campaign did.

    Attributes:
      counts: the rows of the table.
      cannot_run: whether something that it needs is not installed, as its row says.
    """

    counts: tuple[Count, ...]
    cannot_run: bool = False

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(fault for count in self.counts for fault in count.faults)

    @property
    def tried(self) -> int:
        return sum(count.tried for count in self.counts)


def table(outcomes: dict[str, Outcome], seconds: dict[str, float]) -> str:
    """Counts of all campaigns."""
    rows = [("campaign", "what", "tried", "of", "faults")]
    for name, outcome in outcomes.items():
        for count in outcome.counts:
            of = "" if count.of is None else f"{count.of:,}"
            rows.append((name, count.what, f"{count.tried:,}", of, str(len(count.faults))))
        took = f"in {seconds[name] / 60:.1f} minutes"
        rows.append((name, f"all, {took}", f"{outcome.tried:,}", "", str(len(outcome.faults))))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="torture"
    )
    options.add_argument("--minutes", type=float, default=10.0, help="of all campaigns together")
    options.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options.add_argument("--campaigns", default=",".join(CAMPAIGNS), help="some, by name")
    options.add_argument("--case", help="one case of one campaign, as a fault names it")
    options.add_argument("--folder", type=Path, help="for all that is written; it is kept")
    return options


def main() -> int:
    """Runs campaigns, prints what they did, and returns the exit code."""
    given = parser().parse_args()
    names = given.campaigns.split(",")
    if unknown := [name for name in names if name not in CAMPAIGNS]:
        parser().error(f"no campaign {', '.join(unknown)}: there are {', '.join(CAMPAIGNS)}")
    if given.case and len(names) != 1:
        parser().error("--case goes with one campaign: name it as --campaigns=NAME")
    if why := shim.why_not():
        sys.exit(f"error: {why}")
    # Ended by Ctrl-C or by kill, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    outcomes, seconds = {}, {}
    with tempfile.TemporaryDirectory(prefix="histojax-torture-") as temporary:
        for name in names:
            folder = (given.folder or Path(temporary)) / name
            start = time.monotonic()
            module = importlib.import_module(f"tests.reliability.{name}")
            minutes = given.minutes / len(names)
            outcomes[name] = module.campaign(given.seed, minutes, folder, given.case)
            seconds[name] = time.monotonic() - start
            found = f"{outcomes[name].tried:,} tried, {len(outcomes[name].faults)} faults"
            print(f"{name}: {found}", file=sys.stderr, flush=True)
    print(table(outcomes, seconds))
    idle = [name for name, of in outcomes.items() if not of.tried and not of.cannot_run]
    if idle:
        more = f"pass more than --minutes={given.minutes:g}"
        print(f"\nnothing was tried of {', '.join(idle)}: {more}")
    faults = [(name, fault) for name, outcome in outcomes.items() for fault in outcome.faults]
    for name, fault in faults:
        print(f"\n{fault.what}")
        print(f"  ./run.sh torture --seed={given.seed} --campaigns={name} --case={fault.case}")
    return 1 if faults or idle else 0


if __name__ == "__main__":
    # Under its own name: campaigns import `Outcome` from here.
    from tests.reliability import torture

    sys.exit(torture.main())
