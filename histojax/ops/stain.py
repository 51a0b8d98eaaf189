"""Stain: optical density, Macenko normalisation and hematoxylin-eosin augmentation. uint8 [H, W, 3] in and out.

An image may be padded: `valid` [H, W] then says which pixels are its own. Optical density that is kept for many
augmentations is planar, [3, H, W].

Normalisation after Macenko et al., ISBI 2009, with the constants and the reference of the paper's code; augmentation by
colour deconvolution after Ruifrok and Johnston, 2001. Images are linear in optical density (Beer-Lambert): a pixel is
concentrations [hematoxylin, eosin] times stain vectors [red, green, blue].
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

WHITE = 240.0  # Io, the intensity of no tissue.
ALPHA = 1.0  # Percentile of the angle at which the extreme stain vectors are taken.
BETA = 0.15  # Least optical density, in every channel, of a pixel of tissue.

REFERENCE_STAINS = (
    (0.5626, 0.2159),
    (0.7201, 0.8012),
    (0.4062, 0.5581),
)  # Rows R, G, B; columns H, E.
REFERENCE_MAXIMA = (1.9705, 1.0308)  # 99th percentiles of concentration: H, E.

# Below these an image has no stain plane of its own and takes the reference vectors, unscaled. A share of tissue
# below 2 % leaves the 99th percentile of concentration, taken over all pixels, to the background.
LEAST_TISSUE = 0.02
LEAST_ANGLE, LARGEST_ANGLE = (
    2.0,
    90.0,
)  # Degrees between stain vectors; two that absorb are at most 90 apart.
LEAST_MAXIMUM = 0.05  # Natural optical density.

DECONVOLUTION = ((1.88, -0.07, -0.60), (-1.02, 1.13, -0.48), (-0.55, -0.13, 1.57))
STAINS = (
    (0.65, 0.70, 0.29),
    (0.07, 0.99, 0.11),
    (0.27, 0.57, 0.78),
)  # Rows H, E, residual; columns R, G, B.

STATUS = ("ok", "fallback: too little tissue", "fallback: degenerate stain plane")


class StainQuality(NamedTuple):
    """How the normalisation of an image went; scalars, but for `maxima`.

    Attributes:
      tissue_fraction: share of pixels whose optical density is at least BETA in every channel.
      stain_angle: degrees between the hematoxylin and eosin vectors found (the reference's with too little tissue).
      maxima: float32 [2], 99th percentiles of hematoxylin and eosin concentration by those vectors.
      status: int32 index into STATUS; above 0 the reference vectors were used, unscaled.
    """

    tissue_fraction: jax.Array
    stain_angle: jax.Array
    maxima: jax.Array
    status: jax.Array


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def order_statistics(values: jax.Array, mask: jax.Array, ranks: jax.Array) -> jax.Array:
    """The values of given ranks, from 0, among those where the mask holds: float32 [N], bool [N], int [Q] -> [Q].

    By bisection over the 32 bits of a float: as many passes of counting, which is several times faster than sorting.
    Ranks beyond the count give NaN.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    # Of unsigned integers in the order of the floats: negative ones reversed, below the others.
    keys = jnp.where(mask, jnp.where(bits >= sign, ~bits, bits | sign), jnp.uint32(2**32 - 1))

    def narrow(i: jax.Array, found: jax.Array) -> jax.Array:
        tried = found | (sign >> i.astype(jnp.uint32))
        below = jnp.sum(keys[None] < tried[:, None], axis=1, dtype=jnp.int32)
        return jnp.where(below <= ranks, tried, found)

    found = jax.lax.fori_loop(0, 32, narrow, jnp.zeros(ranks.shape, jnp.uint32))
    return jax.lax.bitcast_convert_type(jnp.where(found >= sign, found ^ sign, ~found), jnp.float32)


def masked_percentile(values: jax.Array, mask: jax.Array, percent: jax.Array) -> jax.Array:
    """numpy.percentile of the values where the mask holds, with linear interpolation: [N], [N], [Q] -> [Q].

    Where the mask holds nowhere the result is NaN.
    """
    last = jnp.maximum(jnp.sum(mask) - 1, 0)
    position = percent / 100 * last
    below = jnp.floor(position).astype(jnp.int32)
    low, high = order_statistics(
        values, mask, jnp.concatenate([below, jnp.minimum(below + 1, last)])
    ).reshape(2, -1)
    return low + (high - low) * (position - below)


def combine(matrix: jax.Array, planes: jax.Array) -> jax.Array:
    """`matrix.T @ planes`, [K, C] and [K, ...] to [C, ...], written out.

    A few multiplications a pixel are elementwise work, which fuses with what is around it; a matrix product does not.
    """
    inner, outer = matrix.shape
    return jnp.stack([sum(matrix[k, c] * planes[k] for k in range(inner)) for c in range(outer)])


def plane(density: jax.Array, tissue: jax.Array) -> jax.Array:
    """Two leading eigenvectors of the covariance of tissue pixels, towards positive density: [3, N] -> [3, 2]."""
    weight = tissue.astype(jnp.float32)[None]
    count = jnp.maximum(jnp.sum(weight), 2)
    centred = (density - jnp.sum(density * weight, axis=1, keepdims=True) / count) * weight
    covariance = jnp.stack([jnp.sum(centred * each[None], axis=1) for each in centred]) / (
        count - 1
    )
    _, vectors = jnp.linalg.eigh(covariance)
    leading = vectors[:, :0:-1]
    return leading * jnp.where(jnp.sum(leading, axis=0, keepdims=True) < 0, -1, 1)


def stain_vectors(density: jax.Array, tissue: jax.Array) -> jax.Array:
    """Macenko's extreme directions of tissue in its stain plane: [3, N], [N] -> [3, 2], columns hematoxylin, eosin."""
    axes = plane(density, tissue)
    first, second = combine(axes, density)
    extremes = masked_percentile(
        jnp.arctan2(second, first), tissue, jnp.array([ALPHA, 100 - ALPHA])
    )
    vectors = matmul(axes, jnp.stack([jnp.cos(extremes), jnp.sin(extremes)]))
    return jnp.where(vectors[0, 0] > vectors[0, 1], vectors, vectors[:, ::-1])


def concentrations(density: jax.Array, stains: jax.Array) -> jax.Array:
    """Least-squares amounts of two stains: [3, N], [3, 2] -> [2, N], by the 2 x 2 normal equations."""
    gram = matmul(stains.T, stains)
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
    inverse = jnp.array([[gram[1, 1], -gram[0, 1]], [-gram[1, 0], gram[0, 0]]]) / determinant
    return combine(matmul(stains, inverse), density)


@jax.jit
def normalize_with_quality(
    rgb: jax.Array, valid: jax.Array | None = None
) -> tuple[jax.Array, StainQuality]:
    """`normalize`, and how it went.

    Too little tissue (below LEAST_TISSUE), vectors that span no plane (closer than LEAST_ANGLE, or further than
    LARGEST_ANGLE) or a stain that is absent (maximum below LEAST_MAXIMUM) make the image fall back on the reference
    vectors with its concentrations as they are; `status` says so.

    Args:
      rgb: uint8 [H, W, 3].
      valid: bool [H, W], the pixels that count; all by default.

    Returns:
      uint8 [H, W, 3], arbitrary where not valid, and the quality.
    """
    density = -jnp.log((rgb.reshape(-1, 3).T.astype(jnp.float32) + 1) / WHITE)
    inside = jnp.ones(density.shape[1], bool) if valid is None else valid.reshape(-1)
    tissue = jnp.all(density >= BETA, axis=0) & inside
    fraction = jnp.sum(tissue) / jnp.sum(inside)
    reference, reference_maxima = jnp.array(REFERENCE_STAINS), jnp.array(REFERENCE_MAXIMA)

    enough = fraction >= LEAST_TISSUE
    found = jnp.where(enough, stain_vectors(density, tissue), reference)
    cosine = jnp.sum(found[:, 0] * found[:, 1]) / jnp.sqrt(jnp.prod(jnp.sum(found**2, axis=0)))
    angle = jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))
    spread = (angle >= LEAST_ANGLE) & (angle <= LARGEST_ANGLE)
    found = jnp.where(spread, found, reference)
    amounts = concentrations(density, found)
    percent = jnp.array([100 - ALPHA])
    maxima = jnp.concatenate([masked_percentile(each, inside, percent) for each in amounts])
    usable = enough & spread & jnp.all(maxima >= LEAST_MAXIMUM)

    stains = jnp.where(usable, found, reference)
    amounts = concentrations(density, stains)
    amounts = (
        amounts * jnp.where(usable, reference_maxima / jnp.where(usable, maxima, 1), 1)[:, None]
    )
    rebuilt = WHITE * jnp.exp(-combine(reference.T, amounts))
    status = jnp.where(enough, jnp.where(usable, 0, 2), 1)
    quality = StainQuality(fraction, angle, maxima, status)
    return jnp.clip(rebuilt, 0, 255).astype(jnp.uint8).T.reshape(rgb.shape), quality


