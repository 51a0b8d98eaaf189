"""Scores of the positions of a grid: the field through the encoders, windows through the models.

pieces       -> strips of feature cells [h, A, w, D], one row of blocks at a time; only those that
                the next positions need are held
strips       -> descriptors [N, A, D] of all positions whose feature cells are complete
descriptors  -> the models' mean scores [N, K]
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from histojax.config import View
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import border_correction, passes, tile_features
from histojax.heatmap.crop_pass import CROP_STEP, CropPass
from histojax.heatmap.encoder_pass import EncoderPass, Windows
from histojax.heatmap.slide_scan import SlideScan
from histojax.prediction.bundle import Bundle
from histojax.utils import prefetch
from histojax.utils.progress import Progress

# Approximate memory limit in bytes, for feature cells and again for descriptors; a larger field
# takes several passes.
_MEMORY_LIMIT = 2**29


# Row and column of a piece.
_Place = tuple[int, int]

# Is shown a configuration, grid rows, and their descriptors float32 [rows, columns, D].
Observer = Callable[[str, slice, np.ndarray], None]


class RowDescriptors(NamedTuple):
    """Descriptors of grid rows.

    Attributes:
      configuration: its name.
      first: the number of the first augmentation.
      rows: of the grid.
      descriptors: float32 [rows, columns, A, D]; arbitrary where no piece was needed.
      is_corrected: whether they are, by `border_correction`.
    """

    configuration: str
    first: int
    rows: slice
    descriptors: np.ndarray
    is_corrected: bool


class _WindowLayout(NamedTuple):
    """The windows of a view, and what is added to them.

    Attributes:
      windows: where they lie.
      first: the first row of feature cells that a row of positions needs, int [rows].
      border: what is added to each window: float32 [D].
    """

    windows: Windows
    first: np.ndarray
    border: np.ndarray


def mean_scores(
    scan: SlideScan,
    name: str,
    encoder_set: EncoderSet,
    bundle: Bundle,
    augmentations: int,
    observe: Observer | None = None,
    crop_step: float = CROP_STEP,
) -> np.ndarray:
    """Scores of each position, the mean over configurations, augmentations and models.

    Args:
      scan: the scanned field, at the pixel size that the models were trained at.
      name: of the image, which seeds the gains.
      encoder_set: the encoders, and the protocol the models were trained with.
      bundle: the models, of which configurations, classes and `score` are used.
      augmentations: number of the protocol's augmentations to use, from the first.
      observe: is shown the descriptors of the first augmentation, without border correction.
      crop_step: of `crop_pass`, in crops.

    Returns:
      float64 [rows, columns, K], NaN where there is too little tissue.
    """
    total = np.zeros((*scan.grid.shape, len(bundle.classes)))
    planned = []
    if scan.scored.any():
        planned = passes.plan(
            scan, name, encoder_set, bundle.configurations, augmentations, crop_step
        )
    augmentations = min(augmentations, encoder_set.extraction.augmentations)
    pieces = sum(int(encoder_pass.needed.sum()) for encoder_pass in planned) * augmentations
    units = {"crops" if isinstance(one, CropPass) else "tiles" for one in planned}
    with Progress(f"heat map of {name}", pieces, " and ".join(sorted(units))) as progress:
        for encoder_pass in planned:
            uncorrected = [(view, None) for view in encoder_pass.views]
            if of_crops := isinstance(encoder_pass, CropPass):  # They have borders of their own.
                windows = uncorrected
            else:
                borders = border_correction.corrections(encoder_pass)
                windows = list(zip(encoder_pass.views, borders, strict=True))
                windows += uncorrected if observe else []
            for found in descriptors_of_rows(encoder_pass, windows, progress.add):
                scored = scan.scored[found.rows]
                if observe and not found.is_corrected and found.first == 0:
                    observe(found.configuration, found.rows, found.descriptors[:, :, 0])
                if (found.is_corrected or of_crops) and scored.any():
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
      count: is told how many pieces are done.
    """
    columns, encoder = encoder_pass.scan.grid.shape[1], encoder_pass.loaded.encoder
    none = np.zeros(encoder.width, np.float32)
    layouts = [
        _window_layout(encoder_pass, view, none if border is None else border)
        for view, border in windows
    ]
    strip_rows = encoder_pass.block[0] * encoder_pass.piece_cells[0]
    held_rows = strip_rows + max(layout.windows.height for layout in layouts)
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
    """The field's feature cells, one row of blocks at a time; zeros where no piece is needed.

    Args:
      encoder_pass: it.
      gains: float32 [A, G].
      count: is told how many pieces are done.

    Yields:
      float32 [h, A, w, D].
    """
    rows, columns = encoder_pass.piece_cells
    width = encoder_pass.field_cells[1], encoder_pass.loaded.encoder.width
    encoded = _encoded(encoder_pass, gains, count)
    for top in range(0, len(encoder_pass.needed), encoder_pass.block[0]):
        needed = encoder_pass.needed[top : top + encoder_pass.block[0]]
        strip = np.zeros((len(needed) * rows, len(gains), *width), np.float32)
        for (i, j), augmentation, cells in itertools.islice(encoded, needed.sum() * len(gains)):
            down, across = (i - top) * rows, j * columns
            strip[down : down + rows, augmentation, across : across + columns] = cells
        yield strip


def _encoded(
    encoder_pass: EncoderPass, gains: np.ndarray, count: Callable[[int], None]
) -> Iterator[tuple[_Place, int, np.ndarray]]:
    """Feature cells of the needed pieces, block by block: place, augmentation, [rows, columns, D].

    All batches have one shape: the last one is filled up.
    """
    pieces = _pieces(encoder_pass)
    inputs = ((*piece, augmentation) for piece in pieces for augmentation in range(len(gains)))
    while batch := list(itertools.islice(inputs, encoder_pass.batch)):
        filled = [*batch, *batch[-1:] * (encoder_pass.batch - len(batch))]
        cells = encoder_pass.encode(
            np.stack([rgb for _, rgb, _ in filled]),
            gains[[augmentation for _, _, augmentation in filled]],
        )
        count(len(batch))
        for (place, _, augmentation), of_piece in zip(batch, cells, strict=False):
            yield place, augmentation, of_piece


def _pieces(encoder_pass: EncoderPass) -> Iterator[tuple[_Place, np.ndarray]]:
    """The needed pieces, block by block; a block is read while the one before is encoded."""
    needed, (down, across) = encoder_pass.needed, encoder_pass.block
    by_block = {}
    for i, j in np.argwhere(needed).tolist():
        by_block.setdefault((i // down * down, j // across * across), []).append((i, j))
    places = sorted(by_block)
    blocks = prefetch.prefetch(encoder_pass.read, places, depth=1, threads=1)
    for place, block in zip(places, blocks, strict=True):
        yield from ((piece, encoder_pass.cut(block, piece)) for piece in by_block[place])


def _window_layout(encoder_pass: EncoderPass, view: View, border: np.ndarray) -> _WindowLayout:
    windows = encoder_pass.windows(view)
    last = encoder_pass.field_cells[0] - windows.height
    return _WindowLayout(windows, np.clip(windows.tops[:, 0].astype(int), 0, last), border)


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
    ends = np.max([layout.first + layout.windows.height for layout in layouts], axis=0)
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
    windows, begin = layout.windows, layout.first[row] - held_from
    tops = windows.tops[row] - layout.first[row].astype(np.float32)
    cells = held[begin : begin + windows.height]
    return np.asarray(
        tile_features.position_descriptors(
            cells, layout.border, tops, windows.lefts, taps=windows.taps, p=p
        )
    )
