"""A map of class probabilities over a field, and the regions and areas in it.

Between positions it is interpolated, from positions with tissue alone. Regions are polygons in
pixels of the file. No JAX here.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import measure

from histojax.evaluation import metrics

SUBDIVISION = 8  # Parts that a position's side is cut into for regions and areas.
Colour = tuple[int, int, int]
# Colours of classes, in turn: Okabe and Ito's, which the colour-blind can tell apart; warm ones for
# positive classes.
_COOL: tuple[Colour, ...] = (
    *((0, 158, 115), (86, 180, 233), (0, 114, 178)),
    *((240, 228, 66), (90, 90, 90)),
)
_WARM: tuple[Colour, ...] = ((230, 159, 0), (213, 94, 0), (204, 121, 167))
_POSITIVE: Colour = (213, 94, 0)


@dataclasses.dataclass(frozen=True)
class ProbabilityMap:
    """Class probabilities over a grid: squares in rows from the field's top-left corner.

    Attributes:
      name: of the image.
      classes: their names, K.
      positive: indices of the positive classes; empty where there are no two-class figures.
      threshold: positions are positive at and above this score; None where no class is positive.
      grid: float32 [K, rows, columns], calibrated; NaN where there is too little tissue.
      smoothed: the same, smoothed.
      size: the field's height and width, px of the file.
      stride: the side of a square, px of the file.
      window: the side of the smallest crop of the models, px of the file.
      mpp: microns per pixel of the file; None where not known.
      thumbnail: uint8 [h, w, 3], the field in small.
      made_with: the settings of the map, as written to grid.json.
    """

    name: str
    classes: tuple[str, ...]
    positive: tuple[int, ...]
    threshold: float | None
    grid: np.ndarray
    smoothed: np.ndarray
    size: tuple[int, int]
    stride: float
    window: float
    mpp: float | None
    thumbnail: np.ndarray
    made_with: dict[str, Any]

    @property
    def positive_score(self) -> np.ndarray:
        """The positive score of smoothed probabilities: float64 [rows, columns]."""
        return positive_score(self.smoothed, self.positive)

    @property
    def positive_name(self) -> str:
        """`InSitu + Invasive`."""
        return " + ".join(self.classes[k] for k in self.positive)


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


def _subdivided(heatmap: ProbabilityMap) -> tuple[np.ndarray, np.ndarray]:
    """The smoothed map on squares SUBDIVISION times smaller, and their areas in px of the file.

    Returns:
      float64 [K, h, w] and [h, w].
    """
    step = heatmap.stride / SUBDIVISION
    along, sides = [], []
    for side in heatmap.size:
        squares = np.arange(int(np.ceil(side / step)))
        along.append((squares + 0.5) / SUBDIVISION)
        sides.append(np.minimum(step, side - step * squares))
    return interpolate(heatmap.smoothed, *along), np.outer(*sides)


def class_colours(heatmap: ProbabilityMap) -> list[Colour]:
    """The colour of each class."""
    if not heatmap.positive:
        return list(itertools.islice(itertools.cycle(_COOL + _WARM), len(heatmap.classes)))
    cool, warm = itertools.cycle(_COOL), itertools.cycle(_WARM)
    return [
        next(warm) if k in heatmap.positive else next(cool) for k in range(len(heatmap.classes))
    ]


def regions(heatmap: ProbabilityMap) -> dict[str, Any]:
    """Regions for QuPath: positive ones, or of one most probable class if no class is positive.

    Returns:
      A GeoJSON FeatureCollection of annotations: polygons with holes, [x, y] in px of the file;
      with the mean probabilities, the mean and largest positive score, and the area, as
      measurements.
    """
    probabilities, squares = _subdivided(heatmap)
    if heatmap.positive:
        score = positive_score(probabilities, heatmap.positive)
        is_positive = np.nan_to_num(score, nan=-1) >= heatmap.threshold
        masks = [(heatmap.positive_name, _POSITIVE, is_positive)]
    else:
        score, best = None, _most_probable(probabilities)
        colours = class_colours(heatmap)
        masks = [(name, colours[k], best == k) for k, name in enumerate(heatmap.classes)]
    features = []
    for name, colour, mask in masks:
        labels, _ = ndimage.label(mask)
        for i, box in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[box] == i
            measurements = {
                f"Mean probability of {c}": probabilities[k][box][inside].mean()
                for k, c in enumerate(heatmap.classes)
            }
            if score is not None:
                measurements["Mean carcinoma score"] = score[box][inside].mean()
                measurements["Largest carcinoma score"] = score[box][inside].max()
            measurements["Area px^2"] = squares[box][inside].sum()
            if heatmap.mpp:
                measurements["Area um^2"] = measurements["Area px^2"] * heatmap.mpp**2
            rings = _rings(inside, [side.start for side in box], heatmap)
            properties = {
                "objectType": "annotation",
                "name": f"{name} {i}",
                "classification": {"name": name, "color": list(colour)},
                "measurements": {k: round(float(value), 4) for k, value in measurements.items()},
            }
            geometry = {"type": "Polygon", "coordinates": rings}
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The index of the most probable class, -1 where not scored: [K, h, w] -> int [h, w]."""
    best = np.argmax(np.nan_to_num(probabilities), axis=0)
    return np.where(np.isfinite(probabilities[0]), best, -1)


def _rings(
    inside: np.ndarray, corner: list[int], heatmap: ProbabilityMap
) -> list[list[list[float]]]:
    """The rings of a region, the outer one first, closed, [x, y] in px of the file.

    Args:
      inside: bool [h, w], which of the small squares belong to it.
      corner: the row and column of the first one.
      heatmap: it.
    """
    contours = measure.find_contours(np.pad(inside.astype(float), 1), 0.5)
    # Without points on straight lines.
    contours = [measure.approximate_polygon(contour, 0.01) for contour in contours]
    contours.sort(key=lambda ring: -abs(_ring_area(ring)))
    rings = []
    for i, contour in enumerate(contours):
        # Contours are in indices of the padded array, whose squares have their centres at integers.
        squares = contour - 0.5 + np.array([corner])
        ring = np.clip(squares * heatmap.stride / SUBDIVISION, 0, np.array([heatmap.size]))
        # GeoJSON requires the outer ring counter-clockwise, holes clockwise.
        if (_ring_area(ring) > 0) != (i == 0):
            ring = ring[::-1]
        rings.append([[round(float(x), 2), round(float(y), 2)] for y, x in ring])
    return rings


def _ring_area(ring: np.ndarray) -> float:
    """The signed area of a closed ring of points [N, 2]."""
    y, x = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def areas(heatmap: ProbabilityMap) -> list[dict[str, Any]]:
    """The area of each class, of the positive score and of what is not scored.

    Returns:
      By row its name, share of the field, and mm2, which is None if the pixel size is not known.
    """
    probabilities, squares = _subdivided(heatmap)
    best = _most_probable(probabilities)
    masks = {name: best == k for k, name in enumerate(heatmap.classes)}
    if heatmap.positive:
        score = np.nan_to_num(positive_score(probabilities, heatmap.positive), nan=-1)
        label = f"positive-class score {heatmap.threshold:.2f} and above"
        masks[label] = score >= heatmap.threshold
    masks["too little tissue, not scored"] = best < 0
    rows = []
    for name, mask in masks.items():
        area = squares[mask].sum()
        mm2 = float(area * heatmap.mpp**2 / 1e6) if heatmap.mpp else None
        rows.append({"name": name, "share": float(area / squares.sum()), "mm2": mm2})
    return rows
