"""Regions of a map as annotations for QuPath, and their areas.

A region is named by the number that its score reaches, never by a class or a diagnosis. Regions are
polygons in pixels of the file. No JAX here.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from skimage import measure

from histojax.heatmap import probability_map
from histojax.heatmap.probability_map import SUBDIVISION, ProbabilityMap
from histojax.utils import ties

FAR = "far from training images"
NOT_SCORED = "too little tissue, not scored"
Colour = tuple[int, int, int]
# Colours of classes, in turn: Okabe and Ito's, which the colour-blind can tell apart; warm ones for
# positive classes.
COOL: tuple[Colour, ...] = (
    *((0, 158, 115), (86, 180, 233), (0, 114, 178)),
    *((240, 228, 66), (90, 90, 90)),
)
WARM: tuple[Colour, ...] = ((230, 159, 0), (213, 94, 0), (204, 121, 167))
_AT_OPERATING_POINT: Colour = (213, 94, 0)
_FAR: Colour = (60, 60, 60)


class _Kind(NamedTuple):
    """A kind of region: its name and colour, and the squares it covers, bool [h, w]."""

    name: str
    colour: Colour
    mask: np.ndarray


class _Squares(NamedTuple):
    """A map cut into small squares.

    Attributes:
      probabilities: float64 [K, h, w], NaN where not scored.
      areas: px of the file, float64 [h, w].
      score: the positive score, float64 [h, w]; None without positive classes.
      far: bool [h, w], the tissue that is far from the training images.
    """

    probabilities: np.ndarray
    areas: np.ndarray
    score: np.ndarray | None
    far: np.ndarray


def class_colours(heatmap: ProbabilityMap) -> list[Colour]:
    """The colour of each class."""
    if not heatmap.positive:
        return list(itertools.islice(itertools.cycle(COOL + WARM), len(heatmap.classes)))
    cool, warm = itertools.cycle(COOL), itertools.cycle(WARM)
    return [
        next(warm) if k in heatmap.positive else next(cool) for k in range(len(heatmap.classes))
    ]


def regions(heatmap: ProbabilityMap) -> dict[str, Any]:
    """Regions for QuPath: at the operating point (or, without one, by class), and what is far.

    Returns:
      A GeoJSON FeatureCollection of annotations: polygons with holes, [x, y] in px of the file;
      with mean probabilities, the mean and largest positive score, the area and the share of it
      that is far from the training images as measurements. Each says in its metadata, which QuPath
      shows, whether `predict` abstains from the field; so do the properties of the whole.
    """
    squares = _squares(heatmap)
    metadata = _metadata(heatmap)
    features = []
    for name, colour, mask in [*_score_kinds(heatmap, squares), _Kind(FAR, _FAR, squares.far)]:
        labels, _ = ndimage.label(mask)
        for i, box in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[box] == i
            measurements = _measurements(heatmap, squares, box, inside)
            properties = {
                "objectType": "annotation",
                "name": f"{name}, region {i}",
                "classification": {"name": name, "color": list(colour)},
                "measurements": {k: round(float(value), 4) for k, value in measurements.items()},
                "metadata": metadata,
            }
            rings = _rings(inside, [side.start for side in box], heatmap)
            geometry = {"type": "Polygon", "coordinates": rings}
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    properties = {
        "image": heatmap.name,
        "abstain": list(heatmap.abstain),
        "share_of_tissue_far_from_training": far_share(heatmap),
        **metadata,
    }
    return {"type": "FeatureCollection", "properties": properties, "features": features}


def polygons(heatmap: ProbabilityMap, name: str) -> list[list[list[list[float]]]]:
    """The polygons of the regions of a name, as of `regions`: rings by region."""
    return [
        feature["geometry"]["coordinates"]
        for feature in regions(heatmap)["features"]
        if feature["properties"]["classification"]["name"] == name
    ]


def areas(heatmap: ProbabilityMap) -> list[dict[str, Any]]:
    """The area of each class, of the operating point, of what is far, and of what is not scored.

    Returns:
      By row its name, share of the field, share of the tissue (None for what is not scored), and
      mm2, which is None if the pixel size is not known.
    """
    squares = _squares(heatmap)
    best = _most_probable(squares.probabilities)
    masks = {_class_name(name): best == k for k, name in enumerate(heatmap.classes)}
    masks |= {kind.name: kind.mask for kind in _score_kinds(heatmap, squares)}
    if heatmap.far is not None:
        shape = best.shape
        reasons = {
            reason: probability_map.subdivided_mask(mask, shape) & (best >= 0)
            for reason, mask in heatmap.far.items()
        }
        masks |= {FAR: squares.far} | reasons
    masks[NOT_SCORED] = best < 0
    tissue = squares.areas[best >= 0].sum()
    rows = []
    for name, mask in masks.items():
        area = squares.areas[mask].sum()
        of_tissue = None if name == NOT_SCORED or not tissue else float(area / tissue)
        mm2 = float(area * heatmap.mpp**2 / 1e6) if heatmap.mpp else None
        share = float(area / squares.areas.sum())
        rows.append({"name": name, "share": share, "share_of_tissue": of_tissue, "mm2": mm2})
    return rows


def far_share(heatmap: ProbabilityMap) -> float | None:
    """The share of the tissue that is far from the training images; None where unknown."""
    if heatmap.far is None or not heatmap.scored.any():
        return None
    return next(row["share_of_tissue"] for row in areas(heatmap) if row["name"] == FAR)


def _squares(heatmap: ProbabilityMap) -> _Squares:
    probabilities, sizes = probability_map.subdivided(heatmap)
    score = None
    if heatmap.positive:
        score = probability_map.positive_score(probabilities, heatmap.positive)
    far = probability_map.subdivided_mask(heatmap.far_for_any_reason, sizes.shape)
    return _Squares(probabilities, sizes, score, far & np.isfinite(probabilities[0]))


def _score_kinds(heatmap: ProbabilityMap, squares: _Squares) -> list[_Kind]:
    """The squares at the operating point or, without one, of each most probable class."""
    if squares.score is not None:
        reached = np.nan_to_num(squares.score, nan=-1) >= ties.lower(heatmap.threshold)
        return [_Kind(heatmap.region_name, _AT_OPERATING_POINT, reached)]
    best, colours = _most_probable(squares.probabilities), class_colours(heatmap)
    return [
        _Kind(_class_name(name), colours[k], best == k) for k, name in enumerate(heatmap.classes)
    ]


def _class_name(name: str) -> str:
    """What the squares are called in which a class is the most probable one."""
    return f"highest score: {name}"


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The index of the most probable class, -1 where not scored: [K, h, w] -> int [h, w]."""
    best = ties.argmax(np.nan_to_num(probabilities), axis=0)
    return np.where(np.isfinite(probabilities[0]), best, -1)


