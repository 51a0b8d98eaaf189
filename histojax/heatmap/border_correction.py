"""What the border of a crop adds to its descriptor, so that windows of a whole field can be shown to models of crops.

A crop by itself is surrounded by nothing, which a network answers along its border; a window of a field's maps is
surrounded by tissue. A descriptor is a mean over a map, so the two differ by a sum along the border that depends little
on what the crop shows. It is measured on crops of the field itself, drawn and turned as the models' were, and added to
its windows; docs/performance.md has what that mends.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from histojax.config import View
from histojax.encoders import Encoder, Variables
from histojax.extraction import programs
from histojax.heatmap import tile_features
from histojax.heatmap.slide_scan import CELL, Axis, Grid
from histojax.heatmap.tile_features import FieldStain
from histojax.ops import crops, pooling

CROPS = 16  # Crops that the border is measured on, at least.


def pieces(
    axes: Sequence[Axis], crop_size: int, grid: Grid, scale: float, scored: np.ndarray, count: int
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Where a field has most to score: corners of pieces, the best first, and their sides, px at the scale.

    Args:
      axes: how the field is cut into tiles; a piece is a tile, or as large as a crop, moved inwards at the edge.
      count: of pieces wished; where there are fewer, they come again.
    """
    sides = tuple(max(axis.own, -(-crop_size // CELL) * CELL) for axis in axes)
    starts, inside = [], []
    for axis, side, centres in zip(axes, sides, grid.centres(scale), strict=True):
        first = np.unique(np.clip(np.arange(axis.tiles) * axis.own, 0, max(0, axis.size - side)))
        starts.append(first)
        inside.append((centres[None] >= first[:, None]) & (centres[None] < first[:, None] + side))
    number = inside[0].astype(int) @ scored @ inside[1].T.astype(int)
    best = np.resize(np.argsort(-number, axis=None, kind="stable"), count)
    rows, columns = np.unravel_index(best, number.shape)
    return [
        (int(starts[0][i]), int(starts[1][j])) for i, j in zip(rows, columns, strict=True)
    ], sides


def measured(
    variables: Variables,
    tiles: np.ndarray,
    stains: FieldStain,
    gains: np.ndarray,
    key: jax.Array,
    views: Sequence[View],
    *,
    encoder: Encoder,
    mesh: Mesh,
    halo: int,
) -> list[np.ndarray]:
    """The mean difference of a crop's descriptor to its window's, by view: float32 [D] each.

    Args:
      tiles: uint8 [B, T, T', 3], of B devices, with the halo around what crops are cut of.
      gains: float32 [B, 2], of each tile.
      key: of the image; crops are drawn from it.
      views: whose crops fit into the tiles.
    """
    cells = tile_features.cells(variables, tiles, stains, gains, encoder=encoder, mesh=mesh)
    count, size = -(-CROPS // len(tiles)), np.array(tiles.shape[1:3]) - 2 * halo
    found = []
    for view in views:
        own, corners = alone(
            variables,
            tiles,
            stains,
            gains,
            key,
            size,
            encoder=encoder,
            mesh=mesh,
            halo=halo,
            crop_size=view.crop_size,
            count=count,
        )
        side, taps = (
            tile_features.cell_size(encoder),
            tile_features.lengths(encoder, variables, view.crop_size),
        )
        seen = [
            jax.vmap(functools.partial(pooling.window_averages, lengths=(length, length)))(
                part, corners / side
            )
            for part, (_, length) in zip(tile_features.by_tap(cells, taps), taps, strict=True)
        ]
        found.append(np.asarray(jnp.mean(own - jnp.concatenate(seen, axis=-1), axis=(0, 1))))
    return found


@functools.partial(jax.jit, static_argnames=("encoder", "mesh", "halo", "crop_size", "count"))
def alone(
    variables: Variables,
    tiles: jax.Array,
    stains: FieldStain,
    gains: jax.Array,
    key: jax.Array,
    size: jax.Array,
    *,
    encoder: Encoder,
    mesh: Mesh,
    halo: int,
    crop_size: int,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """Crops of tiles by themselves, turned at random: float32 [B, count, D]; and their corners, int32 [B, count, 2]."""

    def on_one_device(variables, tiles, stains, gains, numbers, key, size):
        planes = stains.augmented(tiles[0], gains[0])

        def crop(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            corner, turn = crops.corner_and_turn(key, jnp.int32(0), number, size, crop_size)
            square = crops.cut(planes, corner + halo, turn, crop_size)
            return encoder.descriptors(variables, jnp.moveaxis(square, 0, -1)[None])[
                0
            ], corner + halo

        own, corners = jax.lax.map(crop, numbers[0])
        return own[None], corners[None]

    numbers = jnp.arange(len(tiles) * count, dtype=jnp.int32).reshape(len(tiles), count)
    same, spread = PartitionSpec(), PartitionSpec(programs.AXIS)
    return jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(same, spread, same, spread, spread, same, same),
        out_specs=spread,
        check_vma=False,
    )(variables, tiles, stains, gains, numbers, key, size)
