"""New processes of this program: who may start them, how they end, and Ctrl-C."""

import ast
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from histojax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


def require_main_guard() -> None:
    """Raises InputError where new processes would run the calling script again.

    Each of them imports it, so what a script does must be below a main guard.
    """
    path = _imported_by_new_processes()
    if path is not None and not _has_main_guard(path):
        raise InputError(
            f"{path} starts processes, and each of them imports it and would run it again: put "
            'what it does into a function, and call that below `if __name__ == "__main__":`'
        )


@contextlib.contextmanager
def only_one(folder: Path, work: str) -> Iterator[None]:
    """Lets no other process do the same work in a folder until the end of the block.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
      InputError: another process is doing it.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is {work} in {folder}: wait until it has ended, or name another "
                "folder"
            ) from None
        except OSError:
            pass  # A file system without locks, as some over a network.
        yield
    finally:
        os.close(descriptor)


def _imported_by_new_processes() -> Path | None:
    """The script that runs; None in a notebook, or where a package runs as python -m NAME."""
    main = sys.modules["__main__"]
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    is_package = spec is not None and spec.name.endswith("__main__")
    return None if path is None or is_package else Path(path)


def _has_main_guard(path: Path) -> bool:
    """Whether a script has a main guard; True where it cannot be read."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return True
    return any(isinstance(node, ast.If) and "__name__" in ast.dump(node.test) for node in body)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block, and for good in processes started in it.

    Those would otherwise be stopped while they import, and print where.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(parent: int) -> None:
    """Makes a new process end with its parent, and without a word at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    exit_when_parent_dies(parent)


def exit_when_parent_dies(parent: int) -> None:
    """Ends this process within a second or two of its parent, which may be killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
