"""Sockets at which processes wait for others, watched while they run."""

import contextlib
import ipaddress
import os
import threading
from collections.abc import Iterator

import psutil


def sockets(pid: int) -> set[str]:
    """ADDRESS:PORT of each TCP socket that a process or one below it listens at."""
    found = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found |= {
                    f"{one.laddr.ip.removeprefix('::ffff:')}:{one.laddr.port}"
                    for one in process.net_connections("tcp")
                    if one.status == psutil.CONN_LISTEN
                }
    return found


def beyond_loopback(found: set[str]) -> list[str]:
    """Those of the sockets that another machine may reach."""
    return sorted(
        one for one in found if not ipaddress.ip_address(one.rpartition(":")[0]).is_loopback
    )


@contextlib.contextmanager
def watched(pid: int | None = None, seconds: float = 0.1) -> Iterator[set[str]]:
    """Every socket that was seen until the end of the block; by default, of this process."""
    seen: set[str] = set()
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(seconds):
            seen.update(sockets(pid or os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stopped.set()
        watcher.join()
        seen.update(sockets(pid or os.getpid()))
