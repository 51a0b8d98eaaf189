"""Processes that read damaged files one after another, and are replaced where one ends them.

Each input may take 5 s of CPU time, and 512 MiB beyond what the process has; what it prints and
warns of is noticed, too.
"""

import dataclasses
import io
import logging
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from histojax.errors import InputError
from tests.reliability import fuzz_formats
from tests.reliability.fuzz_readers import READERS, Reader

MOST_SECONDS, MOST_MEMORY = 5, 512 * 2**20
_MOST_SPACE = (
    4 * 2**30
)  # Bytes of addresses beyond a worker's own: more would endanger the machine.
_LONGEST_MESSAGE = 8100
_HANGS = 60  # Seconds without an answer, whatever the machine does meanwhile.
_RECORD = struct.Struct("<cIQd")  # Outcome, length of the text that follows, memory, seconds.
# Lines of libtiff (in Pillow) and of OpenSlide on stderr, beside what is said of the file.
_OF_LIBTIFF = re.compile(rb"(?:\s*(?:[\w.]+|\(process:\d+\)): [^\n]*\n\s*)*")
READ, REFUSED, FAULT = b"r", b"i", b"f"


@dataclasses.dataclass(frozen=True)
class Case:
    """One input: the `number`-th of a sample, by a seed."""

    reader: str
    sample: str
    seed: int
    number: int

    def __str__(self) -> str:
        return f"{self.reader}/{self.sample}/{self.seed}/{self.number}"

    def files(self) -> dict[str, bytes]:
        """The files of the sample, one of which is mutated."""
        sample = READERS[self.reader].samples()[self.sample]
        rng = random.Random(str(self))
        name = rng.choice(sorted(sample))
        return sample | {name: fuzz_formats.mutate(rng, name, sample[name])}


class Worker:
    """A forked process that reads the last of the remaining cases, the one before, and so on."""

    def __init__(self, remaining: Sequence[Case], folder: Path) -> None:
        receive, send = os.pipe()
        self.ended = False
        self.pid = os.fork()
        if not self.pid:
            os.close(receive)
            code = 1
            try:
                _work(tuple(reversed(remaining)), folder, send)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(send)
        self.answers = open(receive, "rb", buffering=0)  # noqa: SIM115

    def answer(self) -> tuple[bytes, str, int, float]:
        """What became of the next case; a fault where the worker ends, or is silent for long."""
        signal.signal(signal.SIGALRM, lambda *_: os.kill(self.pid, signal.SIGKILL))
        signal.alarm(_HANGS)
        head = self.answers.read(_RECORD.size)
        if len(head) == _RECORD.size:
            kind, length, memory, seconds = _RECORD.unpack(head)
            text = b""
            while len(text) < length and (part := self.answers.read(length - len(text))):
                text += part
            signal.alarm(0)
            return kind, text.decode(), memory, seconds
        signal.alarm(0)
        self.ended = True
        _, status = os.waitpid(self.pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number == signal.SIGXCPU:
            return FAULT, f"more than {MOST_SECONDS} s", 0, float(MOST_SECONDS)
        name = signal.Signals(number).name if number else f"exit {os.WEXITSTATUS(status)}"
        return FAULT, f"the process ended: {name}", 0, 0.0

    def close(self) -> None:
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.answers.close()


def _work(remaining: Sequence[Case], folder: Path, send: int) -> None:
    """Answers for each case; runs in a worker, whose output and limits it takes over."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + _MOST_SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.getLogger().handlers[:] = [logging.NullHandler()]
    logging.getLogger("absl").handlers[:] = [logging.NullHandler()]
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        tempfile.TemporaryFile(dir=folder) as output,
    ):
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        sys.stdout = sys.stderr = io.StringIO()  # Progress, which people are shown.
        for case in remaining:
            _limit_time(None)
            root = Path(tempfile.mkdtemp(dir=name))
            for path, content in case.files().items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
            kind, text, memory, seconds = _read(READERS[case.reader], root, output)
            encoded = text.encode(errors="replace")[:20_000]
            os.write(send, _RECORD.pack(kind, len(encoded), memory, seconds) + encoded)
            shutil.rmtree(root)


def _limit_time(seconds: int | None) -> None:
    """Ends this process after so many more seconds of CPU time."""
    most = resource.RLIM_INFINITY if seconds is None else int(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _read(reader: Reader, root: Path, output: io.BufferedRandom) -> tuple[bytes, str, int, float]:
    """One input: what became of it, why, the memory that it took, and its CPU seconds."""
    _limit_time(MOST_SECONDS + 2)
    before = _peak_memory(reset=True)
    start = time.process_time()
    text, kind = "", READ
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            reader.read(root)
        except InputError as error:
            kind, text = REFUSED, _complaint(error)
        except BaseException:
            text = traceback.format_exc()
    seconds = time.process_time() - start
    memory = max(0, _peak_memory() - before)
    printed = os.pread(output.fileno(), 2000, 0)
    output.truncate(0)
    os.lseek(output.fileno(), 0, 0)
    if kind == READ and reader.sealed and not text:
        text = "read, though it was changed and carries a checksum"
    of_code = [each for each in warned if "/PIL/" not in each.filename]  # A line each, see `log`.
    if not text and of_code:
        text = f"warns: {of_code[0].category.__name__}: {of_code[0].message}"
    if not text and not _OF_LIBTIFF.fullmatch(printed):
        text = f"prints: {printed.decode(errors='replace')}"
    if not text and memory > MOST_MEMORY:
        text = f"takes {memory / 2**20:.0f} MiB"
    if not text and seconds > MOST_SECONDS:
        text = f"takes {seconds:.1f} s"
    return (FAULT if text else kind), text, memory, seconds


def _complaint(error: InputError) -> str:
    """What is wrong with a refusal; empty where nothing is."""
    message, cause, seen = str(error), error, []
    while cause is not None:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, MemoryError) for each in seen):
        return f"asks for more memory than there is: {message[:500]}"
    if len(message) > _LONGEST_MESSAGE:
        return f"a message of {len(message)} characters: {message[:500]}"
    if not message or "Traceback" in message:
        return f"no plain message: {message[:500]}"
    return ""


def _peak_memory(reset: bool = False) -> int:
    """Bytes that the process held at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
