"""Small files that ask for much time, memory or other files: what reads them refuses them.

./run.sh torture --campaigns=bombs [--case=png/claims-ten-gigapixels]

Each is made by hand (`bomb_files`), given to what reads such files, in a process of its own, and
refused by one message, or read where it only looks odd, within 5 s of CPU time and 512 MiB.
"""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from histojax.errors import InputError
from tests.reliability import bomb_files
from tests.reliability.torture import Count, Fault, Outcome

MOST_SECONDS, MOST_MEBIBYTES = 5.0, 512.0
_HANGS = 60  # Seconds by the clock, whatever else the machine does.


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a file.

    Attributes:
      outcome: refused, read, or failed.
      text: the message.
      seconds: of CPU time.
      mebibytes: beyond what the process had.
      size: of the file, in bytes.
    """

    outcome: str
    text: str
    seconds: float
    mebibytes: float
    size: int

    def fault(self, may_be_read: bool) -> str:
        """What is wrong about it; empty for nothing."""
        if self.outcome == "failed" or self.outcome == "read" and not may_be_read:
            return f"{self.outcome}: {self.text}"
        if self.seconds > MOST_SECONDS:
            return f"took {self.seconds:.1f} s"
        if self.mebibytes > MOST_MEBIBYTES:
            return f"took {self.mebibytes:.0f} MiB"
        return ""


def tried(name: str, folder: Path) -> Result:
    """Makes a file and reads it, in a child whose memory is limited."""
    bomb = bomb_files.BOMBS[name]
    path = bomb.make(folder)
    size = path.stat().st_size if path.is_file() else 0
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX may have threads here; what is forked uses none.
        pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException), open(send, "w") as out:
            out.write(json.dumps(_read(bomb.read, path)))
        os._exit(0)
    os.close(send)
    with open(receive) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        return Result("failed", f"ended by status {status}", 0.0, 0.0, size)
    return Result(*json.loads(text), size)


def _read(read: Callable[[Path], Any], path: Path) -> tuple[str, str, float, float]:
    """Outcome, message, seconds and mebibytes of reading a file, in this process."""
    signal.alarm(_HANGS)
    warnings.simplefilter("ignore")  # The outcome counts.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    before, start = _most_memory(reset=True), os.times()
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 4 * 2**30,) * 2)  # For the machine's sake.
    try:
        outcome, text = "read", str(read(path))[:200]
    except InputError as error:
        outcome, text = "refused", str(error)
    except BaseException as error:
        outcome, text = "failed", f"{type(error).__name__}: {error}"
    end = os.times()
    seconds = end.user + end.system - start.user - start.system
    return outcome, text, seconds, (_most_memory() - before) / 2**20


def _most_memory(reset: bool = False) -> int:
    """Bytes of memory that this process has held at most, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def campaign(seed: int, minutes: float, folder: Path, case: str | None) -> Outcome:
    """All of the files, or one; seed and minutes change nothing."""
    del seed, minutes
    names = [case] if case else list(bomb_files.BOMBS)
    counts = {}
    for name in names:
        print(f"bombs: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as own:
            what = tried(name, Path(own)).fault(bomb_files.BOMBS[name].may_be_read)
        tried_before, faults = counts.get(name.partition("/")[0], (0, ()))
        faults += (Fault(name, f"{name} {what}"),) if what else ()
        counts[name.partition("/")[0]] = tried_before + 1, faults
    return Outcome(
        tuple(Count(kind, count, count, faults) for kind, (count, faults) in counts.items())
    )
