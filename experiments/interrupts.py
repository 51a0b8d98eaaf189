"""Ctrl-C and SIGTERM raise KeyboardInterrupt, also where Python would only print and forget it."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_RETRY = 0.5  # Seconds.


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Until the end of the block, a signal to stop is an ordinary KeyboardInterrupt, never lost.

    Python ignores what is raised in destructors and in callbacks, such as JAX's of the garbage
    collector. So it is raised again until something handles it: workers and temporary files are
    cleared meanwhile. A signal that the parent process ignores, as in a background job of a script,
    stays ignored.
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
    """Raises KeyboardInterrupt, and again after _RETRY unless it is being handled by then."""
    if number == signal.SIGALRM and _is_handled():
        return
    signal.setitimer(signal.ITIMER_REAL, _RETRY)
    raise KeyboardInterrupt


def _is_handled() -> bool:
    """Whether the code that is interrupted clears up after a KeyboardInterrupt."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
