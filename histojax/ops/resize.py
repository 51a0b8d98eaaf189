"""Bicubic downscaling as OpenCV's INTER_CUBIC: Keys' kernel with a = -0.75, no antialiasing, edges replicated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

A = -0.75


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' convolution kernel at a distance in pixels, 0 to 2 (Keys 1981, equation 15 for a = -0.5)."""
    x = np.abs(distance)
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def bicubic_weights(size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels and weights of the output pixels of one axis, centres aligned: both [round(size scale), 4].

    Pixels before the first and after the last are counted on: they stand for the edge.
    """
    centre = (np.arange(round(size * scale)) + 0.5) / scale - 0.5
    pixels = np.floor(centre).astype(np.int32)[:, None] + np.arange(-1, 3, dtype=np.int32)
    return pixels, cubic(centre[:, None] - pixels).astype(np.float32)


def resample(rows: jax.Array, scale: float, size: jax.Array) -> jax.Array:
    """Resamples axis 0, of which the first `size` are the image's: float32 [S, ...] -> [round(S scale), ...]."""
    pixels, weights = bicubic_weights(rows.shape[0], scale)
    inside = jnp.clip(pixels, 0, size - 1)
    shaped = weights.reshape(weights.shape + (1,) * (rows.ndim - 1))
    return sum(shaped[:, i] * rows[inside[:, i]] for i in range(4))


@functools.partial(jax.jit, static_argnames="scale")
def downscale(rgb: jax.Array, scale: float, size: jax.Array | None = None) -> jax.Array:
    """An image at a smaller scale, rounded and clipped: protocol, pre-processing step 1.

    Args:
      rgb: uint8 [H, W, 3].
      scale: above 0, at most 1; 1 returns the image as it is.
      size: int [2], height and width of the image where it is padded below and to the right.

    Returns:
      uint8 [round(H scale), round(W scale), 3]; of a padded image, arbitrary outside of [round(size scale)].

    Raises:
      ValueError: the scale is outside (0, 1].
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale}")
    if scale == 1:
        return rgb
    height, width = rgb.shape[:2] if size is None else size
    half = resample(rgb.astype(jnp.float32), scale, height)
    both = jnp.swapaxes(resample(jnp.swapaxes(half, 0, 1), scale, width), 0, 1)
    return jnp.clip(jnp.round(both), 0, 255).astype(jnp.uint8)
