"""Distances between images: in their descriptors, and in the stain of stain_qc.csv.

Distance in descriptors is the mean distance to the nearest known images, each channel in its
standard deviations: it needs no covariance, which N = 20 images of D = 2048 channels cannot give,
and it follows the classes wherever they lie. Deviations are clipped: most channels are silent in
most images, and one that responds in a single image would outweigh the two thousand others. Squares
are averaged over channels and then over configurations, so that every configuration counts the
same. Distance in stain is the largest deviation from the median, in robust standard deviations, of
tissue fraction, stain angle and both maxima (their logarithms) at any scale.

Shapes: descriptors [N, D] by configuration, averaged over augmentations; stain features
[N, 4 x scales].
"""

from collections.abc import Mapping, Sequence

import numpy as np

from histojax.config import LEAST_TISSUE, STAIN_TOO_LITTLE_TISSUE
from histojax.errors import InputError
from histojax.extraction import store

_NEIGHBOURS = 5
_CLIP = 5.0  # Standard deviations at which the deviation of a channel is clipped.
# The smallest standard deviation: of a channel relative to its mean, of stain on the log scale.
_LEAST_DEVIATION = 0.01
STAIN_MEASURES = ("tissue_fraction", "stain_angle_degrees", "max_hematoxylin", "max_eosin")
_ONE_COLOUR = 0.5  # Degrees; stain vectors that are closer are the same.
_LEAST_MEASURE = 1e-2  # Smaller values are noise, and their logarithms would be far apart.


def to_nearest(
    known: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], among: np.ndarray | None = None
) -> np.ndarray:
    """Mean distance to the nearest known images.

    Args:
      known: {configuration: [N, D]}, to which distances are measured, and in whose standard
        deviations.
      new: {configuration: [M, D]}.
      among: bool [M, N], which known images count for each new one; all by default.

    Returns:
      float64 [M], NaN where no known image counts.
    """
    squares = np.mean([_squared_distances(known[name], new[name]) for name in known], axis=0)
    distances = np.sqrt(squares if among is None else np.where(among, squares, np.inf))
    nearest = np.sort(distances, axis=1)[:, :_NEIGHBOURS]
    counts = np.isfinite(nearest)
    total = np.where(counts, nearest, 0).sum(axis=1)
    mean = total / np.maximum(counts.sum(axis=1), 1)
    return np.where(counts.any(axis=1), mean, np.nan)


def _squared_distances(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mean over channels of squared distances in the known images' standard deviations.

    [N, D] and [M, D] to float64 [M, N].
    """
    known, new = known.astype(np.float64), new.astype(np.float64)
    mean = known.mean(axis=0)
    scale = known.std(axis=0) + _LEAST_DEVIATION * np.abs(mean) + np.finfo(np.float32).tiny
    a, b = (np.clip((values - mean) / scale, -_CLIP, _CLIP) for values in (new, known))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    # Rounding may make the square of an image's distance from itself negative.
    return np.maximum(squares, 0) / known.shape[1]


def largest_deviation(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Largest deviation from the median in robust standard deviations.

    [N, Q] and [M, Q] to float64 [M], NaN where the new features are. A robust standard deviation is
    1.4826 times the median absolute deviation, as of a normal distribution.
    """
    known = known[~np.isnan(known).any(axis=1)]
    if not known.size:
        return np.full(len(new), np.nan)
    median = np.median(known, axis=0)
    scale = 1.4826 * np.median(np.abs(known - median), axis=0) + _LEAST_DEVIATION
    return np.abs((new - median) / scale).max(axis=1)


def stain_features(
    stain_rows: store.StainQC, names: Sequence[str], scales: Sequence[str]
) -> np.ndarray:
    """Logarithms of the measures in stain_qc.csv, scale by scale: float64 [N, 4 x scales].

    NaN for an image with too little tissue, whose stain could not be measured.

    Raises:
      InputError: an image has no row at one of the scales.
    """
    features = np.empty((len(names), len(scales), len(STAIN_MEASURES)))
    for i, name in enumerate(names):
        for j, scale in enumerate(scales):
            row = stain_rows.get((name, scale))
            if row is None:
                raise InputError(
                    f"{store.STAIN_QC} has no row of {name} at scale {scale}: extract from that "
                    "image again, or remove the file to do without"
                )
            features[i, j] = [getattr(row, measure) for measure in STAIN_MEASURES]
        if too_little_tissue(stain_rows, name):
            features[i] = np.nan
    return np.log(np.maximum(features, _LEAST_MEASURE)).reshape(len(names), -1)


def too_little_tissue(stain_rows: store.StainQC, name: str) -> bool:
    """Whether an image had too little tissue to find its stain at any scale."""
    return any(
        row.status == STAIN_TOO_LITTLE_TISSUE or row.tissue_fraction < LEAST_TISSUE
        for row in _rows_of(stain_rows, name)
    )


def one_colour(stain_rows: store.StainQC, name: str) -> bool:
    """Whether all of an image is of one colour, or grey: black, say, where no light came through.

    Its two stain vectors are then the same at every scale.
    """
    angles = [row.stain_angle_degrees for row in _rows_of(stain_rows, name)]
    return bool(angles) and all(angle is not None and angle < _ONE_COLOUR for angle in angles)


def _rows_of(stain_rows: store.StainQC, name: str) -> list[store.StainQCRow]:
    return [row for row in stain_rows.values() if row.image == name]
