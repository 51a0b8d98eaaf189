"""Host threads beside the device: work done ahead of it, and results put away behind it, both bounded."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], depth: int, threads: int
) -> Iterator[Result]:
    """Yields `function` of each item in order, up to `depth` of them worked on before they are asked for.

    An error of `function` is raised in its item's turn.
    """
    waiting: collections.deque[Future] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Behind:
    """One thread that does what it is given, in order: `with Behind(depth=2) as behind: behind.do(write, array)`.

    `do` waits where more than `depth` are not done yet. An error is raised by a later `do`, or at the end.
    """

    def __init__(self, depth: int):
        self.depth = depth
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self.waiting: collections.deque[Future] = collections.deque()

    def __enter__(self) -> "Behind":
        return self

    def do(self, function: Callable, *arguments: Any) -> None:
        self.waiting.append(self.pool.submit(function, *arguments))
        while len(self.waiting) > self.depth:
            self.waiting.popleft().result()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error elsewhere, what was handed over is still put away: it is finished work.
        self.pool.shutdown(wait=True)
        if error is None:
            for future in self.waiting:
                future.result()
