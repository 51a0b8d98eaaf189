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


def fold_channel_order(layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A first convolution on BGR as one on RGB."""
    return {**layer, "kernel": np.asarray(layer["kernel"])[:, :, ::-1]}


def fold_scale_and_shift(
    layer: Mapping[str, Any], scale: float, mean: Sequence[float]
) -> dict[str, np.ndarray]:
    """A first convolution on `scale * (x - mean)` as one on x, if it does not pad; mean [3]."""
    kernel = scale * _float64(layer["kernel"])
    bias = _float64(layer["bias"]) - np.einsum("hwio,i->o", kernel, _float64(mean))
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _float64(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
