"""The convolution, normalisation and pooling shared by the three encoders: inference only, channels last.

Where XLA has two ways to the same number, the faster is taken: a 1 x 1 convolution is a matrix product, and pooling is
elementwise work on strided slices, which fuses with what is before it.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders.precision import FLOAT32, Precision

Padding = str | tuple[tuple[int, int], tuple[int, int]]


class Weights(nn.Module):
    """The kernel [rows, columns, in, out] and bias [out] of a convolution; a bias of zero where it has none."""

    shape: tuple[int, int, int, int]
    use_bias: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.he_normal(), self.shape)
        zeros = nn.initializers.zeros
        return kernel, self.param("bias", zeros, self.shape[-1:]) if self.use_bias else jnp.zeros(
            self.shape[-1:]
        )


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """[N, H, W, in] -> [N, H', W', out], by the way that is fastest; see docs/performance.md for what was measured."""
    x, kernel, bias = (array.astype(precision.dtype) for array in (x, kernel, bias))
    rows, columns = kernel.shape[:2]
    if rows == columns == 1:
        y = product(x[:, ::strides, ::strides], kernel[0, 0], precision)
    else:
        # XLA's convolution for CPUs is several times slower unpadded: it is padded, and what that added is cut off.
        cut = padding == "VALID" and strides == 1
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides, strides),
            "SAME" if cut else padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision.multiply,
        )
        if cut:
            y = y[
                :,
                rows // 2 : y.shape[1] - (rows - 1) // 2,
                columns // 2 : y.shape[2] - (columns - 1) // 2,
            ]
    return y + bias[None, None, None]


def product(x: jax.Array, matrix: jax.Array, precision: Precision) -> jax.Array:
    """[N, H, W, in] times [in, out]."""
    return jax.lax.dot_general(x, matrix, (((3,), (0,)), ((), ())), precision=precision.multiply)


class FrozenNetwork(nn.Module):
    """What the three networks have in common.

    Attributes:
      precision: how exactly it computes.
      folded: without batch norms: `histojax.encoders.folding` has put them into the convolutions.
    """

    precision: Precision = FLOAT32
    folded: bool = False

    def convolve(
        self,
        x: jax.Array,
        features: int,
        kernel: tuple[int, int],
        name: str,
        strides: int = 1,
        padding: Padding = "SAME",
        use_bias: bool = True,
    ) -> jax.Array:
        """A convolution [N, H, W, C] -> [N, H', W', features]."""
        weights = Weights((*kernel, x.shape[-1], features), use_bias or self.folded, name=name)()
        with jax.named_scope(name):
            return convolution(x, *weights, self.precision, strides, padding)

    def normalize(
        self, x: jax.Array, epsilon: float, name: str, use_scale: bool = True
    ) -> jax.Array:
        """Batch normalisation with the stored statistics, whatever the batch; nothing where it is folded."""
        if self.folded:
            return x
        return nn.BatchNorm(
            use_running_average=True, epsilon=epsilon, use_scale=use_scale, name=name
        )(x)


def require_size(images: jax.Array, smallest: int, network: str) -> None:
    """Raises ValueError where an image is too small for the network's last feature map to exist."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"{network} needs images of at least {smallest} x {smallest} px, got {height} x {width}"
        )


def windows(maps: jax.Array, window: int, stride: int) -> list[jax.Array]:
    """Entry i, j of every window x window square, unpadded: window^2 arrays [N, H', W', C]."""
    rows, columns = ((side - window) // stride * stride + 1 for side in maps.shape[1:3])
    return [
        maps[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(window)
        for j in range(window)
    ]


def average_pool_same(maps: jax.Array) -> jax.Array:
    """3 x 3 mean at stride 1, summed in float32, over the pixels inside the map: the padding is not counted."""
    height, width = maps.shape[1:3]
    counts = [1 + (np.arange(side) > 0) + (np.arange(side) < side - 1) for side in (height, width)]
    padded = jnp.pad(maps.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = sum(windows(padded, 3, 1)) / jnp.asarray(
        np.outer(*counts)[None, :, :, None], jnp.float32
    )
    return mean.astype(maps.dtype)


def max_pool(maps: jax.Array, window: int, padding: int = 0) -> jax.Array:
    """Maximum over window x window at stride 2, on maps padded on every side with what is never the maximum."""
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(maps, widths, constant_values=-jnp.inf) if padding else maps
    return functools.reduce(jnp.maximum, windows(padded, window, 2))
