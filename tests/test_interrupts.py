"""A signal to stop is an ordinary KeyboardInterrupt, wherever the process is when it comes."""

import gc
import os
import signal
import time

import pytest

from experiments import interrupts


@interrupts.raised()
def collect_and_wait() -> None:
    gc.collect()
    time.sleep(5)


@interrupts.raised()
def stop_and_clear_up(cleared: list[str]) -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    finally:
        time.sleep(2 * interrupts._RETRY)
        cleared.append("workers")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    """Python prints `Exception ignored in`, as of JAX's callback, and goes on."""
    before = signal.getsignal(number)
    sent = []

    def callback(phase, info):
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    gc.freeze()  # What was there before needs no search.
    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait()
    finally:
        gc.callbacks.remove(callback)
    assert sent
    assert signal.getsignal(number) == before


def test_one_that_is_handled_is_not_raised_again():
    cleared = []
    with pytest.raises(KeyboardInterrupt):
        stop_and_clear_up(cleared)
    assert cleared == ["workers"]
