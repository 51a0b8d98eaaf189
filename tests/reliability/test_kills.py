"""A short campaign of kills; and that the harness notices what it is there for."""

import errno
import random

import pytest

from tests.reliability import harness, shim
from tests.reliability.shim import Action, Event, Kind

pytestmark = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))

SHORT = {"train": 6, "predict_descriptors": 4, "import_descriptors": 12}
MISTAKES = {
    "careful": set(),
    "loses_a_file": {"lost: b.txt", "left over: b.partial"},
    "leaves_half": {"differs: a.txt", "differs: b.txt"},
    "moves_a_digit": {"differs: b.txt"},
    "leaves_temporaries": {"left over"},
}


@pytest.mark.parametrize("name", SHORT)
def test_a_command_that_was_killed_makes_up_for_all_when_run_again(bench, name):
    bench.prepare(name)
    cases = random.Random(18).sample(bench.cases(name), SHORT[name])
    wrong = {case: bench.try_case(case)[1] for case in cases}
    assert {case: lines for case, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_harness_notices_mistakes_and_nothing_else(bench, name):
    bench.prepare(name)
    wrong = set()
    for case in bench.cases(name):
        hit, lines = bench.try_case(case)
        assert hit
        wrong |= {line.split(",")[0] for line in lines}
    assert {line.split(": tmp")[0] for line in wrong} == MISTAKES[name]


def test_events_are_counted_by_kind_and_path(bench):
    bench.prepare("every_kind_of_event")
    assert bench.events["every_kind_of_event"] == (
        Event(Kind.MKDIR, "out/new"),
        Event(Kind.OPEN, "out/new/a"),
        Event(Kind.WRITE, "out/new/a"),
        Event(Kind.FSYNC, "out/new/a"),
        Event(Kind.TRUNCATE, "out/new/a"),
        Event(Kind.RENAME, "out/b"),
        Event(Kind.UNLINK, "out/b"),
    )


@pytest.mark.parametrize(
    ("action", "at", "left"),
    [
        (Action.KILL_BEFORE, 3, b""),
        (Action.KILL_HALF, 3, b"abc"),
        (Action.KILL_AFTER, 3, b"abcdef"),
        (Action.KILL_AFTER, 5, b"abcde"),
        (Action.FAIL, 2, None),
        (Action.FAIL, 3, b"abc"),
    ],
)
def test_it_happens_at_the_event_that_was_asked_for(bench, tmp_path, action, at, left):
    out = tmp_path / "watched" / "out"
    out.mkdir(parents=True)
    kinds = (Kind.OPEN, Kind.WRITE, Kind.FSYNC)
    control = bench.server.control
    shim.arm(control, out, at, action, error=errno.ENOSPC, kinds=kinds)
    ended = bench.server.call("tests.reliability.careless:every_kind_of_event", str(out))
    assert ended.code == (1 if action == Action.FAIL else -9)
    assert shim.fired(control) > 0
    path = out / "new" / "a"
    assert (path.read_bytes() if path.exists() else None) == left


def test_folders_are_compared_by_every_file():
    expected = {"a": b"0.30000000000000004\n", "b": b"\0\1\2", "c": None, "d": b""}
    assert harness.differences(expected, dict(expected)) == []
    found = {"a": b"0.3\n", "b": b"\0\1", "c": b"", "e": None}
    assert harness.differences(expected, found) == [
        "lost: d",
        "left over: e",
        "differs: a, line 1: b'0.30000000000000004' became b'0.3'",
        "differs: b, 3 bytes became 2, from byte 2 on",
        "differs: c, a folder became a file, or the reverse",
    ]
