"""Progress of long work on standard error: a moving bar on a terminal, lines in a log."""

import datetime
import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

_BAR_WIDTH = 24
# Seconds between two updates on a terminal, and between the lines of a log: at least so many, and
# later a tenth of the time gone, so that a day's work fills a page and not a book.
_ON_TERMINAL, _IN_LOG = 0.2, 10.0


class Control(str):
    """What a terminal shall obey. No name is one, though it has the same characters."""

    __slots__ = ()


_ERASE_LINE, _TO_ITS_START = Control("\x1b[2K"), Control("\r")


def format_duration(seconds: float) -> str:
    """Seconds as 45s, 3m05s or 2h07m."""
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def now() -> datetime.datetime:
    """The time of day, for `from_to`."""
    return datetime.datetime.now()


def from_to(start: datetime.datetime) -> str:
    """When something began, and the time now, as 14:02:01 to 14:03:10."""
    return f"{start:%H:%M:%S} to {now():%H:%M:%S}"


class Progress:
    """Counts units of work: `with Progress("extract", total, "crops") as bar: bar.add(20)`."""

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None):
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self._stream = stream if stream is not None else sys.stderr
        self._moving = self._stream.isatty()

    def __enter__(self) -> "Progress":
        self._start = self._shown = time.monotonic()
        return self

    def add(self, units: int, note: str = "") -> None:
        """Counts `units` as done and shows it, unless it was shown a moment ago."""
        self.done += units
        now = time.monotonic()
        interval = _ON_TERMINAL if self._moving else max(_IN_LOG, (now - self._start) / 10)
        if now - self._shown >= interval:
            self._shown = now
            self._write(self._line(now, note), end=_TO_ITS_START if self._moving else "\n")

    def _line(self, now: float, note: str) -> str:
        """What is done, how fast, and how long the rest will take."""
        elapsed = max(now - self._start, 1e-9)
        rate = self.done / elapsed
        left = format_duration((self.total - self.done) / rate) if rate > 0 else "?"
        count = (
            f"{self.done}/{self.total} {self.unit}, {self._pace(rate)}, "
            f"{format_duration(elapsed)} gone, {left} left {note}"
        ).rstrip()
        width = _BAR_WIDTH
        if self._moving:  # A line that wraps could not be overwritten.
            free = shutil.get_terminal_size().columns - len(f"{self.title} [] {count}") - 1
            width = min(width, max(free, 4))
        filled = width * self.done // max(self.total, 1)
        return f"{self.title} [{'=' * filled}{' ' * (width - filled)}] {count}"

    def _pace(self, rate: float) -> str:
        """How many units a second or, where that is less than one, how many seconds a unit."""
        if 0 < rate < 1:
            return f"{1 / rate:.3g} s each"
        return f"{rate:{',.0f' if rate >= 1000 else '.3g'}} {self.unit}/s"

    def _write(self, text: str, end: str) -> None:
        for part in (_ERASE_LINE if self._moving else "", text, end):
            self._stream.write(part)
        self._stream.flush()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.total == 0:
            self._write(f"{self.title}: nothing left to do", end="\n")
            return
        elapsed = time.monotonic() - self._start
        pace = self._pace(self.done / max(elapsed, 1e-9))
        self._write(
            f"{self.title}: {self.done} {self.unit} in {format_duration(elapsed)}, "
            f"{pace}{'' if kind is None else ' (stopped)'}",
            end="\n",
        )
