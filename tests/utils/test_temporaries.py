"""What killed processes left goes when the next one writes into the folder, and nothing else."""

import os
import subprocess
import sys
import time

import pytest

from histojax.utils import files, temporaries

DIGITS = "0123456789abcdef" * 2


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, ended):
    ours = temporaries.new_name()
    left = tmp_path / ours.replace(f".{os.getpid()}.", f".{ended}.")
    left.write_text("half")
    folder = left.with_name(f"{left.name[:-1]}f")
    (folder / "images").mkdir(parents=True)
    kept = {tmp_path / name for name in (ours, f".{os.getppid()}.{DIGITS}", ".hidden")}
    for path in kept:
        path.write_text("being written")
    files.write_text(tmp_path / "a.txt", "a")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", *kept}


@pytest.mark.parametrize("form", [".00000000.{}.{}", ".{}.{}"])
def test_what_another_machine_or_version_left_stays_for_a_day(tmp_path, ended, form):
    young, old = (tmp_path / form.format(ended, last + DIGITS[1:]) for last in "ab")
    for path in (young, old):
        path.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    files.require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == [young]
