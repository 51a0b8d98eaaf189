"""Devices: their memory, the work per step that suits them, and the processes of a run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from histojax.errors import InputError
from histojax.utils import files

REMEMBERED = "inputs_per_step.json"
_MOST_CPU_DEVICES = 8
_MEETING_SECONDS = 180
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\]):")
_MEET_CODE = """
import json, sys, jax
*place, bound, seconds = json.loads(sys.argv[1])
jax.distributed.initialize(
    *place, initialization_timeout=seconds, coordinator_bind_address=bound
)
print(jax.process_index(), jax.process_count(), flush=True)
jax.distributed.shutdown()
"""


def split_cpu() -> None:
    """Makes each core of a CPU a device, before any device is used; leaves a GPU or TPU alone.

    Two cores with a crop each are faster than both on one crop, where they wait for each other in
    every layer.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update(
            "jax_num_cpu_devices", min(len(os.sched_getaffinity(0)), _MOST_CPU_DEVICES)
        )


def backend() -> str:
    """What the devices are: cpu, gpu or tpu."""
    return jax.default_backend()


def memory(devices: Sequence[jax.Device]) -> int:
    """Bytes that one device is expected to have free; of a CPU, its share of half the memory."""
    statistics = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return int(0.85 * (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // len(devices)


def recall(cache: Path, key: str) -> int | None:
    """The work per step remembered for a kind of device; None where it was not tried yet."""
    value = recall_value(cache, key, REMEMBERED)
    return value if type(value) is int and value > 0 else None


def recall_value(cache: Path, key: str, name: str) -> Any:
    """What a file of the cache remembers under a key; None where it has nothing, or is damaged."""
    try:
        return json.loads((cache / name).read_text()).get(key)
    except (OSError, ValueError, AttributeError):
        return None


def remember(cache: Path, key: str, value: Any, name: str = REMEMBERED) -> None:
    """Keeps what was found out for the next run; only warns if the cache cannot be written."""
    try:
        known = json.loads((cache / name).read_text())
    except (OSError, ValueError):
        known = {}
    try:
        files.write_json(cache / name, (known if isinstance(known, dict) else {}) | {key: value})
    except OSError as error:
        logging.warning(
            "%s cannot be written (%s): the next run tries again", cache / name, error.strerror
        )


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[int, int]:
    """Waits for the other processes of a run.

    A child process meets them through `jax.distributed`, and ends. So this process does not depend
    on the others afterwards, does not die with them, and can be interrupted while it waits.

    Args:
      coordinator: HOST:PORT of process 0; None to find everything from the cluster's environment.
      num_processes, process_id: None to find them there.

    Returns:
      The number of this process, and how many there are.

    Raises:
      InputError: the others were not found.
    """
    if coordinator is not None and not re.fullmatch(r"[^:\s]+:\d+|\[[^\]]+\]:\d+", coordinator):
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT, such as 10.0.0.1:1234")
    logging.warning("waiting for the other processes of this run, %d s at most", _MEETING_SECONDS)
    # JAX listens on every network by default, also for processes of one machine.
    bound = coordinator if coordinator and _LOOPBACK.match(coordinator) else None
    arguments = json.dumps([coordinator, num_processes, process_id, bound, _MEETING_SECONDS])
    met = subprocess.run(
        [sys.executable, "-c", _MEET_CODE, arguments],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if met.returncode != 0:
        reason = re.search(r"\w+Error: .*|DEADLINE_EXCEEDED.*|UNAVAILABLE.*", met.stderr)
        cause = reason[0][:200].rstrip(".") if reason else "no reason given"
        raise InputError(
            f"the processes of this run did not meet ({cause}). Start all of them within "
            f"{_MEETING_SECONDS} s, each with the same --coordinator=HOST:PORT (a free port on the "
            "machine of process 0), the same --num_processes and a --process_id of its own; or "
            "with --distributed by a cluster manager that JAX knows"
        )
    process, count = met.stdout.split()[-2:]
    return int(process), int(count)
