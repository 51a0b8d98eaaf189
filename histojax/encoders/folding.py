"""Batch norms, and what can be of the input convention, folded into the convolutions: pure functions of variables.

Batch norm is an affine map per channel with frozen statistics, so `bn(conv(x))` is one convolution with other numbers.
The input convention is affine too: its order of channels goes into the first kernel always, its scale and shift only
where that convolution is unpadded, since a padded one would see the shift at the border. Computed in float64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Variables = dict[str, Any]


def fold_batch_norms(variables: Variables, epsilon: float) -> Variables:
    """{"params": {layer: {"kernel", "bias"}}} in which each `X_bn` has gone into the convolution `X_conv`.

    Args:
      variables: of a network whose convolutions are named `X_conv` where a batch norm `X_bn` follows.
      epsilon: of its batch norms.

    Returns:
      float32 variables; those of a network without batch norms as they are.
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    folded = {}
    for name, layer in params.items():
        if name in statistics:
            continue
        kernel, bias = as_float64(layer["kernel"]), as_float64(layer.get("bias", 0.0))
        norm = f"{name.removesuffix('_conv')}_bn"
        if name.endswith("_conv") and norm in statistics:
            mean, variance = (as_float64(statistics[norm][each]) for each in ("mean", "var"))
            scale = as_float64(params[norm].get("scale", 1.0)) / np.sqrt(variance + epsilon)
            kernel, bias = kernel * scale, (bias - mean) * scale + as_float64(params[norm]["bias"])
        bias = np.broadcast_to(bias, kernel.shape[-1:])
        folded[name] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    return {"params": folded}


def fold_channel_order(layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A first convolution on BGR as one on RGB."""
    return {**layer, "kernel": np.asarray(layer["kernel"])[:, :, ::-1]}


def fold_scale_and_shift(
    layer: Mapping[str, Any], scale: float, mean: Sequence[float]
) -> dict[str, np.ndarray]:
    """An unpadded first convolution on `scale * (x - mean)` as one on x; `mean` by input channel."""
    kernel = scale * as_float64(layer["kernel"])
    bias = as_float64(layer["bias"]) - np.einsum("hwio,i->o", kernel, as_float64(mean))
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def as_float64(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
