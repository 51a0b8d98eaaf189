"""Resizing: of whole images as OpenCV's INTER_CUBIC does, of crops as Pillow does.

`downscale` takes Keys' kernel with a = -0.75, replicates edges, and has no antialiasing.
`antialiased` widens its kernel where it shrinks, and renormalises it at the edges.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_OPENCV_A, _PILLOW_A = -0.75, -0.5  # Parameters of Keys' kernel.


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' convolution kernel at distances of 0 to 2 px (Keys 1981, equation 15 for a = -0.5)."""
    x = np.abs(distance)
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
    return pixels, _cubic(centre[:, None] - pixels, _OPENCV_A).astype(np.float32)


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


# Kernels at distances in px of the result, or of the source where it is enlarged.
_FILTERS = {
    "bilinear": lambda distance: np.maximum(0, 1 - np.abs(distance)),
    "bicubic": lambda distance: _cubic(distance, _PILLOW_A),
}


def antialiased_weights(size: int, new_size: int, resize_filter: str) -> np.ndarray:
    """Weights of the source pixels in the resized ones, centres aligned: float32 [new, old].

    Rows sum to one, also where the kernel reaches over an edge.

    Raises:
      ValueError: the filter is not known.
    """
    if resize_filter not in _FILTERS:
        raise ValueError(f"no filter {resize_filter!r}; there are {', '.join(_FILTERS)}")
    step = size / new_size
    centre = (np.arange(new_size) + 0.5) * step
    distance = (np.arange(size) + 0.5 - centre[:, None]) / max(1.0, step)
    weights = _FILTERS[resize_filter](distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def plain_weights(size: int, new_size: int) -> np.ndarray:
    """As `antialiased_weights`, of OpenCV's bicubic kernel, which is PyTorch's antialias=False."""
    pixels, weights = bicubic_weights(size, new_size / size)
    matrix = np.zeros((new_size, size), np.float32)
    rows = np.broadcast_to(np.arange(new_size)[:, None], pixels.shape)
    np.add.at(matrix, (rows, np.clip(pixels, 0, size - 1)), weights)
    return matrix


def antialiased(images: jax.Array, side: int, resize_filter: str) -> jax.Array:
    """Square images at another side, as Pillow resizes RGB images and torchvision with it.

    Columns first, and whole grey levels after either axis.

    Args:
      images: float32 [N, S, S, 3], 0 to 255.
      side: of the result, px.
      resize_filter: `bilinear` or `bicubic`.

    Returns:
      float32 [N, side, side, 3]; the images themselves where they have that side.

    Raises:
      ValueError: the images are not square, or the filter is not known.
    """
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be square, got shape {images.shape}")
    weights = antialiased_weights(images.shape[1], side, resize_filter)
    if images.shape[1] == side:
        return images
    for product in ("nhwc,ow->nhoc", "nhwc,oh->nowc"):
        summed = jnp.einsum(product, images, weights, precision=jax.lax.Precision.HIGHEST)
        images = jnp.clip(jnp.floor(summed + 0.5), 0, 255)
    return images
