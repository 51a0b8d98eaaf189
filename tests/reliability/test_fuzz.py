"""A short campaign of mutated files, and what the fuzzer says of readers that are at fault."""

import random
import subprocess
import sys
import textwrap

import pytest

from tests.reliability import coverage_guided, fuzz_formats
from tests.reliability import fuzz_samples as samples
from tests.running import ROOT

CARELESS = """
    import os, sys, time, warnings
    from pathlib import Path
    from histojax.errors import InputError
    from tests.reliability import fuzz, fuzz_workers
    from tests.reliability.fuzz_readers import READERS, Reader

    def spend(seconds):
        while time.process_time() < seconds: pass

    def refuse(_):
        raise InputError("no")

    def ask(_):
        try: bytearray(2**45)
        except MemoryError as error: raise InputError("damaged") from error

    def fill(_):
        bytearray(b"x") * 2**28

    def write(_):
        os.write(2, b"[LightGBM] [Fatal] no")

    actions = {
        "sound": lambda _: None, "refuses": refuse,
        "raises": lambda folder: {}[0], "ends": lambda _: os.abort(), "asks": ask,
        "fills": fill, "writes": write, "spends": lambda _: spend(60),
        "warns": lambda _: warnings.warn("no"),
    }
    fuzz_workers.MOST_SECONDS, fuzz_workers.MOST_MEMORY = 0.5, 2**27
    sample = lambda: {"a": {"a.json": b"[1]"}}
    READERS.clear()
    READERS.update({name: Reader(sample, read) for name, read in actions.items()})
    READERS["sealed"] = Reader(sample, lambda _: None, sealed=True)
    chosen = fuzz.cases(len(READERS), 0, list(READERS))
    for name, tally in fuzz.run(chosen, Path(sys.argv[1])).items():
        kinds = [text.strip().splitlines()[-1][:40] for text in tally.faults.values()]
        print(name, tally.read, tally.refused, len(tally.faults), *kinds)
"""


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_500_damaged_files_are_read_or_refused(tmp_path):
    done = run("-m", "tests.reliability.fuzz", "--inputs=500", "--light", f"--folder={tmp_path}")
    assert done.returncode == 0, done.stdout
    assert "500 inputs" in done.stdout


def test_readers_that_are_at_fault_are_found(tmp_path):
    done = run("-c", textwrap.dedent(CARELESS), str(tmp_path))
    assert [line.strip() for line in done.stdout.splitlines()] == EXPECTED, done.stderr


EXPECTED = [
    "sound 1 0 0",
    "refuses 0 1 0",
    "raises 0 0 1 KeyError: 0",
    "ends 0 0 1 the process ended: SIGABRT",
    "asks 0 0 1 asks for more memory than there is: dama",
    "fills 0 0 1 takes 256 MiB",
    "writes 0 0 1 prints: [LightGBM] [Fatal] no",
    "spends 0 0 1 more than 0.5 s",
    "warns 0 0 1 warns: UserWarning: no",
    "sealed 0 0 1 read, though it was changed and carries",
]


def test_a_case_is_the_same_each_time_and_never_the_sample():
    for kinds in (samples.images(), samples.tables(), samples.weight_files()):
        for sample in kinds.values():
            for name, content in sample.items():
                made = [fuzz_formats.mutate(random.Random(7), name, content) for _ in range(2)]
                assert made[0] == made[1] != content


@pytest.mark.parametrize(
    "name", sorted(coverage_guided.PARSERS.keys() - {"trees", "xgboost", "archive"})
)
def test_the_parsers_that_coverage_guides_read_their_seeds(tmp_path, name):
    parser = coverage_guided.PARSERS[name]
    assert parser.seeds()
    for content in parser.seeds():
        if name != "tiff" or b"\x10\0\x10\0\x10\0" not in content:  # 16 bits are refused.
            parser.parse(content, tmp_path / "input")


def test_without_atheris_the_campaign_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage_guided.importlib.util, "find_spec", lambda name: None)
    outcome = coverage_guided.campaign(0, 1, tmp_path, None)
    assert "pip install -r requirements-fuzz.txt" in outcome.counts[0].what
    assert not outcome.faults
