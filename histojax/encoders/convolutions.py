"""Convolutions by the fastest way: inference only, channels last.

XLA's own, or where a platform has a faster way to the same number, products of matrices: for 1 x 1
kernels everywhere, on a CPU for small maps, in bfloat16, and by Winograd's algorithm for 3 x 3
kernels of many channels. docs/performance.md has times.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders.precision import Precision

Padding = str | tuple[tuple[int, int], tuple[int, int]]

# Cells of a map, at most, up to which a CPU multiplies matrices for a convolution. XLA's own is
# slower there, a hundred times where the kernel is larger than the map.
_SMALL_MAP = 64
# In bfloat16 a CPU multiplies matrices for all layers but those of few channels, where copying the
# windows takes longer; places of large maps are taken so many at a time, which its cache holds.
_FEWEST_CHANNELS = 96
_STRIP = 512
# From so many channels in and out on, and on maps of so many cells, Winograd's algorithm saves more
# in products than it adds in sums; places of large maps are taken so many at a time.
_WINOGRAD_CHANNELS = 128
_WINOGRAD_CELLS = 16
_WINOGRAD_STRIP = 2048

# A 3 x 3 kernel as Winograd's algorithm has it: of each of four rows, four matrices [4, in, out].
Transformed = Sequence[jax.Array]


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int = 1,
    padding: Padding = "SAME",
    transformed: Transformed | None = None,
) -> jax.Array:
    """[N, H, W, in] -> [N, H', W', out], the fastest way; docs/performance.md has times.

    Args:
      x: maps.
      kernel: [rows, columns, in, out].
      bias: [out].
      precision: of maps and products.
      strides: of the windows.
      padding: as of `jax.lax.conv_general_dilated`.
      transformed: `transform` of the kernel, which a CPU multiplies by where that is faster.
    """
    x, kernel, bias = (array.astype(precision.dtype) for array in (x, kernel, bias))
    rows, columns, channels, _ = kernel.shape
    way = {"precision": precision, "strides": strides, "padding": padding}
    convolve = functools.partial(_convolve, **way)
    multiply = functools.partial(_multiply_columns, **way)
    is_pointwise = rows == columns == 1
    cells = x.shape[1] * x.shape[2]
    is_small = cells <= _SMALL_MAP
    if transformed is not None and strides == 1 and cells >= _WINOGRAD_CELLS:
        on_cpu = functools.partial(_winograd, transformed=transformed, **way)
    elif precision.dtype == jnp.bfloat16:
        on_cpu = multiply if is_pointwise or is_small or channels >= _FEWEST_CHANNELS else convolve
    else:
        on_cpu = multiply if is_small and not is_pointwise else convolve
    if on_cpu is convolve:
        return convolve(x, kernel, bias)
    return jax.lax.platform_dependent(x, kernel, bias, cpu=on_cpu, default=convolve)


def transform(kernel: np.ndarray, precision: Precision) -> Transformed | None:
    """What Winograd's algorithm multiplies by; None where a CPU is faster without it."""
    rows, columns, *channels = kernel.shape
    is_wide = min(channels) >= _WINOGRAD_CHANNELS
    if precision.dtype != jnp.float32 or rows != 3 or columns != 3 or not is_wide:
        return None
    return [jnp.asarray(np.stack(_of_kernel(*row))) for row in _of_kernel(*kernel)]


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
    window = kernel.shape[:2]
    padded = _pad(x, window, strides, padding)
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def multiply(maps: jax.Array) -> jax.Array:
        y = product(
            _columns(maps, window, strides), matrix, precision, preferred_element_type=jnp.float32
        )
        return (y + bias.astype(jnp.float32)[None, None, None]).astype(x.dtype)

    if strides > 1 or window == (1, 1):
        return multiply(padded)
    return _by_strips(multiply, padded, window, _STRIP)