def _metadata(heatmap: ProbabilityMap) -> dict[str, str]:
    """What every annotation says of its field, as texts."""
    if heatmap.prediction is None:
        answer = f"unknown: {heatmap.unpredicted}"
    elif heatmap.abstain:
        answer = f"abstains: {'; '.join(heatmap.abstain)}"
    else:
        answer = "does not abstain"
    typicality = (
        "unknown" if heatmap.far is None else f"{far_share(heatmap) or 0:.1%} of the tissue"
    )
    return {"histojax predict": answer, FAR: typicality, "use": "for research, not for diagnosis"}


def _measurements(
    heatmap: ProbabilityMap, squares: _Squares, box: tuple[slice, slice], inside: np.ndarray
) -> dict[str, float]:
    """The measurements of one region: of the squares of a box where `inside` holds."""
    sizes = squares.areas[box][inside]
    values = {
        f"Mean probability of {name}": squares.probabilities[k][box][inside].mean()
        for k, name in enumerate(heatmap.classes)
    }
    if squares.score is not None:
        scores = squares.score[box][inside]
        values[f"Mean score of {heatmap.positive_name}"] = scores.mean()
        values[f"Largest score of {heatmap.positive_name}"] = scores.max()
    if heatmap.far is not None:
        values["Share far from training"] = sizes[squares.far[box][inside]].sum() / sizes.sum()
    values["Area px^2"] = sizes.sum()
    if heatmap.mpp:
        values["Area um^2"] = values["Area px^2"] * heatmap.mpp**2
    return values


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
