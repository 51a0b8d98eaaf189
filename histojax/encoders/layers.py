"""Convolution, normalisation and pooling shared by the encoders: inference only, channels last.

Where XLA has two ways to the same number, the faster is taken: a 1 x 1 convolution is a matrix
product, and pooling is elementwise work on strided slices, which fuses with the layers before it.
"""

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders.precision import FLOAT32, Precision

Padding = str | tuple[tuple[int, int], tuple[int, int]]

# What an encoder's name table maps between: the layers of a Keras weight file, {layer: {array:
# shape}} in the file's order, and the shapes of our variables by flat name.
KerasFile = dict[str, dict[str, tuple[int, ...]]]
Shapes = Mapping[str, tuple[int, ...]]

# Cells of a map, at most, up to which a CPU multiplies matrices for a convolution. XLA's own is
# slower there, a hundred times where the kernel is larger than the map.
_SMALL_MAP = 64
# In bfloat16 a CPU multiplies matrices for all layers but those of few channels, where copying the
# windows takes longer; places of large maps are taken so many at a time, which its cache holds.
_FEWEST_CHANNELS = 96
_STRIP = 512


class Weights(nn.Module):
    """The kernel [rows, columns, in, out] and bias [out] of a convolution; zeros for no bias."""

    shape: tuple[int, int, int, int]
    use_bias: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.he_normal(), self.shape)
        width = self.shape[-1:]
        if self.use_bias:
            return kernel, self.param("bias", nn.initializers.zeros, width)
        return kernel, jnp.zeros(width)


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """[N, H, W, in] -> [N, H', W', out], the fastest way; docs/performance.md has times."""
    x, kernel, bias = (array.astype(precision.dtype) for array in (x, kernel, bias))
    rows, columns, channels, _ = kernel.shape
    way = {"precision": precision, "strides": strides, "padding": padding}
    convolve = functools.partial(_convolve, **way)
    multiply = functools.partial(_multiply_columns, **way)
    is_pointwise = rows == columns == 1
    is_small = x.shape[1] * x.shape[2] <= _SMALL_MAP
    if precision.dtype == jnp.bfloat16:
        on_cpu = multiply if is_pointwise or is_small or channels >= _FEWEST_CHANNELS else convolve
    else:
        on_cpu = multiply if is_small and not is_pointwise else convolve
    if on_cpu is convolve:
        return convolve(x, kernel, bias)
    return jax.lax.platform_dependent(x, kernel, bias, cpu=on_cpu, default=convolve)


