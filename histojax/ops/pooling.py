"""From feature maps to a descriptor, from descriptors of crops to one of the image."""

import math

import jax
import jax.numpy as jnp


def global_average(maps: jax.Array) -> jax.Array:
    """The mean of each channel over the map: float [N, H, W, C] -> float32 [N, C]."""
    if maps.dtype == jnp.bfloat16:
        # XLA for CPUs of jax 0.11.2 gives NaN where it fuses this conversion with the layers before; a barrier costs
        # nothing, since those end in a map in memory.
        maps = jax.lax.optimization_barrier(maps)
    return jnp.mean(maps.astype(jnp.float32), axis=(1, 2))


def pnorm(descriptors: jax.Array, p: float) -> jax.Array:
    """The p-norm mean over crops, (mean |d|^p)^(1/p) per channel; Rakhlin et al. 2018, equation 1.

    p = 1 is the average, p = infinity the maximum. Descriptors are divided by their maximum before the power, so that
    neither a large descriptor overflows nor a small one vanishes. Averages of ReLU outputs are never negative; where
    other descriptors are, their absolute values are pooled.

    Args:
      descriptors: [..., P, D], P crops.
      p: at least 1, or infinity.

    Returns:
      float32 [..., D].

    Raises:
      ValueError: p is below 1 or not a number.
    """
    if not p >= 1:
        raise ValueError(f"p of the p-norm must be at least 1 (or infinity), got {p}")
    # Sixteenths: XLA divides by multiplying with the reciprocal, which vanishes for the very largest floats.
    magnitude = jnp.abs(descriptors.astype(jnp.float32)) / 16
    largest = jnp.max(magnitude, axis=-2, keepdims=True)
    if math.isinf(p):
        return 16 * jnp.squeeze(largest, axis=-2)
    ratio = magnitude / jnp.where(largest > 0, largest, 1)
    return 16 * (jnp.squeeze(largest, axis=-2) * jnp.mean(ratio**p, axis=-2) ** (1 / p))


def window_weights(starts: jax.Array, length: float, cells: int) -> jax.Array:
    """The share that each cell of an axis has in a window: float [P] starts in cells -> float32 [P, cells].

    Cell i reaches from i to i + 1. Shares are overlaps over their sum, so never negative and together 1.
    """
    first = jnp.arange(cells, dtype=jnp.float32)[None]
    start = starts.astype(jnp.float32)[:, None]
    overlap = jnp.clip(jnp.minimum(first + 1, start + length) - jnp.maximum(first, start), 0, 1)
    return overlap / jnp.sum(overlap, axis=1, keepdims=True)


def window_averages(maps: jax.Array, corners: jax.Array, lengths: tuple[float, float]) -> jax.Array:
    """Area-weighted means of a map under windows, by one small matrix product per axis.

    (A summed-area table would need fewer operations, but its differences of large sums come out negative.)

    Args:
      maps: float [H, W, C].
      corners: float [P, 2], top and left of each window in cells of the map.
      lengths: height and width of the windows in cells.

    Returns:
      float32 [P, C].
    """
    rows = window_weights(corners[:, 0], lengths[0], maps.shape[0])
    columns = window_weights(corners[:, 1], lengths[1], maps.shape[1])
    exactly = jax.lax.Precision.HIGHEST
    bands = jnp.einsum("ph,hwc->pwc", rows, maps.astype(jnp.float32), precision=exactly)
    return jnp.einsum("pw,pwc->pc", columns, bands, precision=exactly)
