"""What a run may do after a fault, and whether all is well when the command is run again."""

from tests.reliability import harness
from tests.reliability.commands import compared
from tests.reliability.kills import Bench


def refusal(ended: harness.Ended, *names: str) -> list[str]:
    """What is wrong with how a run gave up: it has to say why, once, and end with exit code 1 or 3.

    Args:
      ended: the run.
      names: one of which it has to name; none for any message.
    """
    if ended.hung:
        return [f"it hung for {harness.LIMIT:.0f} s"]
    if ended.code not in (1, 3):
        return [f"it ended with {ended.code}: {ended.error[-500:]}"]
    wrong = []
    if "Traceback" in ended.error:
        wrong.append(f"a traceback: {ended.error[-800:]}")
    elif ended.code == 1 and ended.error.count("error: ") != 1:
        wrong.append(f"no message, or several: {ended.error[-500:]!r}")
    if names and not any(name in ended.error + ended.out for name in names):
        wrong.append(f"none of {', '.join(names)} is named: {ended.error[-500:]!r}")
    return wrong


def contents(bench: Bench) -> dict[str, bytes | None]:
    """What runs wrote, as far as it is compared."""
    return compared(harness.contents(bench.out))


def difference(bench: Bench, name: str) -> list[str]:
    """How what a command wrote differs from what its unbroken run wrote."""
    return harness.differences(bench.expected[name], contents(bench))


def after(bench: Bench, name: str, ended: harness.Ended) -> list[str]:
    """What is wrong with a run that met a fault: it did all it should, or said why it could not."""
    if ended.code == bench.commands[name].code:
        return [f"it ended well, but {line}" for line in difference(bench, name)]
    return refusal(ended)


def again(bench: Bench, name: str) -> list[str]:
    """What is wrong after the command was run again, without any fault."""
    ended = bench.run(bench.commands[name])
    wrong = []
    if ended.code != bench.commands[name].code:
        wrong = [f"run again, it ended with {ended.code}: {ended.error[-500:]}"]
    return wrong + difference(bench, name)
