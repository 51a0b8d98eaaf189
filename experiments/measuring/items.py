"""The measurements of each item, in the order of their value: keys, and functions that give rows.

Times are of finished work (`block_until_ready`): the median of five calls after one that is not
counted, or a single one where a call takes more than three seconds (`profiling.seconds`).
Compiling, with XLA's autotuning, comes before and is stated by itself.
"""

import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path

import numpy as np
from PIL import Image

from histojax import config
from histojax.config import Extraction, View
from histojax.extraction import (
    dry_run,
    encoding,
    engine,
    extract,
    loaded_encoders,
    parity,
    profiling,
)
from histojax.extraction.engine import Engine
from histojax.images.padding import scaled_size
from histojax.ops import flops

from . import describe
from .job import Job, folded, rate_key, tissue, weights
from .pooling import of_pooling
from .presets import of_presets
from .results import Measurement, Row
from .sizes import PAPER_IMAGE, Sizes
from .transformers import of_transformers

_COMPILERS = 4  # Programs of parity that are compiled at the same time.


def of_machine(job: Job) -> Iterator[Measurement]:
    """The device; its peaks; how many operations the paper's protocol has."""
    yield "device", functools.partial(describe.device, job.sizes_name, job.sizes)
    for name in job.encoders:
        yield f"operations {name}", functools.partial(paper_operations, name)
    for precision in job.sizes.precisions:
        peak = functools.partial(profiling.peak, Engine.of(job.runtime), precision)
        yield f"peak {precision}", lambda peak=peak: dataclasses.asdict(peak())


def paper_operations(name: str) -> Row:
    """Operations of an encoder in the paper's protocol, an image, by views and mode: not run."""
    counted = {}
    for mode in config.CROP_MODES:
        extraction = Extraction((name,), weights="random", crop_mode=mode)
        encoder = folded(extraction)[name]
        pairs = [(name, view) for view in extraction.views]
        for _, views in engine.passes(pairs, extraction):
            whole = scaled_size(PAPER_IMAGE, views[0].scale)
            workloads = encoding.workloads(encoder.encoder, extraction, views, whole, whole)
            counted[rate_key(name, views, mode)] = sum(
                flops.total_operations(engine.layers(workload, encoder.variables))
                * workload.rows
                * workload.inputs_per_row
                for workload in workloads
            )
    return counted


