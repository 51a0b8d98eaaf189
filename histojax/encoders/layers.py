"""The convolution, normalisation and pooling shared by the three encoders: inference only, channels last."""

import flax.linen as nn
import jax

from histojax.encoders.precision import FLOAT32, Precision

Padding = str | tuple[tuple[int, int], tuple[int, int]]


class FrozenNetwork(nn.Module):
    """What the three networks have in common.

    Attributes:
      precision: how exactly it computes.
      folded: without batch norms: `histojax.encoders.folding` has put them into the convolutions.
    """

    precision: Precision = FLOAT32
    folded: bool = False

    def convolve(
        self, x: jax.Array, features: int, kernel: tuple[int, int], name: str, strides: int = 1,
        padding: Padding = "SAME", use_bias: bool = True,
    ) -> jax.Array:  # fmt: skip
        """A convolution [N, H, W, C] -> [N, H', W', features]."""
        return nn.Conv(
            features, kernel, strides, padding=padding, use_bias=use_bias or self.folded, name=name,
            dtype=self.precision.dtype, precision=self.precision.multiply,
        )(x)  # fmt: skip

    def normalize(self, x: jax.Array, epsilon: float, name: str, use_scale: bool = True) -> jax.Array:
        """Batch normalisation with the stored statistics, whatever the batch; nothing where it is folded."""
        if self.folded:
            return x
        return nn.BatchNorm(use_running_average=True, epsilon=epsilon, use_scale=use_scale, name=name)(x)


def require_size(images: jax.Array, smallest: int, network: str) -> None:
    """Raises ValueError where an image is too small for the network's last feature map to exist."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(f"{network} needs images of at least {smallest} x {smallest} px, got {height} x {width}")


def average_pool_same(maps: jax.Array) -> jax.Array:
    """3 x 3 mean at stride 1 over the pixels inside the map: the padding is not counted."""
    return nn.avg_pool(maps, (3, 3), (1, 1), padding="SAME", count_include_pad=False)


def max_pool(maps: jax.Array, window: int, padding: Padding = "VALID") -> jax.Array:
    """Maximum over window x window at stride 2."""
    return nn.max_pool(maps, (window, window), (2, 2), padding=padding)
