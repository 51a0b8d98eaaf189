"""Random keys, and the gains, crops and turns drawn from them.

Every key comes from (seed, image name, augmentation, crop) and nothing else, so a descriptor is the
same in any order, batch, process or device. In crop mode hybrid the crops of an image are a pool
that its augmentations choose from; then what a crop is comes from (seed, image name, crop).
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# What an augmentation's random keys are for.
_GAINS = 0
_CROPS = 1
_CHOICE = 2
_POOL = 2**32 - 1  # Stands for an augmentation that no protocol has.

# From one crop of a pool to the next, in 2^32ths of the room for corners: 1/x and 1/x^2, where
# x^3 = x + 1, spread any number of points evenly (M. Roberts, The unreasonable effectiveness of
# quasirandom sequences, 2018).
_LATTICE = np.round(2**32 * np.array([0.7548776662466927, 0.5698402909980532])).astype(np.uint32)


def image_key(seed: int, name: str) -> jax.Array:
    """The typed scalar key of an image, from the seed and the name's SHA-256 (first 8 bytes)."""
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
    gains_key = _augmentation_key(key, augmentation, _GAINS)
    return jax.random.uniform(gains_key, (count,), minval=low, maxval=high)


def _augmentation_key(key: jax.Array, augmentation: jax.Array, purpose: int) -> jax.Array:
    """The key of an augmentation for one of _GAINS, _CROPS and _CHOICE."""
    return jax.random.fold_in(jax.random.fold_in(key, augmentation), purpose)


class Turn(NamedTuple):
    """Quarter turns and flips of a square, as a transpose and then two reversals: bool scalars."""

    transpose: jax.Array | bool
    reverse_rows: jax.Array | bool
    reverse_columns: jax.Array | bool


NO_TURN = Turn(False, False, False)


def _quarter_turn(quarters: jax.Array, up_down: jax.Array, left_right: jax.Array) -> Turn:
    """numpy.rot90 by `quarters` (counter-clockwise), then the flips.

    A quarter turn is a transpose and an up-down flip, a half turn both flips, three quarters a
    transpose and a left-right flip.
    """
    reverse_rows = ((quarters == 1) | (quarters == 2)) ^ up_down
    return Turn(quarters % 2 == 1, reverse_rows, (quarters >= 2) ^ left_right)


def _draw_turn(turn_key: jax.Array, flip_key: jax.Array) -> Turn:
    """A uniform number of quarter turns, then two flips, each with probability 1/2."""
    up_down, left_right = jax.random.bernoulli(flip_key, shape=(2,))
    return _quarter_turn(jax.random.randint(turn_key, (), 0, 4), up_down, left_right)


def corner_and_turn(
    key: jax.Array, augmentation: jax.Array, crop: jax.Array, image_size: jax.Array, size: int
) -> tuple[jax.Array, Turn]:
    """Where a crop lies and how it is turned: protocol, pre-processing step 4.

    Args:
      key: the image's key, of `image_key`.
      augmentation: integer scalar.
      crop: integer scalar.
      image_size: int32 [2], height and width.
      size: the crop's side.

    Returns:
      Its top-left corner, int32 [2], uniform over all positions that fit, and its turn.
    """
    crop_key = jax.random.fold_in(_augmentation_key(key, augmentation, _CROPS), crop)
    corner_key, turn_key, flip_key = jax.random.split(crop_key, 3)
    corner = jax.random.randint(corner_key, (2,), 0, image_size - size + 1)
    return corner, _draw_turn(turn_key, flip_key)


def pool_corner_and_turn(
    key: jax.Array, crop: jax.Array, image_size: jax.Array, size: int
) -> tuple[jax.Array, Turn]:
    """The same of a crop of the image's pool, which its augmentations share: crop mode `hybrid`.

    Each crop for itself is uniform as well, but together they cover the image: corners lie on a
    lattice with a random start, and eight crops in a row are turned in all eight ways.
    """
    start_key, turn_key = jax.random.split(jax.random.fold_in(key, _POOL))
    start = jax.random.bits(start_key, (2,), jnp.uint32)
    share = start + jnp.asarray(crop, jnp.uint32) * _LATTICE  # Modulo 2^32.
    corner = (share >> 8) * jnp.float32(2**-24) * (image_size - size + 1)
    first, step = jax.random.randint(turn_key, (2,), 0, 8)
    turn = (first + crop * (2 * step + 1)) % 8  # An odd step meets all eight.
    return corner.astype(jnp.int32), Turn(turn % 2 == 1, turn % 4 >= 2, turn >= 4)


def tile_counts(image_size: Sequence[int], size: int) -> tuple[int, int]:
    """Rows and columns of the fewest squares that cover an image; of arrays, too."""
    height, width = image_size
    return -(-height // size), -(-width // size)


def tile_corner(number: jax.Array, image_size: jax.Array, size: int) -> jax.Array:
    """Where one of the squares that tile an image lies, row by row: top and left, int32 [2].

    They are spread evenly from edge to edge, so that neighbours overlap by a few pixels where the
    sides of the image are no multiples of theirs.

    Args:
      number: integer scalar.
      image_size: int32 [2], height and width, at least `size`.
      size: the squares' side.
    """
    rows, columns = tile_counts(image_size, size)
    place = jnp.stack([number // columns, number % columns])
    last = jnp.maximum(jnp.stack([rows, columns]) - 1, 1)
    return place * (image_size - size) // last


def choose(key: jax.Array, augmentation: jax.Array, count: int, pool: int) -> jax.Array:
    """The crops of the pool that an augmentation takes, drawn with replacement: int32 [count].

    With replacement augmentations differ by the crops that they draw as if each drew its own, up to
    a factor of sqrt(1 - 1 / pool); without, by sqrt(1 - count / pool) alone.
    """
    return jax.random.randint(_augmentation_key(key, augmentation, _CHOICE), (count,), 0, pool)


def cut(planes: jax.Array, corner: jax.Array, turn: Turn, size: int) -> jax.Array:
    """A square of an image, turned, in one gather: [C, H, W] -> [C, size, size]."""
    along = jnp.arange(size)
    i = jnp.where(turn.reverse_rows, along[::-1], along)[:, None]
    j = jnp.where(turn.reverse_columns, along[::-1], along)[None]
    rows = jnp.where(turn.transpose, j, i)
    columns = jnp.where(turn.transpose, i, j)
    return planes.at[:, corner[0] + rows, corner[1] + columns].get(mode="promise_in_bounds")
