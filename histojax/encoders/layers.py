"""The convolution, normalisation and tap shared by the three encoders: inference only, channels last."""

from collections.abc import Callable

import flax.linen as nn
import jax

# On an accelerator XLA computes float32 convolutions in TF32 or bfloat16 passes unless told otherwise.
PRECISION = jax.lax.Precision.HIGHEST

Padding = str | tuple[tuple[int, int], tuple[int, int]]


def conv(
    features: int,
    kernel: tuple[int, int],
    name: str,
    strides: int = 1,
    padding: Padding = "SAME",
    use_bias: bool = True,
) -> Callable[[jax.Array], jax.Array]:
    """A convolution [N, H, W, C] -> [N, H', W', features]."""
    return nn.Conv(features, kernel, strides, padding=padding, use_bias=use_bias, precision=PRECISION, name=name)


def batch_norm(epsilon: float, name: str, use_scale: bool = True) -> Callable[[jax.Array], jax.Array]:
    """Batch normalisation with the stored statistics, whatever the batch."""
    return nn.BatchNorm(use_running_average=True, epsilon=epsilon, use_scale=use_scale, name=name)


def require_size(images: jax.Array, smallest: int, network: str) -> None:
    """Raises ValueError where an image is too small for the network's last feature map to exist."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(f"{network} needs images of at least {smallest} x {smallest} px, got {height} x {width}")


def average_pool_valid(maps: jax.Array, window: int) -> jax.Array:
    """Mean over windows that do not overlap; rows and columns that fill no window are dropped."""
    return nn.avg_pool(maps, (window, window), (window, window), padding="VALID")


def average_pool_same(maps: jax.Array) -> jax.Array:
    """3 x 3 mean at stride 1 over the pixels inside the map: the padding is not counted."""
    return nn.avg_pool(maps, (3, 3), (1, 1), padding="SAME", count_include_pad=False)


def max_pool(maps: jax.Array, window: int, padding: Padding = "VALID") -> jax.Array:
    """Maximum over window x window at stride 2."""
    return nn.max_pool(maps, (window, window), (2, 2), padding=padding)
