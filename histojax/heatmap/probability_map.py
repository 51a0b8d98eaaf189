"""A map of class probabilities over a field, and the regions and areas in it. No jax.

Between places it is interpolated, of places with tissue alone. Regions are polygons in pixels of the file.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import measure

from histojax.evaluation import metrics

FINER = 8  # Parts that a place's side is cut into where regions and areas are drawn.
# Of classes, in turn, Okabe and Ito's, which the colour-blind tell apart: warm ones for those that count as positive.
COOL = ((0, 158, 115), (86, 180, 233), (0, 114, 178), (240, 228, 66), (90, 90, 90))
WARM = ((230, 159, 0), (213, 94, 0), (204, 121, 167))
POSITIVE_COLOUR = (213, 94, 0)


@dataclasses.dataclass(frozen=True)
class ProbabilityMap:
    """Class probabilities over a grid of places, squares row by row from the field's top-left corner.

    Attributes:
      name: of the image.
      classes: their names, K.
      positive: indices of those that count as carcinoma; none where there are no two-class figures.
      threshold: carcinoma scores at and above it are called carcinoma; None where no class is positive.
      grid: float32 [K, rows, columns], calibrated; NaN where there is too little tissue.
      smoothed: the same, smoothed.
      size: the field's height and width, px of the file.
      stride: the side of a place, px of the file.
      window: the side of the smallest crop that places are judged by, px of the file.
      mpp: microns per pixel of the file; None where not known.
      thumbnail: uint8 [h, w, 3], the field made small.
      made_with: how the map was made, as it goes to grid.json.
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
    def carcinoma(self) -> np.ndarray:
        """The carcinoma score of each place, by the smoothed probabilities: float64 [rows, columns]."""
        return carcinoma(self.smoothed, self.positive)

    @property
    def positive_name(self) -> str:
        """`InSitu + Invasive`."""
        return " + ".join(self.classes[k] for k in self.positive)


def carcinoma(probabilities: np.ndarray, positive: tuple[int, ...]) -> np.ndarray:
    """The carcinoma score of probabilities [K, ...]: float64 [...]."""
    columns = probabilities.reshape(len(probabilities), -1).T.astype(np.float64)
    return metrics.positive_score(columns, positive).reshape(probabilities.shape[1:])


