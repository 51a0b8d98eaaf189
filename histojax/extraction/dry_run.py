"""What a run of extraction will take, measured beforehand: time, memory and disk."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from histojax.config import Extraction, Runtime
from histojax.extraction import crop_errors, encoding, loaded_encoders, mixing, pending, store
from histojax.extraction.encoding import PreparedImage
from histojax.extraction.engine import passes
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.extraction.plans import Part
from histojax.images.names import Images, by_name
from histojax.images.padding import (
    bucket,
    by_resolution,
    common_canvas,
    read_padded,
    read_sizes,
    scaled_size,
)
from histojax.images.resampling import Resampling
from histojax.ops import crops
from histojax.utils import files
from histojax.utils.progress import format_duration

_NPY_HEADER = 128  # Bytes.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What extraction from the remaining images will take.

    Attributes:
      images: how many remain.
      seconds: for all of them, with `compiling`, which is spent already if compiled programs are
        kept.
      compiling: seconds.
      memory: bytes on each device, at most.
      disk: bytes of descriptors.
      by_configuration: seconds an image by encoder and views.
    """

    images: int
    seconds: float
    compiling: float
    memory: int
    disk: int
    by_configuration: dict[str, float]

    def text(self) -> str:
        """Lines for a person."""
        total = (
            f"{self.images} images to extract from, about {format_duration(self.seconds)} "
            f"({format_duration(self.compiling)} of it compiling), {self.memory / 2**30:.2f} GiB "
            f"on each device, {self.disk / 2**20:.1f} MiB of descriptors"
        )
        lines = [total]
        for name, seconds in self.by_configuration.items():
            pace = format_duration(seconds) if seconds >= 60 else f"{seconds:.3g} s"
            lines.append(f"  {name}: {pace} an image")
        return "\n".join(lines)


def run(
    images: Images | Iterable[str | Path],
    extraction: Extraction,
    root: str | Path,
    *,
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    runtime: Runtime = Runtime(),
) -> Estimate:
    """Measures one call of every program on one image; arguments as for `extract.run`.

    Writes nothing below `root`. Time and memory of whole images (crop mode hybrid) are taken to
    grow with their area, and each shape that images are padded to is counted as compiled by itself.

    Raises:
      InputError: unusable images, weights or folders.
    """
    images, root = by_name(images), files.as_path(root)
    pending.check_inputs(images, extraction, mpp, runtime)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime)
    for configuration, manifest in encoder_set.made_with().items():
        mixing.refuse_mixing(root, configuration, manifest)
    rows = store.read_stain_qc(root) if root.exists() else {}
    to_do = {
        name: path
        for name, path in pending.share_of(images, process, processes).items()
        if pending.missing(name, path, encoder_set, mpp, root, rows)
    }
    if not to_do:
        return Estimate(0, 0.0, 0.0, 0, 0, {})
    compiling, memory, seconds = measure(to_do, encoder_set, mpp)
    disk = len(to_do) * sum(
        extraction.augmentations * encoder_set.encoders[name].encoder.width * 4 + _NPY_HEADER
        for name, _ in extraction.pairs
    )
    total = compiling + len(to_do) * sum(seconds.values())
    return Estimate(len(to_do), total, compiling, memory, disk, seconds)


def measure(
    images: Images, encoder_set: EncoderSet, mpp: float | None = None
) -> tuple[float, int, dict[str, float]]:
    """Runs each program once on the image of median area.

    Args:
      images: the image files by name.
      encoder_set: protocol, devices and encoders.
      mpp: microns per pixel of all images; None to take what each file says.

    Returns:
      Seconds of compiling, bytes on each device at most, and seconds an image by program.
    """
    extraction, engine = encoder_set.extraction, encoder_set.engine
    names, paths = list(images), list(images.values())
    sizes = read_sizes(paths, extraction, mpp)
    padded = {
        stated: [tuple(map(bucket, size)) for size in of_all] for stated, of_all in sizes.items()
    }
    areas = [math.prod(size) for size in next(iter(padded.values()))]
    chosen = sorted(range(len(paths)), key=areas.__getitem__)[len(paths) // 2]
    checked = len(crop_errors.to_check(names, encoder_set.checked)) / len(names)
    key = engine.replicate(crops.image_key(extraction.seed, names[chosen]))
    compiling, memory, seconds = 0.0, 0, {}
    views_by_resolution = by_resolution(extraction.views)
    for resolution, canvas in common_canvas(sizes, extraction.views).items():
        first = views_by_resolution[resolution]
        scale, areas = first.scale, [math.prod(size) for size in padded[first.mpp]]
        image = read_padded(paths[chosen], Resampling.of(extraction, mpp, first))
        start = time.monotonic()
        planes, _, size = jax.block_until_ready(engine.prepare(extraction, image, scale, canvas))
        compiling += time.monotonic() - start
        whole = scaled_size(image.rgb.shape, scale)
        prepared = PreparedImage(planes, size, whole, key)
        pairs = [pair for pair in extraction.pairs if pair[1].resolution == resolution]
        for name, views in passes(pairs, extraction):
            loaded = encoder_set.encoders[name]
            label = f"{name}-{'+'.join(view.name for view in views)}"
            seconds[label], parts = 0.0, {part: {} for part in Part}
            for workload in encoding.workloads(loaded.encoder, extraction, views, canvas, whole):
                program = engine.program(workload, loaded.variables)
                arguments = loaded.variables, prepared.planes_of(workload)
                needed = _seconds(program.run_first, *arguments, size, key)
                needed *= len(program.plan.starts)
                parts[workload.part] |= program.plan.trim(program.plan.empty())
                of_whole = workload.part is Part.WINDOWS
                compiling += program.seconds * (len(set(padded[first.mpp])) if of_whole else 1)
                growth = max(areas) / areas[chosen] if of_whole else 1
                held = sum(array.nbytes for array in jax.tree.leaves(arguments))
                memory = max(memory, int(program.bytes * growth) + held)
                mean_area = sum(areas) / len(areas)
                seconds[label] += needed * (mean_area / areas[chosen] if of_whole else 1)
                if workload.part is Part.POOL:  # The error is measured on as many crops more.
                    seconds[label] += needed * checked * extraction.crops / workload.rows
            if extraction.crop_mode == "hybrid":
                assemble = encoding.assemble, loaded.encoder, extraction, parts, key
                first, second = _seconds(*assemble), _seconds(*assemble)
                compiling += max(first - second, 0)
                seconds[label] += second
    return compiling, memory, seconds


def _seconds(function: Callable, *arguments: Any) -> float:
    """How long a call takes, with its results."""
    start = time.monotonic()
    jax.block_until_ready(function(*arguments))
    return time.monotonic() - start
