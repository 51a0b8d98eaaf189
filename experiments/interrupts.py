"""Ctrl-C and SIGTERM raise KeyboardInterrupt, also where Python would only print and forget it."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

# Python ignores what is raised in these: JAX's callback of the garbage collector, and destructors.
_IGNORED_IN = ("_xla_gc_callback", "__del__")
_RETRY = 0.05  # Seconds.


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Until the end of the block, a signal to stop is an ordinary KeyboardInterrupt, never lost.

    So workers and temporary files are cleared. A signal that the parent process ignores, as in a
    background job of a script, stays ignored.
    """
    numbers = [signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; where it would be ignored, a moment later."""
    while frame is not None:
        if frame.f_code.co_name in _IGNORED_IN:
            signal.setitimer(signal.ITIMER_REAL, _RETRY)
            return
        frame = frame.f_back
    raise KeyboardInterrupt
