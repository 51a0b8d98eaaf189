"""Stain: optical density, Macenko normalisation and hematoxylin-eosin augmentation.

A `Normalizer` is fitted to an image and transforms it, uint8 [H, W, 3] to the same. An
`Augmentation` brings an image into planes [3, H, W] once, and makes any number of augmented images
from these. To add one, write a value of that class and a row of NORMALIZERS or AUGMENTATIONS at the
end of this file; docs/extending.md has examples.

Normalisation after Macenko et al., ISBI 2009, with the constants and the reference of the paper's
code; augmentation by colour deconvolution after Ruifrok and Johnston, 2001. Images are linear in
optical density (Beer-Lambert): a pixel is concentrations [hematoxylin, eosin] times stain vectors
[red, green, blue].
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from histojax.config import LEAST_TISSUE

WHITE = 240.0  # Io, the intensity of no tissue.
ANGLE_PERCENTILE = 1.0  # Macenko's alpha: where the extreme stain vectors are taken.
TISSUE_DENSITY = 0.15  # Macenko's beta: least optical density, in every channel, of tissue.

# Rows R, G, B; columns H, E.
REFERENCE_STAINS = ((0.5626, 0.2159), (0.7201, 0.8012), (0.4062, 0.5581))
REFERENCE_MAXIMA = (1.9705, 1.0308)  # 99th percentiles of concentration: H, E.

# Below these an image has no stain plane of its own and takes the reference vectors, unscaled; also
# below LEAST_TISSUE, a share that leaves the 99th percentile of concentration, taken over all
# pixels, to the background.
LEAST_ANGLE = 2.0  # Degrees between stain vectors.
LARGEST_ANGLE = 90.0  # Vectors of two stains that absorb are at most 90 degrees apart.
LEAST_MAXIMUM = 0.05  # Natural optical density.

# The augmentation's matrices. Rows H, E, residual; columns R, G, B.
DECONVOLUTION = ((1.88, -0.07, -0.60), (-1.02, 1.13, -0.48), (-0.55, -0.13, 1.57))
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


class StainQuality(NamedTuple):
    """How the normalisation of an image went; scalars, but for `maxima`.

    Attributes:
      tissue_fraction: share of pixels whose optical density is at least TISSUE_DENSITY in every
        channel.
      stain_angle: degrees between the hematoxylin and eosin vectors found (the reference's with too
        little tissue).
      maxima: float32 [2], 99th percentiles of hematoxylin and eosin concentration by those vectors.
      status: int32 index into `config.STAIN_STATUS`; above 0 the reference vectors were used,
        unscaled.
    """

    tissue_fraction: jax.Array
    stain_angle: jax.Array
    maxima: jax.Array
    status: jax.Array


class Stains(NamedTuple):
    """An image's stain vectors, float32 [3, 2], and what concentrations are multiplied by, [2]."""

    vectors: jax.Array
    factors: jax.Array


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """A stain normalizer, as two pure functions that run inside `jax.jit`.

    Attributes:
      fit: (pixels uint8 [..., 3], valid bool [...]) -> (fitted, StainQuality): what `transform`
        needs to know of an image, any pytree of arrays, from those of its pixels that count.
      transform: (rgb uint8 [H, W, 3], fitted) -> uint8 [H, W, 3].
    """

    fit: Callable[[jax.Array, jax.Array], tuple[Any, StainQuality]]
    transform: Callable[[jax.Array, Any], jax.Array]

    def normalize(
        self, rgb: jax.Array, valid: jax.Array | None = None
    ) -> tuple[jax.Array, StainQuality]:
        """An image fitted and transformed, and how it went.

        Args:
          rgb: uint8 [H, W, 3].
          valid: bool [H, W], the pixels that count; all by default.

        Returns:
          uint8 [H, W, 3], arbitrary where not valid, and the quality.
        """
        valid = jnp.ones(rgb.shape[:2], bool) if valid is None else valid
        fitted, quality = self.fit(rgb, valid)
        return self.transform(rgb, fitted), quality


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A colour augmentation, as two pure functions that run inside `jax.jit`.

    It works pixel by pixel, so that crops can be cut before it.

    Attributes:
      planes: uint8 [H, W, 3] -> float32 [3, H, W], the form in which an image waits for it.
      apply: (planes, gains) -> float32 [3, H, W], whole grey levels 0 to 255.
      gains: how many random numbers an augmentation takes, G, each uniform from --gain_low to
        --gain_high (`crops.gains`).
    """

    planes: Callable[[jax.Array], jax.Array]
    apply: Callable[[jax.Array, jax.Array], jax.Array]
    gains: int = 2


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _order_statistics(values: jax.Array, mask: jax.Array, ranks: jax.Array) -> jax.Array:
    """Values by rank, from 0, among those where the mask holds: [N], bool [N], int [Q] -> [Q].

    By bisection over the 32 bits of a float: as many passes of counting, which is several times
    faster than sorting. Ranks beyond the count give NaN.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    # Unsigned integers in the order of the floats: negative ones reversed, below the others.
    keys = jnp.where(mask, jnp.where(bits >= sign, ~bits, bits | sign), jnp.uint32(2**32 - 1))

    def narrow(i: jax.Array, lower: jax.Array) -> jax.Array:
        middle = lower | (sign >> i.astype(jnp.uint32))
        below = jnp.sum(keys[None] < middle[:, None], axis=1, dtype=jnp.int32)
        return jnp.where(below <= ranks, middle, lower)

    found = jax.lax.fori_loop(0, 32, narrow, jnp.zeros(ranks.shape, jnp.uint32))
    return jax.lax.bitcast_convert_type(jnp.where(found >= sign, found ^ sign, ~found), jnp.float32)


