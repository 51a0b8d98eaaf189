"""Local features of an image: points that are found again when it is turned, scaled or recoloured.

uint8 RGB [H, W, 3] -> F points, each with a size, a direction and a SIFT descriptor (Lowe, 2004,
scikit-image's). All images are reduced or enlarged to one area first, so that each takes the same
time and a point's size means the same. Points are complex numbers x + iy in units in which every
image has an area of 224 x 224, from its top left corner: multiplying by a complex number turns and
scales.
"""

import dataclasses
import math

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.feature import SIFT

SIDE = 224  # Of a square of the area that images are brought to, px.
_LEAST_SIDE = 24  # Of an image in the end, px, however elongated it is.
_MOST = 256  # Features of an image: the largest, which survive most.
# The grey levels of an image's content get this mean and this standard deviation. The latter is
# taken to be at least _LEAST_DEVIATION levels: below that is noise.
_MEAN, _DEVIATION, _LEAST_DEVIATION = 0.5, 0.2, 4.0
# One colour is what differs by no more than these grey levels, in all of a square of so many px:
# the fill of a turned image, or bare glass. Features nearer to it than _MARGIN px are its edge's.
_FLAT, _FLAT_SIDE, _MARGIN = 2, 21, 4


@dataclasses.dataclass(frozen=True)
class LocalFeatures:
    """F features of an image.

    Attributes:
      points: complex64 [F], x + iy.
      sizes: float32 [F], standard deviation of the Gaussian at which a feature is most salient.
      directions: float32 [F], radians from x towards y.
      descriptors: uint8 [F, 128].
    """

    points: np.ndarray
    sizes: np.ndarray
    directions: np.ndarray
    descriptors: np.ndarray

    def take(self, indices: np.ndarray) -> "LocalFeatures":
        """Some of the features, in a given order."""
        fields = (getattr(self, field.name)[indices] for field in dataclasses.fields(self))
        return LocalFeatures(*fields)


_NO_FEATURES = LocalFeatures(
    np.zeros(0, np.complex64),
    np.zeros(0, np.float32),
    np.zeros(0, np.float32),
    np.zeros((0, 128), np.uint8),
)


def working_copy(rgb: np.ndarray) -> np.ndarray:
    """A grey copy of the common area: uint8 [H, W, 3] -> uint8 [h, w]."""
    grey = Image.fromarray(rgb).convert("L")
    factor = SIDE / math.sqrt(grey.width * grey.height)
    size = [max(_LEAST_SIDE, round(side * factor)) for side in grey.size]
    return np.asarray(grey.resize(size, Image.Resampling.BICUBIC))


def unit(size: tuple[int, int]) -> float:
    """Pixels of an image of a height and a width that a unit of its points is long."""
    return math.sqrt(size[0] * size[1]) / SIDE


def is_flat(grey: np.ndarray) -> np.ndarray:
    """Where a working copy is of one colour: uint8 [h, w] -> bool [h, w]."""
    alike = ndimage.maximum_filter(grey, 5) - ndimage.minimum_filter(grey, 5) <= _FLAT
    side = _FLAT_SIDE - 4  # Of a square of such neighbourhoods.
    squares = ndimage.minimum_filter(alike, side, mode="constant", cval=True)
    return ndimage.maximum_filter(squares, side)


def extract(grey: np.ndarray) -> LocalFeatures:
    """The features of a working copy, uint8 [h, w], the largest first."""
    flat = is_flat(grey)
    if flat.all():
        return _NO_FEATURES
    sift, levels = SIFT(upsampling=1), grey.astype(np.float32)
    content = levels[~flat]
    deviation = max(float(content.std()), _LEAST_DEVIATION)
    levels = (levels - content.mean()) / deviation * _DEVIATION + _MEAN
    try:
        sift.detect(levels)
    except RuntimeError:  # There are none.
        return _NO_FEATURES
    # scikit-image (0.26) takes the centre of a bin of directions for its edge, which turns all by
    # half a bin, and mirrored images the other way.
    sift.orientations = sift.orientations - math.pi / sift.n_bins
    sift.extract(levels)
    rows, columns = sift.positions.T
    near_fill = ndimage.binary_dilation(flat, iterations=_MARGIN)
    kept = np.flatnonzero(~near_fill[rows.astype(int), columns.astype(int)])
    kept = kept[np.argsort(-sift.sigmas[kept], kind="stable")][:_MOST]
    height, width = np.array(grey.shape) / math.sqrt(grey.size) * SIDE
    x, y = (columns + 0.5) * width / grey.shape[1], (rows + 0.5) * height / grey.shape[0]
    features = LocalFeatures(
        (x + 1j * y).astype(np.complex64),
        sift.sigmas.astype(np.float32),
        # Theirs are from down to the right.
        (math.pi / 2 - sift.orientations).astype(np.float32),
        sift.descriptors,
    )
    return features.take(kept)


def mirrored(features: LocalFeatures) -> LocalFeatures:
    """The features of the mirror image about the y axis, without looking at it."""
    return LocalFeatures(
        -features.points.conj(),
        features.sizes,
        np.float32(math.pi) - features.directions,
        mirrored_descriptors(features.descriptors),
    )


def mirrored_descriptors(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors of mirrored patches: uint8 [F, 128] -> the same.

    A descriptor is histograms of 8 directions in 4 x 4 cells: cells change sides, angles their
    sign.
    """
    cells = descriptors.reshape(-1, 4, 4, 8)[:, :, ::-1, -np.arange(8)]
    return cells.reshape(descriptors.shape)


def normalized(descriptors: np.ndarray) -> np.ndarray:
    """Square roots of length 1, whose products are likenesses: uint8 [F, 128] -> float32.

    Arandjelovic and Zisserman, "Three things everyone should know", 2012.
    """
    roots = np.sqrt(descriptors, dtype=np.float32)
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1)
