"""Runs of scripts that are killed or fail on purpose, and whether two folders hold the same.

A trial takes about a second: a server (`server.py`) has imported everything and forks for each run.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.reliability import shim
from tests.running import ROOT, run

LIMIT = 300.0  # Seconds after which a run counts as hanging.
# What is run is small: it takes far longer to compile than to run, as tests/conftest.py says.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "MPLBACKEND": "agg",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
      code: its exit code; the negative number of the signal that killed it.
      out, error: what it printed; empty where it was killed.
      seconds: that it took.
      hung: whether it was killed because it took too long.
      value: what the function returned, where another than a script was run.
    """

    code: int
    out: str
    error: str
    seconds: float
    hung: bool
    value: object = None


class Server:
    """Forks runs from a process that has imported histojax already, with the shim loaded."""

    def __init__(self, folder: Path, modules: tuple[str, ...] = ()):
        """`folder` is for the server's own files; `modules` are imported, all where there are none.

        Attributes:
          control: the shim's control file.
          compiled: the cache of all runs, compiled programs mostly.
          shimmed: variables of other processes that the shim shall count, too.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.control = self.folder / "control"
        self.control.unlink(missing_ok=True)  # Of an earlier server.
        self.compiled = self.folder / "compiled"
        cache = str(self.compiled)
        fixed = {"JAX_COMPILATION_CACHE_DIR": cache, "HISTOJAX_CACHE": cache}
        self.shimmed = {
            "LD_PRELOAD": str(shim.compiled(self.folder)),
            "HISTOJAX_SHIM": str(self.control),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.server", *modules],
            cwd=ROOT,
            env=fixed | dict(os.environ) | _ENVIRONMENT | self.shimmed,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(
        self,
        script: str,
        *arguments: object,
        kill_after: float | None = None,
        group: bool = True,
        environment: dict[str, str] | None = None,
    ) -> Ended:
        """`histojax SCRIPT ARGUMENTS`, with the shim as `shim.arm(self.control, ...)` left it.

        Args:
          script: its name.
          arguments: of the command line.
          kill_after: seconds after which it is killed, if it still runs.
          group: whether the processes that it started are killed with it.
          environment: variables of the run.
        """
        given = [script, *map(str, arguments)]
        ended = self.call(
            "tests.reliability.harness:run_script",
            *given,
            kill_after=kill_after,
            group=group,
            environment=environment,
        )
        return as_script(ended)

    def call(
        self,
        function: str,
        *arguments: object,
        kill_after: float | None = None,
        group: bool = True,
        environment: dict[str, str] | None = None,
        limit: float = LIMIT,
    ) -> Ended:
        """Calls `module:function` with arguments that JSON knows, in a process of its own."""
        request = {
            "call": function,
            "arguments": arguments,
            "folder": str(self.folder),
            "environment": environment or {},
            "kill_after": kill_after,
            "group": group,
            "limit": limit,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        result = self.folder / "result.json"
        value = json.loads(result.read_text()) if answer["status"] == 0 else None
        return Ended(answer["status"], "", "", answer["seconds"], answer["hung"], value)

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise RuntimeError(f"the server of runs ended with {code}; see what it printed above")
        return json.loads(line)

    @property
    def pid(self) -> int:
        """The process that forks."""
        return self._process.pid

    def close(self) -> None:
        """Ends the server."""
        self._process.terminate()
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def server(folder: Path, modules: tuple[str, ...] = ()) -> Iterator[Server]:
    """A server, until the end of the block."""
    serving = Server(folder, modules)
    try:
        yield serving
    finally:
        serving.close()


def as_script(ended: Ended) -> Ended:
    """How a script ended, where the function that was called returns what `run_script` does."""
    if ended.value is None:
        return ended
    code, out, error = ended.value
    return dataclasses.replace(ended, code=code, out=out, error=error, value=None)


def run_script(script: str, *arguments: str) -> tuple[int, str, str]:
    """What the server calls: exit code, standard output and error of a script.

    Or of `module:function` in its place, which returns an exit code.
    """
    if ":" not in script:
        done = run(script, *arguments)
        return done.returncode, done.stdout, done.stderr
    module, function = script.split(":")
    try:
        return getattr(importlib.import_module(module), function)(*arguments), "", ""
    except OSError as error:
        return 1, "", f"error: {error}"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder by its path, and every folder, whose value is None."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def differences(expected: dict[str, bytes | None], found: dict[str, bytes | None]) -> list[str]:
    """What was lost, what was left over, and what differs, each as a line.

    Both are as `contents` gives them.
    """
    lines = [f"lost: {name}" for name in sorted(expected.keys() - found.keys())]
    lines += [f"left over: {name}" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            lines.append(f"differs: {name}{_first_difference(expected[name], found[name])}")
    return lines


def _first_difference(before: bytes | None, after: bytes | None) -> str:
    """Where two files begin to differ, and how: `, line 3: "a" became "b"`."""
    if before is None or after is None:
        return ", a folder became a file, or the reverse"
    if b"\0" in before or b"\0" in after:
        at = len(os.path.commonprefix([before, after]))
        return f", {len(before)} bytes became {len(after)}, from byte {at} on"
    rows = zip(before.splitlines() + [b""], after.splitlines() + [b""], strict=False)
    for number, (old, new) in enumerate(rows, 1):
        if old != new:
            at = max(len(os.path.commonprefix([old, new])) - 30, 0)
            return f", line {number}: {old[at : at + 80]!r} became {new[at : at + 80]!r}"
    return f", {len(before)} bytes became {len(after)}"
