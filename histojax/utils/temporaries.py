"""Temporary files: how they are called, and the end of those that killed processes left.

A file is written under a temporary name and then renamed. A process that is killed in between
leaves one behind. The same command, run again, writes into the same folder, and whoever first
writes into a folder removes what is left there.
"""

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from pathlib import Path

_NAME = re.compile(r"\.(?:([0-9a-f]{8})\.)?(\d+)\.[0-9a-f]{32}")
# Seconds after which a file of another machine counts as left: whether its process still runs is
# not known here.
_ABANDONED = 24 * 3600.0


def new_name() -> str:
    """A hidden file name that nothing else has; it tells the machine and the process.

    It contains no part of the final name: fsspec would expand a `[` or `*` in it.
    """
    return f".{_machine()}.{os.getpid()}.{uuid.uuid4().hex}"


@functools.cache
def remove_left(folder: Path) -> None:
    """Removes temporary files and folders of processes that have ended; a folder is looked at once.

    Those of other machines, and of histojax 0.1, stay for a day. Nothing is removed from buckets.
    """
    if not isinstance(folder, Path):
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # Another process may have removed it by now.
                    _remove_if_left(entry, *match.groups())


def _remove_if_left(entry: os.DirEntry, machine: str | None, process: str) -> None:
    if not _is_left(machine, process, entry.stat(follow_symlinks=False)):
        return
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)


def _is_left(machine: str | None, process: str, status: os.stat_result) -> bool:
    if machine == _machine() and os.name == "posix":
        return not _is_running(int(process))
    return time.time() - status.st_mtime > _ABANDONED


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # Of another user.
        return True
    return True


@functools.cache
def _machine() -> str:
    """Eight digits that tell this machine, or container, from others that may write to its disk."""
    try:
        numbered_in = os.stat("/proc/self/ns/pid").st_ino  # Containers count processes anew.
    except OSError:
        numbered_in = 0
    return hashlib.sha256(f"{platform.node()} {numbered_in}".encode()).hexdigest()[:8]
