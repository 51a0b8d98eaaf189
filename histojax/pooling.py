"""From feature maps to a descriptor, from descriptors of crops to one of the image."""

import math

import jax
import jax.numpy as jnp


def global_average(maps: jax.Array) -> jax.Array:
    """The mean of each channel over the map: float [N, H, W, C] -> float32 [N, C]."""
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
