"""Heads: linear, or with a hidden layer, saved and applied by NumPy alone, where there is no jax.

A head is its arrays, float32: D channels, H hidden units, K classes.
linear    kernel [D, K], bias [K]
hidden    hidden_kernel [D, H], hidden_bias [H], then kernel [H, K], bias [K]; a ReLU in between
"""

import io
from pathlib import Path

import numpy as np

from histojax.errors import InputError

LAYERS = {
    "linear": (("kernel", "bias"),),
    "hidden": (("hidden_kernel", "hidden_bias"), ("kernel", "bias")),
}
# A channel that deviates by less than this share of its mean is constant: so far apart are two ways of describing an
# image (another device, another batch) that should agree.
RESOLUTION = 1e-5
Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


def scale_of(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """What channels are standardised by, 1 / deviation, and 0 for constant ones: float64 [D] each -> float32 [D]."""
    varies = deviation > RESOLUTION * np.abs(mean)
    return np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)


def folded(
    learner: str, layers: Layers, mean: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """A head that takes descriptors as they are, of layers that take (descriptors - mean) * scale: float32 [D] each.

    The bias is made for the kernel as it is after rounding, which would else shift channels that are far from zero.
    """
    (kernel, bias), *rest = layers
    scaled = (scale[:, None].astype(np.float64) * kernel).astype(np.float32)
    shifted = bias - mean.astype(np.float64) @ scaled
    arrays = {}
    for (kernel_name, bias_name), (kernel, bias) in zip(
        LAYERS[learner], [(scaled, shifted), *rest], strict=True
    ):
        arrays |= {
            kernel_name: np.asarray(kernel, np.float32),
            bias_name: np.asarray(bias, np.float32),
        }
    return arrays


def score(head: dict[str, np.ndarray], descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    values = descriptors.astype(np.float64)
    if "hidden_kernel" in head:
        values = np.maximum(values @ head["hidden_kernel"] + head["hidden_bias"], 0)
    logits = values @ head["kernel"] + head["bias"]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def width(head: dict[str, np.ndarray]) -> int:
    """D."""
    return len(next(iter(head.values())))


def parse(content: bytes, name: str | Path, learner: str) -> dict[str, np.ndarray]:
    """A saved head, its arrays in the order of the layers.

    Raises:
      InputError: the file is damaged, or holds other arrays than such a head has.
    """
    names = [key for layer in LAYERS[learner] for key in layer]
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except Exception as error:  # A damaged archive raises whatever zip, its decompression or NumPy's header throws up.
        raise InputError(
            f"{name} cannot be read as a head (.npz): remove it and train again"
        ) from error
    if not (found.keys() == set(names) and fits_together([found[key] for key in names])):
        shown = (
            ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in found.items())
            or "nothing"
        )
        raise InputError(
            f"{name} holds {shown}; expected {', '.join(names)} of a {learner} head, finite and float32, each layer as "
            "wide as the one before: remove it and train again"
        )
    return {key: found[key] for key in names}


def fits_together(arrays: list[np.ndarray]) -> bool:
    """Whether kernels and biases, in turn, are layers of one head."""
    kernels, biases = arrays[::2], arrays[1::2]
    return (
        all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)
        and all(
            kernel.ndim == 2 and kernel.shape[1:] == bias.shape
            for kernel, bias in zip(kernels, biases, strict=True)
        )
        and all(
            first.shape[1] == second.shape[0]
            for first, second in zip(kernels, kernels[1:], strict=False)
        )
    )
