"""How near encoding is to the limits of its machine: peaks, rates, stages and errors."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from histojax.config import Extraction, Runtime, View
from histojax.encoders import Encoder, Variables
from histojax.encoders.precision import PRECISIONS
from histojax.extraction import encoding, engine, loaded_encoders, programs, store
from histojax.extraction.engine import Engine
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.extraction.plans import Part, Workload
from histojax.images.padding import PaddedImage, by_resolution, read_padded, scaled_size
from histojax.ops import crops, flops, pooling, resize, stain

_REPEATS = 5
_LONG = 3.0  # Seconds: a longer call is timed once.
# The side of the matrices whose product is timed, and how many numbers are copied.
_PEAK_SIZES = {"cpu": (2048, 2**24), "accelerator": (8192, 2**28)}


@dataclasses.dataclass(frozen=True)
class Peak:
    """Limits of all devices together.

    Attributes:
      operations: of a large matrix product, a second.
      bytes: read and written in a large copy, a second.
    """

    operations: float
    bytes: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One encoder, crop size(s), mode and precision.

    Attributes:
      compile_seconds: tracing and compiling.
      crops_per_second, images_per_second: of all devices together; an image is all its
        augmentations and crops.
      operations: of the network for an image, counted.
      operations_per_second: these over the time of the whole programs.
      share_of_peak: of these in the measured peak of the precision.
      share_of_roofline: the least time by the peaks, layer by layer, over the time taken.
      intensity: operations a byte, for the figure.
      memory: bytes on each device beside the arguments.
      errors: ||x - float32|| / ||float32|| by tap; empty where it was not asked for.
    """

    encoder: str
    views: tuple[str, ...]
    mode: str
    precision: str
    per_step: int
    compile_seconds: float
    crops_per_second: float
    images_per_second: float
    operations: float
    operations_per_second: float
    share_of_peak: float
    share_of_roofline: float
    intensity: float
    memory: int
    errors: dict[str, float]

    @property
    def largest_error(self) -> float:
        """The error of the worst tap."""
        return max(self.errors.values())


