"""New processes: scripts without a main guard are refused, and Ctrl-C ends workers in silence."""

import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from histojax.errors import InputError
from histojax.utils import processes

ROOT = Path(__file__).parents[2]
TRAINS = "from histojax.learners import boost\nboost.train(job, boosting, 2)\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """script(text, **attributes): makes a file of this text the script that runs."""

    def make(text: str, **attributes) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        main = types.SimpleNamespace(__file__=str(path), __spec__=None)
        vars(main).update(attributes)
        monkeypatch.setitem(sys.modules, "__main__", main)
        return path

    return make


def test_a_script_without_a_main_guard_is_refused(script):
    path = script(TRAINS)
    with pytest.raises(InputError) as refused:
        processes.require_main_guard()
    assert str(refused.value) == (
        f"{path} starts processes, and each of them imports it and would run it again: put what it "
        'does into a function, and call that below `if __name__ == "__main__":`'
    )


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ('def main():\n    pass\n\n\nif __name__ == "__main__":\n    main()\n', {}),
        (TRAINS, {"__file__": None}),  # A notebook.
        (TRAINS, {"__file__": "/gone.py"}),
        (TRAINS, {"__spec__": types.SimpleNamespace(name="histojax.experiments.__main__")}),
        ("this is no Python", {}),
    ],
)
def test_whatever_new_processes_may_import_passes(script, text, attributes):
    script(text, **attributes)
    processes.require_main_guard()


def test_only_one_process_works_in_a_folder_however_the_other_ends(tmp_path):
    wait = f"""
import pathlib, time
from histojax.utils import processes
with processes.only_one(pathlib.Path({str(tmp_path)!r}), "training"):
    print("locked", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", wait], cwd=ROOT, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"locked\n"
    message = f"another process is training in {tmp_path}: wait"
    with pytest.raises(InputError, match=message), processes.only_one(tmp_path, "training"):
        pass
    other.kill()
    other.communicate()
    with processes.only_one(tmp_path, "training"):
        assert not [*tmp_path.iterdir()]


def test_ctrl_c_is_held_back_and_not_lost():
    reached = []
    with pytest.raises(KeyboardInterrupt), processes.interrupts_held():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        reached.append("the end of the block")
    assert reached


def test_a_worker_ends_at_ctrl_c_without_a_word():
    code = (
        "import os, sys, time; from histojax.utils import processes; print('there', flush=True); "
        "sys.stdin.readline(); processes.start(os.getppid()); time.sleep(20)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with processes.interrupts_held():
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    assert worker.stdout.readline() == "there\n"
    worker.send_signal(signal.SIGINT)  # As while it imports: nothing happens yet.
    _, error = worker.communicate("\n", timeout=20)
    assert (worker.returncode, error) == (-signal.SIGINT, "")
