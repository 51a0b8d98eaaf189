"""Crop mode shared: each augmentation of the whole image goes through the encoder once.

image augmented and turned -> feature maps -> a crop's taps are means of the maps under its window
-> p-norm over crops, for the crop sizes of all views at once
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.encoders import Encoder, Tap, Variables
from histojax.extraction import plans, preparation
from histojax.extraction.plans import Plan, Pooled
from histojax.ops import crops, pooling, stain


def encode(
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts the whole image through the encoder once an augmentation: [per_call, D] by view."""
    views, devices = plan.workload.views, plan.mesh.size

    def on_one_device(variables, planes, size, key, augmentations):
        # Drawn once and not in both branches, since random numbers take long to compile.
        draws = jax.vmap(functools.partial(_draw, plan, size, key))(augmentations)
        batches, are_turned, places = by_turn(draws.turn.transpose, plan.per_step // devices)

        def step(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            chosen, is_turned = batch
            upright, transposed = (
                functools.partial(_encode_images, plan, variables, planes, size, transpose)
                for transpose in (False, True)
            )
            of_batch = jax.tree.map(lambda drawn: drawn[chosen], draws)
            return jax.lax.cond(is_turned, transposed, upright, of_batch)

        descriptors = jax.lax.map(step, (batches, are_turned))
        return descriptors.reshape(-1, descriptors.shape[-1])[places]

    numbers = first + np.arange(plan.per_call, dtype=np.int32)
    descriptors = plans.over_devices(plan, on_one_device, PartitionSpec(plans.AXIS))(
        variables, planes, size, key, numbers
    )
    parts = jnp.split(descriptors, len(views), axis=-1)
    return {view.name: part for view, part in zip(views, parts, strict=True)}


def by_turn(turned: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sorts items into batches of turned ones alone or of others alone, filled by repetition.

    A quarter turn swaps height and width, so the two kinds cannot go through a network together.

    Args:
      turned: bool [A].
      size: items of a batch, B.

    Returns:
      Items of each batch, int32 [steps, B]; whether a batch is of turned ones, bool [steps]; and
      the place of each item in the flattened batches, int32 [A].
    """
    count = turned.shape[0]
    steps = count if size == 1 else -(-count // size) + 1
    upright_steps = -(-jnp.sum(~turned) // size)
    rank = jnp.where(turned, jnp.cumsum(turned) - 1, jnp.cumsum(~turned) - 1)
    places = jnp.where(turned, upright_steps * size + rank, rank).astype(jnp.int32)
    are_turned = jnp.arange(steps) >= upright_steps
    # Any item of its kind fills an empty place; without one, nothing of the batch is used.
    filler = jnp.where(are_turned, jnp.argmax(turned), jnp.argmin(turned)).astype(jnp.int32)
    items = jnp.repeat(filler, size, total_repeat_length=steps * size)
    items = items.at[places].set(jnp.arange(count, dtype=jnp.int32))
    return items.reshape(steps, size), are_turned, places


class _Draws(NamedTuple):
    """The random numbers of an augmentation.

    Attributes:
      gains: float32 [G].
      turn: of the whole image.
      corners: of the crops of each view, in the image before its turn, px: int32 [views, P, 2].
    """

    gains: jax.Array
    turn: crops.Turn
    corners: jax.Array


def _draw(plan: Plan, size: jax.Array, key: jax.Array, augmentation: jax.Array) -> _Draws:
    extraction = plan.workload.extraction

    def corner(crop_size: jax.Array, crop: jax.Array) -> jax.Array:
        return crops.corner_and_turn(key, augmentation, crop, size, crop_size)[0]

    of_crops = jax.vmap(corner, (None, 0))
    return _Draws(
        preparation.gains(key, augmentation, extraction),
        crops.image_turn(key, augmentation),
        jax.vmap(of_crops, (0, None))(
            np.array([view.crop_size for view in plan.workload.views]), np.arange(extraction.crops)
        ),
    )


def _encode_images(
    plan: Plan,
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    transposed: bool,
    draws: _Draws,
) -> jax.Array:
    """Encodes whole images of which all are transposed, or none.

    Args:
      plan, variables, planes, size: as for `encode`.
      transposed: whether the turns of these augmentations transpose the image.
      draws: of B augmentations.

    Returns:
      Pooled descriptors of every view, float32 [B, views x D].
    """
    extraction, encoder = plan.workload.extraction, plan.workload.encoder
    # A network pads with zeros, after it has subtracted its mean.
    outside = jnp.array(encoder.convention.mean)[:, None, None]

    def image(draws: _Draws) -> jax.Array:
        with jax.named_scope("augment"):
            step = stain.AUGMENTATIONS[extraction.stain_augmentation]
            grey = step.apply(planes, draws.gains)
            grey = jnp.where(preparation.inside(size, planes.shape[1:])[None], grey, outside)
        with jax.named_scope("turn"):
            grey = jnp.swapaxes(grey, 1, 2) if transposed else grey
            grey = jnp.where(draws.turn.reverse_rows, grey[:, ::-1], grey)
            return jnp.moveaxis(
                jnp.where(draws.turn.reverse_columns, grey[:, :, ::-1], grey), 0, -1
            )

    def turned(corner: jax.Array, turn: crops.Turn, crop_size: int) -> jax.Array:
        """Top-left corners of the crops in the turned image, px: int32 [P, 2]."""
        sides = np.array(planes.shape[1:])
        if transposed:
            corner, sides = corner[:, ::-1], sides[::-1]
        reversed_axes = jnp.stack([turn.reverse_rows, turn.reverse_columns])[None]
        return jnp.where(reversed_axes, sides[None] - crop_size - corner, corner)

    maps = encoder.maps(variables, jax.vmap(image)(draws))
    descriptors = []
    for i, view in enumerate(plan.workload.views):
        cells = crop_cells(encoder, variables, view.crop_size)
        with jax.named_scope("windows"):
            places = jax.vmap(functools.partial(turned, crop_size=view.crop_size))(
                draws.corners[:, i], draws.turn
            )
            by_crop = [
                jax.vmap(
                    functools.partial(pooling.window_averages, lengths=(cells[tap], cells[tap]))
                )(maps[tap.layer], places / tap.stride)
                for tap in encoder.outputs
            ]
        with jax.named_scope("p-norm"):
            descriptors.append(pooling.pnorm(jnp.concatenate(by_crop, axis=-1), extraction.p))
    return jnp.concatenate(descriptors, axis=-1)


def crop_cells(encoder: Encoder, variables: Variables, crop_size: int) -> dict[Tap, int]:
    """Rows of each tap's map that a crop by itself averages: the side of its window, in cells."""
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    maps = _maps.eval_shape(encoder, variables, image)
    return {tap: tap.averaged_cells(maps[tap.layer].shape[1]) for tap in encoder.outputs}


@functools.partial(jax.jit, static_argnums=0)
def _maps(encoder: Encoder, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    """`encoder.maps`, whose trace of a size is kept."""
    return encoder.maps(variables, images)
