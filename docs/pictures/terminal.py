"""What a command writes to a terminal, recorded as it comes and replayed up to a moment of it."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS, ROWS = 100, 40


def record(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> bytes:
    """Runs a command in a folder, on a terminal of its own, and returns what it wrote.

    Raises:
      subprocess.CalledProcessError: the command failed.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's end of a terminal that nobody has open any more.
            part = b""
        if not part:
            break
        written += part
        os.write(1, part)
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, written)
    return written


def screen(written: str, moment: str) -> list[str]:
    """The lines on the terminal when `moment` was written for the last time.

    Args:
      written: by the command; a line that ends in a carriage return alone is overwritten.
      moment: a part of a line.

    Raises:
      ValueError: it was never written.
    """
    lines = [""]
    end = written.rindex(moment)
    stop = min(i for i in (written.find("\r", end), written.find("\n", end)) if i >= 0)
    for part in written[:stop].replace("\r\n", "\n").split("\n"):
        lines[-1] = part.split("\r")[-1].replace("\x1b[2K", "")
        lines.append("")
    return lines[:-1]
