"""What pools feature maps where a user says nothing: XLA, unless the fused kernel was faster.

pooling.json in the cache has, by kind of device and version of JAX, what `histojax accelerator`
measured there. Where it has nothing of the devices at hand, XLA pools.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from histojax import encoders
from histojax.config import Extraction, Runtime
from histojax.extraction import devices
from histojax.utils import files

REMEMBERED = "pooling.json"
# The kernel must be faster by this much, or the choice would hang on noise.
_LEAST_GAIN = 1.02


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of an encoder's whole program, pooled in either way."""

    xla: float
    pallas: float

    @property
    def gain(self) -> float:
        """How many times as fast the program is with the fused kernel."""
        return self.xla / self.pallas


def decide(times: Mapping[str, Times]) -> str:
    """`pallas` where every encoder's program is faster with the kernel by 2 % or more, else `xla`.

    Args:
      times: by encoder, all of the protocol's.
    """
    faster = times and all(each.gain >= _LEAST_GAIN for each in times.values())
    return "pallas" if faster else "xla"


def key(local: Sequence[jax.Device]) -> str:
    """What a choice holds for."""
    return f"{local[0].device_kind}, jax {jax.__version__}"


def remember(
    cache: Path, local: Sequence[jax.Device], times: Mapping[str, Times], date: str
) -> str:
    """Keeps the choice that was measured on devices, with its figures; returns it."""
    chosen = decide(times)
    gains = {name: round(each.gain, 3) for name, each in times.items()}
    value = {"pooling": chosen, "times_as_fast_with_pallas": gains, "date": date}
    devices.remember(cache, key(local), value, REMEMBERED)
    return chosen


def recall(cache: Path, local: Sequence[jax.Device]) -> Mapping[str, Any]:
    """What was measured on such devices; empty where nothing was."""
    value = devices.recall_value(cache, key(local), REMEMBERED)
    return value if isinstance(value, dict) else {}


def resolve(extraction: Extraction, runtime: Runtime) -> Runtime:
    """The runtime with its pooling named; a kernel that nobody asked for is told of.

    It is only taken for encoders that were measured, and where it may be asked for, see
    `loaded_encoders.check`: signed taps, for instance, have a mean that it does not know.
    """
    if runtime.pooling is not None:
        return runtime
    local = runtime.devices or jax.local_devices()
    measured = recall(runtime.cache or files.default_cache(), local)
    were_faster = {*extraction.encoders} <= {*measured.get("times_as_fast_with_pallas", ())}
    if measured.get("pooling") != "pallas" or not were_faster or not _suits(extraction):
        return dataclasses.replace(runtime, pooling="xla")
    logging.warning(
        "maps are pooled by the fused kernel, which made every encoder faster on %s (histojax "
        "accelerator, %s); --pooling=xla does without it",
        key(local),
        measured.get("date"),
    )
    return dataclasses.replace(runtime, pooling="pallas")


def _suits(extraction: Extraction) -> bool:
    """Whether a protocol has nothing but p-norms of the maps of exact crops."""
    chosen = [encoders.get(name) for name in extraction.encoders]
    taps = [tap for encoder in chosen for tap in encoder.outputs]
    no_maps = any(encoder.vectors for encoder in chosen)
    drawn = extraction.crop_mode == "exact" and extraction.crop_layout == "random"
    return drawn and not no_maps and not any(tap.signed for tap in taps)
