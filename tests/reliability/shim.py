"""The shim of `shim.c`: compiled once, and its control file, which says what happens where."""

import ctypes
import dataclasses
import enum
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_EVENTS = 16384  # That are kept by name, as in shim.c.


class Kind(enum.IntEnum):
    """What changes files."""

    OPEN = 0
    WRITE = 1
    FSYNC = 2
    RENAME = 3
    UNLINK = 4
    MKDIR = 5
    TRUNCATE = 6


class Action(enum.IntEnum):
    """What happens at an event; FAIL goes on from there, after half a write."""

    COUNT = 0
    KILL_BEFORE = 1
    KILL_HALF = 2
    KILL_AFTER = 3
    FAIL = 4


@dataclasses.dataclass(frozen=True)
class Event:
    """One change of a file below the watched folder; `path` is relative to it."""

    kind: Kind
    path: str


class _Event(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("path", ctypes.c_char * 252)]


class _Control(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("at", ctypes.c_int64),
        ("action", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("kinds", ctypes.c_int32),
        ("fired", ctypes.c_int64),
        ("jump", ctypes.c_int64),
        ("jump_at", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("folder", ctypes.c_char * 4032),
        ("events", _Event * _EVENTS),
    ]


def why_not() -> str | None:
    """Why the shim cannot be used on this machine; None where it can."""
    if sys.platform != "linux":
        return f"the shim needs Linux, this is {sys.platform}"
    if not shutil.which("gcc"):
        return "the shim needs gcc, which is not installed"
    return None


def compiled(folder: Path) -> Path:
    """The shared object, compiled into a folder unless the same source was before.

    Raises:
      subprocess.CalledProcessError: gcc refuses it.
    """
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    library = folder / f"shim-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{library.name}.{os.getpid()}"
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        subprocess.run(["gcc", *flags, "-o", made, _SOURCE, "-ldl"], check=True)
        made.replace(library)
    return library


def arm(
    control: Path,
    watched: Path,
    at: int = 0,
    action: Action = Action.COUNT,
    *,
    group: bool = True,
    error: int = 0,
    kinds: tuple[Kind, ...] = (),
    jump: int = 0,
    jump_at: int = 0,
    offset: int = 0,
) -> None:
    """Writes a control file for one run.

    Args:
      control: the file, which processes find by the variable HISTOJAX_SHIM.
      watched: the folder below which events are counted, without links in its path.
      at: the number of the event that something happens at, from 1 on; 0 for none.
      action: what happens.
      group: whether a kill takes the process group, or the process that writes alone.
      error: errno of FAIL.
      kinds: the events that FAIL, from `at` on.
      jump: seconds by which the clock of the wall is wrong.
      jump_at: the number of the event from which on it is.
      offset: seconds by which it is wrong all the time.
    """
    folder = os.fsencode(watched.resolve())
    bits = sum(1 << kind for kind in kinds)
    settings = _Control(0, at, action, group, error, bits, 0, jump, jump_at, offset, folder)
    # In its place, since processes may have it mapped.
    with control.open("r+b" if control.exists() else "wb") as file:
        file.write(bytes(settings))


def events(control: Path) -> tuple[Event, ...]:
    """The events of a run in their order.

    Raises:
      ValueError: there were more than are kept.
    """
    read = _Control.from_buffer_copy(control.read_bytes())
    if read.count > _EVENTS:
        raise ValueError(f"{read.count} events, of which only {_EVENTS} are kept")
    listed = read.events[: read.count]
    return tuple(Event(Kind(event.kind), os.fsdecode(event.path)) for event in listed)


def count(control: Path) -> int:
    """How many events a run has come to, which may be going on."""
    with control.open("rb") as file:
        return int.from_bytes(file.read(8), sys.byteorder)


def fired(control: Path) -> int:
    """How often what was asked for happened in a run."""
    return _Control.from_buffer_copy(control.read_bytes()).fired