def product(x: jax.Array, matrix: jax.Array, precision: Precision, **keywords: Any) -> jax.Array:
    """[..., in] times [in, out]."""
    contracted = (((x.ndim - 1,), (0,)), ((), ()))
    multiply = functools.partial(jax.lax.dot_general, dimension_numbers=contracted, **keywords)
    asked = functools.partial(multiply, precision=precision.multiply)
    if precision.multiply is not jax.lax.Precision.HIGH:
        return asked(x, matrix)
    # For the Triton kernels that XLA makes of matrix products, TF32 is the default alone; cuDNN's
    # convolutions take it at HIGH too.
    default = functools.partial(multiply, precision=jax.lax.Precision.DEFAULT)
    return jax.lax.platform_dependent(x, matrix, cuda=default, default=asked)


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int,
    padding: Padding,
) -> jax.Array:
    rows, columns = kernel.shape[:2]
    if rows == columns == 1 and isinstance(padding, str):
        y = product(x[:, ::strides, ::strides], kernel[0, 0], precision)
    else:
        # XLA's convolution for CPUs is several times slower without padding, so the image is padded
        # and the result trimmed.
        trim = padding == "VALID" and strides == 1
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides, strides),
            "SAME" if trim else padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision.multiply,
        )
        if trim:
            top, left = (rows - 1) // 2, (columns - 1) // 2
            y = y[:, top : y.shape[1] - rows // 2, left : y.shape[2] - columns // 2]
    return y + bias[None, None, None]


def _multiply_columns(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int,
    padding: Padding,
) -> jax.Array:
    """A convolution as products of matrices, the windows of all places of a strip of the maps.

    Products are summed in float32: so XLA has an instruction for those of bfloat16.
    """
    sides, window = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(sides, window, (strides, strides), padding)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (
        (side - length) // strides + 1
        for side, length in zip(padded.shape[1:3], window, strict=True)
    )
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def multiply(maps: jax.Array) -> jax.Array:
        y = jax.lax.dot_general(
            _columns(maps, window, strides),
            matrix,
            (((3,), (0,)), ((), ())),
            precision=precision.multiply,
            preferred_element_type=jnp.float32,
        )
        return (y + bias.astype(jnp.float32)[None, None, None]).astype(x.dtype)

    strips = 1 if strides > 1 or window == (1, 1) else len(x) * height * width // _STRIP
    if strips <= 1:
        return multiply(padded)
    rows = -(-height // min(strips, height))
    strips = -(-height // rows)
    padded = jnp.pad(padded, ((0, 0), (0, strips * rows - height), (0, 0), (0, 0)))
    y = jax.lax.map(
        lambda top: multiply(
            jax.lax.dynamic_slice_in_dim(padded, top, rows + window[0] - 1, axis=1)
        ),
        np.arange(strips) * rows,
    )
    return jnp.moveaxis(y, 0, 1).reshape(len(x), strips * rows, width, -1)[:, :height]


def _columns(maps: jax.Array, window: tuple[int, int], stride: int) -> jax.Array:
    """Every window of the maps [N, H, W, C] as a row: [N, H', W', window * C]."""
    if window == (1, 1):
        return maps[:, ::stride, ::stride]
    if maps.dtype != jnp.bfloat16 or maps.shape[-1] % 2:
        return jnp.concatenate(_windows(maps, window, stride), axis=-1)
    # Copied in pairs, which is faster.
    pairs = jax.lax.bitcast_convert_type(maps.reshape(*maps.shape[:3], -1, 2), jnp.uint32)
    columns = jnp.concatenate(_windows(pairs, window, stride), axis=-1)
    return jax.lax.bitcast_convert_type(columns, jnp.bfloat16).reshape(*columns.shape[:3], -1)


class PreciseNetwork(nn.Module):
    """A network for inference alone that takes its precision from a field.

    Attributes:
      precision: dtype and precision of multiplications.
    """

    precision: Precision = FLOAT32


class FrozenNetwork(PreciseNetwork):
    """A network with or without its batch norms.

    Attributes:
      folded: without batch norms, which `histojax.encoders.folding` has put into the convolutions.
    """

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
        """Batch normalisation by the stored statistics; `x` itself where it is folded."""
        if self.folded:
            return x
        norm = nn.BatchNorm(True, epsilon=epsilon, use_scale=use_scale, name=name)
        return norm(x)


def numbered_layers(
    file: KerasFile, shapes: Shapes, convolutions: Sequence[str], norms: Sequence[str]
) -> dict[str, str]:
    """A file's layers that Keras named by class and number to ours, by their order.

    Args:
      file: the file's layers; those called `conv2d`, `conv2d_1` and so on, and
        `batch_normalization`, are taken.
      shapes: of our variables.
      convolutions, norms: our layers in Keras's order. Where the file has too few or too many, they
        are aligned by shape.
    """
    names: dict[str, str] = {}
    for kind, leaf, ours in (
        ("conv2d", "kernel", convolutions),
        ("batch_normalization", "bias", norms),
    ):
        theirs = [name for name in file if re.fullmatch(rf"{kind}(_\d+)?", name)]
        if len(theirs) == len(ours):
            names |= dict(zip(theirs, ours, strict=True))
            continue
        their_shapes = [next(iter(file[name].values())) for name in theirs]
        our_shapes = [shapes[f"params/{name}/{leaf}"] for name in ours]
        matcher = difflib.SequenceMatcher(None, their_shapes, our_shapes, autojunk=False)
        for _, start, end, our_start, our_end in matcher.get_opcodes():
            names |= dict(zip(theirs[start:end], ours[our_start:our_end], strict=False))
    return names


def torch_norm(theirs: str, ours: str) -> Mapping[str, str]:
    """PyTorch's names of a batch norm's arrays to our flat ones."""
    return {
        f"{theirs}.weight": f"params/{ours}/scale",
        f"{theirs}.bias": f"params/{ours}/bias",
        f"{theirs}.running_mean": f"batch_stats/{ours}/mean",
        f"{theirs}.running_var": f"batch_stats/{ours}/var",
    }


def require_size(images: jax.Array, smallest: int, network: str) -> None:
    """Raises ValueError for images too small for the network's last feature map to exist."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"{network} needs images of at least {smallest} x {smallest} px, got {height} x {width}"
        )


def _windows(maps: jax.Array, window: tuple[int, int], stride: int) -> list[jax.Array]:
    """Entry i, j of every window of rows x columns, no padding: arrays [N, H', W', C]."""
    height, width = (
        (side - length) // stride * stride + 1
        for side, length in zip(maps.shape[1:3], window, strict=True)
    )
    return [maps[:, i : i + height : stride, j : j + width : stride] for i, j in np.ndindex(window)]


def average_pool_same(maps: jax.Array, count_padding: bool = False) -> jax.Array:
    """3 x 3 mean at stride 1, summed in float32.

    The mean is over the pixels inside the map; with `count_padding`, as in PyTorch, over nine
    pixels everywhere, those outside being zero.
    """
    height, width = maps.shape[1:3]
    counts = [1 + (np.arange(side) > 0) + (np.arange(side) < side - 1) for side in (height, width)]
    padded = jnp.pad(maps.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = np.full((height, width), 9) if count_padding else np.outer(*counts)
    divisor = jnp.asarray(pixels[None, :, :, None], jnp.float32)
    return (sum(_windows(padded, (3, 3), 1)) / divisor).astype(maps.dtype)


def max_pool(maps: jax.Array, window: int, padding: int = 0) -> jax.Array:
    """Maximum over window x window at stride 2, on maps padded on every side with -infinity."""
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(maps, widths, constant_values=-jnp.inf) if padding else maps
    return functools.reduce(jnp.maximum, _windows(padded, (window, window), 2))
