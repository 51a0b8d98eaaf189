"""Which images may show the same: those of which several local features are all but equal.

N images with F features each: descriptors are sorted into cells about centres, and compared with
those of their two nearest cells alone, about a hundredth of all. Two descriptors that are all but
equal vote for their images, at the angle by which one is turned against the other. Candidates are
images with several votes for one angle; of different fields few have, as angles are arbitrary.

Time and memory are bounded where all images look alike: a cell holds few features of one image, the
largest, and an image is compared with few others, those with the most votes. Where that leaves any
out, a warning says so. In memory are the descriptors, 128 bytes each, and the votes of a block of
images.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from histojax.inspection.local_features import LocalFeatures, mirrored, normalized

_LEAST_LIKENESS = 0.92  # Cosine of two descriptors that vote; of different fields, 3 in a million.
_LEAST_VOTES = 4
_LARGEST_SCALE = 3.0  # Of one feature against another, that votes.
# The circle has so many angles. A vote counts for two neighbours, so that 22.5 degrees between
# votes never part them.
_ANGLES = 16
_CELL = 256  # Features that a cell has on average,
_MOST_CELLS = 4096
_PROBED = 2  # and how many of them a feature is compared with.
# Features of one image in a cell: so many, or so many that all images have as many together.
_LEAST_OF_IMAGE, _MOST_OF_ALL = 8, 8192
_MOST_CANDIDATES = 64  # Of an image, with images after it.
_BLOCK = 64  # Images whose votes are in memory.
_ROWS = 8192  # Descriptors whose cells are found at a time.


def candidates(images: Sequence[LocalFeatures]) -> Iterator[tuple[int, int, bool]]:
    """Pairs of images that have features in common, as they are or mirrored.

    Yields:
      First and second index, first < second, and whether the second has to be mirrored.
    """
    counts = np.array([len(features.points) for features in images])
    if counts.sum() == 0:
        return
    image = np.repeat(np.arange(len(images)), counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    ways = [images, [mirrored(features) for features in images]]
    descriptors = [np.concatenate([each.descriptors for each in way]) for way in ways]
    directions = [np.concatenate([each.directions for each in way]) for way in ways]
    sizes = np.log(np.concatenate([each.sizes for each in images]))
    centres = _centres(descriptors[0])
    most = max(_LEAST_OF_IMAGE, _MOST_OF_ALL // len(images))
    nearest = [_nearest(each, centres, 1) for each in descriptors]
    cells = [_by_cell(of_way, image, len(centres), most) for of_way in nearest]
    probed = _nearest(descriptors[0], centres, min(_PROBED, len(centres)))
    crowded = left_out = 0  # Images and pairs.
    for start in range(0, len(images), _BLOCK):
        stop = min(start + _BLOCK, len(images))
        rows = np.arange(ends[start], ends[stop])
        votes = np.zeros((2, stop - start, len(images), _ANGLES), np.uint16)
        asking = _by_cell(probed[rows], image[rows], len(centres), most)
        for cell in np.flatnonzero([len(places) for places in asking]):
            queries = rows[asking[cell]]
            left = normalized(descriptors[0][queries])
            for way in range(2):
                others = cells[way][cell]
                others = others[np.searchsorted(others, ends[start]) :]  # Each pair once.
                right = normalized(descriptors[way][others])
                one, other = np.nonzero(left @ right.T >= _LEAST_LIKENESS)
                one, other = queries[one], others[other]
                alike = np.abs(sizes[one] - sizes[other]) <= np.log(_LARGEST_SCALE)
                one, other = one[alike], other[alike]
                turned = (directions[0][one] - directions[way][other]) % (2 * np.pi)
                angle = (turned * (_ANGLES / (2 * np.pi))).astype(int)
                places = ((image[one] - start) * len(images) + image[other]) * _ANGLES
                for neighbour in (angle % _ANGLES, (angle + 1) % _ANGLES):
                    np.add.at(votes[way].reshape(-1), places + neighbour, 1)
        for first, of_image in enumerate(votes.max(axis=-1).swapaxes(0, 1), start):
            of_image[:, : first + 1] = 0
            ways, seconds = np.nonzero(of_image >= _LEAST_VOTES)
            order = np.argsort(-of_image[ways, seconds].astype(int), kind="stable")
            left_out += len(order[_MOST_CANDIDATES:])
            crowded += len(order) > _MOST_CANDIDATES
            for place in order[:_MOST_CANDIDATES].tolist():
                yield first, int(seconds[place]), bool(ways[place])
    if left_out:
        logging.warning(
            "search for copies: images that look like more than %d others were compared with the "
            "%d likest alone. Such images: %d; pairs not compared: %d",
            *(_MOST_CANDIDATES, _MOST_CANDIDATES, crowded, left_out),
        )


def _centres(descriptors: np.ndarray) -> np.ndarray:
    """Centres of cells, float32 [cells, 128]: a sample, moved once to the mean of its nearest."""
    number = int(np.clip(len(descriptors) // _CELL, 1, _MOST_CELLS))
    rng = np.random.default_rng(0)
    sample = descriptors[rng.permutation(len(descriptors))[: 16 * number]]
    centres = normalized(sample[:number])
    sums = np.zeros_like(centres)
    np.add.at(sums, _nearest(sample, centres, 1)[:, 0], normalized(sample))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-6), centres)


def _nearest(descriptors: np.ndarray, centres: np.ndarray, number: int) -> np.ndarray:
    """The nearest centres of each descriptor: int32 [F, number]."""
    nearest = np.empty((len(descriptors), number), np.int32)
    for start in range(0, len(descriptors), _ROWS):
        likeness = normalized(descriptors[start : start + _ROWS]) @ centres.T
        for i in range(number):
            best = likeness.argmax(axis=1)
            nearest[start : start + _ROWS, i] = best
            likeness[np.arange(len(best)), best] = -1
    return nearest


def _by_cell(cells: np.ndarray, image: np.ndarray, number: int, most: int) -> list[np.ndarray]:
    """The rows of cells [F, P] that each of so many cells stands in, ascending.

    Of an image there are at most `most`, the first; `image`, [F], ascends.
    """
    order = np.argsort(cells.ravel(), kind="stable")
    rows, cell = order // cells.shape[1], cells.ravel()[order]
    of_image = cell.astype(np.int64) * (image[-1] + 1) + image[rows]
    kept = np.arange(len(rows)) - np.searchsorted(of_image, of_image) < most
    return np.split(rows[kept], np.searchsorted(cell[kept], np.arange(1, number)))
