"""Warnings as a user reads them: a line each, and of many of one kind a count."""

import collections
import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from absl import logging as absl_logging

from .visible import visible

_SHOWN = 3  # Of one kind.


class _Formatter(logging.Formatter):
    """`warning: text`, without time, thread or source line."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Shows warnings on standard error until the end of the block, which counts what it left out.

    Warnings are of one kind where they differ only in what is inserted into them. Those of Python,
    such as Pillow's of odd metadata, are a line, too, without the place in the code.
    """
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler, counts = absl_logging.get_absl_handler(), collections.Counter()

    def shown(record: logging.LogRecord) -> bool:
        counts[record.msg] += 1
        return counts[record.msg] <= _SHOWN

    def show(message: Warning | str, *_: object) -> None:
        absl_logging.warning("%s", message)

    handler.setFormatter(_Formatter())
    handler.addFilter(shown)
    python_shows, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = python_shows
        handler.removeFilter(shown)
        for message, count in counts.items():
            if count > _SHOWN:
                kind = re.sub(r"%[0-9.]*[a-z]", "...", str(message)).replace("%%", "%")
                print(f"warning: {count - _SHOWN} more like it: {kind}", file=sys.stderr)
