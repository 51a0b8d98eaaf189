"""How one image lies on another: the similarity on which most of their local features agree.

Features of two images that are nearest to each other are matched. Any two matches give a similarity
(RANSAC would draw some; here all are tried, so that nothing is random); the one that most others
agree with is fitted to all of these, and the pictures, laid on each other, are correlated.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from histojax.inspection import local_features
from histojax.inspection.local_features import LocalFeatures
from histojax.inspection.similarity import Similarity, scaling, warp

_LARGEST_RATIO = 0.9  # Of distances, to the nearest descriptor and to the next (Lowe's test).
_MOST_MATCHES = 60  # The clearest, of which pairs are formed.
_LEAST_DISTANCE = 10.0  # Between two points that a similarity is taken from, units.
_TOLERANCE = 3.0  # Between a point and where it should lie, units.
# By how much a similarity may differ from what the directions and sizes of its features say.
_ANGLE, _LOG_SCALE = 0.4, 0.5
_BLUR, _LEVELS = 6.0, 40.0  # Of a picture's background, px; of a standard deviation.
LEAST_INLIERS = 5  # Without them pictures are not compared.
_LEAST_COMMON = 200  # Pixels of pictures that both show, for a correlation.


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is correlated of an image, at half the size of its working copy.

    Attributes:
      levels: uint8 [h, w], 128 + 40 times the deviation from the neighbourhood's mean, in its
        standard deviations: neither brightness nor contrast is left.
      content: uint8 [h, w], 255 where it is not one flat colour, else 0.
    """

    levels: np.ndarray
    content: np.ndarray


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How a second image lies on a first.

    Attributes:
      transform: takes points of the second onto the first, in units of `local_features`.
      inliers: features that agree.
      correlation: of what both show, from -1 to 1.
      shared: the shares of the first image's content, and of the second's, within the other.
    """

    transform: Similarity
    inliers: int
    correlation: float
    shared: tuple[float, float]


def picture(grey: np.ndarray) -> Picture:
    """The picture of a working copy, uint8 [H, W]."""
    height, width = (side // 2 for side in grey.shape)
    halves = grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3), np.float32)
    detail = halves - ndimage.gaussian_filter(halves, _BLUR)
    deviation = np.sqrt(ndimage.gaussian_filter(np.square(detail), _BLUR))
    levels = 128 + _LEVELS * detail / np.maximum(deviation, 1)
    flat = local_features.is_flat(grey)[: 2 * height : 2, : 2 * width : 2]
    content = np.where(ndimage.binary_dilation(flat, iterations=2), 0, 255)
    return Picture(np.clip(levels, 0, 255).astype(np.uint8), content.astype(np.uint8))


def agree(first: LocalFeatures, second: LocalFeatures) -> tuple[Similarity, int]:
    """The similarity that most matches agree on, unmirrored, and how many these are."""
    matches = _matches(first, second)
    if len(matches) < 3:
        return Similarity(), 0
    first, second = first.take(matches[:, 0]), second.take(matches[:, 1])
    frames = first.sizes / second.sizes * np.exp(1j * (first.directions - second.directions))
    one, other = np.triu_indices(len(matches), 1)
    apart = second.points[one] - second.points[other]
    far = np.abs(apart) >= _LEAST_DISTANCE
    one, other, apart = one[far], other[far], apart[far]
    factors = (first.points[one] - first.points[other]) / apart
    fits = np.ones(len(factors), bool)
    for ends in (one, other):
        ratios = factors / frames[ends]
        fits &= np.abs(np.angle(ratios)) <= _ANGLE
        fits &= np.abs(np.log(np.maximum(np.abs(ratios), 1e-6))) <= _LOG_SCALE
    if not fits.any():
        return Similarity(), 0
    factors, one = factors[fits, None], one[fits]
    shifts = first.points[one, None] - factors * second.points[one, None]
    inliers = np.abs(factors * second.points + shifts - first.points) <= _TOLERANCE
    best = inliers.sum(axis=1).argmax()
    factor, shift, inlying = factors[best, 0], shifts[best, 0], inliers[best]
    for _ in range(2):
        factor, shift = _least_squares(first.points[inlying], second.points[inlying])
        inlying = np.abs(factor * second.points + shift - first.points) <= _TOLERANCE
        if inlying.sum() < 2:
            return Similarity(), 0
    degrees = -math.degrees(np.angle(factor))
    transform = Similarity(
        float(abs(factor)), degrees, False, (float(shift.real), float(shift.imag))
    )
    return transform, int(inlying.sum())


def _matches(first: LocalFeatures, second: LocalFeatures) -> np.ndarray:
    """Features that are nearest to each other and to no other, the clearest first: int [M, 2]."""
    if min(len(first.points), len(second.points)) < 3:
        return np.zeros((0, 2), int)
    likeness = (
        local_features.normalized(first.descriptors)
        @ local_features.normalized(second.descriptors).T
    )
    rows, nearest = np.arange(len(likeness)), likeness.argmax(axis=1)
    mutual = likeness.argmax(axis=0)[nearest] == rows
    best = likeness[rows, nearest]
    likeness[rows, nearest] = -1
    ratios = np.sqrt((1 - best).clip(0) / (1 - likeness.max(axis=1)).clip(1e-6))
    clear = np.flatnonzero(mutual & (ratios <= _LARGEST_RATIO))
    clear = clear[np.argsort(ratios[clear], kind="stable")][:_MOST_MATCHES]
    return np.stack([clear, nearest[clear]], axis=1)


def _least_squares(first: np.ndarray, second: np.ndarray) -> tuple[complex, complex]:
    """Factor and shift that take the second points, complex [M], nearest to the first."""
    mean, other_mean = first.mean(), second.mean()
    deviations = second - other_mean
    factor = (deviations.conj() * (first - mean)).sum() / max(
        float(np.square(np.abs(deviations)).sum()), 1e-6
    )
    return factor, mean - factor * other_mean


def align(
    first: tuple[LocalFeatures, Picture], second: tuple[LocalFeatures, Picture], mirror: bool
) -> Alignment:
    """How the second image lies on the first, mirrored or not.

    With fewer than LEAST_INLIERS, correlation and shares are 0.
    """
    features, pictured = second
    if mirror:
        features = local_features.mirrored(features)
    transform, inliers = agree(first[0], features)
    if inliers < LEAST_INLIERS:
        return Alignment(transform, inliers, 0.0, (0.0, 0.0))
    if mirror:
        transform = transform.after(Similarity(mirrored=True))
    return Alignment(transform, inliers, *_compare(first[1], pictured, transform))


def _compare(
    first: Picture, second: Picture, transform: Similarity
) -> tuple[float, tuple[float, float]]:
    """Correlation and shares of content, once the second picture is laid on the first."""
    on_first = _between(first, second, transform)
    on_second = _between(second, first, transform.inverse())
    levels, content, inside = (
        warp(pixels, on_first, first.levels.shape)
        for pixels in (second.levels, second.content, np.full_like(second.content, 255))
    )
    common = (first.content == 255) & (content == 255)
    reached = warp(np.full_like(first.content, 255), on_second, second.levels.shape)
    shared = _share(first.content, inside), _share(second.content, reached)
    if common.sum() < _LEAST_COMMON:
        return 0.0, shared
    return float(np.corrcoef(first.levels[common], levels[common])[0, 1]), shared


def _between(first: Picture, second: Picture, transform: Similarity) -> Similarity:
    """A transform in units as one in pixels of pictures."""
    unit, other = (local_features.unit(pictured.levels.shape) for pictured in (first, second))
    return scaling(unit).after(transform).after(scaling(1 / other))


def _share(content: np.ndarray, inside: np.ndarray) -> float:
    """The share of content that is inside; of an image without content, of all."""
    counted = content == 255
    return float((inside[counted] > 0).mean() if counted.any() else (inside > 0).mean())
