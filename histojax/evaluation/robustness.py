"""How far descriptors and answers move when the stains of an image change.

Descriptors of the same crops, in the colours as they are and in those of the stain augmentations:
N images, A augmentations, each with crops of its own, D channels, K classes.
"""

import dataclasses

import numpy as np

from histojax.utils import ties


@dataclasses.dataclass(frozen=True)
class Distances:
    """Root mean squares of distances between descriptors, whose channels have unit deviation.

    Attributes:
      stain: between the same crops in two colours.
      crops: between two augmentations of an image, in one colour; NaN of one augmentation.
      images: between two images, in one colour; NaN of one image.
    """

    stain: float
    crops: float
    images: float


def distances(plain: np.ndarray, stained: np.ndarray) -> Distances:
    """How far apart descriptors are; channels that do not vary are left out.

    Args:
      plain: float32 [N, A, D], in the colours as they are; their deviation is each channel's unit.
      stained: the same crops in those of the augmentations.

    Raises:
      ValueError: the shapes differ.
    """
    if plain.shape != stained.shape:
        raise ValueError(f"descriptors {plain.shape} and {stained.shape}, expected the same shape")
    deviation = plain.std(axis=(0, 1), dtype=np.float64)
    varies = deviation > 0
    rows, moved = (each[..., varies] / deviation[varies] for each in (plain, stained))
    count, augmentations = plain.shape[:2]
    means = rows.mean(axis=1)
    within = (rows - means[:, None]).var(axis=1).sum(axis=-1).mean()
    between = means.var(axis=0).sum()
    # Of two independent draws, the mean squared distance is twice the (unbiased) variance.
    crops = 2 * within * _unbiased(augmentations)
    images = 2 * between * _unbiased(count) + 2 * within
    stain = ((moved - rows) ** 2).sum(axis=-1).mean()
    return Distances(*(float(np.sqrt(each)) for each in (stain, crops, images)))


def _unbiased(count: int) -> float:
    """What turns the variance of so many values into the unbiased one; NaN of a single one."""
    return count / (count - 1) if count > 1 else np.nan


@dataclasses.dataclass(frozen=True)
class Movement:
    """How answers to one augmentation each move, as shares of it, float64 [N].

    Attributes:
      change: how much probability goes from some classes to others, mean over augmentations.
      flips: share of augmentations whose answer is another class.
    """

    change: np.ndarray
    flips: np.ndarray


def movement(plain: np.ndarray, stained: np.ndarray) -> Movement:
    """How answers move: scores float64 [N, A, K] of the same crops in two colours."""
    change = np.abs(stained - plain).sum(axis=-1) / 2
    flips = ties.argmax(plain) != ties.argmax(stained)
    return Movement(change.mean(axis=1), flips.mean(axis=1))
