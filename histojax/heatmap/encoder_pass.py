"""One encoder's way over a field at one scale: how the field is cut into tiles, which are needed.

Tiles overlap by a halo, so that the feature cells kept of a tile are about those that the encoder
would compute from the whole field.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.extraction import loaded_encoders
from histojax.extraction.loaded_encoders import EncoderSet, LoadedEncoder
from histojax.heatmap import slide_scan, tile_features
from histojax.heatmap.slide_scan import Grid, SlideScan
from histojax.images import padding
from histojax.ops import crops, stain


class TiledAxis(NamedTuple):
    """How an axis of a field at a scale is cut into tiles.

    Attributes:
      size: of the field, px.
      kept: px that are kept of a tile.
      tiles: how many there are.
    """

    size: int
    kept: int
    tiles: int


@dataclasses.dataclass(frozen=True)
class EncoderPass:
    """One encoder over a field at one scale: all that is the same for every tile.

    Attributes:
      scan: the scanned field.
      extraction: the protocol of the models.
      loaded: the encoder.
      mesh: the devices.
      views: of this scale, those that have models.
      axes: how the field's height and width are cut into tiles.
      needed: bool [tiles down, tiles across], whether a scored position needs the tile.
      stains: of the field at this scale.
      key: of the image.
      gains: float32 [A, G], of the augmentations.
    """

    scan: SlideScan
    extraction: Extraction
    loaded: LoadedEncoder
    mesh: Mesh
    views: tuple[View, ...]
    axes: tuple[TiledAxis, TiledAxis]
    needed: np.ndarray
    stains: tile_features.FieldStain
    key: jax.Array
    gains: np.ndarray

    def of_positions(self, positions: np.ndarray) -> "EncoderPass":
        """The same pass over the tiles alone that some positions need: bool [rows, columns]."""
        needed = _needed_tiles(self.scan.grid, positions, self.axes, self.views)
        return dataclasses.replace(self, needed=needed)

    @property
    def scale(self) -> float:
        """Of the views."""
        return self.views[0].scale

    @property
    def halo(self) -> int:
        """Px around what is kept of a tile, which the encoder sees as well."""
        return self.loaded.encoder.halo

    @property
    def cell(self) -> int:
        """The side of a feature cell, px."""
        return tile_features.cell_size(self.loaded.encoder)

    @property
    def kept_cells(self) -> tuple[int, int]:
        """Rows and columns of feature cells that are kept of a tile."""
        return tuple(axis.kept // self.cell for axis in self.axes)

    @property
    def field_cells(self) -> tuple[int, int]:
        """The field's rows and columns of feature cells."""
        return tuple(axis.kept // self.cell * axis.tiles for axis in self.axes)

    def read(self, corner: Sequence[int], sides: Sequence[int]) -> np.ndarray:
        """A piece of the field with the halo around it: uint8 [height, width, 3].

        Args:
          corner, sides: of the piece without the halo, px at the scale.
        """
        top, left = (first - self.halo for first in corner)
        height, width = (side + 2 * self.halo for side in sides)
        return slide_scan.read_tile(self.scan.field, self.scale, (top, left), (height, width))

    def feature_cells(self, tiles: np.ndarray, gains: np.ndarray) -> jax.Array:
        """Feature cells of tiles, one for each device; as `tile_features.feature_cells`."""
        encoder, variables = self.loaded.encoder, self.loaded.variables
        return tile_features.feature_cells(
            variables, tiles, self.stains, gains, encoder=encoder, mesh=self.mesh
        )


def check_encoders(encoder_set: EncoderSet) -> None:
    """Raises InputError where the maps of an encoder cannot be averaged to feature cells."""
    advice = "predict without them (histojax mine: --noheatmaps)"
    for loaded in encoder_set.encoders.values():
        encoder = loaded.encoder
        loaded_encoders.require_maps([encoder], "heat maps take windows of", advice)
        strides, cell = [tap.stride for tap in encoder.outputs], tile_features.cell_size(encoder)
        if slide_scan.SQUARE % cell or any(cell % stride for stride in strides):
            raise InputError(
                f"heat maps need taps whose strides divide one another and {slide_scan.SQUARE} px, "
                f"but {encoder.name} has {', '.join(map(str, strides))}: {advice}"
            )


def plan_passes(
    scan: SlideScan,
    name: str,
    encoder_set: EncoderSet,
    configurations: Sequence[str],
    augmentations: int,
) -> list[EncoderPass]:
    """The passes over a field, by encoder and scale.

    Args:
      scan: the scanned field.
      name: of the image, which seeds the gains.
      encoder_set: the encoders, and the protocol the models were trained with.
      configurations: those that have models.
      augmentations: how many of the protocol's, the first ones.
    """
    extraction = encoder_set.extraction
    key = crops.image_key(extraction.seed, name)
    low, high = extraction.gain_low, extraction.gain_high
    count = stain.AUGMENTATIONS[extraction.stain_augmentation].gains
    draw = jax.vmap(lambda augmentation: crops.gains(key, augmentation, low, high, count))
    gains = np.asarray(draw(jnp.arange(min(augmentations, extraction.augmentations))))
    stains = {scale: scan.stains(scale, extraction) for scale in scan.scales}
    passes = []
    for loaded, scale in itertools.product(encoder_set.encoders.values(), scan.scales):
        encoder = loaded.encoder
        views = tuple(
            view
            for view in extraction.views
            if view.scale == scale
            and extraction.configuration(encoder.name, view) in configurations
        )
        if views:
            kept = encoder.tile - 2 * encoder.halo
            axes = tuple(_tiled_axis(size, kept) for size in scan.scales[scale].size)
            passes.append(
                EncoderPass(
                    scan=scan,
                    extraction=extraction,
                    loaded=loaded,
                    mesh=encoder_set.engine.mesh,
                    views=views,
                    axes=axes,
                    needed=_needed_tiles(scan.grid, scan.scored, axes, views),
                    stains=stains[scale],
                    key=key,
                    gains=gains,
                )
            )
    return passes


def _tiled_axis(size: int, kept: int) -> TiledAxis:
    """The tiles of an axis; a small field has one, of few different sizes, so few programs."""
    kept = min(kept, padding.bucket(size))
    return TiledAxis(size, kept, -(-size // kept))


def _needed_tiles(
    grid: Grid, positions: np.ndarray, axes: Sequence[TiledAxis], views: Sequence[View]
) -> np.ndarray:
    """Which tiles have feature cells under a window of one of the positions: bool [down, across].

    Args:
      grid: of the field.
      positions: bool [rows, columns].
      axes: of the field.
      views: at one scale.
    """
    crop_size = max(view.crop_size for view in views)
    overlaps = []
    for centres, axis in zip(grid.centres(views[0].scale), axes, strict=True):
        starts = tile_features.window_starts(centres, crop_size, axis.size)
        # Windows are rounded to feature cells, so a margin of one on each side.
        first = starts[:, 0] - slide_scan.SQUARE
        last = starts[:, -1] + crop_size + slide_scan.SQUARE
        begins = np.arange(axis.tiles)[:, None] * axis.kept
        overlaps.append((first[None] < begins + axis.kept) & (last[None] > begins))
    return overlaps[0].astype(int) @ positions @ overlaps[1].T.astype(int) > 0
