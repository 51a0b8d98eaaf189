"""Crop mode hybrid: exact crops, and whole images for what the stain augmentation changes.

Let D(g, c) be the exact descriptor of crop c of an image, turned its own way, in an augmentation
with gains g. Crops come from a pool of Q an image and size, so it is needed for Q crops and many g.
Let W(g, c) be the means of the feature maps of the whole image under the crop's window. W has
neither the crop's border nor its turn, but it sees the same tissue in the same colours; border and
turn add b = D - W. For any gains g0, with V(g) = W(g) - W(g0),

    D(g, c) = D(g0, c) + V(g, c) + [b(g, c) - b(g0, c)]

V is most of what colour changes. W is smooth in the gains, which are two numbers, so it is
interpolated from n x n Chebyshev nodes between the lowest and the highest gain.

The bracket, the drift, is small. It is learnt from the pool, of which each crop is encoded exactly
four times: at g0, midway between the lowest and the highest gain, and at three of the nodes'
corners, k(1, c) to k(3, c), where drifts are largest (`preparation.pool_gains`). There they are
known:

    r(i, c) = D(k(i, c), c) - D(g0, c) - V(k(i, c), c)

Crops of similar b drift alike, and colours that change the windows alike make them drift alike. So
the drift of a tap is taken to be bilinear in b(g0, c) and in V(g) of the whole pool. Where the
coefficients are independent and normal, of one variance, drifts are a Gaussian process (Rasmussen
and Williams, Gaussian Processes for Machine Learning, 2006, section 2.2) of covariance

    C(g, c; h, d) = <V(g), V(h)> (<b(c), b(d)> + l [c = d])

with inner products over the tap's channels, for V over the pool too. l, a tenth of the pool's mean
<b, b>, is for what a crop has alone. The best estimate of a drift is then linear in the 3 Q known
ones, and equal to them at their gains:

    b(g, c) - b(g0, c) ~ sum_id C(g, c; k(i, d), d) [M^-1 r](i, d)

where M is C between the known ones. What cannot be negative (a channel that is not, in all of the
pool and of the windows) is cut off at 0. An augmentation then draws P crops of the pool, and takes
their p-norm. Three programs do it:

windows    each node: the whole image -> maps -> windows of the pool's crops [n^2, Q, D]
pool       each crop of the pool, at g0 and at its corners [4 Q, D]
assemble   the sum above, the draw, the p-norm [A, D]

Any stain augmentation of G gains will do, with n^G nodes. Without gains, or where the lowest is the
highest, the pool at g0 is all there is to compute. `crop_errors` measures what is left out, on some
images of every run. Raise `manifests.HYBRID` when the numbers of this change.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.config import Extraction
from histojax.encoders import Tap, Variables, pool_over_crops
from histojax.extraction import crop_windows, plans, preparation
from histojax.extraction.plans import Plan
from histojax.ops import chebyshev, crops, stain

_OWN = 0.1  # What a crop's drift has alone, of what it may share with other crops.
_JITTER = 1e-4  # Of M's mean variance, so that M is regular where a gain changes nothing.

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def interpolation_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """L_k(g) in the order of `preparation.gain_nodes`: float32 [G] -> [n^G]."""
    low, high = extraction.gain_low, extraction.gain_high
    return chebyshev.weights(gains, low, high, extraction.gain_nodes)


def node_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """L_k(g) - L_k(g0), likewise: float32 [G] -> [n^G]."""
    middle = jnp.array(preparation.middle_gains(extraction))
    return interpolation_weights(gains, extraction) - interpolation_weights(middle, extraction)


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
      pool: exact descriptors of the pool's crops at `preparation.pool_gains`, float32 [E Q, D].
      windows: of these crops at the nodes, float32 [n^G, Q, D].
      key: of the image.
      taps: of the encoder, whose channels are D.
      extraction: the protocol.

    Returns:
      float32 [A, D].
    """
    never_negative = jnp.all(pool >= 0, axis=0) & jnp.all(windows >= 0, axis=(0, 1))
    first, *others = jnp.split(pool, len(pool) // extraction.pool_crops)
    if others:
        drift = _drift(first, jnp.stack(others), windows, taps, extraction)

    def augmentation(number: jax.Array) -> jax.Array:
        descriptors = first
        if others:
            weights = node_weights(preparation.gains(key, number, extraction), extraction)
            descriptors = first + _einsum("k,kqd->qd", weights, windows) + drift(weights)
        chosen = crops.choose(key, number, extraction.crops, len(first))
        clipped = jnp.where(never_negative[None], jnp.maximum(descriptors, 0), descriptors)
        return pool_over_crops(clipped[chosen], taps, extraction.p)

    return jax.lax.map(augmentation, jnp.arange(extraction.augmentations))


def _drift(
    first: jax.Array,
    others: jax.Array,
    windows: jax.Array,
    taps: tuple[Tap, ...],
    extraction: Extraction,
) -> Callable[[jax.Array], jax.Array]:
    """A function from `node_weights` [n^G] of any gains to the drift of the pool, [Q, D].

    Args:
      first: the pool at the middle gains, [Q, D].
      others: at the corners, [E - 1, Q, D].
      windows, taps, extraction: of `assemble`.
    """
    middle = interpolation_weights(jnp.array(preparation.middle_gains(extraction)), extraction)
    base = _einsum("k,kqd->qd", middle, windows)
    corners = jnp.array(preparation.pool_gains(extraction)[1:])
    known = jax.vmap(jax.vmap(lambda gains: node_weights(gains, extraction)))(corners)
    drifts = others - first[None] - _einsum("iqk,kqd->iqd", known, windows)
    bounds = np.cumsum([tap.channels for tap in taps])[:-1]
    by_tap = [
        jnp.split(rows, bounds, axis=-1) for rows in (first - base, windows - base[None], drifts)
    ]
    learnt = [_learn(*rows, known) for rows in zip(*by_tap, strict=True)]

    def drift(weights: jax.Array) -> jax.Array:
        return jnp.concatenate(
            [
                _einsum("k,kid,cd,idn->cn", weights, colours, crops_alike, fitted)
                for colours, crops_alike, fitted in learnt
            ],
            axis=-1,
        )

    return drift


def _learn(
    borders: jax.Array, changes: jax.Array, drifts: jax.Array, known: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """C of a tap as its factors, and M^-1 r.

    Args:
      borders: b(g0, c), [Q, C].
      changes: V at the nodes, [n^G, Q, C].
      drifts: r, [E - 1, Q, C].
      known: `node_weights` of k(i, c), [E - 1, Q, n^G].

    Returns:
      <V(node), V(k(i, d))>, [n^G, E - 1, Q]; <b(c), b(d)> + l [c = d], [Q, Q]; and M^-1 r,
      [E - 1, Q, C].
    """
    crops_alike = _with_diagonal(_einsum("cn,dn->cd", borders, borders), _OWN)
    of_nodes = _einsum("kqn,lqn->kl", changes, changes)
    colours = _einsum("kl,idl->kid", of_nodes, known)
    covariance = crops_alike[None, :, None] * _einsum("jck,kid->jcid", known, colours)
    rows = drifts.reshape(-1, drifts.shape[-1])
    covariance = _with_diagonal(covariance.reshape(len(rows), len(rows)), _JITTER)
    fitted = jax.scipy.linalg.solve(covariance, rows, assume_a="pos")
    return colours, crops_alike, fitted.reshape(drifts.shape)


def _with_diagonal(products: jax.Array, share: float) -> jax.Array:
    """Adds a share of its mean to the diagonal of products [n, n]; of 1 where it is 0."""
    mean = jnp.mean(jnp.diagonal(products))
    return products + share * jnp.where(mean > 0, mean, 1) * jnp.eye(len(products))
