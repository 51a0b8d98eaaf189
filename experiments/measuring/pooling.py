"""The fused pooling kernel against XLA's pooling, which decides the default of --pooling."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import Extraction
from histojax.encoders import Tap
from histojax.extraction import pooling_choice
from histojax.extraction.engine import Engine
from histojax.ops import pooling

from . import describe, turns
from .job import Job, folded, rate_key
from .results import Measurement, Results, Row

_AUGMENTATIONS = 2  # Of the kernel by itself: maps of all would not fit into memory.
_CALLS = 10  # In a turn, of pooling alone.
_P = Extraction().p


def of_pooling(job: Job) -> Iterator[Measurement]:
    """Agreement, whole programs, the choice, and the largest maps alone."""
    precision = job.sizes.precisions[0]
    yield "agreement", functools.partial(_agreement, job)
    for name in job.encoders:
        key = rate_key(name, job.sizes.views[:1], "exact", precision)
        yield key, functools.partial(_program_times, job, precision, name)
    yield "choice", functools.partial(_choose, job, precision)
    for name in job.encoders:
        tap, shape, dtype = _largest_maps(job, precision, name)
        key = f"{name} {tap.layer} {' x '.join(map(str, shape))} {dtype.name}"
        yield key, functools.partial(_kernel_times, job, shape, dtype)


def _random_maps(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """From zero on, like those after ReLU."""
    return jax.nn.relu(jax.random.normal(jax.random.key(0), shape)).astype(dtype)


@jax.jit
def _by_xla(maps: jax.Array) -> jax.Array:
    """float [A, P, H, W, C] -> float32 [A, C], as a program pools."""
    averages = pooling.global_average(maps.reshape(-1, *maps.shape[2:]))
    return pooling.pnorm(averages.reshape(*maps.shape[:2], -1), _P)


def _by_kernel(job: Job) -> Callable[[jax.Array], jax.Array]:
    """The same by the kernel, interpreted on a CPU."""
    from histojax.ops import pooling_pallas  # Not above: versions of JAX to come do not have it.

    interpret = Engine.of(job.runtime).platform == "cpu"
    return jax.jit(lambda maps: pooling_pallas.pool(maps, _P, interpret=interpret))


def _agreement(job: Job) -> Row:
    """The relative difference of kernel and XLA on the same maps, by dtype."""
    row = {"maps": [2, 3, 30, 41, 136]}
    for dtype in (jnp.float32, jnp.bfloat16):
        maps = _random_maps(tuple(row["maps"]), dtype)
        found, expected = _by_kernel(job)(maps), _by_xla(maps)
        error = jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)
        row[f"difference {jnp.dtype(dtype).name}"] = float(error)
    return row


def _program_times(job: Job, precision: str, name: str) -> Row:
    """Seconds of an encoder's whole program, pooled in either way, taking turns.

    XLA is given as many crops a step as the kernel, which takes whole augmentations: else the
    figures would be of the step's size. (On a CPU they are cut evenly, which may be fewer.)
    """
    calls, per_step = {}, {}
    for way in ("pallas", "xla"):
        runtime = dataclasses.replace(
            job.runtime, pooling=way, crops_per_step=per_step.get("pallas")
        )
        calls[way], per_step[way] = turns.program(job, precision, name, runtime)
    return _compared(turns.take_turns(calls)) | {
        "encoder": name,
        "views": [view.name for view in job.sizes.views[:1]],
        "precision": precision,
        "per_step": per_step,
    }


def _compared(times: turns.Times) -> Row:
    """Seconds of either way, and how many times as fast the kernel is."""
    ratio = turns.times_as_fast(times, "pallas", "xla")
    return {**turns.medians(times), "times_as_fast_with_pallas": ratio}


def _choose(job: Job, precision: str) -> Row:
    """Remembers for this kind of device which pooling is the default."""
    view = job.sizes.views[:1]
    keys = {name: rate_key(name, view, "exact", precision) for name in job.encoders}
    times = {name: _times(job.results, key) for name, key in keys.items()}
    if not job.decides:
        chosen = pooling_choice.decide(times)
        return {"pooling": chosen, "remembered": "no: for that, all encoders and --sizes=paper"}
    machine = Engine.of(job.runtime)
    date = describe.date()
    chosen = pooling_choice.remember(machine.cache, machine.mesh.devices.flat, times, date)
    return {"pooling": chosen, "remembered": f"in {machine.cache / pooling_choice.REMEMBERED}"}


def _times(results: Results, key: str) -> pooling_choice.Times:
    """Of an encoder's programs; where one failed, that with the kernel is never chosen.

    Raises:
      InputError: there was no time to measure them.
    """
    if "error" in results.items["pooling"].get(key, {}):
        return pooling_choice.Times(xla=1.0, pallas=math.inf)
    row = results.row("pooling", key)
    return pooling_choice.Times(row["xla"], row["pallas"])


def _largest_maps(job: Job, precision: str, name: str) -> tuple[Tap, tuple[int, ...], np.dtype]:
    """The tap of an encoder that pools most, with the shape and dtype of its maps."""
    side, count = job.sizes.views[0].crop_size, job.sizes.crops
    extraction = job.sizes.extraction("exact", precision, name)
    loaded = folded(extraction)[name]
    image = jax.ShapeDtypeStruct((count, side, side, 3), jnp.float32)
    maps = jax.eval_shape(loaded.encoder.maps, loaded.variables, image)
    tap = max(loaded.encoder.outputs, key=lambda tap: maps[tap.layer].size)
    cells = maps[tap.layer]
    rows, columns = (tap.averaged_cells(length) for length in cells.shape[1:3])
    return tap, (_AUGMENTATIONS, count, rows, columns, cells.shape[3]), cells.dtype


def _kernel_times(job: Job, shape: tuple[int, ...], dtype: np.dtype) -> Row:
    """Seconds of pooling alone, with the bytes it must read."""
    maps = _random_maps(shape, dtype)
    calls = {
        "xla": functools.partial(_by_xla, maps),
        "pallas": functools.partial(_by_kernel(job), maps),
    }
    return _compared(turns.take_turns(calls, _CALLS)) | {"bytes": maps.nbytes}
