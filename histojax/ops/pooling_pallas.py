"""Feature maps to pooled descriptors in one kernel, by Pallas.

float32 or bfloat16 [A, P, H, W, C] -> float32 [A, C].

It computes pooling.pnorm(pooling.global_average(maps)). A program of the GPU takes one augmentation
and a block of channels and goes through the crops, and through the pixels of each: every value is
read once, and only the result is written. The kernel uses Pallas's Triton backend, which jax 0.11
calls deprecated in favour of Mosaic GPU, for Hopper and later: docs/performance.md.

What must be read, for VGG's second block (A = 3, P = 20, 200 x 200 x 128), is 1.2 GB in float32 or
0.6 GB in bfloat16, which takes an H100 (3.35 TB/s) at least 0.4 or 0.2 ms. Arithmetic, one addition
a value, is negligible.
"""

import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

# Early layers have few channels, so few programs. Until every multiprocessor of a large GPU (an
# H100 has 132) has one, blocks narrow from a cache line to a sector, the smallest unit of memory
# access: VGG's second block still makes only 48 programs in float32 and 24 in bfloat16. So each
# program must have many loads in flight: large tiles, 32 values a thread.
_LINE = 128  # Bytes.
_SECTOR = 32  # Bytes.
_MULTIPROCESSORS = 132
_TILE = 16384  # Values.
_VALUES_PER_THREAD = 32
_MOST_WARPS = 16


def _blocks(augmentations: int, pixels: int, channels: int, itemsize: int) -> tuple[int, int, int]:
    """Rows (pixels) and columns (channels) of a tile, and the warps of a program.

    Rows and columns are powers of two, as Triton requires.
    """

    def programs(columns: int) -> int:
        return augmentations * pl.cdiv(channels, columns)

    columns = min(_LINE // itemsize, pl.next_power_of_2(channels))
    while columns * itemsize > _SECTOR and programs(columns) < _MULTIPROCESSORS:
        columns //= 2
    rows = min(_TILE // columns, pl.next_power_of_2(pixels))
    warps = max(rows * columns // (32 * _VALUES_PER_THREAD), 1)
    return rows, columns, min(warps, _MOST_WARPS)


def _include(
    largest: jax.Array, total: jax.Array, average: jax.Array, p: float
) -> tuple[jax.Array, jax.Array]:
    """Adds a crop to running sums, as in online softmax; all arrays are float32 [channels].

    Args:
      largest: the largest average so far, 0 before the first; the unit of `total`, which therefore
        never overflows.
      total: the sum of (average / largest)^p over the crops so far; unused where p is infinite.
      average: of the new crop.
      p: the exponent.
    """
    size = jnp.abs(average)
    # Not jnp.maximum, which drops NaN on a GPU: here it stays.
    is_larger = ~(size <= largest) & ~jnp.isnan(largest)
    upper = jnp.where(is_larger, size, largest)
    lower = jnp.where(is_larger, largest, size)
    if math.isinf(p):
        return upper, total
    power = (lower / jnp.where(upper == 0, 1.0, upper)) ** p
    return upper, jnp.where(is_larger, total * power + 1, total + power)


def pool(maps: jax.Array, p: float, *, interpret: bool = False) -> jax.Array:
    """The p-norm mean over crops of averages over pixels, (mean_P |mean_HW maps|^p)^(1/p).

    Sums are float32; neither large averages overflow nor small ones vanish in the power. There is
    no gradient. Inside jax.shard_map it needs `check_vma=False`: Pallas's interpreter does not
    track over which axes of a mesh values vary.

    Args:
      maps: float32 or bfloat16 [A, P, H, W, C], no axis empty.
      p: at least 1, or infinity for the maximum; a number, not an array.
      interpret: runs it without a GPU, slowly.

    Returns:
      float32 [A, C].

    Raises:
      ValueError: p is below 1 or not a number; maps of another rank or dtype, or empty.
    """
    if not p >= 1:
        raise ValueError(f"p of the p-norm must be at least 1 (or infinity), got {p}")
    if maps.ndim != 5 or 0 in maps.shape or maps.dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(
            "maps must be float32 or bfloat16 [A, P, H, W, C] with no axis empty, "
            f"got {maps.dtype} {maps.shape}"
        )
    p = float(p)
    augmentations, crops, height, width, channels = maps.shape
    pixels = height * width
    rows, columns, warps = _blocks(augmentations, pixels, channels, maps.dtype.itemsize)

    def kernel(maps_ref, pooled_ref):
        """maps [P, H x W, columns] -> pooled [columns]."""
        # Triton does not mask reads beyond the edge of an array.
        is_channel = pl.program_id(1) * columns + jnp.arange(columns) < channels

        def average(crop: jax.Array) -> jax.Array:
            def add(chunk: jax.Array, sums: jax.Array) -> jax.Array:
                start = chunk * rows
                mask = (start + jnp.arange(rows) < pixels)[:, None] & is_channel[None]
                tile = plgpu.load(maps_ref.at[crop, pl.ds(start, rows), :], mask=mask, other=0.0)
                return sums + tile.astype(jnp.float32)

            sums = jax.lax.fori_loop(
                0, pl.cdiv(pixels, rows), add, jnp.zeros((rows, columns), jnp.float32)
            )
            return jnp.sum(sums, axis=0) / pixels

        nothing = jnp.zeros(columns, jnp.float32)
        largest, total = jax.lax.fori_loop(
            0, crops, lambda crop, state: _include(*state, average(crop), p), (nothing, nothing)
        )
        pooled = largest if math.isinf(p) else largest * (total / crops) ** (1 / p)
        plgpu.store(pooled_ref.at[:], pooled, mask=is_channel)

    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((augmentations, channels), jnp.float32),
        grid=(augmentations, pl.cdiv(channels, columns)),
        in_specs=[pl.BlockSpec((None, crops, pixels, columns), lambda a, block: (a, 0, 0, block))],
        out_specs=pl.BlockSpec((None, columns), lambda a, block: (a, block)),
        compiler_params=plgpu.CompilerParams(num_warps=warps),
        interpret=interpret,
        name="pooling",
    )(maps.reshape(augmentations, crops, pixels, channels))
