"""Bicubic downscaling as OpenCV's INTER_CUBIC: Keys' kernel with a = -0.75, edges replicated.

There is no antialiasing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_KEYS_A = -0.75


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' convolution kernel at distances of 0 to 2 px (Keys 1981, equation 15 for a = -0.5)."""
    x, a = np.abs(distance), _KEYS_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def bicubic_weights(size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels and weights of the output pixels of one axis, centres aligned.

    Source pixels may lie before the first and after the last pixel: they stand for the edge.

    Returns:
      int32 and float32 [round(size scale), 4].
    """
    centre = (np.arange(round(size * scale)) + 0.5) / scale - 0.5
    pixels = np.floor(centre).astype(np.int32)[:, None] + np.arange(-1, 3, dtype=np.int32)
    return pixels, _cubic(centre[:, None] - pixels).astype(np.float32)


def resample(
    rgb: jax.Array, rows: tuple[jax.Array, jax.Array], columns: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Weighted sums of the rows and then of the columns of an image, rounded and clipped.

    Args:
      rgb: uint8 [H, W, 3].
      rows: the source rows of each output row and their weights, int32 and float32 [H', 4].
      columns: the same of columns, [W', 4].

    Returns:
      uint8 [H', W', 3].
    """
    half = _weighted_rows(rgb.astype(jnp.float32), *rows)
    both = jnp.swapaxes(_weighted_rows(jnp.swapaxes(half, 0, 1), *columns), 0, 1)
    return jnp.clip(jnp.round(both), 0, 255).astype(jnp.uint8)


def _weighted_rows(image: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    return sum(weights[:, i, None, None] * image[rows[:, i]] for i in range(4))


@functools.partial(jax.jit, static_argnames="scale")
def downscale(rgb: jax.Array, scale: float, size: jax.Array | None = None) -> jax.Array:
    """An image at a smaller scale, rounded and clipped: protocol, pre-processing step 1.

    Args:
      rgb: uint8 [H, W, 3].
      scale: above 0, at most 1; 1 returns the image unchanged.
      size: int [2], height and width of the image where it is padded below and to the right.

    Returns:
      uint8 [round(H scale), round(W scale), 3]; of a padded image, arbitrary outside of
      [round(size scale)].

    Raises:
      ValueError: the scale is outside (0, 1].
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale}")
    if scale == 1:
        return rgb
    sizes = rgb.shape[:2] if size is None else size
    axes = []
    for padded, side in zip(rgb.shape[:2], sizes, strict=True):
        pixels, weights = bicubic_weights(padded, scale)
        axes.append((jnp.clip(pixels, 0, side - 1), weights))
    return resample(rgb, *axes)