def _masked_percentile(values: jax.Array, mask: jax.Array, percent: jax.Array) -> jax.Array:
    """numpy.percentile (linear) of the values where the mask holds: [N], bool [N], [Q] -> [Q].

    Where the mask holds nowhere the result is NaN.
    """
    last = jnp.maximum(jnp.sum(mask) - 1, 0)
    position = percent / 100 * last
    below = jnp.floor(position).astype(jnp.int32)
    low, high = _order_statistics(
        values, mask, jnp.concatenate([below, jnp.minimum(below + 1, last)])
    ).reshape(2, -1)
    return low + (high - low) * (position - below)


def _combine(matrix: jax.Array, planes: jax.Array) -> jax.Array:
    """`matrix.T @ planes`, [K, C] and [K, ...] to [C, ...], written out.

    A few multiplications a pixel are elementwise work, which XLA fuses with its neighbours; a
    matrix product is not fused.
    """
    inner, outer = matrix.shape
    return jnp.stack([sum(matrix[k, c] * planes[k] for k in range(inner)) for c in range(outer)])


def _stain_plane(density: jax.Array, tissue: jax.Array) -> jax.Array:
    """Two leading eigenvectors of the covariance of tissue, of positive sum: [3, N] -> [3, 2]."""
    weight = tissue.astype(jnp.float32)[None]
    count = jnp.maximum(jnp.sum(weight), 2)
    centred = (density - jnp.sum(density * weight, axis=1, keepdims=True) / count) * weight
    covariance = jnp.stack([jnp.sum(centred * channel[None], axis=1) for channel in centred]) / (
        count - 1
    )
    _, vectors = jnp.linalg.eigh(covariance)  # In ascending order of eigenvalue.
    leading = vectors[:, :0:-1]
    return leading * jnp.where(jnp.sum(leading, axis=0, keepdims=True) < 0, -1, 1)


def _stain_vectors(density: jax.Array, tissue: jax.Array) -> jax.Array:
    """Macenko's extreme directions of tissue: [3, N], [N] -> [3, 2], columns hematoxylin, eosin."""
    axes = _stain_plane(density, tissue)
    first, second = _combine(axes, density)
    extremes = _masked_percentile(
        jnp.arctan2(second, first), tissue, jnp.array([ANGLE_PERCENTILE, 100 - ANGLE_PERCENTILE])
    )
    vectors = _matmul(axes, jnp.stack([jnp.cos(extremes), jnp.sin(extremes)]))
    return jnp.where(vectors[0, 0] > vectors[0, 1], vectors, vectors[:, ::-1])


def _concentrations(density: jax.Array, stains: jax.Array) -> jax.Array:
    """Least-squares amounts of two stains, by the normal equations: [3, N], [3, 2] -> [2, N]."""
    gram = _matmul(stains.T, stains)
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
    inverse = jnp.array([[gram[1, 1], -gram[0, 1]], [-gram[1, 0], gram[0, 0]]]) / determinant
    return _combine(_matmul(stains, inverse), density)


def _natural_density(pixels: jax.Array) -> jax.Array:
    """Natural optical density: uint8 [..., 3] to float32 [3, N]."""
    return -jnp.log((pixels.reshape(-1, 3).T.astype(jnp.float32) + 1) / WHITE)


