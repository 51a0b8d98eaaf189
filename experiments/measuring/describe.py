"""What the figures are of: device, driver, processor and versions."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import jax
from jax.extend import backend

from histojax.errors import InputError

from .results import Results
from .sizes import Sizes

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "keras",
    "transformers",
    "torch",
    "torchvision",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "libtpu",
)
_DRIVER = Path("/proc/driver/nvidia/version")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def date() -> str:
    """Today, and the time of day in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python, and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def processor() -> dict[str, Any]:
    """The processor, its cores, and how much other work it had in the last minute."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def driver() -> str | None:
    """The version of NVIDIA's driver, where there is one."""
    with contextlib.suppress(OSError):
        if found := re.search(r"Kernel Module\D*([\d.]+)", _DRIVER.read_text()):
            return found[1]
    return None


def sizes(asked: str | None) -> str:
    """The name of the sizes to measure: those asked for, or those that suit the devices.

    Raises:
      InputError: no sizes were asked for, and JAX uses a CPU where there is an NVIDIA GPU.
    """
    if asked or jax.default_backend() != "cpu":
        return asked or "paper"
    if version := driver():
        raise InputError(
            f"this machine has an NVIDIA driver ({version}), but JAX {jax.__version__} sees a CPU "
            "alone: install JAX for the GPU (.venv/bin/pip install 'jax[cuda13]'), or pass "
            "--sizes=small to measure the CPU"
        )
    return "small"


def require_same(results: Results, sizes_name: str) -> None:
    """Raises InputError where a folder's figures are of other devices, JAX or sizes."""
    device = results.rows("machine").get("device")
    if not device:
        return
    local = jax.local_devices()
    found = {"kind": local[0].device_kind, "count": len(local), "jax": jax.__version__}
    found["sizes"] = sizes_name
    before = device | {"jax": device["versions"]["jax"]}
    if differences := {k: v for k, v in found.items() if before[k] != v}:
        expected = ", ".join(f"{key} {before[key]}" for key in differences)
        here = ", ".join(f"{key} {value}" for key, value in differences.items())
        raise InputError(
            f"{results.folder} has figures of {expected}, these would be of {here}: pass another "
            "--out"
        )


def device(sizes_name: str, measured: Sizes) -> dict[str, Any]:
    """Devices, driver, processor, versions, date, and the sizes that are measured on them."""
    local = jax.local_devices()
    memory = local[0].memory_stats() if local[0].platform != "cpu" else None
    return {
        "kind": local[0].device_kind,
        "count": len(local),
        "platform": local[0].platform,
        "memory": (memory or {}).get("bytes_limit"),
        "runtime": " ".join(backend.get_backend().platform_version.split()),
        "driver": driver(),
        **processor(),
        "versions": versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "date": date(),
        "sizes": sizes_name,
        "work": {
            "image": list(measured.image),
            "augmentations": measured.augmentations,
            "crops": measured.crops,
            "pool_crops": measured.pool_crops,
        },
    }
