"""The compiled program of an encoder: a prepared image to descriptors on the device.

planes [3, H', W'] (of `preparation`) -> descriptors [A, D] by view in crop mode exact: each step
cuts and augments crops [B, S, S, 3] -> taps [B, D]; then the p-norm over an augmentation's crops,
which are drawn at random or tile the image.
For crop mode hybrid, the parts that `hybrid` describes.

Shapes are fixed: the size of an image is data, not shape. Devices share the crops, or the nodes
that whole images are encoded at.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.config import Extraction, View
from histojax.encoders import Tap, Variables, pool_over_crops
from histojax.extraction import hybrid, plans, preparation
from histojax.extraction.plans import Part, Plan, Pooled
from histojax.ops import crops


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="pooled")
def encode(
    pooled: Pooled,
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    *,
    plan: Plan,
) -> Pooled:
    """Computes `plan.per_call` rows of an image's descriptors.

    Args:
      pooled: of `plan.empty()` or of the call before; donated, so it must not be used any more.
      variables: of `encoder.fold_variables`.
      planes: of `prepare`.
      size: height and width of the scaled image without padding, int32 [2].
      key: of the image, see `ops.crops.image_key`.
      first: the first row, int32.
      plan: how.

    Returns:
      `pooled` with these rows filled in.
    """
    part = plan.workload.part
    encode_part = _encode_tiles if part is Part.TILES else _encode_crops
    encode_part = hybrid.encode_windows if part is Part.WINDOWS else encode_part
    descriptors = encode_part(variables, planes, size, key, first, plan)
    filled = {
        name: jax.lax.dynamic_update_slice_in_dim(pooled[name], rows, first, 0)
        for name, rows in descriptors.items()
    }
    return jax.lax.with_sharding_constraint(filled, plans.replicated(plan.mesh))


def _encode_crops(
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts each crop through the encoder: float32 [per_call, D] by name of view."""
    workload = plan.workload
    encoder, extraction, inputs = workload.encoder, workload.extraction, workload.inputs_per_row
    (view,) = workload.views
    cut = _CROPS[workload.part]
    total = plan.per_call * inputs
    # The last step repeats the last crop, so that all steps have one shape.
    numbers = np.minimum(
        np.arange(-(-total // plan.per_step) * plan.per_step, dtype=np.int32), total - 1
    )
    numbers = first * inputs + numbers.reshape(-1, plan.per_step)

    def on_one_device(variables, planes, size, key, numbers):
        def step(numbers: jax.Array) -> jax.Array:
            images = jax.vmap(lambda number: cut(planes, size, key, number, view, extraction))(
                numbers
            )
            if plan.kernel:
                return _pool_by_kernel(plan, variables, images)
            return encoder.descriptors(variables, images)

        return jax.lax.map(step, numbers)

    descriptors = plans.over_devices(plan, on_one_device, PartitionSpec(None, plans.AXIS))(
        variables, planes, size, key, numbers
    )
    descriptors = descriptors.reshape(-1, encoder.width)
    if plan.kernel or workload.part is Part.POOL:
        return {view.name: descriptors[: plan.per_call]}
    with jax.named_scope("p-norm"):
        by_crop = descriptors[:total].reshape(plan.per_call, inputs, -1)
        return {view.name: pool_over_crops(by_crop, encoder.outputs, extraction.p)}


def _encode_tiles(
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts all crops that tile the image through the encoder: float32 [per_call, D] by view.

    How many they are is data: as many steps are taken as they fill.
    """
    workload = plan.workload
    encoder, extraction, most = workload.encoder, workload.extraction, workload.inputs_per_row
    (view,) = workload.views
    most_steps = -(-plan.per_call * most // plan.per_step)

    def on_one_device(variables, planes, size, key, lanes):
        tiles = math.prod(crops.tile_counts(size, view.crop_size))
        total = plan.per_call * tiles

        def cut(number: jax.Array) -> jax.Array:
            with jax.named_scope("crop"):
                corner = crops.tile_corner(number % tiles, size, view.crop_size)
            gains = preparation.gains(key, first + number // tiles, extraction)
            return _cut(planes, (corner, crops.NO_TURN), gains, view, extraction)

        def step(i: jax.Array, filled: jax.Array) -> jax.Array:
            # The last step repeats the last crop, so that all steps have one shape.
            numbers = jnp.minimum(i * plan.per_step + lanes[0], total - 1)
            descriptors = encoder.descriptors(variables, jax.vmap(cut)(numbers))
            return jax.lax.dynamic_update_index_in_dim(filled, descriptors, i, 0)

        empty = jnp.zeros((most_steps, lanes.shape[1], encoder.width))
        return jax.lax.fori_loop(0, -(-total // plan.per_step), step, empty)

    lanes = np.arange(plan.per_step, dtype=np.int32)[None]
    descriptors = plans.over_devices(plan, on_one_device, PartitionSpec(None, plans.AXIS))(
        variables, planes, size, key, lanes
    ).reshape(-1, encoder.width)
    with jax.named_scope("p-norm"):
        tiles, tile = math.prod(crops.tile_counts(size, view.crop_size)), np.arange(most)
        by_crop = descriptors[np.arange(plan.per_call)[:, None] * tiles + tile[None]]
        counted = jnp.broadcast_to(tile < tiles, by_crop.shape[:-1])
        return {view.name: pool_over_crops(by_crop, encoder.outputs, extraction.p, counted)}


def crop(
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    number: jax.Array,
    view: View,
    extraction: Extraction,
) -> jax.Array:
    """Crop `number` of an image, counted augmentation by augmentation: float32 [S, S, 3]."""
    augmentation = number // extraction.crops
    with jax.named_scope("crop"):
        place = crops.corner_and_turn(
            key, augmentation, number % extraction.crops, size, view.crop_size
        )
    return _cut(planes, place, preparation.gains(key, augmentation, extraction), view, extraction)


def _pool_crop(
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    number: jax.Array,
    view: View,
    extraction: Extraction,
) -> jax.Array:
    """A crop of the image's pool, of all at the first of `pool_gains`, then at the next."""
    gains = jnp.array(preparation.pool_gains(extraction))
    crop = number % extraction.pool_crops
    with jax.named_scope("crop"):
        place = crops.pool_corner_and_turn(key, crop, size, view.crop_size)
    gains = gains[number // extraction.pool_crops, crop]
    return _cut(planes, place, gains, view, extraction)


def _chosen_crop(
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    number: jax.Array,
    view: View,
    extraction: Extraction,
) -> jax.Array:
    """Crop `number` of those that an augmentation draws from the pool, counted as in `crop`."""
    augmentation = number // extraction.crops
    with jax.named_scope("crop"):
        chosen = crops.choose(key, augmentation, extraction.crops, extraction.pool_crops)
        place = crops.pool_corner_and_turn(
            key, chosen[number % extraction.crops], size, view.crop_size
        )
    return _cut(planes, place, preparation.gains(key, augmentation, extraction), view, extraction)


_CROPS = {Part.EXACT: crop, Part.POOL: _pool_crop, Part.CHECKED: _chosen_crop}


def _cut(
    planes: jax.Array,
    place: tuple[jax.Array, crops.Turn],
    gains: jax.Array,
    view: View,
    extraction: Extraction,
) -> jax.Array:
    """A crop, cut before it is augmented: the same grey levels for far less work.

    For augmentation works pixel by pixel.
    """
    with jax.named_scope("crop"):
        square = crops.cut(planes, *place, view.crop_size)
    with jax.named_scope("augment"):
        return jnp.moveaxis(preparation.augmented(square, gains, extraction), 0, -1)


def _pool_by_kernel(plan: Plan, variables: Variables, images: jax.Array) -> jax.Array:
    """Encodes and pools crops of whole augmentations: float32 [B, S, S, 3] -> [B / P, D]."""
    from histojax.ops import pooling_pallas  # Not above: versions of JAX to come do not have it.

    encoder, extraction = plan.workload.encoder, plan.workload.extraction
    maps = encoder.maps(variables, images)
    interpret = plan.mesh.devices.flat[0].platform == "cpu"

    def pool(tap: Tap) -> jax.Array:
        cells = maps[tap.layer]
        rows, columns = (tap.averaged_cells(side) for side in cells.shape[1:3])
        cells = cells[:, :rows, :columns]
        by_augmentation = cells.reshape(-1, extraction.crops, *cells.shape[1:])
        return pooling_pallas.pool(by_augmentation, extraction.p, interpret=interpret)

    with jax.named_scope("pooling kernel"):
        return jnp.concatenate([pool(tap) for tap in encoder.outputs], axis=-1)
