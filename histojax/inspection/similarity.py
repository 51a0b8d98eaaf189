"""Similarity transforms of the plane, with reflection: how one image lies on another.

Points are (x, y), px from the top left corner of an image, x to the right and y down, so that the
centre of its first pixel is (0.5, 0.5). Of an image of half the size all points are halved.
"""

import dataclasses
import math

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Mirrored or not, then turned about the origin, scaled, and shifted.

    Attributes:
      scale: above 0.
      degrees: anticlockwise as one looks at the image, from -180 to 180.
      mirrored: left to right, before it is turned.
      shift: (x, y), px.
    """

    scale: float = 1.0
    degrees: float = 0.0
    mirrored: bool = False
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, linear: np.ndarray, shift: np.ndarray) -> "Similarity":
        """The similarity p -> linear @ p + shift, of a matrix [2, 2] with orthogonal columns."""
        determinant = float(np.linalg.det(linear))
        mirrored = determinant < 0
        cosine, sine = linear[1, 1], linear[0, 1]
        degrees = math.degrees(math.atan2(sine, cosine))
        x, y = map(float, shift)
        return cls(math.sqrt(abs(determinant)), degrees, mirrored, (x, y))

    @property
    def linear(self) -> np.ndarray:
        """The matrix that points are multiplied by, float64 [2, 2]."""
        angle = math.radians(self.degrees)
        cosine, sine = self.scale * math.cos(angle), self.scale * math.sin(angle)
        sign = -1 if self.mirrored else 1
        return np.array([[sign * cosine, sine], [-sign * sine, cosine]])

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Where points [..., 2] come to lie."""
        return points @ self.linear.T + np.array(self.shift)

    def after(self, first: "Similarity") -> "Similarity":
        """The similarity that does `first` and then this one."""
        return Similarity.of(self.linear @ first.linear, self.apply(np.array(first.shift)))

    def inverse(self) -> "Similarity":
        """The similarity that undoes this one."""
        linear = np.linalg.inv(self.linear)
        return Similarity.of(linear, -linear @ np.array(self.shift))


def scaling(factor: float) -> Similarity:
    """Makes an image `factor` times as large."""
    return Similarity(scale=factor)


def corners(size: tuple[int, int]) -> np.ndarray:
    """The corners of an image of a height and a width, in turn: float64 [4, 2]."""
    height, width = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], float)


def warp(pixels: np.ndarray, transform: Similarity, size: tuple[int, int]) -> np.ndarray:
    """An image moved onto another, as far as it reaches; black outside, bilinear between.

    Args:
      pixels: uint8 [H, W] or [H, W, 3].
      transform: takes it onto the other.
      size: height and width of the other, px.
    """
    back = transform.inverse()
    coefficients = np.column_stack([back.linear, back.shift]).ravel()
    moved = Image.fromarray(pixels).transform(
        size[::-1], Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)