def _winograd(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision,
    strides: int,
    padding: Padding,
    transformed: Transformed,
) -> jax.Array:
    """A 3 x 3 convolution with 16 products for each 2 x 2 places, where the windows have 36.

    Winograd's F(2 x 2, 3 x 3), section 4.1 of Lavin and Gray 2016 (arXiv:1509.09308).
    """
    padded = _pad(x, (3, 3), strides, padding)
    width = padded.shape[2] - 2
    padded = jnp.pad(padded, ((0, 0), (0, 0), (0, width % 2), (0, 0)))
    multiply_batch = jax.vmap(functools.partial(product, precision=precision))

    def multiply(maps: jax.Array) -> jax.Array:
        along_rows = jnp.stack(_of_maps(*_fours(maps)))
        tiles = _of_maps(*_fours(along_rows))
        products = [multiply_batch(*pair) for pair in zip(tiles, transformed, strict=True)]
        places = [jnp.stack(_of_products(*row), axis=3) for row in _of_products(*products)]
        y = jnp.stack(places, axis=2)
        count, height, _, width, _, features = y.shape
        return y.reshape(count, 2 * height, 2 * width, features) + bias[None, None, None]

    return _by_strips(multiply, padded, (3, 3), _WINOGRAD_STRIP, unit=2)[:, :, :width]


def _fours(maps: jax.Array) -> list[jax.Array]:
    """Entry i of every window of four at stride 2 along the third axis."""
    end = maps.shape[2] - 3
    return [maps[:, :, i : end + i : 2] for i in range(4)]


def _of_kernel(a: jax.Array, b: jax.Array, c: jax.Array) -> Sequence[jax.Array]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_maps(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Sequence[jax.Array]:
    return a - c, b + c, c - b, b - d


def _of_products(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Sequence[jax.Array]:
    return a + b + c, b - c - d


def _pad(x: jax.Array, window: tuple[int, int], strides: int, padding: Padding) -> jax.Array:
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], window, (strides, strides), padding)
    return jnp.pad(x, ((0, 0), *padding, (0, 0)))


def _by_strips(
    multiply: Callable[[jax.Array], jax.Array],
    padded: jax.Array,
    window: tuple[int, int],
    places: int,
    unit: int = 1,
) -> jax.Array:
    """A layer of windows at stride 1 on strips of the maps: [N, H, W, C] -> [N, H', W', features].

    Args:
      multiply: the layer, on maps of any height.
      padded: maps.
      window: rows and columns.
      places: of the result, that a strip of all maps has, about.
      unit: what the rows of a strip are a multiple of.
    """
    height, width = padded.shape[1] - window[0] + 1, padded.shape[2] - window[1] + 1
    units = -(-height // unit)
    strips = max(1, min(units, len(padded) * height * width // places))
    rows = -(-units // strips) * unit
    strips = -(-height // rows)
    padded = jnp.pad(padded, ((0, 0), (0, strips * rows - height), (0, 0), (0, 0)))
    if strips == 1:
        return multiply(padded)[:, :height]
    y = jax.lax.map(
        lambda top: multiply(
            jax.lax.dynamic_slice_in_dim(padded, top, rows + window[0] - 1, axis=1)
        ),
        np.arange(strips) * rows,
    )
    return jnp.moveaxis(y, 0, 1).reshape(len(padded), strips * rows, *y.shape[3:])[:, :height]


def _columns(maps: jax.Array, window: tuple[int, int], stride: int) -> jax.Array:
    """Every window of the maps [N, H, W, C] as a row: [N, H', W', window * C]."""
    if window == (1, 1):
        return maps[:, ::stride, ::stride]
    if maps.dtype != jnp.bfloat16 or maps.shape[-1] % 2:
        return jnp.concatenate(windows(maps, window, stride), axis=-1)
    # Copied in pairs, which is faster.
    pairs = jax.lax.bitcast_convert_type(maps.reshape(*maps.shape[:3], -1, 2), jnp.uint32)
    columns = jnp.concatenate(windows(pairs, window, stride), axis=-1)
    return jax.lax.bitcast_convert_type(columns, jnp.bfloat16).reshape(*columns.shape[:3], -1)


def windows(maps: jax.Array, window: tuple[int, int], stride: int) -> list[jax.Array]:
    """Entry i, j of every window of rows x columns, no padding: arrays [N, H', W', C]."""
    height, width = (
        (side - length) // stride * stride + 1
        for side, length in zip(maps.shape[1:3], window, strict=True)
    )
    return [maps[:, i : i + height : stride, j : j + width : stride] for i, j in np.ndindex(window)]
