"""From a tile of a field to feature cells, and from feature cells to descriptors of grid positions.

tile           uint8 [S, S', 3] of the file -> uint8 [T, T', 3] at the view's scale, the same pixels
               as of the whole field downscaled
feature cells  a tile, normalised with the field's stains and augmented -> feature maps, averaged
               over squares of the encoder's coarsest stride [t, t', D]
descriptors    rows of the field's feature cells [h, A, w, D] -> windows in place of crops around
               each of C positions of a grid row -> p-norm over the windows [C, A, D]

A crop's descriptor is a mean of feature maps, so windows are averages of feature cells: one pass of
the encoder serves all of them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from histojax.encoders import Encoder, Tap, Variables, pool_over_crops
from histojax.extraction import crop_windows, plans
from histojax.ops import pooling, resize, stain

# The centres of the nine windows around a grid position, as offsets along each axis, in crops;
# together they are 1.5 crops wide. Models are trained on p-norms over crops that differ, so one
# window would not do; and any two of the nine overlap by at least a quarter of a crop, so that they
# belong to one position.
OFFSETS = (-0.25, 0.0, 0.25)

# Each tap, and the side of its windows in feature cells.
TapWindows = tuple[tuple[Tap, float], ...]


class SourcePixels(NamedTuple):
    """Source pixels and weights of the pixels of a scaled axis: int32 and float32 [T, 4]."""

    pixels: jax.Array
    weights: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["fitted"],
    meta_fields=["normalizer", "augmentation"],
)
@dataclasses.dataclass(frozen=True)
class FieldStain:
    """The stain steps of a field: the normalizer, its fit to the field, and the augmentation."""

    fitted: Any
    normalizer: stain.Normalizer
    augmentation: stain.Augmentation

    def augmented(self, rgb: jax.Array, gains: jax.Array) -> jax.Array:
        """A tile normalised and augmented: uint8 [T, T', 3] -> float32 [3, T, T'], grey levels."""
        planes = self.augmentation.planes(self.normalizer.transform(rgb, self.fitted))
        return self.augmentation.apply(planes, gains)


def most_source_pixels(length: int, scale: float) -> int:
    """How many pixels of the file `length` pixels at the scale are made of, at most."""
    return int(np.ceil(length / scale)) + 4


def source_pixels(
    first: int, length: int, size: int, scale: float
) -> tuple[int, int, SourcePixels]:
    """Where pixels `first .. first + length` of a scaled axis come from.

    Beyond its ends the axis is reflected: to a network the end of an image is black, so positions
    at the edge would look different from others.

    Args:
      first: may be negative.
      length: px at the scale.
      size: of the axis in the file, px.
      scale: of the view.

    Returns:
      The first pixel of the file, how many are needed (at most `most_source_pixels`), and indices
      into these with their weights.
    """
    pixels, weights = resize.bicubic_weights(size, scale)
    along = np.arange(first, first + length) % (2 * len(pixels))
    along = np.where(along < len(pixels), along, 2 * len(pixels) - 1 - along)
    pixels = np.clip(pixels[along], 0, size - 1)
    start = int(pixels.min())
    count = int(pixels.max()) + 1 - start
    return start, count, SourcePixels(pixels - np.int32(start), weights[along])


resample_tile = jax.jit(resize.resample)


@functools.partial(jax.jit, static_argnums=0)
def fit_normalizer(normalizer: stain.Normalizer, pixels: jax.Array, valid: jax.Array) -> Any:
    """The normalizer's fit to a sample of a field's pixels: uint8 [N, 3], bool [N]."""
    return normalizer.fit(pixels, valid)[0]


def cell_size(encoder: Encoder) -> int:
    """The side of a feature cell in pixels: the coarsest stride of the encoder's taps."""
    return max(tap.stride for tap in encoder.outputs)


def on_each_device(mesh: Mesh, function: Callable, shared: int, split: int) -> Callable:
    """`function` on every device, its last arguments and all results split along the first axis.

    Args:
      mesh: the devices.
      function: takes `shared` arguments that are the same on every device, then `split` ones.
    """
    axis = PartitionSpec(plans.AXIS)
    specs = (PartitionSpec(),) * shared + (axis,) * split
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=axis, check_vma=False)


