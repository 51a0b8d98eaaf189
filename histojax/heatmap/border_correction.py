"""What border and turn of a crop add to its descriptor, so that windows can stand in for crops.

A crop by itself is surrounded by nothing, to which a network responds along the crop's border; a
window of a field's feature maps is surrounded by tissue. A descriptor is a mean over a map, so the
two differ by a sum along the border that depends little on the content of the crop, nor on its
colour: crop mode hybrid takes it from the same crop, here there is none. The difference is measured
on crops of the field itself, drawn and turned as in training, and added to its windows;
docs/performance.md shows the effect.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from histojax.config import View
from histojax.encoders import Encoder, Variables
from histojax.extraction import crop_windows
from histojax.heatmap import tile_features
from histojax.heatmap.encoder_pass import TilePass
from histojax.heatmap.slide_scan import SQUARE
from histojax.heatmap.tile_features import FieldStain
from histojax.ops import crops

_CROPS = 16  # Crops that the difference is measured on, at least.


def corrections(encoder_pass: TilePass) -> list[np.ndarray]:
    """What is added to the windows of each view: float32 [D]."""
    views, devices = encoder_pass.views, encoder_pass.mesh.size
    largest = max(view.crop_size for view in views)
    corners, sides = _best_tiles(encoder_pass, largest, devices)
    tiles = np.stack([encoder_pass.read_at(corner, sides) for corner in corners])
    gains = np.resize(encoder_pass.gains, (devices, encoder_pass.gains.shape[1]))
    cells = encoder_pass.feature_cells(tiles, gains)
    return [_mean_difference(encoder_pass, view, tiles, gains, cells) for view in views]


def _best_tiles(
    encoder_pass: TilePass, crop_size: int, count: int
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Corners of the tiles with most scored positions, best first, and their sides, px.

    Tiles are at least as large as a crop, and moved inwards at the edge of the field; if there are
    fewer than `count`, they are repeated.
    """
    axes, positions = encoder_pass.axes, encoder_pass.scan.scored
    sides = tuple(max(axis.kept, -(-crop_size // SQUARE) * SQUARE) for axis in axes)
    starts, inside = [], []
    for axis, side, centres in zip(axes, sides, encoder_pass.centres, strict=True):
        last = max(0, axis.size - side)
        starts.append(np.unique(np.clip(np.arange(axis.tiles) * axis.kept, 0, last)))
        first = starts[-1][:, None]
        inside.append(((centres[None] >= first) & (centres[None] < first + side)).astype(int))
    scored = inside[0] @ positions @ inside[1].T
    best = np.resize(np.argsort(-scored, axis=None, kind="stable"), count)
    rows, columns = np.unravel_index(best, scored.shape)
    corners = zip(starts[0][rows].tolist(), starts[1][columns].tolist(), strict=True)
    return list(corners), sides


def _mean_difference(
    encoder_pass: TilePass, view: View, tiles: np.ndarray, gains: np.ndarray, cells: jax.Array
) -> np.ndarray:
    """The mean difference of a crop's descriptor to its window's: float32 [D]."""
    encoder, variables = encoder_pass.loaded.encoder, encoder_pass.loaded.variables
    program = _CropProgram(
        encoder, encoder_pass.mesh, encoder_pass.halo, view.crop_size, -(-_CROPS // len(tiles))
    )
    alone, corners = _crop_descriptors(
        variables, encoder_pass.stains, encoder_pass.key, tiles, gains, program=program
    )
    taps = tile_features.tap_windows(encoder, variables, view.crop_size)
    averages = functools.partial(
        crop_windows.averages,
        cells=[encoder_pass.cell] * len(taps),
        lengths=[length for _, length in taps],
    )
    windows = jax.vmap(averages)(tile_features.split_by_tap(cells, taps), corners)
    return np.asarray(jnp.mean(alone - windows, axis=(0, 1)))


@dataclasses.dataclass(frozen=True)
class _CropProgram:
    """What `_crop_descriptors` is compiled for; `count` is of crops on each device."""

    encoder: Encoder
    mesh: Mesh
    halo: int
    crop_size: int
    count: int


@functools.partial(jax.jit, static_argnames="program")
def _crop_descriptors(
    variables: Variables,
    stains: FieldStain,
    key: jax.Array,
    tiles: jax.Array,
    gains: jax.Array,
    *,
    program: _CropProgram,
) -> tuple[jax.Array, jax.Array]:
    """Descriptors of random crops of tiles by themselves, and the corners of the crops.

    Args:
      variables: of the encoder.
      stains: of the field.
      key: of the image.
      tiles: uint8 [B, T, T', 3] for B devices, with the halo around what crops are cut from.
      gains: float32 [B, G], of each tile's augmentation.
      program: what is static.

    Returns:
      float32 [B, count, D], and int32 [B, count, 2] in px of the tile.
    """
    halo, crop_size = program.halo, program.crop_size
    size = jnp.array(tiles.shape[1:3], jnp.int32) - 2 * halo

    def on_one_device(variables, stains, key, size, tiles, gains, numbers):
        planes = stains.augmented(tiles[0], gains[0])

        def crop(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            corner, turn = crops.corner_and_turn(key, jnp.int32(0), number, size, crop_size)
            square = crops.cut(planes, corner + halo, turn, crop_size)
            image = jnp.moveaxis(square, 0, -1)[None]
            return program.encoder.descriptors(variables, image)[0], corner + halo

        descriptors, corners = jax.lax.map(crop, numbers[0])
        return descriptors[None], corners[None]

    numbers = jnp.arange(len(tiles) * program.count, dtype=jnp.int32).reshape(len(tiles), -1)
    run = tile_features.on_each_device(program.mesh, on_one_device, shared=4, split=3)
    return run(variables, stains, key, size, tiles, gains, numbers)
