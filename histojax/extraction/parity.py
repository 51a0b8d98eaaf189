"""How far the devices' descriptors are from those of the same machine's CPU in float32."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from histojax.config import Extraction, Runtime
from histojax.encoders import Encoder
from histojax.encoders.weights import Weights
from histojax.extraction import encoding, loaded_encoders
from histojax.extraction.encoding import PreparedImage
from histojax.images.padding import PaddedImage, scaled_size
from histojax.ops import crops


def describe(
    extraction: Extraction,
    image: PaddedImage,
    weights: Mapping[str, Weights],
    runtime: Runtime = Runtime(),
) -> dict[str, np.ndarray]:
    """An image's descriptors by the only encoder and view of a protocol, by tap.

    Everything runs on the devices of `runtime`, from downscaling to pooling.

    Returns:
      float32 [A, channels] by layer.
    """
    (name,), (view,) = extraction.encoders, extraction.views
    encoder_set = loaded_encoders.load_encoders(extraction, runtime, weights)
    engine, loaded = encoder_set.engine, encoder_set.encoders[name]
    key = engine.replicate(crops.image_key(extraction.seed, "parity"))
    canvas = scaled_size(image.rgb.shape, view.scale)
    planes, _, size = engine.prepare(extraction, image, view.scale, canvas)
    prepared = PreparedImage(planes, size, canvas, key)
    pooled = encoding.encode(engine, loaded, extraction, (view,), prepared)
    return by_tap(loaded.encoder, np.asarray(pooled[view.name]))


def by_tap(encoder: Encoder, descriptors: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of descriptors [A, D] by layer, [A, channels]."""
    ends = np.cumsum([tap.channels for tap in encoder.outputs])
    parts = np.split(descriptors, ends[:-1], axis=1)
    return {tap.layer: part for tap, part in zip(encoder.outputs, parts, strict=True)}


def describe_on_cpu(
    extraction: Extraction, image: PaddedImage, weights: Mapping[str, Weights]
) -> dict[str, np.ndarray]:
    """`describe` on the CPU in float32, whatever the protocol's precision.

    Raises:
      RuntimeError: JAX was told not to use the CPU.
    """
    float32 = dataclasses.replace(extraction, precision="float32")
    cpu = Runtime(devices=tuple(jax.devices("cpu")), pooling="xla")
    return describe(float32, image, weights, cpu)


def errors(descriptors: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """||descriptors - expected|| / ||expected|| by tap."""
    return {
        tap: float(
            np.linalg.norm(descriptors[tap].astype(np.float64) - rows) / np.linalg.norm(rows)
        )
        for tap, rows in expected.items()
    }
