"""One encoder's way over a field: what it sees at a time, and the feature cells that this gives.

A field becomes rows and columns of feature cells [h, w, D], from which windows are taken. The
encoder sees it in pieces. Here these are tiles, which overlap by a halo, so that the feature cells
kept of a tile are about those that the encoder would compute from the whole field; `crop_pass` has
the other kind.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from histojax.config import Extraction, View
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.heatmap import slide_scan, tile_features
from histojax.heatmap.slide_scan import ScaleScan, SlideScan
from histojax.heatmap.tile_features import OFFSETS, TapWindows
from histojax.images import padding


class Windows(NamedTuple):
    """Where the windows around grid positions lie in a field's feature cells, for one view.

    Attributes:
      taps: each tap, and the side of its windows in feature cells.
      tops, lefts: where windows start, in feature cells: float32 [rows, 3], [columns, 3].
      height: how many rows of feature cells a row of positions needs.
    """

    taps: TapWindows
    tops: np.ndarray
    lefts: np.ndarray
    height: int


@dataclasses.dataclass(frozen=True)
class EncoderPass(abc.ABC):
    """One encoder over a field at one scale: all that is the same for every piece.

    Attributes:
      scan: the scanned field.
      extraction: the protocol of the models.
      loaded: the encoder.
      mesh: the devices.
      views: of this scale, those that have models.
      positions: bool [rows, columns], those that are described.
      stains: of the field at this scale.
      key: of the image.
      gains: float32 [A, G], of the augmentations.
    """

    scan: SlideScan
    extraction: Extraction
    loaded: LoadedEncoder
    mesh: Mesh
    views: tuple[View, ...]
    positions: np.ndarray
    stains: tile_features.FieldStain
    key: jax.Array
    gains: np.ndarray

    @property
    def at_scale(self) -> ScaleScan:
        """The field as its views read it."""
        return self.scan.scales[self.views[0].resolution]

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the grid's rows and columns, px at the scale of the views."""
        return self.scan.grid.centres(self.at_scale.reading.on_grid)

    @property
    def field_cells(self) -> tuple[int, int]:
        """The field's rows and columns of feature cells."""
        return tuple(
            pieces * cells
            for pieces, cells in zip(self.needed.shape, self.piece_cells, strict=True)
        )

    def of_positions(self, positions: np.ndarray) -> "EncoderPass":
        """The same pass for other positions: bool [rows, columns]."""
        return dataclasses.replace(self, positions=positions)

    @property
    @abc.abstractmethod
    def needed(self) -> np.ndarray:
        """Which pieces have feature cells under a window of a position: bool [down, across]."""

    @property
    @abc.abstractmethod
    def piece_cells(self) -> tuple[int, int]:
        """Rows and columns of feature cells of a piece."""

    @property
    @abc.abstractmethod
    def block(self) -> tuple[int, int]:
        """Rows and columns of pieces that are read from the field at a time."""

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Pieces that go through the encoder at a time, on all devices."""

    @abc.abstractmethod
    def read(self, place: Sequence[int]) -> np.ndarray:
        """The block of pieces whose first one is at a place: uint8 [height, width, 3]."""

    @abc.abstractmethod
    def cut(self, block: np.ndarray, place: Sequence[int]) -> np.ndarray:
        """The piece at a place, from its block: uint8 [H, W, 3], of one shape for all."""

    @abc.abstractmethod
    def encode(self, pieces: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """A batch of augmented pieces to their feature cells.

        Args:
          pieces: uint8 [B, H, W, 3].
          gains: float32 [B, G].

        Returns:
          float32 [B, rows, columns, D].
        """

    @abc.abstractmethod
    def windows(self, view: View) -> Windows:
        """Where the windows of a view lie."""


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
class TilePass(EncoderPass):
    """An encoder with feature maps, over a field in tiles."""

    @functools.cached_property
    def axes(self) -> tuple[TiledAxis, TiledAxis]:
        """How the field's height and width are cut into tiles."""
        encoder = self.loaded.encoder
        kept = encoder.tile - 2 * encoder.halo
        return tuple(_tiled_axis(size, kept) for size in self.at_scale.size)

    @property
    def halo(self) -> int:
        """Px around what is kept of a tile, which the encoder sees as well."""
        return self.loaded.encoder.halo

    @property
    def cell(self) -> int:
        """The side of a feature cell, px."""
        return tile_features.cell_size(self.loaded.encoder)

    @property
    def piece_cells(self) -> tuple[int, int]:
        """Rows and columns of feature cells that are kept of a tile."""
        return tuple(axis.kept // self.cell for axis in self.axes)

    @property
    def block(self) -> tuple[int, int]:
        """One tile."""
        return 1, 1

    @property
    def batch(self) -> int:
        """One tile for each device."""
        return self.mesh.size

    @functools.cached_property
    def needed(self) -> np.ndarray:
        """See `EncoderPass`."""
        return _needed_tiles(self.centres, self.positions, self.axes, self.views)

    def read(self, place: Sequence[int]) -> np.ndarray:
        """A tile with its halo: uint8 [T, T', 3]."""
        sides = tuple(axis.kept for axis in self.axes)
        return self.read_at([i * side for i, side in zip(place, sides, strict=True)], sides)

    def read_at(self, corner: Sequence[int], sides: Sequence[int]) -> np.ndarray:
        """A piece of the field with the halo around it: uint8 [height, width, 3].

        Args:
          corner, sides: of the piece without the halo, px at the scale.
        """
        top, left = (first - self.halo for first in corner)
        height, width = (side + 2 * self.halo for side in sides)
        return self.at_scale.reading.tile((top, left), (height, width))

    def cut(self, block: np.ndarray, place: Sequence[int]) -> np.ndarray:
        """The tile, which is the block."""
        return block

    def encode(self, pieces: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Feature cells of tiles, one for each device, without those of the halo."""
        halo, (rows, columns) = self.halo // self.cell, self.piece_cells
        cells = np.asarray(self.feature_cells(pieces, gains))
        return cells[:, halo : halo + rows, halo : halo + columns]

    def feature_cells(self, tiles: np.ndarray, gains: np.ndarray) -> jax.Array:
        """Feature cells of tiles, one for each device; as `tile_features.feature_cells`."""
        encoder, variables = self.loaded.encoder, self.loaded.variables
        return tile_features.feature_cells(
            variables, tiles, self.stains, gains, encoder=encoder, mesh=self.mesh
        )

    def windows(self, view: View) -> Windows:
        """Windows as large as the map of a crop by itself would be."""
        tops, lefts = (
            tile_features.window_starts(centres, view.crop_size, axis.size) / self.cell
            for centres, axis in zip(self.centres, self.axes, strict=True)
        )
        crops_wide = 1 + OFFSETS[-1] - OFFSETS[0]
        height = math.ceil(crops_wide * view.crop_size / self.cell) + 1
        encoder, variables = self.loaded.encoder, self.loaded.variables
        taps = tile_features.tap_windows(encoder, variables, view.crop_size)
        return Windows(taps, tops, lefts, min(self.field_cells[0], height))


def _tiled_axis(size: int, kept: int) -> TiledAxis:
    """The tiles of an axis; a small field has one, of few different sizes, so few programs."""
    kept = min(kept, padding.bucket(size))
    return TiledAxis(size, kept, -(-size // kept))


def _needed_tiles(
    centres: tuple[np.ndarray, np.ndarray],
    positions: np.ndarray,
    axes: Sequence[TiledAxis],
    views: Sequence[View],
) -> np.ndarray:
    """Which tiles have feature cells under a window of one of the positions: bool [down, across].

    Args:
      centres: of the grid's rows and columns, px at the scale.
      positions: bool [rows, columns].
      axes: of the field.
      views: at one scale.
    """
    crop_size = max(view.crop_size for view in views)
    overlaps = []
    for along, axis in zip(centres, axes, strict=True):
        starts = tile_features.window_starts(along, crop_size, axis.size)
        # Windows are rounded to feature cells, so a margin of one on each side.
        first = starts[:, 0] - slide_scan.SQUARE
        last = starts[:, -1] + crop_size + slide_scan.SQUARE
        begins = np.arange(axis.tiles)[:, None] * axis.kept
        overlaps.append((first[None] < begins + axis.kept) & (last[None] > begins))
    return overlaps[0].astype(int) @ positions @ overlaps[1].T.astype(int) > 0
