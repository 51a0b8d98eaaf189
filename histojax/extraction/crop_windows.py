"""Windows of feature maps in the place of crops.

maps of a field [H, W, C] by tap -> their means under each crop's window, [Q, D]

A window is as large as the map of the crop by itself, and starts at the crop's corner divided by
the stride. It sees beyond the crop's border, where a crop by itself sees nothing; and it is not
turned.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from histojax.encoders import Encoder, Tap, Variables
from histojax.ops import pooling


def crop_cells(encoder: Encoder, variables: Variables, crop_size: int) -> dict[Tap, int]:
    """Rows of each tap's map that a crop by itself averages: the side of its window, in cells."""
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    maps = _maps.eval_shape(encoder, variables, image)
    return {tap: tap.averaged_cells(maps[tap.layer].shape[1]) for tap in encoder.outputs}


@functools.partial(jax.jit, static_argnums=0)
def _maps(encoder: Encoder, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    """`encoder.maps`, whose trace of a size is kept."""
    return encoder.maps(variables, images)


def averages(
    maps: Sequence[jax.Array], corners: jax.Array, cells: Sequence[float], lengths: Sequence[float]
) -> jax.Array:
    """The descriptors of windows.

    Args:
      maps: of each tap, float [H, W, C].
      corners: of the crops, px: [Q, 2].
      cells: the side of a cell of each map, px.
      lengths: the side of the windows in each map, in cells.

    Returns:
      float32 [Q, D].
    """
    return jnp.concatenate(
        [
            pooling.window_averages(tap_maps, corners / cell, (length, length))
            for tap_maps, cell, length in zip(maps, cells, lengths, strict=True)
        ],
        axis=-1,
    )
