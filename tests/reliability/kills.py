"""SIGKILL at random moments and at every write: the same command, run again, makes up for all.

A case is `COMMAND:NUMBER:PHASE:SCOPE`, the number of an event (open for writing, write, fsync,
rename, unlink, mkdir, truncate; see `shim.c`) before, in the middle of, or after which the run is
killed; or `COMMAND:SECONDS:moment:SCOPE`. The scope is `group`, all processes of the run, or
`alone`, the one that writes or, at a moment, the one that the user started.

Afterwards the command is run again. It has to end with the exit code and the files of a run that
was never stopped, byte for byte but for what `compared` leaves out, and nothing may be left over.
"""

import contextlib
import dataclasses
import datetime
import random
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.reliability import dask_cluster, harness, shim
from tests.reliability.commands import COMMANDS, Command, compared, write_inputs
from tests.reliability.shim import Action, Kind
from tests.reliability.torture import Count, Fault, Outcome

_PHASES = {"before": Action.KILL_BEFORE, "half": Action.KILL_HALF, "after": Action.KILL_AFTER}
_MOMENT = "moment"
# There is one kill at a random moment for so many cases.
_MOMENTS = 8


class Bench:
    """Commands that ran unbroken, whose runs are killed and compared with these.

    <folder>/inputs         images, and what the unbroken run of each command wrote
    <folder>/watched/out    what is written now; the shim watches it and what is beside it
    """

    def __init__(
        self, serving: harness.Server, folder: Path, commands: Mapping[str, Command] = COMMANDS
    ):
        self.server, self.commands = serving, commands
        self.folder = folder.resolve()
        self.out = self.folder / "watched" / "out"
        self._stack = contextlib.ExitStack()
        self.events: dict[str, tuple[shim.Event, ...]] = {}
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, bytes | None]] = {}
        # Runs begin at noon: after midnight, a file that says when it was made would differ.
        now = datetime.datetime.now()
        self._until_noon = int((now.replace(hour=12) - now).total_seconds())
        self._inputs = self.folder / "inputs"
        self._places = {"inputs": str(self._inputs), "out": str(self.out)}
        if not self._inputs.exists():
            write_inputs(self._inputs)

    def prepare(self, name: str) -> None:
        """Runs a command unbroken, and those before it that it needs."""
        if name in self.events:
            return
        command = self.commands[name]
        for other in command.needs:
            if not (self._inputs / other).exists():
                self.prepare(other)
        for _ in range(2):  # The second is as fast as those that are killed.
            self.empty()
            ended = self.run(command)
            if ended.code != command.code:
                raise RuntimeError(f"{name}, unbroken, ended with {ended.code}:\n{ended.error}")
            if not command.warms_up:
                break
        self.events[name] = shim.events(self.server.control)
        self.seconds[name] = ended.seconds
        self.expected[name] = compared(harness.contents(self.out))
        shutil.copytree(self.out, self._inputs / name, dirs_exist_ok=True)

    def cases(self, name: str) -> list[str]:
        """Every event of a command, before, in the middle of, and after it."""
        return [
            f"{name}:{number}:{phase}:{scope}"
            for scope in self.commands[name].scopes
            for number, event in enumerate(self.events[name], 1)
            for phase in _PHASES
            if phase != "half" or event.kind == Kind.WRITE
        ]

    def try_case(self, case: str) -> tuple[bool, list[str]]:
        """Kills a run as a case says, runs it again; whether it was killed, and what is wrong."""
        name, at, phase, scope = case.split(":")
        self.prepare(name)
        command, group = self.commands[name], scope == "group"
        self.empty()
        if phase == _MOMENT:
            killed = self.run(command, kill_after=float(at), group=group)
            hit = killed.code < 0
        else:
            killed = self.run(command, int(at), _PHASES[phase], group=group)
            hit = shim.fired(self.server.control) > 0
        wrong = [f"the killed run hung for {harness.LIMIT:.0f} s"] if killed.hung else []
        again = self.run(command)
        if again.code != command.code:
            wrong.append(f"run again, it ended with {again.code}: {again.error[-500:]}")
        found = compared(harness.contents(self.out))
        return hit, wrong + harness.differences(self.expected[name], found)

    def run(
        self,
        command: Command,
        at: int = 0,
        action: Action = Action.COUNT,
        *,
        more: tuple[str, ...] = (),
        group: bool = True,
        kill_after: float | None = None,
        environment: dict[str, str] | None = None,
        **settings: object,
    ) -> harness.Ended:
        """Runs a command, with `more` arguments; `settings` are those of `shim.arm`."""
        arguments = self.arguments(command, more)
        self.arm(at=at, action=action, group=group, **settings)
        how = {"kill_after": kill_after, "group": group, "environment": environment}
        return self.server.run(command.script, *arguments, **how)

    def arm(self, **settings: object) -> None:
        """Has the shim watch what runs write, or do as the settings of `shim.arm` say."""
        always = {"watched": self.out.parent, "offset": self._until_noon}
        shim.arm(self.server.control, **always | settings)

    def arguments(self, command: Command, more: tuple[str, ...] = ()) -> list[str]:
        """The command line of a command, without its name."""
        if "{dask}" in "".join(command.arguments) and "dask" not in self._places:
            self._places["dask"] = self._stack.enter_context(
                dask_cluster.cluster(
                    self.folder / "dask", self.out.with_name("dask"), self.server.shimmed
                )
            )
        return [text.format(**self._places) for text in (*command.arguments, *more)]

    def empty(self) -> None:
        """Removes what runs wrote."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)

    def close(self) -> None:
        """Ends the Dask cluster, if there is one."""
        self._stack.close()


def campaign(seed: int, minutes: float, folder: Path, case: str | None = None) -> Outcome:
    """Kills runs of all commands, for so many minutes or until every case was tried."""
    start = time.monotonic()
    with (
        harness.server(folder / "server") as serving,
        contextlib.closing(Bench(serving, folder / "kills")) as bench,
    ):
        if case:
            hit, wrong = bench.try_case(case)
            faults = (Fault(case, "; ".join(wrong)),) if wrong else ()
            return Outcome((Count(f"{case}{'' if hit else ', not reached'}", 1, 1, faults),))
        left: dict[str, list[str] | None] = dict.fromkeys(COMMANDS)  # None until it is prepared.
        tally = {(name, moment): _Tally() for name in COMMANDS for moment in (False, True)}
        spent = dict.fromkeys(COMMANDS, 0.0)
        while left and (begin := time.monotonic()) - start < 60 * minutes:
            name = min(left, key=spent.__getitem__)  # All commands get the same time.
            if left[name] is None:
                bench.prepare(name)
                what = f"{len(bench.events[name])} events, {bench.seconds[name]:.1f} s a run"
                print(f"kills: {name}: {what}", file=sys.stderr, flush=True)
                left[name] = draw(random.Random(f"{seed}/{name}"), bench, name)
            drawn = left[name].pop()
            tally[name, f":{_MOMENT}:" in drawn].add(drawn, *bench.try_case(drawn))
            spent[name] += time.monotonic() - begin
            if not left[name]:
                del left[name]
        return Outcome(
            tuple(
                Count(
                    f"{name}, {'at random moments' if moment else 'at every write'}",
                    counted.tried,
                    None if moment or left.get(name, ()) is None else len(bench.cases(name)),
                    tuple(counted.faults),
                )
                for (name, moment), counted in tally.items()
            )
        )


@dataclasses.dataclass
class _Tally:
    """What was tried of a command, and the faults of it."""

    tried: int = 0
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def add(self, case: str, hit: bool, wrong: list[str]) -> None:
        """Counts a case where the run was killed, and keeps what is wrong in any case."""
        self.tried += hit
        if wrong:
            self.faults.append(Fault(case, f"{case}: " + "; ".join(wrong)))
            print(f"kills: {self.faults[-1].what}", file=sys.stderr, flush=True)


def draw(rng: random.Random, bench: Bench, name: str) -> list[str]:
    """All cases of a command in random order, with kills at random moments in between."""
    drawn = []
    for count, case in enumerate(rng.sample(bench.cases(name), len(bench.cases(name)))):
        if count % _MOMENTS == 0:
            scope = rng.choice(bench.commands[name].scopes)
            drawn.append(f"{name}:{rng.uniform(0, bench.seconds[name]):.3f}:{_MOMENT}:{scope}")
        drawn.append(case)
    return drawn
