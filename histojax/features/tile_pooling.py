"""Tiles of a slide to vectors: means and p-norms over all tiles, or over random draws of them.

Tiles come in blocks [n, D], and only sums are kept, so that a slide may have any number of them.
"""

import hashlib
from collections.abc import Iterable

import numpy as np


def pool(
    blocks: Iterable[np.ndarray], draws: list[np.ndarray] | None, p: float | None
) -> np.ndarray:
    """The p-norm over the tiles of each draw: (1/N sum x^p)^(1/p), of which p = 1 is the mean.

    Args:
      blocks: of tiles, each float32 [n, D].
      draws: of each, which tiles it takes, in ascending order; None is one draw of all tiles.
      p: above 0, or infinity for the maximum; features are not negative. None is the mean.

    Returns:
      float32 [A, D], A draws; sums are float64.
    """
    largest, sums, counts, start = None, None, np.zeros((len(draws or [0]), 1)), 0
    for block in blocks:
        if sums is None:
            sums = np.zeros((len(counts), block.shape[1]))
            largest = np.zeros_like(sums)
        for a in range(len(counts)):
            rows = block if draws is None else block[_within(draws[a], start, len(block))]
            if not len(rows):
                continue
            counts[a] += len(rows)
            if p is None:
                sums[a] += rows.sum(axis=0, dtype=np.float64)
            else:
                # Relative to the largest so far, so that no power is too large or too small.
                now = np.maximum(largest[a], rows.max(axis=0))
                scale = np.where(now > 0, now, 1)
                sums[a] *= (largest[a] / scale) ** p
                sums[a] += ((rows / scale) ** p).sum(axis=0)
                largest[a] = now
        start += len(block)
    means = sums / counts
    return (means if p is None else largest * means ** (1 / p)).astype(np.float32)


def _within(draw: np.ndarray, start: int, length: int) -> np.ndarray:
    """The members of a draw in a block, counted from its start."""
    first, last = np.searchsorted(draw, (start, start + length))
    return draw[first:last] - start


def draw(seed: int, name: str, draws: int, tiles: int, rows: int) -> list[np.ndarray]:
    """Random tiles of a slide, without replacement: all where it has no more than `tiles`.

    Args:
      seed, name: of the draws, and of the slide; with the draw's number they decide which tiles.
      draws: how many.
      tiles: of a draw.
      rows: tiles that the slide has.

    Returns:
      For each draw int64 [min(tiles, rows)], ascending.
    """
    # The bits of PCG64 are the same in every version of NumPy; what Generator makes of them is not.
    keys = (hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest() for number in range(draws))
    bits = (np.random.PCG64(int.from_bytes(key)).random_raw(rows) for key in keys)
    return [np.sort(np.argsort(each, kind="stable")[:tiles]) for each in bits]
