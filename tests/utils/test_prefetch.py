"""Threads beside the device: in order, bounded, and no error is lost."""

import threading
import time

import pytest

from histojax.utils import prefetch


def test_results_come_in_order_whatever_takes_long():
    def slow(i: int) -> int:
        time.sleep(0.02 * (i % 3))
        return i * i

    assert list(prefetch.prefetch(slow, range(12), depth=4, threads=3)) == [
        i * i for i in range(12)
    ]
    assert list(prefetch.prefetch(slow, [], depth=4, threads=3)) == []


def test_no_more_than_the_depth_is_prefetched():
    started = []
    results = prefetch.prefetch(started.append, range(100), depth=3, threads=2)
    for used in range(1, 20):
        next(results)
        time.sleep(0.002)
        assert len(started) <= used + 3
    results.close()
    time.sleep(0.01)
    assert len(started) <= 19 + 3


def test_results_are_prefetched_while_the_last_one_is_used():
    results = prefetch.prefetch(lambda i: time.sleep(0.05), range(4), depth=4, threads=4)
    next(results)
    time.sleep(0.4)
    start = time.monotonic()
    list(results)
    assert time.monotonic() - start < 0.1


def test_an_error_comes_in_its_turn():
    results = prefetch.prefetch(lambda i: 1 / (i - 2), range(5), depth=4, threads=2)
    assert [next(results), next(results)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_background_calls_are_done_in_order_and_before_the_end():
    done = []
    with prefetch.background_writer(depth=2) as submit:
        for i in range(8):
            submit(lambda i=i: (time.sleep(0.005), done.append(i)))
    assert done == list(range(8))


def test_a_full_queue_waits():
    gate = threading.Event()
    with prefetch.background_writer(depth=1) as submit:
        submit(gate.wait)
        threading.Timer(0.1, gate.set).start()
        start = time.monotonic()
        submit(int)
        submit(int)
        assert time.monotonic() - start > 0.05


def fail() -> None:
    raise ZeroDivisionError


def submit_one(depth: int, done: list, after: type[Exception] | None = None) -> None:
    with prefetch.background_writer(depth) as submit:
        submit(fail if after is None else lambda: (time.sleep(0.05), done.append("written")))
        done.append("went on")
        if after is not None:
            raise after


@pytest.mark.parametrize(("depth", "reached"), [(0, []), (5, ["went on"])])
def test_a_background_error_is_raised_by_a_later_call_or_at_the_end(depth, reached):
    done = []
    with pytest.raises(ZeroDivisionError):
        submit_one(depth, done)
    assert done == reached


def test_after_an_error_in_the_block_submitted_calls_are_still_done():
    done = []
    with pytest.raises(KeyError):
        submit_one(5, done, after=KeyError)
    assert done == ["went on", "written"]
