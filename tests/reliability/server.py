"""A process that has imported histojax, and forks for each run that it is asked for.

Its arguments are the modules to import; all of histojax and what scripts use where there are none.

It reads requests, one JSON object a line, and answers each with a line. No backend of JAX is ever
initialised here and no thread is started, so that to fork is sound; each run initialises its own.
"""

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in sys.argv[1:] or _all_modules():
        with contextlib.suppress(ImportError):  # Of packages that are optional.
            importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads: a process with threads must not fork")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    # Processes that train are forked, too: they are as real, and need not import anything again.
    forked = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forked
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with _small_networks_and_fonts():
        for line in sys.stdin:
            print(json.dumps(_run(**json.loads(line))), file=answers, flush=True)


def _all_modules() -> list[str]:
    """What scripts use; not the scripts, which define flags."""
    import histojax

    found = pkgutil.walk_packages(histojax.__path__, "histojax.")
    ours = [module.name for module in found if "experiments" not in module.name]
    others = ["matplotlib.pyplot", "scipy.stats", "optax", "h5py", "tests.narrow", "tests.running"]
    return ours + others


@contextlib.contextmanager
def _small_networks_and_fonts() -> Iterator[None]:
    """Networks are narrow, and fonts embedded in a form whose subsets take no time, until the end.

    What was not imported stays as it is.
    """
    figures = sys.modules.get("histojax.report.figures")
    if figures:
        figures._STYLE["pdf.fonttype"] = 3
    narrow = sys.modules.get("tests.narrow")
    with narrow.vgg() if narrow else contextlib.nullcontext():
        yield


def _run(
    call: str,
    arguments: list,
    folder: str,
    environment: dict[str, str],
    kill_after: float | None,
    group: bool,
    limit: float,
) -> dict:
    """Runs `module:function` in a process of its own, the leader of a group.

    Args:
      call: the function.
      arguments: of it.
      folder: the working folder; `result.json` in it gets what the function returns.
      environment: variables that are set first.
      kill_after: seconds after which it is killed, if it still runs.
      group: whether its processes are killed with it, here or, later, when it has ended.
      limit: seconds after which it counts as hanging, and is killed.

    Returns:
      `status`, as of os.waitstatus_to_exitcode; `seconds`; `hung`.
    """
    result = Path(folder) / "result.json"
    result.unlink(missing_ok=True)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(call, arguments, result, environment)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(child, child)
    hung, pid = False, 0
    try:
        while not pid:
            elapsed = time.monotonic() - start
            hung = elapsed > limit
            if hung or (kill_after is not None and elapsed > kill_after):
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if group or hung else os.kill)(child, signal.SIGKILL)
                kill_after = None
            time.sleep(0.002)
            pid, status = os.waitpid(child, os.WNOHANG)
    finally:
        if not pid:
            _end_group(child)
    seconds = time.monotonic() - start
    if group or hung:
        _end_group(child)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, "hung": hung}


def _end_group(leader: int) -> None:
    """Kills what a run left running, and waits until it is gone."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
        try:
            os.waitpid(-leader, 0)
        except ChildProcessError:
            return


def _child(call: str, arguments: list, result: Path, environment: dict[str, str]) -> None:
    """Runs the function, and ends this process without the parent's handlers."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.register_at_fork(after_in_child=_close_folders)
        os.environ.update(environment)
        ctypes.CDLL(None).histojax_shim_start()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        module, function = call.split(":")
        returned = getattr(importlib.import_module(module), function)(*arguments)
        result.write_text(json.dumps(returned))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _close_folders() -> None:
    """Closes open folders, whose locks a forked process would share and a new program does not."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.fstat(int(name)).st_mode):
                os.close(int(name))


if __name__ == "__main__":
    main()
