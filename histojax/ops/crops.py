"""Random numbers, and the crops they choose.

Every key comes from (seed, image name, augmentation, crop) and nothing else, so a descriptor is the same in any order,
batch, process or device.
"""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp


def image_key(seed: int, name: str) -> jax.Array:
    """The key of an image: a scalar typed key from the seed and the first 8 bytes of the name's SHA-256."""
    digest = hashlib.sha256(name.encode()).digest()
    key = jax.random.key(seed, impl="threefry2x32")
    for start in (0, 4):
        key = jax.random.fold_in(key, int.from_bytes(digest[start : start + 4], "big"))
    return key


def gains(
    key: jax.Array, augmentation: jax.Array, low: float, high: float, count: int = 2
) -> jax.Array:
    """Gains of an augmentation, independent and uniform in [low, high): float32 [count].

    The paper's two are those of hematoxylin and eosin.
    """
    return jax.random.uniform(
        _augmentation_key(key, augmentation, 0), (count,), minval=low, maxval=high
    )


def _augmentation_key(key: jax.Array, augmentation: jax.Array, use: int) -> jax.Array:
    """The key of an augmentation for one use: 0 its gains, 1 its crops, 2 the turn of the whole image."""
    return jax.random.fold_in(jax.random.fold_in(key, augmentation), use)


class Turn(NamedTuple):
    """A quarter turn as numpy.rot90 by `quarters`, then flips: a transpose and two reversals, each a bool scalar."""

    transpose: jax.Array
    reverse_rows: jax.Array
    reverse_columns: jax.Array


def quarter_turn(quarters: jax.Array, up_down: jax.Array, left_right: jax.Array) -> Turn:
    """rot90 by `quarters` (counter-clockwise), then the flips.

    A quarter turn is a transpose and an up-down flip, a half turn both flips, three quarters a transpose and a
    left-right flip.
    """
    reverse_rows = ((quarters == 1) | (quarters == 2)) ^ up_down
    return Turn(quarters % 2 == 1, reverse_rows, (quarters >= 2) ^ left_right)


def draw_turn(turn_key: jax.Array, flip_key: jax.Array) -> Turn:
    """Quarter turns uniform in 0..3, then up-down and left-right flips with probability 1/2 each."""
    up_down, left_right = jax.random.bernoulli(flip_key, shape=(2,))
    return quarter_turn(jax.random.randint(turn_key, (), 0, 4), up_down, left_right)


def image_turn(key: jax.Array, augmentation: jax.Array) -> Turn:
    """The turn of the whole image in an augmentation: crop mode `shared`."""
    return draw_turn(*jax.random.split(_augmentation_key(key, augmentation, 2)))


def corner_and_turn(
    key: jax.Array, augmentation: jax.Array, crop: jax.Array, image_size: jax.Array, size: int
) -> tuple[jax.Array, Turn]:
    """Where a crop lies and how it is turned: protocol, pre-processing step 4.

    Args:
      key: the image's key, of `image_key`.
      augmentation, crop: integer scalars.
      image_size: int32 [2], height and width.
      size: the crop's side.

    Returns:
      Its top-left corner, int32 [2], uniform over all positions that fit, and its turn.
    """
    where, turn, flip = jax.random.split(
        jax.random.fold_in(_augmentation_key(key, augmentation, 1), crop), 3
    )
    return jax.random.randint(where, (2,), 0, image_size - size + 1), draw_turn(turn, flip)


def cut(planes: jax.Array, corner: jax.Array, turn: Turn, size: int) -> jax.Array:
    """A square of an image, turned, in one gather: [C, H, W] -> [C, size, size]."""
    along = jnp.arange(size)
    i = jnp.where(turn.reverse_rows, along[::-1], along)[:, None]
    j = jnp.where(turn.reverse_columns, along[::-1], along)[None]
    rows, columns = jnp.where(turn.transpose, j, i), jnp.where(turn.transpose, i, j)
    return planes.at[:, corner[0] + rows, corner[1] + columns].get(mode="promise_in_bounds")


def random_crop(
    image: jax.Array, key: jax.Array, augmentation: jax.Array, crop: jax.Array, size: int
) -> jax.Array:
    """One random square of an image, turned and flipped: [H, W, 3] -> [size, size, 3] of the image's dtype."""
    corner, turn = corner_and_turn(key, augmentation, crop, jnp.array(image.shape[:2]), size)
    return jnp.moveaxis(cut(jnp.moveaxis(image, -1, 0), corner, turn, size), 0, -1)
