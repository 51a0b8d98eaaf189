"""Runs scripts as a user does, but in this process: starting another takes longer than most do.

`python` is for what needs another.
"""

import contextlib
import io
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from absl import app, flags, logging

ROOT = Path(__file__).parents[1]

app.define_help_flags()  # Once: a script's flags go when it has run, these stay.


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """`python -m experiments.SCRIPT ARGUMENTS`: its exit code, standard output and error."""
    command = [script, *map(str, arguments)]
    out, error = io.StringIO(), io.StringIO()
    handler, known = logging.get_absl_handler().python_handler, set(flags.FLAGS)
    before, verbosity = (sys.argv, handler.stream), logging.get_verbosity()
    sys.argv, handler.stream = command.copy(), error
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = exit_code(script)
    finally:
        sys.argv, handler.stream = before
        logging.set_verbosity(verbosity)
        # The script's flags; those of a library that it was the first to import stay, as it does.
        by_module = flags.FLAGS.flags_by_module_dict()
        ours = {
            flag.name
            for module, defined in by_module.items()
            if "experiments" in str(module)
            for flag in defined
        }
        for name in ours - known:
            delattr(flags.FLAGS, name)
    return subprocess.CompletedProcess(command, code, out.getvalue(), error.getvalue())


def exit_code(script: str) -> int:
    """Runs it and ends as Python would: 1 after an error, which standard error tells."""
    try:
        runpy.run_module(f"experiments.{script}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def python(
    *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """`python ARGUMENTS` in a process of its own; with an environment in place of this one's."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
