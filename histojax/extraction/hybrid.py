"""Crop mode hybrid: exact crops, and whole images for what the stain augmentation changes.

Let D(g, c) be the exact descriptor of crop c of an image, turned its own way, in an augmentation
with gains g. Crops come from a pool of Q an image and size, so it is needed for Q crops and many g.
Let W(g, c) be the means of the feature maps of the whole image under the crop's window. W has
neither the crop's border nor its turn, but it sees the same tissue in the same colours; border and
turn add b = D - W. For any gains g0,

    D(g, c) = D(g0, c) + [W(g, c) - W(g0, c)] + [b(g, c) - b(g0, c)]

The first bracket is most of what colour changes. W is smooth in the gains, which are two numbers,
so it is interpolated from n x n Chebyshev nodes between the lowest and the highest gain. A filter
that, turned, responds more strongly also changes more, so the bracket is multiplied by about D / W:

    s(c) = (D(g0, c) + m) / (W(g0, c) + m), at most 2, with m the mean of W(g0) over the pool

What is left of the second bracket is small, and much the same in all crops of an image: it is taken
to be one polynomial B(g - g0) of the second degree without a constant, fitted by least squares to
the pool, of which each crop is encoded exactly twice: at g0, midway between the lowest and the
highest gain, and at one of the nodes, k(c), in turn. So

    D(g, c) ~ D(g0, c) + s(c) sum_k [L_k(g) - L_k(g0)] W(k, c) + B(g - g0)
    B(k(c) - g0) ~ D(k(c), c) - D(g0, c) - s(c) [W(k(c), c) - W(g0, c)]

with L_k products of Lagrange's polynomials. What cannot be negative (a channel that is not, in all
of the pool and of the windows) is cut off at 0; for others s is 1. An augmentation then draws P
crops of the pool, and takes their p-norm. Three programs do it:

windows    each node: the whole image -> maps -> windows of the pool's crops [n^2, Q, D]
pool       each crop of the pool, twice [2 Q, D]
assemble   the sum above, the draw, the p-norm [A, D]

Any stain augmentation of G gains will do, with n^G nodes. Without gains, or where the lowest is the
highest, the pool at g0 is all there is to compute. `crop_errors` measures what is left out, on some
images of every run.
"""

import functools
import itertools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.config import Extraction
from histojax.encoders import Tap, Variables, pool_over_crops
from histojax.extraction import crop_windows, plans, preparation
from histojax.extraction.plans import Plan
from histojax.ops import chebyshev, crops, stain

_LARGEST_SHARE = 2.0  # Of s: where windows are nearly 0, their quotient would be noise.

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def interpolation_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """L_k(g) in the order of `preparation.gain_nodes`: float32 [G] -> [n^G]."""
    low, high = extraction.gain_low, extraction.gain_high
    return chebyshev.weights(gains, low, high, extraction.gain_nodes)


def node_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """L_k(g) - L_k(g0), likewise: float32 [G] -> [n^G]."""
    middle = jnp.array(preparation.middle_gains(extraction))
    return interpolation_weights(gains, extraction) - interpolation_weights(middle, extraction)


def second_nodes(extraction: Extraction) -> np.ndarray:
    """The node at which each crop of the pool is encoded again: int [Q]; none if no gain varies.

    It is never the middle, where its change is known to be none.
    """
    nodes = preparation.gain_nodes(extraction)
    middle = preparation.middle_gains(extraction)
    others = np.flatnonzero(~np.isclose(nodes, middle).all(axis=1))
    return np.resize(others, extraction.pool_crops if len(others) else 0)


def drift_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """B(g - g0) as weights of what the second encoding of each crop tells of it: float32 [Q]."""
    seconds = preparation.gain_nodes(extraction)[second_nodes(extraction)]
    at_seconds = np.stack(_monomials(_places(seconds, extraction).T), axis=1)
    fit = np.linalg.pinv(at_seconds, rcond=1e-4).astype(np.float32)
    return _einsum("m,mq->q", jnp.stack(_monomials(_places(gains, extraction))), fit)


