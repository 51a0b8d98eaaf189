"""Progress of long work, with its rate, on standard error: a moving bar on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import TextIO

BAR = 24


def format_duration(seconds: float) -> str:
    """Seconds as 45s, 3m05s or 2h07m."""
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


class Progress:
    """Counts units of work: `with Progress("extract", total, "crops") as bar: bar.add(20)`."""

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None):
        self.title, self.total, self.unit = title, total, unit
        self.stream = stream if stream is not None else sys.stderr
        self.moving = self.stream.isatty()
        self.interval = 0.2 if self.moving else 10.0
        self.done = 0

    def __enter__(self) -> "Progress":
        self.start = self.shown = time.monotonic()
        return self

    def add(self, units: int, note: str = "") -> None:
        """Counts `units` as done and shows it, at most once an interval."""
        self.done += units
        now = time.monotonic()
        if now - self.shown >= self.interval:
            self.shown = now
            self.write(self.line(now, note), end="\r" if self.moving else "\n")

    def line(self, now: float, note: str = "") -> str:
        """What is done of what, how fast, and how long the rest will take."""
        elapsed = max(now - self.start, 1e-9)
        rate = self.done / elapsed
        filled = BAR * self.done // max(self.total, 1)
        left = format_duration((self.total - self.done) / rate) if rate > 0 else "?"
        return (
            f"{self.title} [{'=' * filled}{' ' * (BAR - filled)}] {self.done}/{self.total} {self.unit}, "
            f"{rate:.3g} {self.unit}/s, {format_duration(elapsed)} gone, {left} left {note}"
        )

    def write(self, text: str, end: str) -> None:
        self.stream.write(("\x1b[2K" if self.moving else "") + text.rstrip() + end)
        self.stream.flush()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        rate = self.done / max(now - self.start, 1e-9)
        if self.total == 0:
            self.write(f"{self.title}: nothing left to do", end="\n")
            return
        ending = "" if kind is None else " (stopped)"
        self.write(
            f"{self.title}: {self.done} {self.unit} in {format_duration(now - self.start)}, {rate:.3g} {self.unit}/s{ending}",
            end="\n",
        )
