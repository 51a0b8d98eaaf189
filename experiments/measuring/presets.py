"""XLA's flags by preset (--xla_preset) against none: whole programs that take turns."""

import dataclasses
import functools
from collections.abc import Iterator

from histojax.extraction.xla_presets import PRESETS

from . import turns
from .job import Job, rate_key
from .results import Measurement, Row


def of_presets(job: Job) -> Iterator[Measurement]:
    """Each preset and encoder, of the first view and precision."""
    precision = job.sizes.precisions[0]
    for preset in PRESETS:
        for name in job.encoders if preset != "none" else ():
            key = f"{preset} {rate_key(name, job.sizes.views[:1], 'exact', precision)}"
            yield key, functools.partial(_times, job, precision, name, preset)


def _times(job: Job, precision: str, name: str, preset: str) -> Row:
    """Seconds of a program with and without the flags, at as many crops a step."""
    runtime = dataclasses.replace(job.runtime, pooling="xla")
    without, per_step = turns.program(job, precision, name, runtime)
    runtime = dataclasses.replace(runtime, crops_per_step=per_step, xla_preset=preset)
    times = turns.take_turns(
        {"none": without, preset: turns.program(job, precision, name, runtime)[0]}
    )
    seconds = turns.medians(times)
    return {
        "none": seconds["none"],
        "preset": seconds[preset],
        "times_as_fast_with_preset": turns.times_as_fast(times, preset, "none"),
        "encoder": name,
        "precision": precision,
    }
