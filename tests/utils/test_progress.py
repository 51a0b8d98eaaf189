"""Progress is shown at intervals, moving on a terminal, and ends with a line that sums it up."""

import io

import pytest

from histojax.utils import progress
from histojax.utils.progress import Progress, format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.5, "1m00s"), (185, "3m05s"), (3599.6, "1h00m"), (7620, "2h07m")],
)
def test_durations_are_rounded_to_what_matters(seconds, text):
    assert format_duration(seconds) == text


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock):
    log = io.StringIO()
    with Progress("extract", 100, "crops", stream=log) as bar:
        for _ in range(4):
            clock[0] += 5
            bar.add(25, "a.png")
    lines = log.getvalue().splitlines()
    assert lines == [
        "extract [============            ] 50/100 crops, 5 crops/s, 10s gone, 10s left a.png",
        "extract [========================] 100/100 crops, 5 crops/s, 20s gone, 0s left a.png",
        "extract: 100 crops in 20s, 5 crops/s",
    ]


def test_a_log_of_long_work_gets_a_line_for_each_tenth_of_the_time_gone(clock):
    log = io.StringIO()
    with Progress("extract", 1000, "crops", stream=log) as bar:
        for _ in range(1000):
            clock[0] += 36
            bar.add(1)
    lines = log.getvalue().splitlines()
    assert 30 < len(lines) < 60
    assert "36 s each" in lines[0]
    assert lines[-1] == "extract: 1000 crops in 10h00m, 36 s each"


def test_a_bar_is_no_wider_than_its_terminal(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "73")
    terminal = Terminal()
    with Progress("places of the images", 2, "images", stream=terminal) as bar:
        clock[0] += 1
        bar.add(1)
    bar = terminal.getvalue().split("\r")[0].removeprefix("\x1b[2K")
    assert bar == "places of the images [====    ] 1/2 images, 1 images/s, 1s gone, 1s left"
    assert len(bar) == 72


def test_a_bar_on_a_terminal_is_overwritten(clock):
    terminal = Terminal()
    with Progress("extract", 2, "crops", stream=terminal) as bar:
        clock[0] += 1
        bar.add(1)
    first, last = terminal.getvalue().split("\r")
    assert first.startswith("\x1b[2Kextract [")
    assert last == "\x1b[2Kextract: 1 crops in 1s, 1 crops/s\n"


def train_until_an_error(clock, log) -> None:
    with Progress("train", 4, "models", stream=log) as bar:
        clock[0] += 2
        bar.add(1)
        raise KeyError


def test_the_end_tells_stopped_work_and_no_work_from_finished_work(clock):
    log = io.StringIO()
    with pytest.raises(KeyError):
        train_until_an_error(clock, log)
    with Progress("train", 0, "models", stream=log):
        pass
    assert log.getvalue().splitlines() == [
        "train: 1 models in 2s, 2 s each (stopped)",
        "train: nothing left to do",
    ]


def test_a_high_rate_has_no_exponent(clock):
    log = io.StringIO()
    with Progress("download", 2_500_000, "bytes", stream=log) as bar:
        clock[0] += 1
        bar.add(2_500_000)
    assert log.getvalue() == "download: 2500000 bytes in 1s, 2,500,000 bytes/s\n"
