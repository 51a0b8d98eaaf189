"""Pools feature maps into descriptors, and descriptors of crops into one of the image."""

import math

import jax
import jax.numpy as jnp


def global_average(maps: jax.Array) -> jax.Array:
    """The mean of each channel over the map: float [N, H, W, C] -> float32 [N, C]."""
    if maps.dtype == jnp.bfloat16:
        maps = unfused(maps)
    return jnp.mean(maps.astype(jnp.float32), axis=(1, 2))


def unfused(maps: jax.Array) -> jax.Array:
    """The same maps, whose conversion to float32 XLA does not fuse with the layers before.

    XLA for CPUs (jax 0.11.2) gives NaN where it fuses bfloat16 maps so; the barrier costs nothing,
    since those layers end in a map in memory anyway.
    """
    return jax.lax.optimization_barrier(maps)


def pnorm(descriptors: jax.Array, p: float, counted: jax.Array | None = None) -> jax.Array:
    """The p-norm mean over crops, (mean |d|^p)^(1/p) per channel; Rakhlin et al. 2018, equation 1.

    p = 1 is the average, p = infinity the maximum. Descriptors are divided by their maximum before
    the power, so that neither a large descriptor overflows nor a small one vanishes; up to 8e37,
    above which XLA's reciprocal of the maximum is 0. Averages of ReLU outputs are never negative;
    other descriptors are pooled by absolute value.

    Args:
      descriptors: [..., P, D], P crops.
      p: at least 1, or infinity.
      counted: bool [..., P], the crops that count; all by default.

    Returns:
      float32 [..., D].

    Raises:
      ValueError: p is below 1 or not a number.
    """
    if not p >= 1:
        raise ValueError(f"p of the p-norm must be at least 1 (or infinity), got {p}")
    # Sixteenths, because XLA divides by multiplying with the reciprocal, which vanishes for the
    # largest floats.
    magnitude = jnp.abs(descriptors.astype(jnp.float32)) / 16
    counted = None if counted is None else counted[..., None]
    if counted is not None:
        magnitude = jnp.where(counted, magnitude, 0)
    largest = jnp.max(magnitude, axis=-2, keepdims=True)
    if math.isinf(p):
        return 16 * jnp.squeeze(largest, axis=-2)
    ratio = magnitude / jnp.where(largest > 0, largest, 1)
    mean = jnp.mean(ratio**p, axis=-2, where=counted)
    return 16 * (jnp.squeeze(largest, axis=-2) * mean ** (1 / p))


def window_weights(starts: jax.Array, length: float, cells: int) -> jax.Array:
    """The share that each cell of an axis has in a window.

    Cell i reaches from i to i + 1. Shares are overlaps over their sum: never negative, together 1.

    Args:
      starts: float [P], where windows start, in cells.
      length: of the windows, in cells.
      cells: of the axis.

    Returns:
      float32 [P, cells].
    """
    first = jnp.arange(cells, dtype=jnp.float32)[None]
    start = starts.astype(jnp.float32)[:, None]
    overlap = jnp.clip(jnp.minimum(first + 1, start + length) - jnp.maximum(first, start), 0, 1)
    return overlap / jnp.sum(overlap, axis=1, keepdims=True)


def window_averages(maps: jax.Array, corners: jax.Array, lengths: tuple[float, float]) -> jax.Array:
    """Area-weighted means of a map under windows, by one small matrix product per axis.

    (A summed-area table would need fewer operations, but its differences of large sums can come out
    negative.)

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
