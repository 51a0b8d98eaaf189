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
def stop_and_wait() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    """As in JAX's, where Python prints `Exception ignored in` and goes on."""
    before = signal.getsignal(number)
    sent = []

    def _xla_gc_callback(phase, info):
        if not sent:
            sent.append(os.kill(os.getpid(), number))

    gc.callbacks.append(_xla_gc_callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait()
    finally:
        gc.callbacks.remove(_xla_gc_callback)
    assert sent
    assert signal.getsignal(number) == before


def test_elsewhere_it_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt):
        stop_and_wait()