def seconds(function: Callable, *arguments: Any, repeats: int = _REPEATS) -> float:
    """The median time of a call, after one that is not counted; long calls are timed once."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    repeats = 1 if time.perf_counter() - start > _LONG else repeats
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _shortest(function: Callable, argument: jax.Array) -> float:
    """The shortest time of many calls, since a peak is what an undisturbed machine does."""
    jax.block_until_ready(function(argument))
    return min(seconds(function, argument, repeats=1) for _ in range(10))


def _copy_seconds(vector: jax.Array, passes: int = 8) -> float:
    """The shortest time of a pass over memory; the vector is donated, and lost.

    Each pass is a call of its own, so that the compiler cannot join it with the next. It writes to
    where it reads, since the time to allocate memory would count otherwise.
    """
    onward = jax.jit(lambda x: x + 1, donate_argnums=0)
    times = []
    for _ in range(10):
        vector = jax.block_until_ready(onward(vector))
        start = time.perf_counter()
        for _ in range(passes):
            vector = onward(vector)
        jax.block_until_ready(vector)
        times.append((time.perf_counter() - start) / passes)
    return min(times)


def peak(machine: Engine, precision: str) -> Peak:
    """Measures a large matrix product in a precision, and a large copy, of random numbers."""
    cpu = machine.platform == "cpu"
    side, length = _PEAK_SIZES[machine.platform]
    chosen = PRECISIONS[precision]
    matrix = jax.random.normal(jax.random.key(0), (side, side)).astype(chosen.dtype)
    # XLA for CPUs has an instruction for products of bfloat16 only where their sums are float32.
    sums = jnp.float32 if cpu else chosen.dtype
    product = jax.jit(
        lambda a: jnp.matmul(a, a, precision=chosen.multiply, preferred_element_type=sums)
    )
    vector = jax.random.normal(jax.random.key(1), (length,))
    # The devices of a CPU share its cores, so that one of them has the whole machine here.
    devices = 1 if cpu else machine.mesh.size
    return Peak(
        devices * 2 * side**3 / _shortest(product, matrix),
        devices * 2 * vector.nbytes / _copy_seconds(vector),
    )


def rows(
    machine: Engine,
    loaded: dict[str, LoadedEncoder],
    unfolded: dict[str, tuple[Encoder, Variables]] | None,
    extraction: Extraction,
    image: PaddedImage,
    peaks: Peak,
) -> Iterator[Row]:
    """Profiles every program of a protocol on one image, which fills its buckets.

    Args:
      machine: the devices.
      loaded: the encoders by name.
      unfolded: as published, which taps are compared with; None to compare nothing.
      extraction: the protocol.
      image: filled by tissue up to its padding.
      peaks: of the protocol's precision, which shares are of.
    """
    key = machine.replicate(crops.image_key(extraction.seed, "profile"))
    for resolution, first in by_resolution(extraction.views).items():
        scale = first.scale
        size = scaled_size(image.rgb.shape, scale)
        planes, _, _ = machine.prepare(extraction, image, scale, size)
        pairs = [pair for pair in extraction.pairs if pair[1].resolution == resolution]
        for name, views in engine.passes(pairs, extraction):
            encoder, variables = loaded[name].encoder, machine.replicate(loaded[name].variables)
            duration, operations, least, moved = 0.0, 0, 0.0, 0
            programs_of_pass, parts = [], {part: {} for part in Part}
            for workload in encoding.workloads(encoder, extraction, views, size, size):
                program = machine.program(workload, variables)
                programs_of_pass.append(program)
                call = seconds(program.run_first, variables, planes, size, key)
                duration += call * len(program.plan.starts)
                parts[workload.part] |= program.plan.trim(program.plan.empty())
                layers = engine.layers(workload, variables)
                inputs = workload.rows * workload.inputs_per_row
                operations += flops.total_operations(layers) * inputs
                moved += sum(layer.bytes for layer in layers) * inputs
                least += inputs * sum(
                    layer.seconds(peaks.operations, peaks.bytes) for layer in layers
                )
            if extraction.crop_mode == "hybrid":
                duration += seconds(encoding.assemble, encoder, extraction, parts, key)
            crops_per_image = extraction.augmentations * extraction.crops * len(views)
            yield Row(
                encoder=encoder.name,
                views=tuple(view.name for view in views),
                mode=extraction.crop_mode,
                precision=extraction.precision,
                per_step=max(program.plan.per_step for program in programs_of_pass),
                compile_seconds=sum(program.seconds for program in programs_of_pass),
                crops_per_second=crops_per_image / duration,
                images_per_second=1 / duration,
                operations=operations,
                operations_per_second=operations / duration,
                share_of_peak=operations / duration / peaks.operations,
                share_of_roofline=least / duration,
                intensity=operations / moved,
                memory=max(program.bytes for program in programs_of_pass),
                errors=_tap_errors(
                    loaded[name], unfolded[encoder.name], planes, views[0], key, extraction
                )
                if unfolded
                else {},
            )


def _tap_errors(
    loaded: LoadedEncoder,
    unfolded: tuple[Encoder, Variables],
    planes: jax.Array,
    view: View,
    key: jax.Array,
    extraction: Extraction,
) -> dict[str, float]:
    """Relative error of each tap against the published network in float32, on two crops."""
    sides = jnp.array(planes.shape[1:])
    crop = jax.jit(programs.crop, static_argnames=("view", "extraction"))
    images = jnp.stack(
        [crop(planes, sides, key, jnp.int32(i), view=view, extraction=extraction) for i in range(2)]
    )
    encoder, variables = unfolded
    expected = encoder.taps(variables, images)
    actual = loaded.encoder.taps(loaded.variables, images)
    return {
        tap: float(jnp.linalg.norm(actual[tap] - expected[tap]) / jnp.linalg.norm(expected[tap]))
        for tap in expected
    }


def _cut_crops(planes: jax.Array, key: jax.Array, size: int, count: int) -> jax.Array:
    """Crops before augmentation: float32 [count, 3, S, S]."""
    sides = jnp.array(planes.shape[1:])

    def one(number: jax.Array) -> jax.Array:
        corner, turn = crops.corner_and_turn(key, jnp.int32(0), number, sides, size)
        return crops.cut(planes, corner, turn, size)

    return jax.vmap(one)(jnp.arange(count))


def stages(
    machine: Engine, loaded: LoadedEncoder, extraction: Extraction, view: View, image: np.ndarray
) -> dict[str, float]:
    """Seconds an image spends in each stage in crop mode exact.

    Each stage is timed alone; in a run they overlap, and the compiler fuses them.
    """
    key = crops.image_key(0, "profile")
    total = extraction.augmentations * extraction.crops
    step = min(machine.most_crops(view.crop_size), total)
    steps = total / step
    small = resize.downscale(image, view.scale)
    normalizer = stain.NORMALIZERS[extraction.stain_normalizer]
    augmentation = stain.AUGMENTATIONS[extraction.stain_augmentation]
    normalise = jax.jit(lambda small: augmentation.planes(normalizer.normalize(small)[0]))
    planes = normalise(small)
    cut_step = jax.jit(lambda planes: _cut_crops(planes, key, view.crop_size, step))
    squares = cut_step(planes)
    gains = jnp.ones(augmentation.gains)
    augment = jax.jit(lambda squares: jax.vmap(augmentation.apply, (0, None))(squares, gains))
    images = jnp.moveaxis(augment(squares), 1, -1)
    trunk = jax.jit(loaded.encoder.maps)
    maps = trunk(loaded.variables, images)
    taps = jax.jit(lambda maps: [tap.average(maps[tap.layer]) for tap in loaded.encoder.outputs])
    by_crop = jnp.ones((extraction.augmentations, extraction.crops, loaded.encoder.width))
    norm = jax.jit(lambda by_crop: pooling.pnorm(by_crop, extraction.p))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        Image.fromarray(image).save(path)
        timed = {
            "decode": seconds(lambda: read_padded(path)),
            "resize": seconds(lambda: resize.downscale(image, view.scale)),
            "normalise": seconds(normalise, small),
            "crop": steps * seconds(cut_step, planes),
            "augment": steps * seconds(augment, squares),
            "trunk": steps * seconds(trunk, loaded.variables, images),
            "taps and pooling": steps * seconds(taps, maps) + seconds(norm, by_crop),
            "write": seconds(
                lambda: store.write(Path(folder), "stage", "image", np.asarray(by_crop[:, 0]))
            ),
        }
    return timed


def trace(
    machine: Engine, extraction: Extraction, runtime: Runtime, image: PaddedImage, folder: Path
) -> None:
    """Traces a call of each encoder's first program: crop, augment, trunk, taps and p-norm."""
    scale = extraction.views[0].scale
    size = scaled_size(image.size, scale)
    views, calls = extraction.views[:1], []
    for loaded in loaded_encoders.fold_encoders(extraction, runtime).values():
        variables = machine.replicate(loaded.variables)
        workload = Workload(loaded.encoder, extraction, views, size)
        calls.append((machine.program(workload, variables), variables))
    key = machine.replicate(crops.image_key(0, "profile"))
    with jax.profiler.trace(str(folder)):
        planes, _, _ = machine.prepare(extraction, image, scale, size)
        for program, variables in calls:
            with jax.profiler.TraceAnnotation(program.plan.workload.encoder.name):
                jax.block_until_ready(program.run_first(variables, planes, size, key))
