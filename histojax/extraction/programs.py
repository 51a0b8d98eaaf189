"""The compiled core: an image on the device to pooled descriptors, nothing crossing to the host in between.

prepare    uint8 [H, W, 3] -> downscaled, normalised, optical density [3, H', W'], padded to a canvas
exact      density -> per step: crops cut and augmented [B, S, S, 3] -> taps [B, D] -> p-norm over crops [A, D]
shared     density -> per augmentation: the whole image augmented and turned -> feature maps -> every crop's taps as the
           means of the maps under its window -> p-norm over crops [A, D], for every crop size at once

Shapes are fixed: an image's own size is data, not shape. Devices share the crops (exact) or the augmentations (shared).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from histojax.config import Extraction, View
from histojax.encoders import Encoder, Tap, Variables
from histojax.ops import crops, pooling, pooling_pallas, resize, stain

AXIS = "work"
Pooled = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a program is compiled for: everything in it is static.

    Attributes:
      encoder: a folded encoder.
      views: of one scale; one in crop mode exact.
      extraction: the protocol.
      mesh: the devices, on one axis.
      per_step: crops (exact) or whole augmentations (shared) that go through the encoder at a time, on all devices.
      per_call: augmentations a call describes.
      kernel: whether crops are pooled by the fused kernel; `per_step` is then whole augmentations on each device.
    """

    encoder: Encoder
    views: tuple[View, ...]
    extraction: Extraction
    mesh: Mesh
    per_step: int
    per_call: int
    kernel: bool = False

    @property
    def rows(self) -> int:
        """Augmentations rounded up to whole calls."""
        return -(-self.extraction.augmentations // self.per_call) * self.per_call

    @property
    def starts(self) -> range:
        """The first augmentation of each call."""
        return range(0, self.rows, self.per_call)

    def empty(self) -> Pooled:
        """The descriptors that calls fill in: zeros [rows, D] by view name."""
        shape = (self.rows, self.encoder.width)
        return {
            view.name: jax.device_put(jnp.zeros(shape), replicated(self.mesh))
            for view in self.views
        }


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices on one axis."""
    return Mesh(np.array(devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


@functools.partial(jax.jit, static_argnames=("scale", "canvas", "normalizer", "augmentation"))
def prepare(
    rgb: jax.Array,
    size: jax.Array,
    scaled_size: jax.Array,
    *,
    scale: float,
    canvas: tuple[int, int],
    normalizer: stain.Normalizer = stain.MACENKO,
    augmentation: stain.Augmentation = stain.HEMATOXYLIN_EOSIN,
) -> tuple[jax.Array, stain.StainQuality]:
    """Downscales and normalises an image, once for all its augmentations.

    Args:
      rgb: uint8 [H, W, 3], padded below and to the right.
      size, scaled_size: int32 [2], the image's own height and width, before and after scaling.
      scale: of the view.
      canvas: height and width of the result, at least those of the scaled image.
      normalizer, augmentation: of the stain.

    Returns:
      float32 [3, *canvas], the augmentation's planes, arbitrary where not the image's; and how the normalisation went.
    """
    image, quality = normalized(rgb, size, scaled_size, scale, normalizer)
    with jax.named_scope("normalise"):
        return onto(augmentation.planes(image), canvas), quality


def normalized(
    rgb: jax.Array,
    size: jax.Array,
    scaled_size: jax.Array,
    scale: float,
    normalizer: stain.Normalizer,
) -> tuple[jax.Array, stain.StainQuality]:
    """An image downscaled and normalised, in grey levels [h, w, 3], and how it went; arguments as for `prepare`."""
    with jax.named_scope("resize"):
        small = resize.downscale(rgb, scale, size)
    with jax.named_scope("normalise"):
        return normalizer.normalize(small, own_pixels(scaled_size, small.shape[:2]))


def onto(planes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Planes [3, h, w] padded below and to the right: [3, *canvas]."""
    below, right = (side - was for side, was in zip(canvas, planes.shape[1:], strict=True))
    return jnp.pad(planes, ((0, 0), (0, below), (0, right)))


def own_pixels(size: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Which pixels of a padded image are its own: bool of the shape given."""
    return (jnp.arange(shape[0])[:, None] < size[0]) & (jnp.arange(shape[1])[None] < size[1])


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="pooled")
def describe(
    pooled: Pooled,
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    *,
    plan: Plan,
) -> Pooled:
    """The descriptors of `plan.per_call` augmentations, written into `pooled` (which is donated).

    Args:
      pooled: of `plan.empty()`, or of the call before.
      variables: of `encoder.fold_variables`.
      density, size: of `prepare`, and the scaled image's own height and width, int32 [2].
      key: the image's.
      first: the first augmentation, int32.
    """
    program = exact if plan.extraction.crop_mode == "exact" else shared
    described = program(variables, density, size, key, first, plan)
    filled = {
        name: jax.lax.dynamic_update_slice(pooled[name], rows, (first, jnp.zeros_like(first)))
        for name, rows in described.items()
    }
    return jax.lax.with_sharding_constraint(filled, replicated(plan.mesh))


def exact(
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Every crop through the encoder by itself: float32 [per_call, D] by view name."""
    (view,), draws = plan.views, plan.extraction
    total = plan.per_call * draws.crops
    # The last step is filled up with repetitions of the last crop, so that every step has one shape.
    numbers = np.minimum(
        np.arange(-(-total // plan.per_step) * plan.per_step, dtype=np.int32), total - 1
    )
    numbers = first * draws.crops + numbers.reshape(-1, plan.per_step)

    def on_one_device(variables, density, size, key, numbers):
        def step(numbers: jax.Array) -> jax.Array:
            images = jax.vmap(lambda number: crop(density, size, key, number, view, draws))(numbers)
            if plan.kernel:
                return pooled_by_kernel(plan, variables, images)
            return plan.encoder.descriptors(variables, images)

        return jax.lax.map(step, numbers)

    described = over_devices(plan, on_one_device, PartitionSpec(None, AXIS))(
        variables, density, size, key, numbers
    )
    described = described.reshape(-1, plan.encoder.width)
    if plan.kernel:
        return {view.name: described[: plan.per_call]}
    with jax.named_scope("p-norm"):
        by_crop = described[:total].reshape(plan.per_call, draws.crops, -1)
        return {view.name: pooling.pnorm(by_crop, draws.p)}


def crop(
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    number: jax.Array,
    view: View,
    draws: Extraction,
) -> jax.Array:
    """Crop `number` of an image, counted augmentation by augmentation: float32 [S, S, 3], whole grey levels.

    Cut first and augmented then: augmentation works pixel by pixel, so it is the same, and far less.
    """
    augmentation = number // draws.crops
    with jax.named_scope("crop"):
        corner, turn = crops.corner_and_turn(
            key, augmentation, number % draws.crops, size, view.crop_size
        )
        square = crops.cut(density, corner, turn, view.crop_size)
    with jax.named_scope("augment"):
        return jnp.moveaxis(augmented(square, key, augmentation, draws), 0, -1)


def augmented(
    planes: jax.Array, key: jax.Array, augmentation: jax.Array, draws: Extraction
) -> jax.Array:
    """Planes in an augmentation of the protocol's: float32 [3, H, W], whole grey levels."""
    step = stain.AUGMENTATIONS[draws.stain_augmentation]
    gains = crops.gains(key, augmentation, draws.gain_low, draws.gain_high, step.gains)
    return step.apply(planes, gains)


def pooled_by_kernel(plan: Plan, variables: Variables, images: jax.Array) -> jax.Array:
    """Crops of whole augmentations to pooled descriptors: float32 [B, S, S, 3] -> [B / P, D]."""
    maps = plan.encoder.maps(variables, images)
    interpret = plan.mesh.devices.flat[0].platform == "cpu"

    def pool(tap: Tap) -> jax.Array:
        own = maps[tap.layer]
        own = own[:, : tap.averaged_cells(own.shape[1]), : tap.averaged_cells(own.shape[2])]
        by_augmentation = own.reshape(-1, plan.extraction.crops, *own.shape[1:])
        return pooling_pallas.pool(by_augmentation, plan.extraction.p, interpret=interpret)

    with jax.named_scope("pooling kernel"):
        return jnp.concatenate([pool(tap) for tap in plan.encoder.outputs], axis=-1)


def shared(
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """One pass over the whole image per augmentation: float32 [per_call, D] by view name."""
    devices = plan.mesh.size

    def on_one_device(variables, density, size, key, augmentations):
        turned = jax.vmap(lambda a: crops.image_turn(key, a).transpose)(augmentations)
        batches, are_turned, places = by_turn(turned, plan.per_step // devices)

        def step(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            chosen, is_turned = batch
            ways = [
                functools.partial(whole_images, plan, variables, density, size, key, transposed)
                for transposed in (False, True)
            ]
            return jax.lax.cond(is_turned, ways[1], ways[0], augmentations[chosen])

        described = jax.lax.map(step, (batches, are_turned))
        return described.reshape(-1, described.shape[-1])[places]

    numbers = first + np.arange(plan.per_call, dtype=np.int32)
    described = over_devices(plan, on_one_device, PartitionSpec(AXIS))(
        variables, density, size, key, numbers
    )
    parts = jnp.split(described, len(plan.views), axis=-1)
    return {view.name: part for view, part in zip(plan.views, parts, strict=True)}


def by_turn(turned: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sorts items into batches that hold either only turned ones or only others, each filled up by repetition.

    A quarter turn swaps height and width, so the two kinds cannot go through a network together.

    Args:
      turned: bool [A].
      size: items of a batch, B.

    Returns:
      Items of each batch, int32 [steps, B]; whether a batch is of turned ones, bool [steps]; and where each item went
      in the flattened batches, int32 [A].
    """
    count = turned.shape[0]
    steps = count if size == 1 else -(-count // size) + 1
    upright_steps = -(-jnp.sum(~turned) // size)
    rank = jnp.where(turned, jnp.cumsum(turned) - 1, jnp.cumsum(~turned) - 1)
    places = jnp.where(turned, upright_steps * size + rank, rank).astype(jnp.int32)
    are_turned = jnp.arange(steps) >= upright_steps
    # Any item of the kind fills an empty place; where there is none of the kind, the batch is of no use to anyone.
    filler = jnp.where(are_turned, jnp.argmax(turned), jnp.argmin(turned)).astype(jnp.int32)
    items = jnp.repeat(filler, size, total_repeat_length=steps * size)
    items = items.at[places].set(jnp.arange(count, dtype=jnp.int32))
    return items.reshape(steps, size), are_turned, places


def whole_images(
    plan: Plan,
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    transposed: bool,
    augmentations: jax.Array,
) -> jax.Array:
    """Augmentations that are all transposed, or none: int32 [B] -> pooled descriptors of every view [B, views x D]."""
    draws, encoder = plan.extraction, plan.encoder
    outside = jnp.array(encoder.convention.mean)[
        :, None, None
    ]  # What the network pads with: nothing, after its mean.

    def image(augmentation: jax.Array) -> jax.Array:
        turn = crops.image_turn(key, augmentation)
        with jax.named_scope("augment"):
            planes = augmented(density, key, augmentation, draws)
            planes = jnp.where(own_pixels(size, density.shape[1:])[None], planes, outside)
        with jax.named_scope("turn"):
            planes = jnp.swapaxes(planes, 1, 2) if transposed else planes
            planes = jnp.where(turn.reverse_rows, planes[:, ::-1], planes)
            return jnp.moveaxis(jnp.where(turn.reverse_columns, planes[:, :, ::-1], planes), 0, -1)

    def corners(augmentation: jax.Array, crop_size: int) -> jax.Array:
        """Top-left corners of the crops in the turned image, px: int32 [P, 2]."""
        turn = crops.image_turn(key, augmentation)
        here = jax.vmap(lambda c: crops.corner_and_turn(key, augmentation, c, size, crop_size)[0])
        corner = here(jnp.arange(draws.crops))
        sides = np.array(density.shape[1:])
        if transposed:
            corner, sides = corner[:, ::-1], sides[::-1]
        reversed_axes = jnp.stack([turn.reverse_rows, turn.reverse_columns])[None]
        return jnp.where(reversed_axes, sides[None] - crop_size - corner, corner)

    maps = encoder.maps(variables, jax.vmap(image)(augmentations))
    described = []
    for view in plan.views:
        cells = crop_cells(encoder, variables, view.crop_size)
        with jax.named_scope("windows"):
            places = jax.vmap(lambda a, s=view.crop_size: corners(a, s))(augmentations)
            by_crop = [
                jax.vmap(
                    functools.partial(pooling.window_averages, lengths=(cells[tap], cells[tap]))
                )(maps[tap.layer], places / tap.stride)
                for tap in encoder.outputs
            ]
        with jax.named_scope("p-norm"):
            described.append(pooling.pnorm(jnp.concatenate(by_crop, axis=-1), draws.p))
    return jnp.concatenate(described, axis=-1)


def crop_cells(encoder: Encoder, variables: Variables, crop_size: int) -> dict[Tap, int]:
    """Rows of each tap's map that a crop by itself would have averaged: so long are the windows in its place."""
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    maps = jax.eval_shape(encoder.maps, variables, image)
    return {tap: tap.averaged_cells(maps[tap.layer].shape[1]) for tap in encoder.outputs}


def over_devices(plan: Plan, function, spread: PartitionSpec):
    """`function` on each device for its share of the last argument; the others are the same everywhere."""
    same = PartitionSpec()
    return jax.shard_map(
        function,
        mesh=plan.mesh,
        in_specs=(same, same, same, same, spread),
        out_specs=spread,
        check_vma=False,
    )
