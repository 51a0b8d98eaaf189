"""Other libraries beside ours: histojax benchmark_peers, in a process of its own an encoder.

The process that starts it must not hold the device's memory, so this imports no JAX.
"""

import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from histojax.errors import InputError
from histojax.utils import files

from .results import Measurement, Row
from .sizes import Sizes

_ROUNDS = 7
_SHOWN = 300  # Characters of an error.


def of_peers(
    package: str, sizes: Sizes, encoders: Sequence[str], folder: Path, seconds: float
) -> Iterator[Measurement]:
    """A row an encoder, of the first precision; all are stopped when `seconds` are over."""
    deadline = time.monotonic() + seconds
    precision, view = sizes.precisions[0], sizes.views[0]
    for name in encoders:
        out = folder / f"peers-{name}.json"
        flags = {
            "encoders": name,
            "precisions": precision,
            "crop_sizes": view.crop_size,
            "crops": sizes.peer_crops,
            "rounds": _ROUNDS,
            "preprocess": "false",
            "out": out,
        }
        command = [sys.executable, "-m", f"{package}.benchmark_peers"]
        command += [f"--{flag}={value}" for flag, value in flags.items()]
        size = "" if name in sizes.transformers else f" {view.crop_size} px,"
        key = f"{name}{size} {sizes.peer_crops} crops, {precision}"
        yield key, functools.partial(_run, command, out, deadline)


def _first_gpu() -> str:
    """The one that all are timed on: PyTorch uses one, ours would use all."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def _run(command: list[str], out: Path, deadline: float) -> Row:
    """Its figures, and what it says of peers that are left out."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": _first_gpu()},
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        raise InputError("stopped: its time was over") from None
    if done.returncode:
        raise InputError(done.stderr.strip()[-_SHOWN:] or f"exit code {done.returncode}")
    figures = files.read_json(out, ("encoders", "machine"))
    out.unlink()
    left_out = [line for line in done.stdout.splitlines() if " is left out: " in line]
    ratios = {
        f"times as fast as {row['peer']}": row["ours_is_times_as_fast"]
        for row in figures["encoders"]
        if row["peer"] != "ours"
    }
    return {**ratios, "peers": figures["encoders"], "notes": left_out}
