"""A field of any size, piece by piece: tiles at the view's scale, what the network sees in them, descriptors of places.

tile    uint8 [S, S, 3] of the file -> uint8 [T, T, 3] at the view's scale, the same pixels as of the field scaled whole
cells   a tile, normalised by the field's stains and augmented -> feature maps, averaged to cells of the encoder's
        coarsest stride [t, t, D]
places  a band of the field's cells [h, A, w, D] -> the windows that stand in for crops about each place of a row ->
        p-norm over them [C, A, D], for C places

A crop's descriptor is a mean of feature maps, so windows are cut from cells: one trunk pass serves all of them.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from histojax.encoders import Encoder, Variables
from histojax.extraction import programs
from histojax.ops import pooling, resize, stain

# Windows about a place, as offsets of their centres in crops, along each axis: nine of them, 1.5 crops together. The
# models know p-norms over crops that differ, so one window would not do; and no two of the nine overlap by less than a
# quarter of a crop, so that together they still are one place.
OFFSETS = (-0.25, 0.0, 0.25)


class Taps(NamedTuple):
    """Which source pixels make up the pixels of an axis: int32 and float32 [T, 4]."""

    pixels: jax.Array
    weights: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["fitted"],
    meta_fields=["normalizer", "augmentation"],
)
@dataclasses.dataclass(frozen=True)
class FieldStain:
    """The stain steps of a field: what `normalizer` was fitted to, and how tiles are augmented."""

    fitted: Any
    normalizer: stain.Normalizer
    augmentation: stain.Augmentation

    def augmented(self, rgb: jax.Array, gains: jax.Array) -> jax.Array:
        """A tile normalised and augmented: uint8 [T, T', 3] -> float32 [3, T, T'], grey levels."""
        planes = self.augmentation.planes(self.normalizer.transform(rgb, self.fitted))
        return self.augmentation.apply(planes, gains)


def reach(length: int, scale: float) -> int:
    """Pixels of the file that any `length` pixels at the scale are made of, at most."""
    return int(np.ceil(length / scale)) + 4


def source(first: int, length: int, size: int, scale: float) -> tuple[int, int, Taps]:
    """Where pixels `first .. first + length` of a scaled axis come from; the axis is reflected at both ends.

    Reflected, because to a network the end of an image is black: places at the edge would look different from others.

    Args:
      first: may be negative.
      size: of the axis in the file.

    Returns:
      The first pixel of the file and how many are needed, at most `reach`; taps into these.
    """
    pixels, weights = resize.bicubic_weights(size, scale)
    along = np.arange(first, first + length) % (2 * len(pixels))
    along = np.where(along < len(pixels), along, 2 * len(pixels) - 1 - along)
    pixels = np.clip(pixels[along], 0, size - 1)
    start = int(pixels.min())
    return start, int(pixels.max()) + 1 - start, Taps(pixels - np.int32(start), weights[along])


@jax.jit
def scaled(rgb: jax.Array, rows: Taps, columns: Taps) -> jax.Array:
    """A tile as `resize.downscale` has it of the whole field: uint8 [S, S', 3] -> uint8 [T, T', 3]."""

    def resample(lines: jax.Array, taps: Taps) -> jax.Array:
        return sum(taps.weights[:, i, None, None] * lines[taps.pixels[:, i]] for i in range(4))

    half = resample(rgb.astype(jnp.float32), rows)
    both = jnp.swapaxes(resample(jnp.swapaxes(half, 0, 1), columns), 0, 1)
    return jnp.clip(jnp.round(both), 0, 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def fit(normalizer: stain.Normalizer, pixels: jax.Array, valid: jax.Array) -> Any:
    """What the normalizer's `transform` takes, of a sample of a field's pixels: uint8 [N, 3], bool [N]."""
    return normalizer.fit(pixels, valid)[0]


def cell_size(encoder: Encoder) -> int:
    """The side of a cell in pixels: the coarsest stride of the encoder's taps."""
    return max(tap.stride for tap in encoder.outputs)


