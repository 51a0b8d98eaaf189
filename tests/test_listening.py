"""No step of histojax can be reached from another machine."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests import listening, samples

ROOT = Path(__file__).parents[1]


def test_a_socket_that_other_machines_reach_is_seen():
    with listening.watched(seconds=0.01) as seen, socket.create_server(("0.0.0.0", 0)) as open_one:
        port = open_one.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as closed_one:
            inner = closed_one.getsockname()[1]
            while not {f"0.0.0.0:{port}", f"127.0.0.1:{inner}"} <= seen:
                time.sleep(0.01)
    assert listening.beyond_loopback(seen) == [f"0.0.0.0:{port}"]


@pytest.mark.slow  # Processes of two real runs.
def test_runs_listen_at_loopback_alone(tmp_path):
    """All that `mine` starts, workers of the trees included, and where two processes meet."""
    for i in range(12):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.tissue(i, 140, 140)).save(folder / f"image{i}.png")
    common = [f"--data={tmp_path}/data", "--weights=random", "--encoders=ResNet", "--views=0.5-64"]
    mine = [*common, "--positive_classes=b", "--augmentations=2", "--crops=2", "--folds=2"]
    mine += ["--seeds=1", "--rounds=3", "--workers=2", f"--run={tmp_path}/run"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = [*common, "--augmentations=2", "--crops=2", f"--descriptors={tmp_path}/shared"]
    shared += ["--num_processes=2"]
    commands = [
        ["mine", *mine],
        ["extract", *shared, f"--coordinator={address}", "--process_id=0"],
        ["extract", *shared, f"--coordinator={address}", "--process_id=1"],
    ]
    with listening.watched() as seen:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", f"experiments.{script}", *flags],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for script, *flags in commands
        ]
        for process in started:
            output = process.communicate()[0]
            assert process.returncode == 0, output
    assert address in seen  # The meeting was watched.
    assert not listening.beyond_loopback(seen)
