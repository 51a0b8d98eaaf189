"""An image before its crops are cut: downscaled, stain-normalised, and augmented.

uint8 [H, W, 3] -> optical density float32 [3, H', W'], padded to a canvas, once an image
-> grey levels float32 [3, H', W'], once an augmentation

The size of an image is data, not shape, so that images of one padded size share a program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import Extraction
from histojax.ops import chebyshev, crops, resize, stain

_CORNERS = 3  # At which each crop of a pool is encoded.


@functools.partial(jax.jit, static_argnames=("scale", "canvas", "normalizer", "augmentation"))
def prepare(
    rgb: jax.Array,
    size: jax.Array,
    scaled_size: jax.Array,
    *,
    scale: float,
    canvas: tuple[int, int],
    normalizer: stain.Normalizer = stain.MACENKO,
    augmentation: stain.Augmentation = stain.HEMATOXYLIN_EOSIN,
) -> tuple[jax.Array, stain.StainQuality]:
    """Downscales and normalises an image, once for all its augmentations.

    Args:
      rgb: uint8 [H, W, 3], padded below and to the right.
      size, scaled_size: int32 [2], height and width without padding, before and after scaling.
      scale: of the view.
      canvas: height and width of the result, at least those of the scaled image.
      normalizer, augmentation: of the stain.

    Returns:
      The planes that the augmentation works on, float32 [3, *canvas], arbitrary in the padding; and
      how the normalisation went.
    """
    image, quality = normalized(rgb, size, scaled_size, scale, normalizer)
    with jax.named_scope("normalise"):
        return onto(augmentation.planes(image), canvas), quality


def normalized(
    rgb: jax.Array,
    size: jax.Array,
    scaled_size: jax.Array,
    scale: float,
    normalizer: stain.Normalizer,
) -> tuple[jax.Array, stain.StainQuality]:
    """Downscales and normalises an image; arguments as for `prepare`.

    Returns:
      uint8 [h, w, 3], and how the normalisation went.
    """
    with jax.named_scope("resize"):
        small = resize.downscale(rgb, scale, size)
    with jax.named_scope("normalise"):
        return normalizer.normalize(small, inside(scaled_size, small.shape[:2]))


def onto(planes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Pads planes below and to the right: [3, h, w] to [3, *canvas]."""
    below, right = np.subtract(canvas, planes.shape[1:])
    return jnp.pad(planes, ((0, 0), (0, below), (0, right)))


def inside(size: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Which pixels of a padded image are not padding: bool of that shape."""
    return (jnp.arange(shape[0])[:, None] < size[0]) & (jnp.arange(shape[1])[None] < size[1])


def gains(key: jax.Array, augmentation: jax.Array, extraction: Extraction) -> jax.Array:
    """The random gains of one of the protocol's augmentations: float32 [G]."""
    step = stain.AUGMENTATIONS[extraction.stain_augmentation]
    return crops.gains(key, augmentation, extraction.gain_low, extraction.gain_high, step.gains)


def middle_gains(extraction: Extraction) -> np.ndarray:
    """Gains midway between the lowest and the highest: float32 [G]."""
    step = stain.AUGMENTATIONS[extraction.stain_augmentation]
    middle = (extraction.gain_low + extraction.gain_high) / 2
    return np.full(step.gains, middle, np.float32)


def gain_nodes(extraction: Extraction) -> np.ndarray:
    """The gains that crop mode hybrid interpolates between: float32 [n^G, G]; none if none vary."""
    step = stain.AUGMENTATIONS[extraction.stain_augmentation]
    low, high = extraction.gain_low, extraction.gain_high
    if not step.gains or low == high:
        return np.zeros((0, step.gains), np.float32)
    return chebyshev.nodes(low, high, extraction.gain_nodes, step.gains)


def pool_gains(extraction: Extraction) -> np.ndarray:
    """The gains that crop mode hybrid encodes its pool's crops at: float32 [E, Q, G].

    All at the middle; then, if gains vary, each at three corners of the nodes in a row (of one gain
    there are two). Corners are numbered as a Gray code, in which one gain changes from each to the
    next, and rows begin at an odd one. So of the paper's two gains every crop has both corners
    where one is low and the other high, which shifts the hue: there drifts are largest.
    """
    middle, nodes = middle_gains(extraction), gain_nodes(extraction)
    crop = np.arange(extraction.pool_crops)
    at_middle = np.broadcast_to(middle, (1, len(crop), len(middle)))
    if not len(nodes):
        return at_middle
    number = np.arange(2 ** len(middle))
    is_high = (number ^ number >> 1)[:, None] >> np.arange(len(middle)) & 1
    corners = np.where(is_high, nodes.max(), nodes.min())
    row = np.arange(min(_CORNERS, len(corners)))[:, None]
    return np.concatenate([at_middle, corners[(1 + 2 * crop + row) % len(corners)]])


def augmented(planes: jax.Array, gains: jax.Array, extraction: Extraction) -> jax.Array:
    """Planes augmented by gains: float32 [3, H, W], whole grey levels."""
    return stain.AUGMENTATIONS[extraction.stain_augmentation].apply(planes, gains)