@functools.partial(jax.jit, static_argnames=("encoder", "mesh"))
def feature_cells(
    variables: Variables,
    tiles: jax.Array,
    stains: FieldStain,
    gains: jax.Array,
    *,
    encoder: Encoder,
    mesh: Mesh,
) -> jax.Array:
    """One augmented tile through the encoder on each device, every tap averaged to feature cells.

    Args:
      variables: of `encoder.fold_variables`, on every device.
      tiles: uint8 [B, T, T', 3] for B devices, sides multiples of 32.
      stains: of the field.
      gains: float32 [B, G], of each tile's augmentation.
      encoder: a folded encoder.
      mesh: the devices.

    Returns:
      float32 [B, t, t', D]; fewer than T / cell_size cells where the network does not pad.
    """

    def on_one_device(
        variables: Variables, stains: FieldStain, tiles: jax.Array, gains: jax.Array
    ) -> jax.Array:
        image = jnp.moveaxis(stains.augmented(tiles[0], gains[0]), 0, -1)[None]
        maps = encoder.maps(variables, image)
        with jax.named_scope("cells"):
            by_tap = [
                _block_averages(maps[tap.layer][0], cell_size(encoder) // tap.stride)
                for tap in encoder.outputs
            ]
            return jnp.concatenate(by_tap, axis=-1)[None]

    run = on_each_device(mesh, on_one_device, shared=2, split=2)
    return run(variables, stains, tiles, gains)


def _block_averages(maps: jax.Array, factor: int) -> jax.Array:
    """Means over squares of a map: [H, W, C] -> float32 [H / factor, W / factor, C].

    Rows and columns that fill no square are dropped.
    """
    if maps.dtype == jnp.bfloat16:
        maps = pooling.unfused(maps)
    rows, columns = (side // factor for side in maps.shape[:2])
    whole = maps[: rows * factor, : columns * factor].astype(jnp.float32)
    return jnp.mean(whole.reshape(rows, factor, columns, factor, -1), axis=(1, 3))


def window_starts(centres: np.ndarray, crop_size: int, size: int) -> np.ndarray:
    """Where the windows around grid positions start along one axis, px: [C] -> float32 [C, 3].

    Windows stay within the field, as crops do: near its edge they are moved inwards.

    Args:
      centres: of the positions, px at the view's scale.
      crop_size: of the view, px.
      size: of the field at the view's scale, px.
    """
    starts = np.asarray(centres)[:, None] + crop_size * (np.array(OFFSETS)[None] - 0.5)
    return np.clip(starts, 0, size - crop_size).astype(np.float32)


def tap_windows(encoder: Encoder, variables: Variables, crop_size: int) -> TapWindows:
    """The windows of each tap, as large as the map of a crop by itself would be."""
    cells = crop_windows.crop_cells(encoder, variables, crop_size)
    return tuple((tap, cells[tap] * tap.stride / cell_size(encoder)) for tap in encoder.outputs)


def split_by_tap(cells: jax.Array, taps: TapWindows) -> list[jax.Array]:
    """Feature cells [..., D] split into those of each tap [..., C]."""
    return jnp.split(cells, np.cumsum([tap.channels for tap, _ in taps])[:-1], axis=-1)


@functools.partial(jax.jit, static_argnames=("taps", "p"))
def position_descriptors(
    cells: jax.Array,
    border: jax.Array,
    tops: jax.Array,
    lefts: jax.Array,
    *,
    taps: TapWindows,
    p: float,
) -> jax.Array:
    """Descriptors of a row of grid positions: windows are pooled as crops of an image are.

    Args:
      cells: float32 [h, A, w, D], rows of the field's feature cells.
      border: float32 [D], added to each window, which stays at least 0 in channels whose cells are
        never negative, as those of all but some users' networks are.
      tops: float32 [3], where the windows start, in rows of `cells`.
      lefts: float32 [C, 3], where they start along the row, in columns of `cells`.
      taps: of `tap_windows`.
      p: of the p-norm.

    Returns:
      float32 [C, A, D].
    """
    highest = jax.lax.Precision.HIGHEST
    by_tap = []
    for tap_cells, (_, length) in zip(split_by_tap(cells, taps), taps, strict=True):
        rows = pooling.window_weights(tops, length, cells.shape[0])
        columns = pooling.window_weights(lefts.reshape(-1), length, cells.shape[2])
        lines = jnp.einsum("rh,hawd->rawd", rows, tap_cells, precision=highest)
        by_tap.append(jnp.einsum("cw,rawd->card", columns, lines, precision=highest))
    windows = jnp.concatenate(by_tap, axis=-1)  # [C x 3, A, 3, D]
    windows = jnp.moveaxis(windows.reshape(*lefts.shape, *windows.shape[1:]), 1, 2)
    windows = windows.reshape(len(lefts), cells.shape[1], -1, cells.shape[3])
    windows = windows + border[None, None, None]
    never_negative = jnp.all(cells >= 0, axis=(0, 1, 2))
    windows = jnp.where(never_negative[None, None, None], jnp.maximum(windows, 0), windows)
    return pool_over_crops(windows, tuple(tap for tap, _ in taps), p)