def of_parity(job: Job) -> Iterator[Measurement]:
    """Descriptors of the devices against the CPU's in float32; crop mode exact first."""
    measured, view = job.results.rows("parity"), [job.sizes.parity_view]
    every = itertools.product(config.CROP_MODES, job.sizes.precisions, job.encoders)
    works = {
        rate_key(name, view, mode, precision): (mode, precision, name)
        for mode, precision, name in every
    }
    # Nothing is timed here, and nearly all time is compiling: several at once.
    pool = futures.ThreadPoolExecutor(max(1, min(_COMPILERS, describe.cores() // 3)))
    expected, begun = {}, {}
    try:
        for key, (mode, precision, name) in works.items():
            if key not in measured:
                if (mode, name) not in expected:  # It begins before those that wait for it.
                    expected[mode, name] = pool.submit(_describe_on_cpu, job, mode, name)
                begun[key] = pool.submit(
                    _compare, job, mode, precision, name, expected[mode, name].result
                )
        yield from ((key, future.result) for key, future in begun.items())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _describe_on_cpu(job: Job, mode: str, name: str) -> dict[str, np.ndarray]:
    extraction = job.sizes.parity(mode, "float32", name)
    return parity.describe_on_cpu(extraction, tissue(job.sizes.parity_image), weights(extraction))


def _compare(
    job: Job, mode: str, precision: str, name: str, expected: Callable[[], dict[str, np.ndarray]]
) -> Row:
    """The errors of an encoder in a mode and precision, by tap."""
    extraction = job.sizes.parity(mode, precision, name)
    runtime = dataclasses.replace(job.runtime, pooling="xla")
    image = tissue(job.sizes.parity_image)
    found = parity.describe(extraction, image, weights(extraction), runtime)
    errors = parity.errors(found, expected())
    return {
        "encoder": name,
        "views": [job.sizes.parity_view.name],
        "mode": mode,
        "precision": precision,
        "largest_error": max(errors.values()),
        "errors": errors,
    }


def of_rates(job: Job) -> Iterator[Measurement]:
    """Rates of every program: by precision, the first view exact, hybrid, the other views exact."""
    first, *others = job.sizes.views
    order = [("exact", (first,))]
    order += [(mode, job.sizes.views) for mode in config.CROP_MODES if mode != "exact"]
    order += [("exact", (view,)) for view in others]
    image = tissue(job.sizes.image)

    def rate(mode: str, views: tuple[View, ...], precision: str, name: str) -> Row:
        extraction = job.sizes.extraction(mode, precision, name)
        extraction = dataclasses.replace(extraction, views=views)
        machine = Engine.of(dataclasses.replace(job.runtime, pooling="xla"))
        loaded = folded(extraction)
        row = job.results.row("machine", f"peak {precision}")
        peaks = profiling.Peak(row["operations"], row["bytes"])
        (row,) = profiling.rows(machine, loaded, None, extraction, image, peaks)
        return dataclasses.asdict(row)

    for precision, (mode, views), name in itertools.product(
        job.sizes.precisions, order, job.encoders
    ):
        key = rate_key(name, views, mode, precision)
        yield key, functools.partial(rate, mode, views, precision, name)


def of_images(job: Job) -> Iterator[Measurement]:
    """Extraction from image files, crop mode hybrid first; then the time of each stage."""
    precision = job.sizes.precisions[0]
    for mode in reversed(config.CROP_MODES):
        yield f"{mode} {precision}", functools.partial(_end_to_end, job, mode, precision)
    view = job.sizes.views[0]
    for name in job.encoders:

        def stages(name: str = name) -> Row:
            extraction = job.sizes.extraction("exact", precision, name)
            loaded = folded(extraction)[name]
            machine = Engine.of(dataclasses.replace(job.runtime, pooling="xla"))
            rgb = tissue(job.sizes.image).rgb
            timed = profiling.stages(machine, loaded, extraction, view, rgb)
            return {"preprocessing_share": preprocessing_share(timed), "stages": timed}

        yield f"stages {rate_key(name, [view], 'exact', precision)}", stages


def preprocessing_share(stages: Mapping[str, float]) -> float:
    """The share of what a device does for an image that comes before the network."""
    before = sum(stages[name] for name in ("resize", "normalise", "crop", "augment"))
    return before / (before + stages["trunk"] + stages["taps and pooling"])


def _end_to_end(job: Job, mode: str, precision: str) -> Row:
    """Seconds from files to files, compiling apart, and those the devices' programs need alone."""
    with tempfile.TemporaryDirectory() as folder:
        return _extract(job, mode, precision, Path(folder))


def _extract(job: Job, mode: str, precision: str, folder: Path) -> Row:
    images = write_images(folder / "images", job.sizes)
    extraction = job.sizes.extraction(mode, precision, *job.encoders)
    # What is checked of crop mode hybrid is in the projection: of few images it would be more.
    runtime = dataclasses.replace(job.runtime, checked=0.0)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime, weights(extraction))
    compiling, memory, by_program = dry_run.measure(images, encoder_set)
    root, (name, *_) = folder / "descriptors", images
    extract.extract_images({name: images.pop(name)}, encoder_set, root)  # Warms up what is left.
    summary = extract.extract_images(images, encoder_set, root)
    busy = summary.extracted * sum(by_program.values())
    return {
        "mode": mode,
        "precision": precision,
        "images": summary.extracted,
        "seconds": summary.seconds,
        "seconds_of_programs": busy,
        "seconds_waited_for_decoding": summary.waited,
        "idle_share": max(0.0, 1 - busy / summary.seconds),
        "compile_seconds": compiling,
        "memory": memory,
        "seconds_of_an_image": by_program,
    }


def write_images(folder: Path, sizes: Sizes) -> dict[str, Path]:
    """Images as BACH's, uncompressed TIFFs: one field, shifted, and one more for warming up."""
    folder.mkdir()
    paths = {f"{i:02}": folder / f"{i:02}.tif" for i in range(sizes.images + 1)}
    rgb = tissue(sizes.image).rgb
    for i, path in enumerate(paths.values()):
        Image.fromarray(np.roll(rgb, 16 * i, axis=1)).save(path)
    return paths


def of_trace(job: Job) -> Iterator[Measurement]:
    """A trace of a call of each encoder."""
    precision, machine = job.sizes.precisions[0], Engine.of(job.runtime)
    extraction = job.sizes.extraction("exact", precision, *job.encoders)

    def trace() -> Row:
        profiling.trace(machine, extraction, job.runtime, tissue(job.sizes.image), job.trace)
        return {"folder": str(job.trace)}

    yield f"{extraction.views[0].name} exact {precision}", trace


MEASUREMENTS = {
    "machine": of_machine,
    "parity": of_parity,
    "rates": of_rates,
    "pooling": of_pooling,
    "images": of_images,
    "presets": of_presets,
    "transformers": of_transformers,
    "trace": of_trace,
}
