"""Whole programs of crop mode exact that take turns, so that other work slows all of them alike."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from histojax.config import Runtime
from histojax.extraction.engine import Engine
from histojax.extraction.plans import Part, Workload
from histojax.images.padding import scaled_size
from histojax.ops import crops

from .job import Job, folded, tissue

# Rounds: as many as there is time for, within these numbers.
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 5, 15, 8.0

Times = Mapping[str, Sequence[float]]


def program(job: Job, precision: str, name: str, runtime: Runtime) -> tuple[Callable[[], Any], int]:
    """A call of an encoder's whole program for the first view, and its crops a step."""
    extraction = job.sizes.extraction("exact", precision, name)
    extraction = dataclasses.replace(extraction, views=job.sizes.views[:1])
    (view,), image = extraction.views, tissue(job.sizes.image)
    machine, loaded = Engine.of(runtime), folded(extraction)[name]
    size = scaled_size(image.size, view.scale)
    planes, _, _ = machine.prepare(extraction, image, view.scale, size)
    variables = machine.replicate(loaded.variables)
    compiled = machine.program(
        Workload(loaded.encoder, extraction, (view,), size, Part.EXACT), variables
    )
    key = machine.replicate(crops.image_key(0, "turns"))
    call = functools.partial(compiled.run, variables, planes, size, key)
    return call, compiled.plan.per_step


def take_turns(calls: Mapping[str, Callable[[], Any]], each: int = 1) -> dict[str, list[float]]:
    """Seconds of a call of each in every round.

    In a turn a call is made `each` times before it is waited for, so that short ones do not count
    the time to start them. Every other round goes backwards.
    """
    times, start = {way: [] for way in calls}, time.monotonic()
    for call in calls.values():
        jax.block_until_ready(call())  # Not counted.
    for i in range(_MOST_ROUNDS):
        if i >= _LEAST_ROUNDS and time.monotonic() - start > _SECONDS:
            break
        for way, call in list(calls.items())[:: 1 if i % 2 == 0 else -1]:
            begun = time.perf_counter()
            jax.block_until_ready([call() for _ in range(each)])
            times[way].append((time.perf_counter() - begun) / each)
    return times


def medians(times: Times) -> dict[str, float]:
    """Seconds of each."""
    return {way: statistics.median(values) for way, values in times.items()}


def times_as_fast(times: Times, way: str, other: str) -> float:
    """How many times as fast `way` is as `other`: the median of the rounds' quotients."""
    return statistics.median(
        theirs / ours for ours, theirs in zip(times[way], times[other], strict=True)
    )
