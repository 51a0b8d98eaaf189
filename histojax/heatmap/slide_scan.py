"""A field before any encoder sees it: its grid, its tiles at a scale, its tissue and its stains.

field  uint8 [H, W, 3] of any size, read by region -> tiles uint8 [T, T', 3] at the view's scale
scan   one reading at each scale -> share of tissue, a sample of pixels -> which positions of the
       grid are scored [rows, columns]; the fit of the stain normalizer
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.heatmap import tile_features
from histojax.images import padding, resampling, slide
from histojax.images.resampling import Resampling
from histojax.ops import stain

# A position is scored where at least this share of the smallest crop around it is tissue.
LEAST_TISSUE = 0.05
SQUARE = 32  # Side of the squares whose share of tissue is measured, px at the scale.
_TILE = 1024  # Side of what is scanned at a time, px at the scale.
_SAMPLE = 2**22  # Pixels that a field's stains are estimated from, at most.


@dataclasses.dataclass(frozen=True)
class Grid:
    """Positions of a field: squares of `stride` pixels, from its top-left corner.

    Attributes:
      size: the field's height and width, px.
      stride: px.
    """

    size: tuple[int, int]
    stride: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; the last ones may extend over the edge."""
        return -(-self.size[0] // self.stride), -(-self.size[1] // self.stride)

    def centres(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """The centres of rows and of columns at a scale, px: float64 [rows], [columns]."""
        return tuple(scale * self.stride * (np.arange(count) + 0.5) for count in self.shape)


class Reading(NamedTuple):
    """How a field is read for a view.

    Attributes:
      field: at the pixel size that it is read at; views by scale share one field, whose pixels
        are those of the grid.
      scale: of the view, which the field is read at.
      on_grid: px at the scale for each of the grid's.
    """

    field: slide.Slide
    scale: float
    on_grid: float

    def tile(self, corner: Sequence[int], sides: Sequence[int]) -> np.ndarray:
        """A piece at the scale, reflected beyond the edges, as of `read_tile`."""
        return read_tile(self.field, self.scale, tuple(corner), tuple(sides))


class ScaleScan(NamedTuple):
    """What one reading of a field at a scale finds.

    Attributes:
      reading: how it is read.
      size: height and width at the scale, px.
      tissue: share of tissue by squares of SQUARE px, float64 [h, w].
      sample: uint8 [h', w', 3], each `step`-th pixel of each `step`-th row.
      step: px at the scale.
    """

    reading: Reading
    size: tuple[int, int]
    tissue: np.ndarray
    sample: np.ndarray
    step: int


@dataclasses.dataclass(frozen=True)
class SlideScan:
    """A field, its grid, and what was found of it at each scale.

    Attributes:
      grid: the positions.
      scales: by the resolution of views.
      scored: bool [rows, columns], the positions with enough tissue.
      smallest: the view of the smallest crops.
    """

    grid: Grid
    scales: dict[str, ScaleScan]
    scored: np.ndarray
    smallest: View

    def stains(self, resolution: str, extraction: Extraction) -> tile_features.FieldStain:
        """The stain steps, fitted to the positions that are scored, so not to glass."""
        scan = self.scales[resolution]
        step = scan.step / scan.reading.on_grid
        rows, columns = (
            np.minimum((np.arange(count) * step).astype(int) // self.grid.stride, last)
            for count, last in zip(
                scan.sample.shape[:2], np.array(self.grid.shape) - 1, strict=True
            )
        )
        valid = self.scored[rows][:, columns].reshape(-1)
        # Padded to few different lengths, so that few programs are compiled.
        padding_length = 4 ** max(8, math.ceil(math.log(len(valid), 4))) - len(valid)
        pixels = np.pad(scan.sample.reshape(-1, 3), ((0, padding_length), (0, 0)))
        normalizer = stain.NORMALIZERS[extraction.stain_normalizer]
        return tile_features.FieldStain(
            tile_features.fit_normalizer(normalizer, pixels, np.pad(valid, (0, padding_length))),
            normalizer,
            stain.AUGMENTATIONS[extraction.stain_augmentation],
        )


@dataclasses.dataclass(frozen=True)
class ReadField:
    """A field as the views of a protocol read it.

    Attributes:
      name: for messages.
      size: height and width in pixels of the grid: those that views by scale are scaled from or,
        without any, those of the finest view in microns.
      factor: px of the grid for each of the file's.
      readings: by resolution.
    """

    name: str
    size: tuple[int, int]
    factor: float
    readings: dict[str, Reading]

    def window(self, view: View) -> float:
        """The side of a view's crops, px of the grid."""
        return view.crop_size / self.readings[view.resolution].on_grid

    def smallest(self, extraction: Extraction) -> View:
        """The view of the smallest crops in the field."""
        return min(extraction.views, key=self.window)


def at_target(field: slide.Slide, extraction: Extraction, mpp: float | None) -> ReadField:
    """The field at the pixel sizes of the models' training, each resampled from the file.

    Raises:
      InputError: neither the file nor `mpp` gives the pixel size, and the protocol needs it; or the
        field would be enlarged too much.
    """
    views, path = padding.by_resolution(extraction.views), Path(field.name)
    factors = {
        resolution: Resampling.of(extraction, mpp or field.mpp, view).factor(path)
        for resolution, view in views.items()
    }
    fields = {factor: resampling.resample(field, factor) for factor in factors.values()}
    of_grid = factors[min(views, key=lambda resolution: views[resolution].mpp or 0)]
    readings = {
        resolution: Reading(fields[factor], view.scale, view.scale * (factor / of_grid))
        for (resolution, view), factor in zip(views.items(), factors.values(), strict=True)
    }
    return ReadField(field.name, fields[of_grid].size, of_grid, readings)


def read_tile(
    field: slide.Slide, scale: float, corner: tuple[int, int], sides: tuple[int, int]
) -> np.ndarray:
    """A piece of the field at a scale, reflected beyond its edges: uint8 [*sides, 3].

    Args:
      field: it.
      scale: of the view.
      corner: top and left, px at the scale; may lie outside of the field.
      sides: height and width, px at the scale.
    """
    (top, height, rows), (left, width, columns) = (
        tile_features.source_pixels(first, side, size, scale)
        for first, side, size in zip(corner, sides, field.size, strict=True)
    )
    # All tiles have one shape, so that one program is compiled.
    shape = (*(tile_features.most_source_pixels(side, scale) for side in sides), 3)
    rgb = np.zeros(shape, np.uint8)
    rgb[:height, :width] = field.read(top, left, height, width)
    return np.asarray(tile_features.resample_tile(rgb, rows, columns))


def scan(field: ReadField, grid: Grid, extraction: Extraction) -> SlideScan:
    """Reads the field once at each scale and pixel size of the protocol.

    Raises:
      InputError: the field is smaller than a crop.
    """
    for view in extraction.views:
        height, width = _size(field.readings[view.resolution])
        if min(height, width) < view.crop_size:
            at = f"{view.mpp} um per pixel" if view.mpp else f"scale {view.scale}"
            raise InputError(
                f"{field.name} is {field.size[1]} x {field.size[0]} px, {width} x {height} at "
                f"{at}: smaller than the {view.crop_size} px crop that its models need. Choose a "
                "larger image"
            )
    scales = {resolution: _scan(reading) for resolution, reading in field.readings.items()}
    smallest = field.smallest(extraction)
    shares = _tissue_shares(scales[smallest.resolution], grid, smallest.crop_size)
    return SlideScan(grid, scales, shares >= LEAST_TISSUE, smallest)


def _size(reading: Reading) -> tuple[int, int]:
    return padding.scaled_size(reading.field.size, reading.scale)


def _scan(reading: Reading) -> ScaleScan:
    size = _size(reading)
    step = math.ceil(math.sqrt(size[0] * size[1] / _SAMPLE))
    sides = tuple(min(_TILE, padding.bucket(side)) for side in size)
    counts = tuple(-(-whole // side) for whole, side in zip(size, sides, strict=True))
    tissue = np.zeros([count * side // SQUARE for count, side in zip(counts, sides, strict=True)])
    sample = np.zeros((*(-(-side // step) for side in size), 3), np.uint8)
    # The brightest that tissue may be on average over channels: the stain step has this limit for
    # each channel, which pale stroma exceeds.
    brightest = stain.WHITE * math.exp(-stain.TISSUE_DENSITY) - 1
    for i, j in np.ndindex(counts):
        top, left = i * sides[0], j * sides[1]
        rgb = reading.tile((top, left), sides)
        is_tissue = rgb.mean(axis=-1) <= brightest
        rows, columns = sides[0] // SQUARE, sides[1] // SQUARE
        shares = is_tissue.reshape(rows, SQUARE, columns, SQUARE).mean(axis=(1, 3))
        tissue[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] = shares
        rest = sample[-(-top // step) :, -(-left // step) :]
        pixels = rgb[-top % step :: step, -left % step :: step]
        pixels = pixels[: len(rest), : rest.shape[1]]
        rest[: len(pixels), : pixels.shape[1]] = pixels
    return ScaleScan(reading, size, tissue, sample, step)


def _tissue_shares(scan: ScaleScan, grid: Grid, crop_size: int) -> np.ndarray:
    """The share of tissue in a crop around each position: float64 [rows, columns]."""
    weights = []
    for centres, side, squares in zip(
        grid.centres(scan.reading.on_grid), scan.size, scan.tissue.shape, strict=True
    ):
        starts = np.clip(centres - crop_size / 2, 0, side - crop_size)[:, None] / SQUARE
        ends = starts + crop_size / SQUARE
        first = np.arange(squares)[None]
        overlap = np.clip(np.minimum(first + 1, ends) - np.maximum(first, starts), 0, 1)
        weights.append(overlap / overlap.sum(axis=1, keepdims=True))
    return weights[0] @ scan.tissue @ weights[1].T
