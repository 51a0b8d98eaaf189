"""Crop mode hybrid: exact crops, and whole images for what the stain augmentation changes.

An exact descriptor is D(g, c): of crop c of the image, turned its own way, in an augmentation with
gains g. Crops come from a pool of Q an image and size, so D(g, c) is needed for Q crops and many g.
Write W(g, c) for the means of the feature maps of the whole image under the crop's window. W has
neither the crop's border nor its turn, but it sees the same tissue in the same colours. Then

    D(g, c) = D(g0, c) + [W(g, c) - W(g0, c)] + [b(g, c) - b(g0, c)],    b = D - W

holds for any gains g0. Border and turn, b, hardly depend on the gains, so that the last bracket is
left out: W is a control variate, that is, the approximation is needed for the small difference
alone. W is smooth in the gains, which are two numbers, so it is interpolated from n x n nodes:

    D(g, c) ~ D(g0, c) + sum_k [L_k(g) - L_k(g0)] W(node k, c)

with the products L_k of Lagrange polynomials of Chebyshev nodes between the lowest and the highest
gain, and g0 midway between these, at which the pool is encoded. What cannot be negative (a channel
that is not, in all of the pool and of the windows) is cut off at 0. An augmentation then draws P
crops of the pool, and takes their p-norm. Three programs do it:

windows    each node: the whole image -> maps -> windows of the pool's crops [nodes, Q, D]
pool       each crop of the pool at gains g0 [Q, D]
assemble   the sum above, the draw, the p-norm [A, D]

Any stain augmentation of G gains will do, with n^G nodes. Without gains, or where the lowest is the
highest, the pool is all there is to compute. What is left out shows in `error`, measured
on some images of every run.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.config import Extraction
from histojax.encoders import Variables
from histojax.extraction import crop_windows, plans, preparation
from histojax.extraction.plans import Plan
from histojax.ops import chebyshev, crops, pooling, stain

CHECKED = 0  # The augmentation that is also computed exactly, where an image is checked.


def node_weights(gains: jax.Array, extraction: Extraction) -> jax.Array:
    """L_k(g) - L_k(g0), in the order of `preparation.gain_nodes`: float32 [G] -> [n^G]."""
    if not len(preparation.gain_nodes(extraction)):
        return jnp.zeros(0)
    weights = functools.partial(
        chebyshev.weights,
        low=extraction.gain_low,
        high=extraction.gain_high,
        count=extraction.gain_nodes,
    )
    return weights(gains) - weights(preparation.middle_gains(extraction))


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
    # A network pads with zeros, after it has subtracted its mean.
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


@functools.partial(jax.jit, static_argnames="extraction")
def assemble(
    pool: jax.Array, windows: jax.Array, key: jax.Array, *, extraction: Extraction
) -> jax.Array:
    """Descriptors of all augmentations of an image, see above.

    Args:
      pool: exact descriptors of the pool's crops at the middle gains, float32 [Q, D].
      windows: of these crops at the nodes, float32 [n^G, Q, D].
      key: of the image.
      extraction: the protocol.

    Returns:
      float32 [A, D].
    """
    never_negative = jnp.all(pool >= 0, axis=0) & jnp.all(windows >= 0, axis=(0, 1))

    def augmentation(number: jax.Array) -> jax.Array:
        gains = preparation.gains(key, number, extraction)
        change = jnp.einsum(
            "k,kqd->qd",
            node_weights(gains, extraction),
            windows,
            precision=jax.lax.Precision.HIGHEST,
        )
        chosen = crops.choose(key, number, extraction.crops, extraction.pool_crops)
        descriptors = (pool + change)[chosen]
        clipped = jnp.where(never_negative[None], jnp.maximum(descriptors, 0), descriptors)
        return pooling.pnorm(clipped, extraction.p)

    return jax.lax.map(augmentation, jnp.arange(extraction.augmentations))
