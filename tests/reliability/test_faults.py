"""A short campaign of each kind of fault; and that each notices what it is there for."""

import itertools
import random

import pytest

from tests.reliability import faults, shim

pytestmark = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))

SHORT = (
    "disk:import_descriptors:3:full",
    "disk:import_descriptors:14:broken",
    "disk:predict_descriptors:2:full",
    "together:import_descriptors+import_descriptors:1",
    "clock:import_descriptors:5:86400",
    "clock:predict_descriptors:files:-31536000",
    "replaced:predict_descriptors:1:train/models/*/seed0-fold01.txt",
    "memory:train:20:writer",
    "memory:import_descriptors:8:limit",
)
# What is noticed of functions that make a mistake, and, last, of one that makes none.
MISTAKES = {
    "disk:ignores_a_full_disk:2:full": "it ended well, but lost: a.txt",
    "disk:careful:2:full": None,
    "cache:believes_its_cache:zeroed:0": "it ended well, but differs: a.txt",
    "cache:careful:zeroed:0": None,
    "together:appends+appends:1": "differs: a.txt",
    "together:careful+careful:1": None,
    "clock:measures_by_the_wall:3:-31536000": "a negative time in b.txt",
    "clock:careful:3:-31536000": None,
    "replaced:reads_twice:3:new/new0.png": "neither version",
    "replaced:careful:3:new/new0.png": None,
    "memory:forgets_its_worker:1:writer": "it ended well, but lost: a.txt",
    "memory:careful:1:writer": None,
}


@pytest.mark.parametrize("case", SHORT)
def test_a_fault_does_no_harm(bench, case):
    assert faults.try_case(bench, case) == []


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_noticed_and_nothing_else(bench, case):
    for number in range(8):
        path = bench.server.compiled / f"program{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("0123456789")
    wrong = faults.try_case(bench, case)
    for number in range(8):
        (bench.server.compiled / f"program{number}").unlink()
    if MISTAKES[case] is None:
        assert wrong == []
    else:
        assert any(MISTAKES[case] in line for line in wrong)


def test_cases_of_a_seed_are_the_same(bench):
    drawn = [
        list(itertools.islice(faults.draw(bench, rng, ["import_descriptors"], faults.KINDS), 30))
        for rng in (random.Random(seed) for seed in (1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
