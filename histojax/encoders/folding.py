"""Folds batch norms, and the input convention where possible, into the convolutions.

Pure functions of variables. Batch norm is an affine map per channel with frozen statistics, so
`bn(conv(x))` is one convolution with other numbers. The input convention is affine too: its order
of channels can always go into the first kernel, its scale and shift only where that convolution
does not pad, because padding would be shifted too. Computed in float64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Variables = dict[str, Any]


def fold_batch_norms(variables: Variables, epsilon: float) -> Variables:
    """{"params": {layer: {"kernel", "bias"}}}, each batch norm `X_bn` folded into `X_conv`.

    Args:
      variables: of a network in which a batch norm `X_bn` follows a convolution `X_conv`.
      epsilon: of its batch norms.

    Returns:
      float32 variables; unchanged for a network without batch norms.
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    folded = {}
    for name, layer in params.items():
        if name in statistics:
            continue
        kernel, bias = _float64(layer["kernel"]), _float64(layer.get("bias", 0.0))
        norm = f"{name.removesuffix('_conv')}_bn"
        if name.endswith("_conv") and norm in statistics:
            mean, variance = (_float64(statistics[norm][name]) for name in ("mean", "var"))
            scale = _float64(params[norm].get("scale", 1.0)) / np.sqrt(variance + epsilon)
            kernel = kernel * scale
            bias = (bias - mean) * scale + _float64(params[norm]["bias"])
        bias = np.broadcast_to(bias, kernel.shape[-1:])
        folded[name] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    return {"params": folded}


def check_names(
    shapes: Mapping[str, tuple[int, ...]], epsilon: float | None, first_convolution: str
) -> None:
    """Raises ValueError where batch norms or the input convention of a network cannot be folded.

    Args:
      shapes: of its variables by flat name.
      epsilon: of its batch norms, where its module says.
      first_convolution: the layer that takes the convention; empty for none.
    """
    if first_convolution and f"params/{first_convolution}/kernel" not in shapes:
        raise ValueError(f"there is no layer {first_convolution!r}, its first_convolution")
    norms = {name.split("/")[1] for name in shapes if name.startswith("batch_stats/")}
    for name in shapes:
        collection, *layer, _ = name.split("/")
        if collection == "params" and len(layer) == 1 and f"params/{layer[0]}/kernel" in shapes:
            continue
        if collection not in ("params", "batch_stats") or layer[0] not in norms:
            raise ValueError(
                f"a FrozenNetwork has convolutions and batch norms alone, not {name}: make it a "
                "flax.linen.Module, which is not folded"
            )
    for norm in sorted(norms):
        if epsilon is None:
            raise ValueError(
                f"the batch norm {norm} cannot be folded: say epsilon = 1e-3, or whatever it has, "
                "in the class of the FrozenNetwork"
            )
        if f"params/{norm.removesuffix('_bn')}_conv/kernel" not in shapes:
            raise ValueError(
                f"the batch norm {norm} cannot be folded: of a FrozenNetwork, a batch norm X_bn "
                "follows a convolution X_conv"
            )


def fold_channel_order(layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A first convolution on BGR as one on RGB."""
    return {**layer, "kernel": np.asarray(layer["kernel"])[:, :, ::-1]}


def unfold_batch_norms(
    folded: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], epsilon: float
) -> dict[str, np.ndarray]:
    """Arrays by flat name as `fold_batch_norms` makes them, with batch norms that change nothing.

    Args:
      folded: `params/<layer>/kernel` and `bias`.
      shapes: of the network's variables.
      epsilon: of its batch norms.

    Raises:
      ValueError: the network has no place for a bias.
    """
    unfolded = {}
    for name, shape in shapes.items():
        _, layer, leaf = name.split("/")
        convolution = f"params/{layer.removesuffix('_bn')}_conv/bias"
        if name in folded:
            unfolded[name] = folded[name]
        elif leaf == "bias" and convolution not in shapes:
            unfolded[name] = folded[convolution]
        else:
            value = {"scale": 1.0, "var": 1.0 - epsilon}.get(leaf, 0.0)
            unfolded[name] = np.full(shape, value, np.float32)
    for name, array in folded.items():
        norm = f"{name.removesuffix('_conv/bias')}_bn/bias"
        if name not in shapes and norm not in shapes and np.any(array):
            raise ValueError(f"the network has no place for {name}")
    return unfolded


def fold_scale_and_shift(
    layer: Mapping[str, Any], divisor: float | Sequence[float], mean: Sequence[float]
) -> dict[str, np.ndarray]:
    """A first convolution on `(x - mean) / divisor` as one on x, if it does not pad; mean [3]."""
    scale = 1 / np.broadcast_to(_float64(divisor), 3)
    kernel = scale[None, None, :, None] * _float64(layer["kernel"])
    bias = _float64(layer["bias"]) - np.einsum("hwio,i->o", kernel, _float64(mean))
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _float64(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
