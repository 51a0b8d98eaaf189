"""Linear heads, and heads with one hidden layer: their files and their scores, by NumPy alone.

A head is its arrays, float32, for D channels, H hidden units and K classes:
linear    kernel [D, K], bias [K]
hidden    hidden_kernel [D, H], hidden_bias [H], then kernel [H, K], bias [K]; a ReLU in between
"""

from pathlib import Path

import numpy as np

from histojax.errors import InputError
from histojax.utils.array_files import npz

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]

_LAYERS = {
    "linear": (("kernel", "bias"),),
    "hidden": (("hidden_kernel", "hidden_bias"), ("kernel", "bias")),
}
# A channel that deviates by less than this share of its mean is constant: descriptors of one image
# from two devices, or from batches of two sizes, differ by as much.
_CONSTANT = 1e-5


def inverse_deviation(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """What standardises channels: 1 / deviation, 0 if constant; float64 [D] each -> float32 [D]."""
    varies = deviation > _CONSTANT * np.abs(mean)
    return np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)


def fold_standardisation(
    head: str, layers: Layers, mean: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """A head for raw descriptors, from layers for (descriptors - mean) * scale.

    Kernels are [inputs, outputs], mean and scale float32 [D]. The first bias is computed from the
    kernel after rounding: otherwise channels that are far from zero would be shifted.
    """
    (kernel, bias), *rest = layers
    scaled = (scale[:, None].astype(np.float64) * kernel).astype(np.float32)
    shifted = bias - mean.astype(np.float64) @ scaled
    names = [name for pair in _LAYERS[head] for name in pair]
    arrays = [array for pair in ((scaled, shifted), *rest) for array in pair]
    return {name: np.asarray(a, np.float32) for name, a in zip(names, arrays, strict=True)}


def score(head: dict[str, np.ndarray], descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    values = descriptors.astype(np.float64)
    if "hidden_kernel" in head:
        values = np.maximum(values @ head["hidden_kernel"] + head["hidden_bias"], 0)
    logits = values @ head["kernel"] + head["bias"]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def channels(head: dict[str, np.ndarray]) -> int:
    """D."""
    return len(next(iter(head.values())))


def parse(head: str, content: bytes, name: str | Path) -> dict[str, np.ndarray]:
    """A linear or hidden head from the content of its file; `name` is for messages.

    Raises:
      InputError: the file is damaged, or holds other arrays than such a head has.
    """
    names = [key for layer in _LAYERS[head] for key in layer]
    try:
        arrays = npz.read_arrays(content)
    except Exception as error:  # zipfile, zlib and NumPy's header reader raise many kinds.
        raise InputError(
            f"{name} cannot be read as a head (.npz): remove it and train again"
        ) from error
    if arrays.keys() == set(names) and _fit_together([arrays[key] for key in names]):
        return {key: arrays[key] for key in names}
    shown = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items())
    raise InputError(
        f"{name} holds {shown or 'nothing'}; expected {', '.join(names)} of a {head} head, finite "
        "and float32, each layer as wide as the one before: remove it and train again"
    )


def _fit_together(arrays: list[np.ndarray]) -> bool:
    """Whether kernels and biases, in turn, are finite float32 layers of one head."""
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays):
        return False
    kernels, biases = arrays[::2], arrays[1::2]
    pairs = zip(kernels, biases, strict=True)
    if not all(kernel.ndim == 2 and kernel.shape[1:] == bias.shape for kernel, bias in pairs):
        return False
    inputs = [kernel.shape[0] for kernel in kernels[1:]]
    outputs = [kernel.shape[1] for kernel in kernels[:-1]]
    return inputs == outputs
