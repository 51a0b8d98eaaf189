"""A field before any network sees it: its grid of places, its tiles at a scale, where its tissue is, its stains.

field   uint8 [H, W, 3], of any size, read by region -> tiles uint8 [T, T', 3] at the view's scale
survey  one reading of it at a scale -> the share of tissue of each place [rows, columns], a sample of pixels, stains
"""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from histojax.config import Extraction
from histojax.heatmap import tile_features
from histojax.images import padding, slide
from histojax.images.resampling import Resampling, resampled_size
from histojax.ops import stain

TILE = 1024  # Side of what is looked through at a time, px at the scale.
CELL = 32  # Side of the squares that tissue is measured by, px at the scale.
SAMPLE = 2**22  # Pixels that a field's stains are estimated from, at most.


@dataclasses.dataclass(frozen=True)
class Grid:
    """Places of a field: squares of `stride` pixels of the file, row by row from its top-left corner.

    Attributes:
      size: the field's height and width, px of the file.
      stride: px of the file.
    """

    size: tuple[int, int]
    stride: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; the last ones may reach over the edge."""
        return -(-self.size[0] // self.stride), -(-self.size[1] // self.stride)

    def centres(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """The middles of rows and of columns at a scale, px: float64 [rows], [columns]."""
        return tuple(scale * self.stride * (np.arange(count) + 0.5) for count in self.shape)


class SlideScan(NamedTuple):
    """What one reading of a field at a scale finds.

    Attributes:
      scale: of the view.
      size: height and width at the scale, px.
      tissue: share of tissue by squares of CELL px, float64 [h, w].
      sample: uint8 [h', w', 3], each `step`-th pixel of each `step`-th row.
      step: px.
    """

    scale: float
    size: tuple[int, int]
    tissue: np.ndarray
    sample: np.ndarray
    step: int


class Axis(NamedTuple):
    """How an axis of a field, at a scale, is cut into tiles.

    Attributes:
      size: of the field, px.
      own: of a tile, px: what is kept of it.
      tiles: how many.
    """

    size: int
    own: int
    tiles: int


def axis(size: int, own: int) -> Axis:
    """The tiles of an axis; of a small field one, of few different sides, so that few programs are compiled."""
    own = min(own, padding.bucket(size))
    return Axis(size, own, -(-size // own))


def at_target(
    field: slide.Slide, extraction: Extraction, mpp: float | None
) -> tuple[slide.Slide, float]:
    """The field at the pixel size that the models were trained at, and by how much it is resampled: as `Resampling` does.

    Raises:
      InputError: neither the file nor `mpp` tells the field's pixel size, and the protocol needs it.
    """
    factor = Resampling(extraction.target_mpp, mpp or field.mpp).factor(Path(field.name))
    if factor == 1:
        return field, 1.0
    size = resampled_size(field.size, factor)
    steps = [own / new for own, new in zip(field.size, size, strict=True)]

    def window(top: int, left: int, height: int, width: int) -> np.ndarray:
        spans = []
        for first, length, step, own in zip(
            (top, left), (height, width), steps, field.size, strict=True
        ):
            margin = 2 * max(1.0, step) + 1  # What a bicubic filter sees.
            begin = max(0, math.floor(first * step - margin))
            end = min(own, math.ceil((first + length) * step + margin))
            spans.append(
                (begin, end - begin, first * step - begin, (first + length) * step - begin)
            )
        (y, down, above, below), (x, across, before, after) = spans
        rgb = Image.fromarray(field.read(y, x, down, across))
        box = (before, above, after, below)
        return np.array(rgb.resize((width, height), Image.Resampling.BICUBIC, box=box))

    return dataclasses.replace(field, size=size, window=window), factor


def tile(
    field: slide.Slide, scale: float, corner: tuple[int, int], sides: tuple[int, int]
) -> np.ndarray:
    """A piece of the field at a scale, reflected beyond its edges: uint8 [*sides, 3], corner px at that scale."""
    (top, height, rows), (left, width, columns) = (
        tile_features.source(first, side, size, scale)
        for first, side, size in zip(corner, sides, field.size, strict=True)
    )
    rgb = np.zeros(
        (*(tile_features.reach(side, scale) for side in sides), 3), np.uint8
    )  # Of one shape for all tiles.
    rgb[:height, :width] = field.read(top, left, height, width)
    return np.asarray(tile_features.scaled(rgb, rows, columns))


def scan(field: slide.Slide, scale: float) -> SlideScan:
    """Reads the field once, at a scale."""
    size = padding.scaled_size(field.size, scale)
    step = math.ceil(math.sqrt(size[0] * size[1] / SAMPLE))
    sides = tuple(min(TILE, padding.bucket(side)) for side in size)
    counts = tuple(-(-whole // side) for whole, side in zip(size, sides, strict=True))
    tissue = np.zeros([count * side // CELL for count, side in zip(counts, sides, strict=True)])
    sample = np.zeros((*(-(-side // step) for side in size), 3), np.uint8)
    # Tissue is at most so bright, on average over channels: the stain step asks it of each, which pale stroma fails.
    lightest = stain.WHITE * math.exp(-stain.TISSUE_DENSITY) - 1
    for place in np.ndindex(counts):
        corner = tuple(i * side for i, side in zip(place, sides, strict=True))
        rgb = tile(field, scale, corner, sides)
        squares = (rgb.mean(axis=-1) <= lightest).reshape(
            sides[0] // CELL, CELL, sides[1] // CELL, CELL
        )
        here = tuple(
            slice(first // CELL, (first + side) // CELL)
            for first, side in zip(corner, sides, strict=True)
        )
        tissue[here] = squares.mean(axis=(1, 3))
        rest = sample[-(-corner[0] // step) :, -(-corner[1] // step) :]
        taken = rgb[-corner[0] % step :: step, -corner[1] % step :: step][
            : len(rest), : rest.shape[1]
        ]
        rest[: len(taken), : taken.shape[1]] = taken
    return SlideScan(scale, size, tissue, sample, step)


def tissue_shares(found: SlideScan, grid: Grid, crop_size: int) -> np.ndarray:
    """The share of tissue in a crop about each place: float64 [rows, columns]."""
    weights = []
    for centres, side, squares in zip(
        grid.centres(found.scale), found.size, found.tissue.shape, strict=True
    ):
        starts = np.clip(centres - crop_size / 2, 0, side - crop_size)[:, None] / CELL
        ends, first = starts + crop_size / CELL, np.arange(squares)[None]
        overlap = np.clip(np.minimum(first + 1, ends) - np.maximum(first, starts), 0, 1)
        weights.append(overlap / overlap.sum(axis=1, keepdims=True))
    return weights[0] @ found.tissue @ weights[1].T


def stains(
    found: SlideScan, grid: Grid, scored: np.ndarray, extraction: Extraction
) -> tile_features.FieldStain:
    """The field's stains, from what is scored of it: glass is left out, however much of it there is."""
    rows, columns = (
        np.minimum(
            (np.arange(count) * found.step / found.scale).astype(int) // grid.stride, last - 1
        )
        for count, last in zip(found.sample.shape[:2], grid.shape, strict=True)
    )
    valid = scored[rows][:, columns].reshape(-1)
    # Few shapes for many fields.
    room = 4 ** max(8, math.ceil(math.log(len(valid), 4))) - len(valid)
    pixels = np.pad(found.sample.reshape(-1, 3), ((0, room), (0, 0)))
    normalizer = stain.NORMALIZERS[extraction.stain_normalizer]
    fitted = tile_features.fit(normalizer, pixels, np.pad(valid, (0, room)))
    augmentation = stain.AUGMENTATIONS[extraction.stain_augmentation]
    return tile_features.FieldStain(fitted, normalizer, augmentation)