@functools.partial(jax.jit, static_argnames=("encoder", "mesh"))
def cells(
    variables: Variables,
    tiles: jax.Array,
    stains: FieldStain,
    gains: jax.Array,
    *,
    encoder: Encoder,
    mesh: Mesh,
) -> jax.Array:
    """One trunk pass on each device over an augmented tile, every tap averaged to cells.

    Args:
      variables: of `encoder.fold_variables`, on every device.
      tiles: uint8 [B, T, T', 3], B devices, sides multiples of 32.
      stains: of the field.
      gains: float32 [B, 2], hematoxylin and eosin, of each tile.

    Returns:
      float32 [B, t, t', D]; fewer cells than T / cell_size where the network pads nothing.
    """

    def on_one_device(
        variables: Variables, tiles: jax.Array, stains: FieldStain, gains: jax.Array
    ) -> jax.Array:
        image = jnp.moveaxis(stains.augmented(tiles[0], gains[0]), 0, -1)[None]
        maps = encoder.maps(variables, image)
        with jax.named_scope("cells"):
            coarse = [
                average(maps[tap.layer][0], cell_size(encoder) // tap.stride)
                for tap in encoder.outputs
            ]
            return jnp.concatenate(coarse, axis=-1)[None]

    same, spread = PartitionSpec(), PartitionSpec(programs.AXIS)
    return jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(same, spread, same, spread),
        out_specs=spread,
        check_vma=False,
    )(variables, tiles, stains, gains)


def average(maps: jax.Array, factor: int) -> jax.Array:
    """Means over squares of a map: [H, W, C] -> float32 [H / factor, W / factor, C], what fills no square left out."""
    if maps.dtype == jnp.bfloat16:
        maps = jax.lax.optimization_barrier(maps)  # As in `pooling.global_average`.
    rows, columns = (side // factor for side in maps.shape[:2])
    own = maps[: rows * factor, : columns * factor].astype(jnp.float32)
    return jnp.mean(own.reshape(rows, factor, columns, factor, -1), axis=(1, 3))


def corners(centres: np.ndarray, crop_size: int, size: int) -> np.ndarray:
    """Where the windows about places begin, along one axis and at the view's scale: float [C] -> float32 [C, 3].

    Windows stay within the field, as crops do, so those of places near its edge are moved inwards.
    """
    starts = np.asarray(centres)[:, None] + crop_size * (np.array(OFFSETS)[None] - 0.5)
    return np.clip(starts, 0, size - crop_size).astype(np.float32)


def lengths(
    encoder: Encoder, variables: Variables, crop_size: int
) -> tuple[tuple[int, float], ...]:
    """The channels of each tap, and the side of its windows in cells: as much of the map as a crop's own would have."""
    cells = programs.crop_cells(encoder, variables, crop_size)
    return tuple(
        (tap.channels, cells[tap] * tap.stride / cell_size(encoder)) for tap in encoder.outputs
    )


def by_tap(cells: jax.Array, taps: tuple[tuple[int, float], ...]) -> list[jax.Array]:
    """Cells [..., D] parted into those of each tap [..., C]."""
    return jnp.split(cells, np.cumsum([channels for channels, _ in taps])[:-1], axis=-1)


@functools.partial(jax.jit, static_argnames=("taps", "p"))
def places(
    band: jax.Array,
    border: jax.Array,
    tops: jax.Array,
    lefts: jax.Array,
    *,
    taps: tuple[tuple[int, float], ...],
    p: float,
) -> jax.Array:
    """Descriptors of a row of places: the p-norm over each one's windows, as a model's are over crops.

    Args:
      band: float32 [h, A, w, D], rows of the field's cells.
      border: float32 [D], what is added to each window, which stays at least 0.
      tops: float32 [3], where the windows begin, in cells of the band.
      lefts: float32 [C, 3], the same along the row.
      taps: of `lengths`.
      p: of the p-norm.

    Returns:
      float32 [C, A, D].
    """
    exactly, found = jax.lax.Precision.HIGHEST, []
    for own, (_, length) in zip(by_tap(band, taps), taps, strict=True):
        rows = pooling.window_weights(tops, length, band.shape[0])
        columns = pooling.window_weights(lefts.reshape(-1), length, band.shape[2])
        lines = jnp.einsum("rh,hawd->rawd", rows, own, precision=exactly)
        found.append(jnp.einsum("cw,rawd->card", columns, lines, precision=exactly))
    crops = jnp.concatenate(found, axis=-1)  # [C x 3, A, 3, D]
    crops = jnp.moveaxis(crops.reshape(*lefts.shape, *crops.shape[1:]), 1, 2)
    crops = crops.reshape(len(lefts), band.shape[1], -1, band.shape[3])
    return pooling.pnorm(jnp.maximum(crops + border[None, None, None], 0), p)
