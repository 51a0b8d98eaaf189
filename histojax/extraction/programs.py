"""The compiled program of an encoder: a prepared image to pooled descriptors on the device.

planes [3, H', W'] (of `preparation`) -> descriptors [A, D] by view, in one of two crop
modes:

exact     each step: crops cut and augmented [B, S, S, 3] -> taps [B, D]; then p-norm over crops
shared    see `shared_crops`

Shapes are fixed: the size of an image is data, not shape. Devices share the crops (exact) or the
augmentations (shared).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from histojax.config import Extraction, View
from histojax.encoders import Tap, Variables
from histojax.extraction import plans, preparation, shared_crops
from histojax.extraction.plans import Plan, Pooled
from histojax.ops import crops, pooling, pooling_pallas


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
    """Computes the descriptors of `plan.per_call` augmentations of an image.

    Args:
      pooled: of `plan.empty()` or of the call before; donated, so it must not be used any more.
      variables: of `encoder.fold_variables`.
      planes: of `prepare`.
      size: height and width of the scaled image without padding, int32 [2].
      key: of the image, see `ops.crops.image_key`.
      first: the first augmentation, int32.
      plan: how.

    Returns:
      `pooled` with the rows of these augmentations filled in.
    """
    encode_crops = (
        _encode_exact if plan.workload.extraction.crop_mode == "exact" else shared_crops.encode
    )
    descriptors = encode_crops(variables, planes, size, key, first, plan)
    filled = {
        name: jax.lax.dynamic_update_slice(pooled[name], rows, (first, jnp.zeros_like(first)))
        for name, rows in descriptors.items()
    }
    return jax.lax.with_sharding_constraint(filled, plans.replicated(plan.mesh))


def _encode_exact(
    variables: Variables,
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts each crop through the encoder: float32 [per_call, D] by name of view."""
    encoder, extraction = plan.workload.encoder, plan.workload.extraction
    (view,) = plan.workload.views
    total = plan.per_call * extraction.crops
    # The last step repeats the last crop, so that all steps have one shape.
    numbers = np.minimum(
        np.arange(-(-total // plan.per_step) * plan.per_step, dtype=np.int32), total - 1
    )
    numbers = first * extraction.crops + numbers.reshape(-1, plan.per_step)

    def on_one_device(variables, planes, size, key, numbers):
        def step(numbers: jax.Array) -> jax.Array:
            images = jax.vmap(lambda number: crop(planes, size, key, number, view, extraction))(
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
    if plan.kernel:
        return {view.name: descriptors[: plan.per_call]}
    with jax.named_scope("p-norm"):
        by_crop = descriptors[:total].reshape(plan.per_call, extraction.crops, -1)
        return {view.name: pooling.pnorm(by_crop, extraction.p)}


def crop(
    planes: jax.Array,
    size: jax.Array,
    key: jax.Array,
    number: jax.Array,
    view: View,
    extraction: Extraction,
) -> jax.Array:
    """Crop `number` of an image, counted augmentation by augmentation: float32 [S, S, 3].

    It is cut before it is augmented, since augmentation works pixel by pixel: the same grey levels
    for far less work.
    """
    augmentation = number // extraction.crops
    with jax.named_scope("crop"):
        corner, turn = crops.corner_and_turn(
            key, augmentation, number % extraction.crops, size, view.crop_size
        )
        square = crops.cut(planes, corner, turn, view.crop_size)
    with jax.named_scope("augment"):
        return jnp.moveaxis(preparation.augmented(square, key, augmentation, extraction), 0, -1)


def _pool_by_kernel(plan: Plan, variables: Variables, images: jax.Array) -> jax.Array:
    """Encodes and pools crops of whole augmentations: float32 [B, S, S, 3] -> [B / P, D]."""
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
