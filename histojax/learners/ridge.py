"""Linear heads by ridge regression of class indicators, in closed form.

What a head says of images that it was not fitted to is linear in the labels of the others, so that
it is one matrix for any labels: heads fitted to a thousand exchanged labellings are one product.
Channels are divided by their deviations over all images, without a look at labels; the intercept is
not penalised, and the penalty is the mean eigenvalue of the centred kernel, so nothing is tuned.
The outputs of a left-out block follow from the fit to all images (Hastie, Tibshirani and Friedman,
The Elements of Statistical Learning, 2009, section 7.10, for blocks in place of single rows).

N images, D channels, K classes, P labellings.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import linalg

from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import heads
from histojax.utils import ties


def kernel(descriptors: Iterable[np.ndarray]) -> np.ndarray:
    """Inner products of the images' standardised descriptors, float64 [N, N].

    Args:
      descriptors: of each configuration, [N, D]; their channels stand side by side.
    """
    total = 0.0
    for rows in descriptors:
        mean = rows.mean(axis=0, dtype=np.float64)
        scale = heads.inverse_deviation(mean, rows.std(axis=0, dtype=np.float64))
        scaled = (rows - mean) * scale
        total = total + scaled @ scaled.T
    return total


def hat_matrix(inner: np.ndarray) -> np.ndarray:
    """From indicators to a head's outputs on the images it is fitted to, float64 [N, N].

    Args:
      inner: inner products of the images, by `kernel`, of these or of more images: [N, N].
    """
    count = len(inner)
    mean = inner.mean(axis=0)
    centred = inner - mean - mean[:, None] + mean.mean()
    penalty = np.trace(centred) / count
    if penalty <= 0:  # All images are alike.
        return np.full((count, count), 1 / count)
    penalised = centred + penalty * np.eye(count)
    inverse = linalg.inv(penalised, overwrite_a=True, check_finite=False)
    return np.eye(count) - penalty * inverse + 1 / count


def held_out_matrix(hat: np.ndarray, block: np.ndarray) -> np.ndarray:
    """From indicators to the outputs for left-out images, by a head fitted to all others.

    Args:
      hat: by `hat_matrix`.
      block: bool [N], the images that are left out, B of them.

    Returns:
      float64 [B, N]; 0 for the images of the block.
    """
    weights = np.zeros((int(block.sum()), len(hat)))
    own = hat[np.ix_(block, block)]
    weights[:, ~block] = linalg.solve(np.eye(len(own)) - own, hat[np.ix_(block, ~block)])
    return weights


def predict_held_out(hat: np.ndarray, block: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The classes of left-out images, int [B], among those of the others.

    Args:
      hat, block: as for `held_out_matrix`.
      classes: of all images, by `indicators`: float64 [N, K].
    """
    said = held_out_matrix(hat, block) @ classes
    said[:, ~classes[~block].any(axis=0)] = -np.inf
    return ties.argmax(said)


def indicators(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels int [..., N] as float64 [..., N, K]."""
    return np.eye(classes)[labels]


def kernel_of_images(
    descriptors: Path, configurations: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """Inner products of images' mean descriptors, of all configurations, float64 [N, N].

    Raises:
      InputError: the folder lacks descriptors, or has damaged ones.
    """
    for configuration in configurations:
        there = set(store.image_names(descriptors, configuration))
        if missing := [name for name in names if name not in there]:
            raise InputError(
                f"{descriptors} lacks descriptors of {configuration} for {len(missing)} of "
                f"{len(names)} images, such as {missing[0]}"
            )
    return kernel(
        np.stack(
            [
                store.open_array(store.file_of(descriptors, configuration, name)).mean(axis=0)
                for name in names
            ]
        )
        for configuration in configurations
    )
