"""Scores of the positions of a grid: tiles through the encoders, windows through the models.

tiles        -> strips of feature cells [h, A, w, D], one row of tiles at a time; only those that
                the next positions need are held
strips       -> descriptors [N, A, D] of all positions whose feature cells are complete
descriptors  -> the models' mean scores [N, K]
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from histojax.config import View
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import border_correction, tile_features
from histojax.heatmap.encoder_pass import EncoderPass, plan_passes
from histojax.heatmap.slide_scan import SlideScan
from histojax.heatmap.tile_features import OFFSETS, TapWindows
from histojax.prediction.bundle import Bundle
from histojax.utils import prefetch
from histojax.utils.progress import Progress

# Approximate memory limit in bytes, for feature cells and again for descriptors; a larger field
# takes several passes.
_MEMORY_LIMIT = 2**29


# Is shown a configuration, grid rows, and their descriptors float32 [rows, columns, D].
Observer = Callable[[str, slice, np.ndarray], None]


class RowDescriptors(NamedTuple):
    """Descriptors of grid rows.

    Attributes:
      configuration: its name.
      first: the number of the first augmentation.
      rows: of the grid.
      descriptors: float32 [rows, columns, A, D]; arbitrary where no tile was needed.
      is_corrected: whether they are, by `border_correction`.
    """

    configuration: str
    first: int
    rows: slice
    descriptors: np.ndarray
    is_corrected: bool


class _WindowLayout(NamedTuple):
    """Where the windows around positions lie in a field's feature cells, for one view.

    Attributes:
      taps: of `tile_features.tap_windows`.
      tops, lefts: where windows start, in feature cells: float32 [rows, 3], [columns, 3].
      first: the first row of feature cells that a row of positions needs, int [rows].
      height: how many rows of feature cells it needs.
      border: what is added to each window: float32 [D].
    """

    taps: TapWindows
    tops: np.ndarray
    lefts: np.ndarray
    first: np.ndarray
    height: int
    border: np.ndarray


def mean_scores(
    scan: SlideScan,
    name: str,
    encoder_set: EncoderSet,
    bundle: Bundle,
    augmentations: int,
    observe: Observer | None = None,
) -> np.ndarray:
    """Scores of each position, the mean over configurations, augmentations and models.

    Args:
      scan: the scanned field, at the pixel size that the models were trained at.
      name: of the image, which seeds the gains.
      encoder_set: the encoders, and the protocol the models were trained with.
      bundle: the models, of which configurations, classes and `score` are used.
      augmentations: number of the protocol's augmentations to use, from the first.
      observe: is shown the descriptors of the first augmentation, without border correction.

    Returns:
      float64 [rows, columns, K], NaN where there is too little tissue.
    """
    total = np.zeros((*scan.grid.shape, len(bundle.classes)))
    passes = []
    if scan.scored.any():
        passes = plan_passes(scan, name, encoder_set, bundle.configurations, augmentations)
    augmentations = min(augmentations, encoder_set.extraction.augmentations)
    tiles = sum(int(encoder_pass.needed.sum()) for encoder_pass in passes) * augmentations
    with Progress(f"heat map of {name}", tiles, "tiles") as progress:
        for encoder_pass in passes:
            borders = [*border_correction.corrections(encoder_pass)]
            views = [*encoder_pass.views]
            if observe:
                borders += [None] * len(views)
                views += views
            windows = list(zip(views, borders, strict=True))
            for found in descriptors_of_rows(encoder_pass, windows, progress.add):
                scored = scan.scored[found.rows]
                if not found.is_corrected:
                    if found.first == 0:
                        observe(found.configuration, found.rows, found.descriptors[:, :, 0])
                elif scored.any():
                    scores = bundle.score(found.configuration, found.descriptors[scored])
                    total[found.rows][scored] += found.descriptors.shape[2] * scores
    total /= len(bundle.configurations) * augmentations
    return np.where(scan.scored[..., None], total, np.nan)


def descriptors_of_rows(
    encoder_pass: EncoderPass,
    windows: Sequence[tuple[View, np.ndarray | None]],
    count: Callable[[int], None] = lambda tiles: None,
) -> Iterator[RowDescriptors]:
    """Descriptors of grid rows as they are complete.

    Args:
      encoder_pass: it.
      windows: views of the pass, each with its correction of `border_correction`, or None for none.
      count: is told how many tiles are done.
    """
    columns, encoder = encoder_pass.scan.grid.shape[1], encoder_pass.loaded.encoder
    none = np.zeros(encoder.width, np.float32)
    layouts = [
        _window_layout(encoder_pass, view, none if border is None else border)
        for view, border in windows
    ]
    held_rows = encoder_pass.kept_cells[0] + max(layout.height for layout in layouts)
    cell_bytes = 4 * encoder.width
    # How many augmentations fit into one pass over the field, and grid rows of descriptors at once.
    step = max(1, _MEMORY_LIMIT // (cell_bytes * held_rows * encoder_pass.field_cells[1]))
    most_rows = max(1, _MEMORY_LIMIT // (cell_bytes * step * columns * len(encoder_pass.views)))
    for first in range(0, len(encoder_pass.gains), step):
        strips = _strips(encoder_pass, encoder_pass.gains[first : first + step], count)
        for row, by_view in _descriptors(strips, layouts, encoder_pass.extraction.p, most_rows):
            rows = slice(row, row + len(by_view[0]))
            for (view, border), descriptors in zip(windows, by_view, strict=True):
                configuration = encoder_pass.extraction.configuration(encoder.name, view)
                yield RowDescriptors(configuration, first, rows, descriptors, border is not None)


def _strips(
    encoder_pass: EncoderPass, gains: np.ndarray, count: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """The field's feature cells, one row of tiles at a time; zeros where no tile is needed.

    Args:
      encoder_pass: it.
      gains: float32 [A, G].
      count: is told how many tiles are done.

    Yields:
      float32 [h, A, w, D].
    """
    rows, columns = encoder_pass.kept_cells
    devices = encoder_pass.mesh.size
    sides = tuple(axis.kept for axis in encoder_pass.axes)

    def read(position: Sequence[int]) -> np.ndarray:
        return encoder_pass.read([i * side for i, side in zip(position, sides, strict=True)], sides)

    def encode(batch: list[tuple[int, int, np.ndarray]], strip: np.ndarray) -> None:
        filled = [*batch, *batch[-1:] * (devices - len(batch))]  # One for each device.
        tiles = np.stack([rgb for _, _, rgb in filled])
        cells = encoder_pass.feature_cells(
            tiles, gains[[augmentation for _, augmentation, _ in filled]]
        )
        halo = encoder_pass.halo // encoder_pass.cell
        for (column, augmentation, _), tile in zip(batch, np.asarray(cells), strict=False):
            kept = tile[halo : halo + rows, halo : halo + columns]
            strip[:, augmentation, column * columns : (column + 1) * columns] = kept
        count(len(batch))

    tiles = prefetch.prefetch(read, np.argwhere(encoder_pass.needed).tolist(), depth=1, threads=1)
    for needed in encoder_pass.needed:
        shape = rows, len(gains), encoder_pass.field_cells[1], encoder_pass.loaded.encoder.width
        strip = np.zeros(shape, np.float32)
        batch = []
        for column in np.flatnonzero(needed):
            rgb = next(tiles)
            for augmentation in range(len(gains)):
                batch.append((column, augmentation, rgb))
                if len(batch) == devices:
                    encode(batch, strip)
                    batch = []
        if batch:
            encode(batch, strip)
        yield strip


def _window_layout(encoder_pass: EncoderPass, view: View, border: np.ndarray) -> _WindowLayout:
    tops, lefts = (
        tile_features.window_starts(centres, view.crop_size, axis.size) / encoder_pass.cell
        for centres, axis in zip(
            encoder_pass.scan.grid.centres(view.scale), encoder_pass.axes, strict=True
        )
    )
    total = encoder_pass.field_cells[0]
    crops_wide = 1 + OFFSETS[-1] - OFFSETS[0]
    height = min(total, math.ceil(crops_wide * view.crop_size / encoder_pass.cell) + 1)
    first = np.clip(tops[:, 0].astype(int), 0, total - height)
    taps = tile_features.tap_windows(
        encoder_pass.loaded.encoder, encoder_pass.loaded.variables, view.crop_size
    )
    return _WindowLayout(taps, tops, lefts, first, height, border)


def _descriptors(
    strips: Iterator[np.ndarray], layouts: Sequence[_WindowLayout], p: float, most_rows: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Descriptors of grid rows as soon as their feature cells are complete.

    Only feature cells that later rows still need are held.

    Args:
      strips: of `_strips`.
      layouts: of views at one scale.
      p: of the p-norm.
      most_rows: grid rows whose descriptors are computed at a time, at most.

    Yields:
      The first grid row, and descriptors by view: float32 [rows, columns, A, D].
    """
    begins = np.min([layout.first for layout in layouts], axis=0)
    ends = np.max([layout.first + layout.height for layout in layouts], axis=0)
    held = None
    held_from, row = 0, 0
    for strip in strips:
        held = strip if held is None else np.concatenate([held, strip])
        complete = int(np.searchsorted(ends, held_from + len(held), side="right"))
        for start in range(row, complete, most_rows):
            rows = range(start, min(start + most_rows, complete))
            by_view = [
                np.stack([_row_descriptors(held, held_from, layout, i, p) for i in rows])
                for layout in layouts
            ]
            yield start, by_view
        row = complete
        dropped = begins[row] - held_from if row < len(begins) else len(held)
        held = held[dropped:]
        held_from += dropped


def _row_descriptors(
    held: np.ndarray, held_from: int, layout: _WindowLayout, row: int, p: float
) -> np.ndarray:
    """Descriptors of one grid row, from feature cells whose first row is `held_from`: [C, A, D]."""
    begin = layout.first[row] - held_from
    tops = layout.tops[row] - layout.first[row].astype(np.float32)
    cells = held[begin : begin + layout.height]
    return np.asarray(
        tile_features.position_descriptors(
            cells, layout.border, tops, layout.lefts, taps=layout.taps, p=p
        )
    )