def normalize(rgb: jax.Array) -> jax.Array:
    """Macenko normalisation to the paper's reference stains: protocol, pre-processing step 2.

    Never fails: see `normalize_with_quality` for the fallback.

    Args:
      rgb: uint8 [H, W, 3].

    Returns:
      uint8 [H, W, 3], clipped and truncated.
    """
    return normalize_with_quality(rgb)[0]


@jax.jit
def density(rgb: jax.Array) -> jax.Array:
    """Decadic optical density, the form in which an image is augmented: uint8 [H, W, 3] to float32 [3, H, W]."""
    return -jnp.log10((jnp.moveaxis(rgb, -1, 0).astype(jnp.float32) + 1) / WHITE)


def mixing(gains: jax.Array) -> jax.Array:
    """Deconvolution, gains and rebuilding as one matrix on optical density (row vectors): float32 [2] to [3, 3]."""
    amounts = jnp.concatenate([gains.astype(jnp.float32), jnp.ones(1)])
    return matmul(jnp.array(DECONVOLUTION).T * amounts[None], jnp.array(STAINS))


def augment_density(density: jax.Array, gains: jax.Array) -> jax.Array:
    """`augment` of an image kept as optical density.

    Args:
      density: float32 [3, H, W], of `density`.
      gains: float [2], hematoxylin and eosin.

    Returns:
      float32 [3, H, W], whole grey levels 0 to 255.
    """
    matrix = -math.log(10) * mixing(gains)  # exp is several times faster than a power of ten.
    return jnp.floor(jnp.clip(WHITE * jnp.exp(combine(matrix, density)) - 1, 0, 255))


@jax.jit
def augment(rgb: jax.Array, gains: jax.Array) -> jax.Array:
    """Multiplies the amounts of hematoxylin and eosin: protocol, pre-processing step 3.

    Args:
      rgb: uint8 [H, W, 3].
      gains: float [2], hematoxylin and eosin.

    Returns:
      uint8 [H, W, 3], clipped and truncated.
    """
    return jnp.moveaxis(augment_density(density(rgb), gains), 0, -1).astype(jnp.uint8)
