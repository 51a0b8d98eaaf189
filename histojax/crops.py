"""Random numbers, and the crops they choose.

Every key comes from (seed, image name, augmentation, crop) and nothing else, so a descriptor is the same in any order,
batch, process or device.
"""

import hashlib

import jax
import jax.numpy as jnp


def image_key(seed: int, name: str) -> jax.Array:
    """The key of an image: a scalar typed key from the seed and the first 8 bytes of the name's SHA-256."""
    digest = hashlib.sha256(name.encode()).digest()
    key = jax.random.key(seed, impl="threefry2x32")
    for start in (0, 4):
        key = jax.random.fold_in(key, int.from_bytes(digest[start : start + 4], "big"))
    return key


def gains(key: jax.Array, augmentation: jax.Array, low: float, high: float) -> jax.Array:
    """Hematoxylin and eosin gains of an augmentation, independent and uniform in [low, high): float32 [2]."""
    return jax.random.uniform(branch(key, augmentation, 0), (2,), minval=low, maxval=high)


def branch(key: jax.Array, augmentation: jax.Array, use: int) -> jax.Array:
    """The key of an augmentation for one use: 0 its gains, 1 its crops."""
    return jax.random.fold_in(jax.random.fold_in(key, augmentation), use)


def random_crop(image: jax.Array, key: jax.Array, augmentation: jax.Array, crop: jax.Array, size: int) -> jax.Array:
    """One random square of an image, turned and flipped: protocol, pre-processing step 4.

    The top-left corner is uniform over all positions that fit; then k quarter turns, k uniform in 0..3
    (counter-clockwise, as numpy.rot90); then up-down and left-right flips with probability 1/2 each.

    Args:
      image: [H, W, 3].
      key: the image's key, of `image_key`.
      augmentation, crop: integer scalars.
      size: the crop's side.

    Returns:
      [size, size, 3] of the image's dtype.
    """
    where, turn, flip = jax.random.split(jax.random.fold_in(branch(key, augmentation, 1), crop), 3)
    room = jnp.array([image.shape[0] - size + 1, image.shape[1] - size + 1])
    top, left = jax.random.randint(where, (2,), 0, room)
    square = jax.lax.dynamic_slice(image, (top, left, 0), (size, size, 3))
    up_down, left_right = jax.random.bernoulli(flip, shape=(2,))
    return turn_and_flip(square, jax.random.randint(turn, (), 0, 4), up_down, left_right)


def turn_and_flip(square: jax.Array, quarter_turns: jax.Array, up_down: jax.Array, left_right: jax.Array) -> jax.Array:
    """rot90 by `quarter_turns`, then the flips, as one transpose and two reversals: [S, S, C] -> [S, S, C].

    A quarter turn is a transpose and an up-down flip, a half turn both flips, three quarters a transpose and a
    left-right flip.
    """
    turned = jnp.where(quarter_turns % 2 == 1, jnp.swapaxes(square, 0, 1), square)
    reverse_rows = ((quarter_turns == 1) | (quarter_turns == 2)) ^ up_down
    reverse_columns = (quarter_turns >= 2) ^ left_right
    turned = jnp.where(reverse_rows, turned[::-1], turned)
    return jnp.where(reverse_columns, turned[:, ::-1], turned)
