"""An image's descriptors by one encoder: the programs of its crop mode, one after the other."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from histojax.config import Extraction, View
from histojax.encoders import Encoder
from histojax.extraction import hybrid, preparation
from histojax.extraction.engine import Engine, Size
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.extraction.plans import Part, Pooled, Workload
from histojax.utils.progress import Progress


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image on the devices, downscaled and normalised.

    Attributes:
      planes: float32 [3, *canvas], of `Engine.prepare`.
      size: height and width of the scaled image.
      whole: the same with the padding that the file was read with, which the encoder sees where the
        whole image goes through it.
      key: of the image.
    """

    planes: jax.Array
    size: Size
    whole: Size
    key: jax.Array

    def planes_of(self, workload: Workload) -> jax.Array:
        """The planes that a workload's program takes."""
        height, width = workload.canvas
        return self.planes[:, :height, :width]


def workloads(
    encoder: Encoder, extraction: Extraction, views: Sequence[View], canvas: Size, whole: Size
) -> list[Workload]:
    """What is computed for views of one resolution; in crop mode exact of one, by one program."""
    if extraction.crop_mode == "exact":
        part = Part.TILES if extraction.crop_layout == "grid" else Part.EXACT
        return [Workload(encoder, extraction, tuple(views), canvas, part)]
    parts = [Workload(encoder, extraction, (view,), canvas, Part.POOL) for view in views]
    windows = Workload(encoder, extraction, tuple(views), whole, Part.WINDOWS)
    return [windows, *parts] if windows.rows else parts


def pixels(extraction: Extraction, canvas: Mapping[str, Size]) -> int:
    """What goes through an encoder for an image, as the operations grow.

    Args:
      extraction: the protocol.
      canvas: height and width of the image by resolution.
    """
    of_crops = sum(view.crop_size**2 for view in extraction.views)
    if extraction.crop_mode == "exact":
        return extraction.augmentations * extraction.crops * of_crops
    pool = len(preparation.pool_gains(extraction)) * extraction.pool_crops
    whole = sum(height * width for height, width in canvas.values())
    return pool * of_crops + len(preparation.gain_nodes(extraction)) * whole


def encode(
    engine: Engine,
    loaded: LoadedEncoder,
    extraction: Extraction,
    views: Sequence[View],
    image: PreparedImage,
    bar: Progress | None = None,
) -> Pooled:
    """Descriptors, still on the devices: float32 [A, D] by name of view."""
    canvas = image.planes.shape[1:]
    parts = {part: {} for part in Part}
    for workload in workloads(loaded.encoder, extraction, views, canvas, image.whole):
        parts[workload.part] |= _run(engine, loaded, workload, image, bar)
    if extraction.crop_mode == "exact":
        return parts[Part.EXACT] | parts[Part.TILES]
    return assemble(loaded.encoder, extraction, parts, image.key)


def assemble(
    encoder: Encoder, extraction: Extraction, parts: Mapping[Part, Pooled], key: jax.Array
) -> Pooled:
    """Descriptors of crop mode hybrid from what its programs computed of an image, by view."""
    without_nodes = jnp.zeros((0, extraction.pool_crops, encoder.width))
    return {
        view: hybrid.assemble(
            pool,
            parts[Part.WINDOWS].get(view, without_nodes),
            key,
            taps=encoder.outputs,
            extraction=extraction,
        )
        for view, pool in parts[Part.POOL].items()
    }


def encode_first_exactly(
    engine: Engine,
    loaded: LoadedEncoder,
    extraction: Extraction,
    view: View,
    image: PreparedImage,
    bar: Progress | None = None,
) -> jax.Array:
    """The first augmentation of crop mode hybrid, each of its crops through the encoder: [D]."""
    canvas = image.planes.shape[1:]
    workload = Workload(loaded.encoder, extraction, (view,), canvas, Part.CHECKED)
    return _run(engine, loaded, workload, image, bar)[view.name][0]


def _run(
    engine: Engine,
    loaded: LoadedEncoder,
    workload: Workload,
    image: PreparedImage,
    bar: Progress | None,
) -> Pooled:
    program = engine.program(workload, loaded.variables)
    planes = image.planes_of(workload)
    return program.run(loaded.variables, planes, image.size, image.key, bar)
