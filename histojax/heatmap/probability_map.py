"""A map of class probabilities over a field, with what is known against believing it.

Between positions it is interpolated, from positions with tissue alone. No JAX here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from histojax.evaluation import metrics
from histojax.prediction.uncertainty import Prediction

# Why positions cannot be compared with the training images' where a bundle has none of these.
NO_PLACES = (
    "these models hold no places of theirs. Make the bundle again with histojax bundle "
    "--data=TRAINING_IMAGES"
)
SUBDIVISION = 8  # Parts that a position's side is cut into for regions and areas.


@dataclasses.dataclass(frozen=True)
class ProbabilityMap:
    """Class probabilities over a grid: squares in rows from the field's top-left corner.

    Attributes:
      name: of the image.
      classes: their names, K.
      positive: indices of the positive classes; empty where there are no two-class figures.
      positive_reason: which they are, and why: a sentence without a full stop.
      threshold: positions are positive at and above this score; None where no class is positive.
      grid: float32 [K, rows, columns], calibrated; NaN where there is too little tissue.
      smoothed: the same, smoothed.
      size: the field's height and width, px of the file.
      stride: the side of a square, px of the file.
      window: the side of the smallest crop of the models, px of the file.
      mpp: microns per pixel of the file; None where not known.
      thumbnail: uint8 [h, w, 3], the field in small.
      made_with: the settings of the map, as written to grid.json.
      prediction: of the whole field, as `predict` makes it; None where there is none.
      unpredicted: why there is none.
      far: bool [rows, columns] by reason to abstain, the positions that are far from the training
        images' (see `typicality`); None where they cannot be compared.
      uncompared: why they cannot be.
    """

    name: str
    classes: tuple[str, ...]
    positive: tuple[int, ...]
    positive_reason: str
    threshold: float | None
    grid: np.ndarray
    smoothed: np.ndarray
    size: tuple[int, int]
    stride: float
    window: float
    mpp: float | None
    thumbnail: np.ndarray
    made_with: dict[str, Any]
    prediction: Prediction | None = None
    unpredicted: str = "it was not asked"
    far: Mapping[str, np.ndarray] | None = None
    uncompared: str = NO_PLACES

    @property
    def abstain(self) -> tuple[str, ...]:
        """Why `predict` abstains from the field; empty where it answers or was not asked."""
        return self.prediction.abstain if self.prediction else ()

    @property
    def reach(self) -> float:
        """How far a position's probabilities reach on every side, px of the file."""
        return self.made_with["neighbourhood_crops"] / 2 * self.window

    @property
    def scored(self) -> np.ndarray:
        """The positions with enough tissue: bool [rows, columns]."""
        return np.isfinite(self.grid[0])

    @property
    def far_for_any_reason(self) -> np.ndarray:
        """The positions that are far from the training images': bool [rows, columns]."""
        return np.logical_or.reduce([np.zeros_like(self.scored), *(self.far or {}).values()])

    @property
    def positive_score(self) -> np.ndarray:
        """The positive score of smoothed probabilities: float64 [rows, columns]."""
        return positive_score(self.smoothed, self.positive)

    @property
    def positive_name(self) -> str:
        """`InSitu + Invasive`."""
        return " + ".join(self.classes[k] for k in self.positive)

    @property
    def region_name(self) -> str:
        """What regions at the operating point are called: a number, never a diagnosis."""
        return f"score at or above {self.threshold:.2f}"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        from histojax.heatmap import overlay  # Draws maps, so it imports this module.

        return overlay.png(self)


def positive_score(probabilities: np.ndarray, positive: tuple[int, ...]) -> np.ndarray:
    """The score of the positive classes from probabilities [K, ...]: float64 [...]."""
    columns = probabilities.reshape(len(probabilities), -1).T.astype(np.float64)
    return metrics.positive_score(columns, positive).reshape(probabilities.shape[1:])


def smooth(grid: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian over positions with tissue alone: float32 [K, rows, columns], NaN stays.

    Args:
      grid: float32 [K, rows, columns].
      sigma: in positions; 0 for none.
    """
    if sigma == 0:
        return grid
    scored = np.isfinite(grid[0])

    def blurred(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, sigma, mode="constant")

    weight = blurred(scored.astype(float))
    sums = np.stack([blurred(np.where(scored, values, 0.0)) for values in grid])
    return np.where(scored, sums / np.where(scored, weight, 1), np.nan).astype(np.float32)


def interpolate(probabilities: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear between positions with tissue alone: [K, rows, columns] -> float64 [K, h, w].

    Args:
      probabilities: NaN where there is too little tissue; there the result is NaN as well.
      rows, columns: in squares from the field's corner, so that 0.5 is the centre of the first:
        [h], [w].
    """
    scored = np.isfinite(probabilities[0])
    nearest = (
        np.clip(along.astype(int), 0, size - 1)
        for along, size in zip((rows, columns), scored.shape, strict=True)
    )
    inside = scored[np.ix_(*nearest)]
    at = np.meshgrid(rows - 0.5, columns - 0.5, indexing="ij")

    def bilinear(values: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(values.astype(float), at, order=1, mode="nearest")

    weight = bilinear(scored)
    sums = np.stack([bilinear(np.where(scored, values, 0)) for values in probabilities])
    return np.where(inside, sums / np.where(inside, weight, 1), np.nan)


def subdivided(heatmap: ProbabilityMap) -> tuple[np.ndarray, np.ndarray]:
    """The smoothed map on squares SUBDIVISION times smaller, and their areas in px of the file.

    Returns:
      float64 [K, h, w] and [h, w].
    """
    step = heatmap.stride / SUBDIVISION
    along, sides = [], []
    for side, count in zip(heatmap.size, heatmap.scored.shape, strict=True):
        # A resampled field may have been rounded down to one position less.
        squares = np.arange(min(int(np.ceil(side / step)), SUBDIVISION * count))
        along.append((squares + 0.5) / SUBDIVISION)
        sides.append(np.minimum(step, side - step * squares))
    return interpolate(heatmap.smoothed, *along), np.outer(*sides)


def subdivided_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask of positions on the squares of `subdivided`: bool [rows, columns] -> bool [h, w]."""
    return mask.repeat(SUBDIVISION, axis=0).repeat(SUBDIVISION, axis=1)[: shape[0], : shape[1]]
