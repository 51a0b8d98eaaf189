"""Scores of places: a field's tiles through the encoders, windows of their feature maps through the models.

tiles    -> cells [h, A, w, D], tile row by tile row, of which no more is held than the next places need
places   -> descriptors [N, A, D] of all places whose cells are there -> the models' mean scores [N, K]

Tiles overlap by a halo, so that what is kept of a tile has seen about what it would have seen in the whole field.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.extraction.loaded_encoders import EncoderSet, LoadedEncoder
from histojax.heatmap import border_correction, slide_scan, tile_features
from histojax.heatmap.slide_scan import Axis, Grid, SlideScan
from histojax.heatmap.tile_features import OFFSETS
from histojax.images import padding, slide
from histojax.ops import crops, stain
from histojax.utils import prefetch
from histojax.utils.progress import Progress

# Side of the square that a network sees at a time, and how much of it on each side is seen and not kept, px at the
# view's scale. Multiples of 32: so a tile's cells are the whole's. docs/performance.md has the seams that are left.
TILES = {"ResNet": (1280, 192), "Inception": (1280, 256), "VGG": (1024, 96)}
LEAST_TISSUE = (
    0.05  # A place is scored where at least this share of the smallest crop about it is tissue.
)
HELD = (
    2**29
)  # Bytes of cells, and of descriptors, held at a time, about; what is more goes in several passes.

# The mean scores by a configuration's models of descriptors [N, A, D]: float64 [N, K].
Score = Callable[[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Work:
    """What one encoder does at one scale.

    Attributes:
      found: the field at that scale.
      each: the encoder.
      views: of that scale, those that have models.
      halo: px around a tile that are seen and not kept.
      axes: how the field's height and width are cut up.
      wanted: whether a tile has anything to see, bool [tiles down, tiles across].
    """

    found: SlideScan
    each: LoadedEncoder
    views: tuple[View, ...]
    halo: int
    axes: tuple[Axis, Axis]
    wanted: np.ndarray

    @property
    def cell(self) -> int:
        """The side of a cell, px."""
        return tile_features.cell_size(self.each.encoder)

    @property
    def cells(self) -> tuple[int, int]:
        """The field's rows and columns of cells."""
        return tuple(axis.own // self.cell * axis.tiles for axis in self.axes)


class Band(NamedTuple):
    """How the windows about places lie in the cells, for one view.

    Attributes:
      taps: channels of each tap of the encoder, and the side of its windows in cells.
      tops, lefts: where they begin, in cells: float32 [rows, 3], [columns, 3].
      firsts: the first row of cells that a row of places looks at, int [rows].
      height: how many rows of cells it looks at.
      border: what is added to each window: float32 [D].
    """

    taps: tuple[tuple[int, float], ...]
    tops: np.ndarray
    lefts: np.ndarray
    firsts: np.ndarray
    height: int
    border: np.ndarray


def mean_scores(
    field: slide.Slide,
    name: str,
    encoder_set: EncoderSet,
    configurations: Sequence[str],
    score: Score,
    classes: int,
    grid: Grid,
    augmentations: int,
    tiles: Mapping[str, tuple[int, int]] = TILES,
) -> np.ndarray:
    """Scores of each place, the mean over configurations, augmentations and models: float64 [rows, columns, K].

    Args:
      field: at the pixel size that the models were trained at.
      name: the image's, which seeds the gains.
      encoder_set: the encoders, and the protocol the models were trained with.
      configurations: those that have models.
      score: mean scores of descriptors by a configuration's models; called with many places at once.
      classes: K.
      grid: the places.
      augmentations: how many of the protocol's, the first ones.
      tiles: as TILES.

    Returns:
      NaN where there is too little tissue.

    Raises:
      InputError: the field is smaller than a crop.
    """
    extraction = encoder_set.extraction
    check(field, extraction)
    key = crops.image_key(extraction.seed, name)
    low, high = extraction.gain_low, extraction.gain_high
    count = stain.AUGMENTATIONS[extraction.stain_augmentation].gains
    drawn = jax.vmap(lambda a: crops.gains(key, a, low, high, count))
    gains = np.asarray(drawn(jnp.arange(min(augmentations, extraction.augmentations))))
    scans = {scale: slide_scan.scan(field, scale) for scale in padding.scales(extraction.views)}
    smallest = min(extraction.views, key=lambda view: view.crop_size / view.scale)
    scored = (
        slide_scan.tissue_shares(scans[smallest.scale], grid, smallest.crop_size) >= LEAST_TISSUE
    )
    total = np.zeros((*grid.shape, classes))
    work = (
        list(to_do(encoder_set, configurations, scans, grid, scored, tiles)) if scored.any() else []
    )
    trunk_passes = sum(int(part.wanted.sum()) for part in work) * len(gains)
    with Progress(f"heat map of {name}", trunk_passes, "tiles") as bar:
        for part in work:
            for rows, scores in scores_of(
                part, field, encoder_set, grid, scored, gains, key, score, bar
            ):
                total[rows][scored[rows]] += scores
    total /= len(configurations) * len(gains)
    return np.where(scored[..., None], total, np.nan)


def check(field: slide.Slide, extraction: Extraction) -> None:
    """Raises InputError where a crop does not fit into the field."""
    for view in extraction.views:
        small = padding.scaled_size(field.size, view.scale)
        if min(small) < view.crop_size:
            raise InputError(
                f"{field.name} is {field.size[1]} x {field.size[0]} px, {small[1]} x {small[0]} at scale {view.scale}: "
                f"smaller than the {view.crop_size} px crop, so its models can say nothing of places in it"
            )


def to_do(
    encoder_set: EncoderSet,
    configurations: Sequence[str],
    scans: Mapping[float, SlideScan],
    grid: Grid,
    scored: np.ndarray,
    tiles: Mapping[str, tuple[int, int]],
) -> Iterator[Work]:
    """The work, encoder by encoder and scale by scale."""
    for (encoder, each), (scale, found) in itertools.product(
        encoder_set.encoders.items(), scans.items()
    ):
        views = [view for view in encoder_set.extraction.views if view.scale == scale]
        views = tuple(
            view
            for view in views
            if encoder_set.extraction.configuration(encoder, view) in configurations
        )
        if views:
            side, halo = tiles[encoder]
            axes = tuple(slide_scan.axis(size, side - 2 * halo) for size in found.size)
            wanted = looked_at(axes, grid, scale, scored, max(view.crop_size for view in views))
            yield Work(found, each, views, halo, axes, wanted)


def looked_at(
    axes: Sequence[Axis], grid: Grid, scale: float, scored: np.ndarray, crop_size: int
) -> np.ndarray:
    """Which tiles have cells that a scored place looks at: bool [tiles down, tiles across]."""
    touched = []
    for centres, each in zip(grid.centres(scale), axes, strict=True):
        starts = tile_features.corners(centres, crop_size, each.size)
        begins = np.arange(each.tiles)[:, None] * each.own
        # A square further on each side, since what a window covers of the maps is rounded to cells.
        first, last = starts[:, 0] - slide_scan.CELL, starts[:, -1] + crop_size + slide_scan.CELL
        touched.append((first[None] < begins + each.own) & (last[None] > begins))
    return touched[0].astype(int) @ scored @ touched[1].T.astype(int) > 0


def scores_of(
    work: Work,
    field: slide.Slide,
    encoder_set: EncoderSet,
    grid: Grid,
    scored: np.ndarray,
    gains: np.ndarray,
    key: jax.Array,
    score: Score,
    bar: Progress,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of places as they are ready, and scores of those with tissue there, summed over augmentations."""
    stains = slide_scan.stains(work.found, grid, scored, encoder_set.extraction)
    added = borders_of(work, field, encoder_set, grid, scored, stains, gains, key)
    bands = [band(view, work, grid, border) for view, border in zip(work.views, added, strict=True)]
    rows = work.axes[0].own // work.cell + max(each.height for each in bands)
    width = work.each.encoder.width
    step = max(
        1, HELD // (4 * width * rows * work.cells[1])
    )  # Augmentations in one pass over the field.
    together = max(1, HELD // (4 * width * step * grid.shape[1] * len(bands)))
    for first in range(0, len(gains), step):
        parts = strips(
            work, field, encoder_set.engine.mesh, stains, gains[first : first + step], bar
        )
        for row, ready in described(parts, bands, encoder_set.extraction.p, together):
            rows = slice(row, row + len(ready[0]))
            for view, descriptors in zip(work.views, ready, strict=True):
                if scored[rows].any():
                    name = encoder_set.extraction.configuration(work.each.encoder.name, view)
                    yield rows, descriptors.shape[2] * score(name, descriptors[scored[rows]])


def strips(
    work: Work,
    field: slide.Slide,
    mesh: jax.sharding.Mesh,
    stains: tile_features.FieldStain,
    gains: np.ndarray,
    bar: Progress,
) -> Iterator[np.ndarray]:
    """The field's cells, tile row by tile row: float32 [own / cell, A, w, D], zeros where no tile is wanted."""
    rows, columns = (axis.own // work.cell for axis in work.axes)
    halo, sides = work.halo // work.cell, tuple(axis.own + 2 * work.halo for axis in work.axes)

    def read(place: tuple[int, int]) -> np.ndarray:
        corner = tuple(axis.own * i - work.halo for axis, i in zip(work.axes, place, strict=True))
        return slide_scan.tile(field, work.found.scale, corner, sides)

    ahead = prefetch.prefetch(
        read, map(tuple, np.argwhere(work.wanted).tolist()), depth=1, threads=1
    )
    for i in range(len(work.wanted)):
        strip = np.zeros((rows, len(gains), work.cells[1], work.each.encoder.width), np.float32)
        columns_wanted = np.flatnonzero(work.wanted[i])
        passes = (
            (j, a, rgb) for j in columns_wanted for rgb in [next(ahead)] for a in range(len(gains))
        )
        while batch := list(itertools.islice(passes, mesh.size)):
            filled = [*batch, *batch[-1:] * (mesh.size - len(batch))]  # One for each device.
            tiles, drawn = np.stack([rgb for _, _, rgb in filled]), gains[[a for _, a, _ in filled]]
            cells = tile_features.cells(
                work.each.variables, tiles, stains, drawn, encoder=work.each.encoder, mesh=mesh
            )
            for (j, a, _), found in zip(batch, np.asarray(cells), strict=False):
                kept = found[halo : halo + rows, halo : halo + columns]
                strip[:, a, j * columns : (j + 1) * columns] = kept
            bar.add(len(batch))
        yield strip


def borders_of(
    work: Work,
    field: slide.Slide,
    encoder_set: EncoderSet,
    grid: Grid,
    scored: np.ndarray,
    stains: tile_features.FieldStain,
    gains: np.ndarray,
    key: jax.Array,
) -> list[np.ndarray]:
    """What the border of a crop adds, by view; nothing for models whose crops were windows themselves."""
    if encoder_set.extraction.crop_mode == "shared":
        return [np.zeros(work.each.encoder.width, np.float32)] * len(work.views)
    mesh, largest = encoder_set.engine.mesh, max(view.crop_size for view in work.views)
    corners, sides = border_correction.pieces(
        work.axes, largest, grid, work.found.scale, scored, mesh.size
    )
    around = tuple(side + 2 * work.halo for side in sides)
    tiles = [
        slide_scan.tile(field, work.found.scale, (y - work.halo, x - work.halo), around)
        for y, x in corners
    ]
    return border_correction.measured(
        work.each.variables,
        np.stack(tiles),
        stains,
        np.resize(gains, (mesh.size, gains.shape[1])),
        key,
        work.views,
        encoder=work.each.encoder,
        mesh=mesh,
        halo=work.halo,
    )


def band(view: View, work: Work, grid: Grid, border: np.ndarray) -> Band:
    """The band of a view."""
    taps = tile_features.lengths(work.each.encoder, work.each.variables, view.crop_size)
    tops, lefts = (
        tile_features.corners(centres, view.crop_size, axis.size) / work.cell
        for centres, axis in zip(grid.centres(view.scale), work.axes, strict=True)
    )
    total = work.cells[0]
    height = min(total, math.ceil((1 + OFFSETS[-1] - OFFSETS[0]) * view.crop_size / work.cell) + 1)
    return Band(
        taps, tops, lefts, np.clip(tops[:, 0].astype(int), 0, total - height), height, border
    )


def described(
    parts: Iterator[np.ndarray], bands: Sequence[Band], p: float, together: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Descriptors of places as soon as their cells are there; of the cells only those still needed are held.

    Args:
      parts: of `strips`.
      bands: of views at one scale.
      p: of the p-norm.
      together: rows of places described at a time, at most.

    Yields:
      The first row of places that are ready, and their descriptors by view: float32 [rows, columns, A, D].
    """
    begins = np.min([each.firsts for each in bands], axis=0)
    ends = np.max([each.firsts + each.height for each in bands], axis=0)
    held, first, row = None, 0, 0
    for part in parts:
        held = part if held is None else np.concatenate([held, part])
        until = int(np.searchsorted(ends, first + len(held), side="right"))
        for begin in range(row, until, together):
            rows = range(begin, min(begin + together, until))
            yield (
                begin,
                [
                    np.stack([row_of_places(held, first, each, r, p) for r in rows])
                    for each in bands
                ],
            )
        row = until
        keep = begins[row] - first if row < len(begins) else len(held)
        held, first = held[keep:], first + keep


def row_of_places(held: np.ndarray, first: int, each: Band, row: int, p: float) -> np.ndarray:
    """Descriptors of one row of places, of rows of cells from `first` on: float32 [columns, A, D]."""
    begin = each.firsts[row] - first
    tops = each.tops[row] - each.firsts[row].astype(np.float32)
    rows = held[begin : begin + each.height]
    return np.asarray(
        tile_features.places(rows, each.border, tops, each.lefts, taps=each.taps, p=p)
    )