def interpolated(probabilities: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Probabilities between places, bilinear, of places with tissue alone: [K, rows, columns] -> float64 [K, h, w].

    Args:
      rows, columns: positions in places from the field's corner, so that 0.5 is the middle of the first: [h], [w].
    """
    known = np.isfinite(probabilities[0])
    inside = known[
        np.ix_(
            *(
                np.clip(along.astype(int), 0, size - 1)
                for along, size in zip((rows, columns), known.shape, strict=True)
            )
        )
    ]
    at = np.meshgrid(rows - 0.5, columns - 0.5, indexing="ij")
    weight = ndimage.map_coordinates(known.astype(float), at, order=1, mode="nearest")
    found = [
        ndimage.map_coordinates(np.where(known, each, 0).astype(float), at, order=1, mode="nearest")
        for each in probabilities
    ]
    return np.where(inside, np.stack(found) / np.where(inside, weight, 1), np.nan)


def fine(shown: ProbabilityMap) -> tuple[np.ndarray, np.ndarray]:
    """The smoothed map on squares FINER times smaller, and their areas in px of the file: [K, h, w], [h, w]."""
    step = shown.stride / FINER
    counts = [int(np.ceil(side / step)) for side in shown.size]
    rows, columns = ((np.arange(count) + 0.5) / FINER for count in counts)
    sides = [
        np.minimum(step, side - step * np.arange(count))
        for count, side in zip(counts, shown.size, strict=True)
    ]
    return interpolated(shown.smoothed, rows, columns), np.outer(*sides)


def colours(shown: ProbabilityMap) -> list[tuple[int, int, int]]:
    """The colour of each class."""
    if not shown.positive:
        return list(itertools.islice(itertools.cycle(COOL + WARM), len(shown.classes)))
    cool, warm = itertools.cycle(COOL), itertools.cycle(WARM)
    return [next(warm) if k in shown.positive else next(cool) for k in range(len(shown.classes))]


def regions_of(shown: ProbabilityMap) -> dict[str, Any]:
    """Regions for QuPath: those at and above the operating point, or of one class where none counts as positive.

    Returns:
      A GeoJSON FeatureCollection of annotations: polygons with holes, [x, y] in px of the file; with the mean
      probabilities, the mean and largest carcinoma score, and the area, as measurements.
    """
    probabilities, areas = fine(shown)
    if shown.positive:
        score = carcinoma(probabilities, shown.positive)
        kinds = [
            (shown.positive_name, POSITIVE_COLOUR, np.nan_to_num(score, nan=-1) >= shown.threshold)
        ]
    else:
        score, best = (
            None,
            np.where(np.isfinite(probabilities[0]), np.argmax(probabilities, axis=0), -1),
        )
        kinds = [
            (*of, best == k) for k, of in enumerate(zip(shown.classes, colours(shown), strict=True))
        ]
    features = []
    for name, colour, inside in kinds:
        labels, _ = ndimage.label(inside)
        for i, where in enumerate(ndimage.find_objects(labels), start=1):
            mine = labels[where] == i
            taken = {
                f"Mean probability of {c}": probabilities[k][where][mine].mean()
                for k, c in enumerate(shown.classes)
            }
            if score is not None:
                taken["Mean carcinoma score"] = score[where][mine].mean()
                taken["Largest carcinoma score"] = score[where][mine].max()
            area = areas[where][mine].sum()
            taken |= {"Area px^2": area} | ({"Area um^2": area * shown.mpp**2} if shown.mpp else {})
            features.append(
                {
                    "type": "Feature",
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": polygon(mine, [s.start for s in where], shown),
                    },
                    "properties": {
                        "objectType": "annotation",
                        "name": f"{name} {i}",
                        "classification": {"name": name, "color": list(colour)},
                        "measurements": {
                            key: round(float(value), 4) for key, value in taken.items()
                        },
                    },
                }
            )
    return {"type": "FeatureCollection", "features": features}


def polygon(
    inside: np.ndarray, corner: list[int], shown: ProbabilityMap
) -> list[list[list[float]]]:
    """The rings of one region of fine squares, the outer one first, closed, [x, y] in px of the file."""
    contours = measure.find_contours(np.pad(inside.astype(float), 1), 0.5)
    contours = [
        measure.approximate_polygon(each, 0.01) for each in contours
    ]  # Without points on straight lines.
    contours.sort(key=lambda ring: -abs(ring_area(ring)))
    rings = []
    for i, contour in enumerate(contours):
        # Of padded indices, whose squares have their middle half a square further.
        edge = np.clip(
            (contour - 0.5 + np.array([corner])) * shown.stride / FINER, 0, np.array([shown.size])
        )
        if (ring_area(edge) > 0) != (
            i == 0
        ):  # GeoJSON asks for the outer one counter-clockwise, holes clockwise.
            edge = edge[::-1]
        rings.append([[round(float(x), 2), round(float(y), 2)] for y, x in edge])
    return rings


def ring_area(ring: np.ndarray) -> float:
    """The signed area of a closed ring of points [N, 2]."""
    y, x = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def areas(shown: ProbabilityMap) -> list[dict[str, Any]]:
    """What the field is made of, by name: share of it, and mm^2 where px are microns, None elsewhere."""
    probabilities, squares = fine(shown)
    tissue = np.isfinite(probabilities[0])
    best = np.where(tissue, np.argmax(np.nan_to_num(probabilities), axis=0), -1)
    kinds = [(name, best == k) for k, name in enumerate(shown.classes)]
    if shown.positive:
        score = np.nan_to_num(carcinoma(probabilities, shown.positive), nan=-1)
        kinds.append((f"carcinoma score {shown.threshold:.2f} and above", score >= shown.threshold))
    kinds.append(("too little tissue, not scored", ~tissue))
    total = squares.sum()
    return [
        {
            "name": name,
            "share": float(squares[where].sum() / total),
            "mm2": float(squares[where].sum() * shown.mpp**2 / 1e6) if shown.mpp else None,
        }
        for name, where in kinds
    ]
