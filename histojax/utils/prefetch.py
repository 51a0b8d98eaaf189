"""Threads of the host beside the device: items prepared ahead of it, results written behind it.

Both are bounded: `prefetch(load, paths, depth, threads)` keeps at most `depth` results waiting,
`background_writer(depth)` at most `depth` writes.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Submit = Callable[..., None]


def prefetch(
    function: Callable[[_Item], _Result], items: Iterable[_Item], depth: int, threads: int
) -> Iterator[_Result]:
    """Yields `function` of each item in order, computing up to `depth` results in advance.

    An error of `function` is raised when its item's turn comes.
    """
    pending: collections.deque[Future] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def background_writer(depth: int) -> Iterator[Submit]:
    """Yields `submit(function, *arguments)`, which runs calls in order on one background thread.

    `submit` waits while more than `depth` calls are unfinished, and raises the error of an earlier
    call. The end of the block waits for all calls and raises the first error left, unless the block
    itself failed: then the calls are still finished, since their results are complete.
    """
    pending: collections.deque[Future] = collections.deque()

    def submit(function: Callable, *arguments: object) -> None:
        pending.append(pool.submit(function, *arguments))
        while len(pending) > depth:
            pending.popleft().result()

    with ThreadPoolExecutor(1, thread_name_prefix="background-writer") as pool:
        yield submit
    for future in pending:
        future.result()
