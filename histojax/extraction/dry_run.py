"""What a run of extraction will take, from a short measurement: time, memory and disk, before anyone waits for it."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from histojax.config import Extraction, Runtime
from histojax.extraction import engine, extract, loaded_encoders, manifests, store
from histojax.images.padding import bucket, common_canvas, read_padded, scaled_size
from histojax.images.resampling import Resampling
from histojax.ops import crops
from histojax.utils.progress import format_duration


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of the images that are not described yet.

    Attributes:
      images: how many they are.
      seconds: for all of them; `compiling` is in it, and was spent already if compiled programs are kept.
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
        rows = [
            f"  {name}: {format_duration(seconds) if seconds >= 60 else f'{seconds:.3g} s'} an image"
            for name, seconds in self.by_configuration.items()
        ]
        return "\n".join(
            [
                f"{self.images} images to describe, about {format_duration(self.seconds)} ({format_duration(self.compiling)} of it "
                f"compiling), {self.memory / 2**30:.2f} GiB on each device, {self.disk / 2**20:.1f} MiB of descriptors",
                *rows,
            ]
        )


def run(
    paths: Sequence[Path],
    extraction: Extraction,
    root: Path,
    *,
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    runtime: Runtime = Runtime(),
) -> Estimate:
    """Measures one call of every program on one image that is not described; arguments as for `extract.run`.

    Writes nothing below `root`. Time and memory of whole images (crop mode shared) are taken to grow with their area,
    and each shape that images are padded to is counted as compiled by itself.

    Raises:
      InputError: unusable images, weights or folders.
    """
    resampling = Resampling(extraction.target_mpp, mpp)
    loaded_encoders.check(extraction, runtime.pooling)
    extract.check_images(paths, extraction, resampling)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime)
    machine, loaded = encoder_set.engine, encoder_set.encoders
    for configuration, manifest in encoder_set.made_with().items():
        manifests.refuse_mixing(root, configuration, manifest)
    rows = store.read_stain_qc(root) if root.exists() else {}
    mine = sorted(paths, key=lambda path: path.stem)[process::processes]
    to_do = [path for path in mine if extract.unfinished(path, encoder_set, resampling, root, rows)]
    disk = len(to_do) * sum(
        len(extraction.views) * (extraction.augmentations * each.encoder.width * 4 + 128)
        for each in loaded.values()
    )
    if not to_do:
        return Estimate(0, 0.0, 0.0, 0, 0, {})

    shared = extraction.crop_mode == "shared"
    sizes = [resampling.size(path) for path in to_do]
    padded = [tuple(map(bucket, size)) for size in sizes]
    areas = [math.prod(size) for size in padded]
    shapes = len(set(padded)) if shared else 1
    chosen = sorted(range(len(to_do)), key=areas.__getitem__)[len(to_do) // 2]
    common = common_canvas(sizes, extraction.views)
    image = read_padded(to_do[chosen], resampling)
    key = machine.replicate(crops.image_key(extraction.seed, image.path.stem))
    compiling, memory, seconds = 0.0, 0, {}
    for scale, canvas in common.items():
        canvas = scaled_size(image.rgb.shape, scale) if shared else canvas
        start = time.monotonic()
        density, _, size = jax.block_until_ready(
            extract.prepare(machine, extraction, image, scale, canvas)
        )
        compiling += time.monotonic() - start
        pairs = [
            (name, view) for name in loaded for view in extraction.views if view.scale == scale
        ]
        for name, views in extract.passes(pairs, extraction):
            encoder, variables = loaded[name].encoder, loaded[name].variables
            program = machine.program(encoder, variables, extraction, views, canvas)
            compiling += program.seconds
            held = sum(array.nbytes for array in jax.tree.leaves((variables, density)))
            grown = program.bytes * (max(areas) / areas[chosen] if shared else 1)
            memory = max(memory, int(grown) + held)
            start = time.monotonic()
            jax.block_until_ready(engine.first_call(program, variables, density, size, key))
            label = f"{name}-{'+'.join(view.name for view in views)}"
            seconds[label] = (time.monotonic() - start) * len(program.plan.starts)
            if shared:
                seconds[label] *= sum(areas) / len(areas) / areas[chosen]
    compiling *= shapes
    total = compiling + len(to_do) * sum(seconds.values())
    return Estimate(len(to_do), total, compiling, memory, disk, seconds)