def fit_macenko(pixels: jax.Array, valid: jax.Array) -> tuple[Stains, StainQuality]:
    """Macenko's stain vectors and scaling of an image: protocol, pre-processing step 2.

    Never fails. Too little tissue (below LEAST_TISSUE), vectors that span no plane (closer than
    LEAST_ANGLE, or further than LARGEST_ANGLE) or a stain that is absent (maximum below
    LEAST_MAXIMUM) make it fall back on the reference vectors with concentrations as they are; the
    quality's `status` says so.

    Args:
      pixels: uint8 [..., 3].
      valid: bool [...], those that count.
    """
    density, inside = _natural_density(pixels), valid.reshape(-1)
    tissue = jnp.all(density >= TISSUE_DENSITY, axis=0) & inside
    fraction = jnp.sum(tissue) / jnp.sum(inside)
    reference, reference_maxima = jnp.array(REFERENCE_STAINS), jnp.array(REFERENCE_MAXIMA)

    enough = fraction >= LEAST_TISSUE
    vectors = jnp.where(enough, _stain_vectors(density, tissue), reference)
    cosine = jnp.sum(vectors[:, 0] * vectors[:, 1]) / jnp.sqrt(
        jnp.prod(jnp.sum(vectors**2, axis=0))
    )
    angle = jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))
    spread = (angle >= LEAST_ANGLE) & (angle <= LARGEST_ANGLE)
    vectors = jnp.where(spread, vectors, reference)
    percent = jnp.array([100 - ANGLE_PERCENTILE])
    maxima = jnp.concatenate(
        [
            _masked_percentile(amounts, inside, percent)
            for amounts in _concentrations(density, vectors)
        ]
    )
    usable = enough & spread & jnp.all(maxima >= LEAST_MAXIMUM)
    stains = Stains(
        jnp.where(usable, vectors, reference),
        jnp.where(usable, reference_maxima / jnp.where(usable, maxima, 1), 1),
    )
    status = jnp.where(enough, jnp.where(usable, 0, 2), 1)
    return stains, StainQuality(fraction, angle, maxima, status)


def transform_macenko(rgb: jax.Array, stains: Stains) -> jax.Array:
    """An image rebuilt in the reference stains: uint8 [H, W, 3] to the same, clipped, truncated."""
    amounts = _concentrations(_natural_density(rgb), stains.vectors) * stains.factors[:, None]
    rebuilt = WHITE * jnp.exp(-_combine(jnp.array(REFERENCE_STAINS).T, amounts))
    return jnp.clip(rebuilt, 0, 255).astype(jnp.uint8).T.reshape(rgb.shape)


def _measure_alone(pixels: jax.Array, valid: jax.Array) -> tuple[tuple, StainQuality]:
    """Nothing is fitted; Macenko's measures are taken all the same, and no fallback happens."""
    _, quality = fit_macenko(pixels, valid)
    return (), quality._replace(status=jnp.zeros_like(quality.status))


MACENKO = Normalizer(fit_macenko, transform_macenko)
NO_NORMALIZER = Normalizer(_measure_alone, lambda rgb, fitted: rgb)


@jax.jit
def normalize_with_quality(
    rgb: jax.Array, valid: jax.Array | None = None
) -> tuple[jax.Array, StainQuality]:
    """`normalize`, and how it went; arguments as for `Normalizer.normalize`."""
    return MACENKO.normalize(rgb, valid)


def normalize(rgb: jax.Array) -> jax.Array:
    """Macenko normalisation to the paper's reference stains; never fails, see `fit_macenko`.

    Args:
      rgb: uint8 [H, W, 3].

    Returns:
      uint8 [H, W, 3], clipped and truncated.
    """
    return normalize_with_quality(rgb)[0]


@jax.jit
def optical_density(rgb: jax.Array) -> jax.Array:
    """Decadic optical density: uint8 [H, W, 3] to float32 [3, H, W]."""
    return -jnp.log10((jnp.moveaxis(rgb, -1, 0).astype(jnp.float32) + 1) / WHITE)


def _mixing(gains: jax.Array) -> jax.Array:
    """Deconvolution, gains, rebuilding: one matrix for row vectors of density, [2] to [3, 3]."""
    amounts = jnp.concatenate([gains.astype(jnp.float32), jnp.ones(1)])
    return _matmul(jnp.array(DECONVOLUTION).T * amounts[None], jnp.array(STAINS))


def augment_density(density: jax.Array, gains: jax.Array) -> jax.Array:
    """`augment` of an image kept as optical density.

    Args:
      density: float32 [3, H, W], of `optical_density`.
      gains: float [2], hematoxylin and eosin.

    Returns:
      float32 [3, H, W], whole grey levels 0 to 255.
    """
    matrix = -math.log(10) * _mixing(gains)  # exp is several times faster than a power of ten.
    return jnp.floor(jnp.clip(WHITE * jnp.exp(_combine(matrix, density)) - 1, 0, 255))


@jax.jit
def augment(rgb: jax.Array, gains: jax.Array) -> jax.Array:
    """Multiplies the amounts of hematoxylin and eosin: protocol, pre-processing step 3.

    Args:
      rgb: uint8 [H, W, 3].
      gains: float [2], hematoxylin and eosin.

    Returns:
      uint8 [H, W, 3], clipped and truncated.
    """
    return jnp.moveaxis(augment_density(optical_density(rgb), gains), 0, -1).astype(jnp.uint8)


HEMATOXYLIN_EOSIN = Augmentation(optical_density, augment_density)
NO_AUGMENTATION = Augmentation(
    planes=lambda rgb: jnp.moveaxis(rgb, -1, 0).astype(jnp.float32),
    apply=lambda planes, gains: planes,
    gains=0,
)

# What --stain_normalizer and --stain_augmentation may be.
NORMALIZERS = {"macenko": MACENKO, "none": NO_NORMALIZER}
AUGMENTATIONS = {"hematoxylin_eosin": HEMATOXYLIN_EOSIN, "none": NO_AUGMENTATION}