def _places(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """Gains between -1, the lowest, and 1, the highest."""
    low, high = extraction.gain_low, extraction.gain_high
    return (gains - (low + high) / 2) / ((high - low) / 2)


def _monomials(numbers: Iterable[jax.Array]) -> list[jax.Array]:
    """The monomials of the first and the second degree in G numbers: G (G + 3) / 2."""
    pairs = itertools.combinations_with_replacement(numbers, 2)
    return [*numbers, *(one * other for one, other in pairs)]


def encode_windows(
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> dict[str, jax.Array]:
    """The windows of the pool's crops at `plan.per_call` nodes: float32 [per_call, Q, D] by view.

    Args are those of `programs.encode`; `planes` are of the whole image without canvas around it.
    """
    encoder, extraction = plan.workload.encoder, plan.workload.extraction
    views, at_nodes = plan.workload.views, preparation.gain_nodes(extraction)
    step = stain.AUGMENTATIONS[extraction.stain_augmentation]
    # A network pads with zeros, after it has subtracted its mean. (Where that is folded into the
    # first layer, as in Inception, which does not pad there, this is black.)
    outside = jnp.array(encoder.convention.mean)[:, None, None]

    def image(planes: jax.Array, size: jax.Array, gains: jax.Array) -> jax.Array:
        with jax.named_scope("augment"):
            grey = step.apply(planes, gains)
            grey = jnp.where(preparation.inside(size, planes.shape[1:])[None], grey, outside)
            return jnp.moveaxis(grey, 0, -1)

    def on_one_device(variables, planes, size, key, numbers):
        corner = functools.partial(crops.pool_corner_and_turn, key, image_size=size)
        corners = [
            jax.vmap(lambda crop, view=view: corner(crop, size=view.crop_size)[0])(
                jnp.arange(extraction.pool_crops)
            )
            for view in views
        ]

        def windows(maps: dict[str, jax.Array]) -> list[jax.Array]:
            taps = encoder.outputs
            by_view = []
            for view, of_view in zip(views, corners, strict=True):
                cells = crop_windows.crop_cells(encoder, variables, view.crop_size)
                by_view.append(
                    crop_windows.averages(
                        [maps[tap.layer] for tap in taps],
                        of_view,
                        [tap.stride for tap in taps],
                        [cells[tap] for tap in taps],
                    )
                )
            return by_view

        def of_step(numbers: jax.Array) -> list[jax.Array]:
            gains = jnp.array(at_nodes)[numbers]
            images = jax.vmap(functools.partial(image, planes, size))(gains)
            maps = encoder.maps(variables, images)
            with jax.named_scope("windows"):
                return jax.vmap(windows)(maps)

        return jax.lax.map(of_step, numbers)

    # Steps of a device are rows, their nodes columns; the last node fills up the last of them.
    numbers = np.arange(-(-plan.per_call // plan.per_step) * plan.per_step, dtype=np.int32)
    numbers = jnp.minimum(first + numbers, len(at_nodes) - 1).reshape(-1, plan.per_step)
    by_view = plans.over_devices(plan, on_one_device, PartitionSpec(None, plans.AXIS))(
        variables, planes, size, key, numbers
    )
    return {
        view.name: rows.reshape(-1, *rows.shape[2:])[: plan.per_call]
        for view, rows in zip(views, by_view, strict=True)
    }


@functools.partial(jax.jit, static_argnames=("taps", "extraction"))
def assemble(
    pool: jax.Array,
    windows: jax.Array,
    key: jax.Array,
    *,
    taps: tuple[Tap, ...],
    extraction: Extraction,
) -> jax.Array:
    """Descriptors of all augmentations of an image, see above.

    Args:
      pool: exact descriptors of the pool's crops at the middle gains, float32 [Q, D]; and then, if
        gains vary, at those of `second_nodes`, [2 Q, D].
      windows: of these crops at the nodes, float32 [n^G, Q, D].
      key: of the image.
      taps: of the encoder, whose channels are D.
      extraction: the protocol.

    Returns:
      float32 [A, D].
    """
    never_negative = jnp.all(pool >= 0, axis=0) & jnp.all(windows >= 0, axis=(0, 1))
    count, seconds = extraction.pool_crops, second_nodes(extraction)
    first, second = pool[:count], pool[count:]
    if len(seconds):
        share = _share_of_windows(first, windows, never_negative, extraction)
        at_second = jax.vmap(lambda node: node_weights(node, extraction))(
            jnp.array(preparation.gain_nodes(extraction)[seconds])
        )
        drifts = second - first - share * _einsum("qk,kqd->qd", at_second, windows)

    def augmentation(number: jax.Array) -> jax.Array:
        gains, descriptors = preparation.gains(key, number, extraction), first
        if len(seconds):
            colour = _einsum("k,kqd->qd", node_weights(gains, extraction), windows)
            drift = _einsum("q,qd->d", drift_weights(gains, extraction), drifts)
            descriptors = first + share * colour + drift[None]
        chosen = crops.choose(key, number, extraction.crops, count)
        clipped = jnp.where(never_negative[None], jnp.maximum(descriptors, 0), descriptors)
        return pool_over_crops(clipped[chosen], taps, extraction.p)

    return jax.lax.map(augmentation, jnp.arange(extraction.augmentations))


def _share_of_windows(
    first: jax.Array, windows: jax.Array, never_negative: jax.Array, extraction: Extraction
) -> jax.Array:
    """s, by which what colour changes in a window is multiplied for its crop: float32 [Q, D]."""
    at_middle = interpolation_weights(jnp.array(preparation.middle_gains(extraction)), extraction)
    base = jnp.maximum(_einsum("k,kqd->qd", at_middle, windows), 0)
    mean = jnp.mean(base, axis=0, keepdims=True)
    share = (first + mean) / jnp.where(base + mean > 0, base + mean, 1)
    return jnp.where(never_negative[None], jnp.minimum(share, _LARGEST_SHARE), 1)
