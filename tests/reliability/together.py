"""Several runs at once in one output folder, by mistake: each ends well or refuses.

A case is `COMMAND+COMMAND[+...]:SEED`: of one command two to four times, or of commands that write
to the same folder. The seed decides when each starts.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.reliability import harness, trials
from tests.reliability.kills import Bench

_MOST = 4
# Others that write to the folder that a command writes to.
_OTHERS = {
    "extract": ("import_descriptors",),
    "train": ("probe", "finetune"),
    "probe": ("train",),
    "finetune": ("probe",),
}


def cases(bench: Bench, name: str, rng: random.Random) -> Iterator[str]:
    """The command with itself and with others, without end."""
    while True:
        for count in range(2, _MOST + 1):
            yield f"{'+'.join([name] * count)}:{rng.randrange(10**6)}"
        for other in _OTHERS.get(name, ()):
            yield f"{name}+{other}:{rng.randrange(10**6)}"


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    joined, seed = case.split(":")
    names = joined.split("+")
    for name in names:
        bench.prepare(name)
    bench.empty()
    rng = random.Random(int(seed))
    longest = max(bench.seconds[name] for name in names)
    runs = [
        [rng.choice((0.0, rng.uniform(0, longest))), bench.commands[name].script]
        + bench.arguments(bench.commands[name])
        for name in names
    ]
    bench.arm()
    results = bench.folder / "together"
    called = bench.server.call("tests.reliability.together:run_all", str(results), *runs)
    if called.value is None:
        return [f"all together they ended with {called.code}, hung: {called.hung}"]
    ended = [harness.Ended(*each, seconds=0, hung=False) for each in called.value]
    well = [run.code == bench.commands[name].code for name, run in zip(names, ended, strict=True)]
    wrong = [] if any(well) else ["none ended well"]
    for name, run, is_well in zip(names, ended, well, strict=True):
        if not is_well:
            wrong += [f"{name}: {line}" for line in trials.refusal(run)]
    winners = sorted({name for name, is_well in zip(names, well, strict=True) if is_well})
    expected = {}
    for name in winners:
        expected |= bench.expected[name]
        again = bench.run(bench.commands[name])
        if again.code != bench.commands[name].code:
            wrong.append(f"{name}, run again, ended with {again.code}: {again.error[-500:]}")
    return wrong + harness.differences(expected, trials.contents(bench))


def run_all(folder: str, *runs: list) -> list[tuple[int, str, str]]:
    """What a server's child does: runs scripts, each after some seconds, in processes of their own.

    Returns:
      Their exit codes, standard outputs and errors.
    """
    started = {}
    for number, (seconds, script, *arguments) in enumerate(runs):
        result = Path(folder) / f"{number}.json"
        result.parent.mkdir(exist_ok=True)
        result.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                time.sleep(seconds)
                result.write_text(json.dumps(harness.run_script(script, *arguments)))
            finally:
                os._exit(0)
        started[child] = result
    endings = []
    for child, result in started.items():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        there = result.exists()
        endings.append(json.loads(result.read_text()) if there else (code or -1, "", ""))
    return endings
