"""The compiled programs: an image to pooled descriptors, all on the device.

prepare   uint8 [H, W, 3] -> downscaled, normalised, optical density [3, H', W'], padded to a canvas
encode    optical density -> descriptors [A, D] by view, in one of two crop modes:

exact     each step: crops cut and augmented [B, S, S, 3] -> taps [B, D]; then p-norm over crops
shared    each augmentation: the whole image augmented and turned -> feature maps -> a crop's taps
          are means of the maps under its window; then p-norm over crops, for all crop sizes

Shapes are fixed: the size of an image is data, not shape. Devices share the crops (exact) or the
augmentations (shared).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

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
    """What a program is compiled for; all of it is static.

    Attributes:
      encoder: a folded encoder.
      views: of one scale; one in crop mode exact.
      extraction: the protocol.
      mesh: the devices, on one axis.
      per_step: crops (exact) or whole images (shared) that go through the encoder at a time, on all
        devices.
      per_call: augmentations of a call.
      kernel: whether the fused kernel pools the crops; then `per_step` is a multiple of an
        augmentation's crops on each device.
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
        """Descriptors for calls to fill in: zeros, float32 [rows, D] by name of view."""
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
      size, scaled_size: int32 [2], height and width without padding, before and after scaling.
      scale: of the view.
      canvas: height and width of the result, at least those of the scaled image.
      normalizer, augmentation: of the stain.

    Returns:
      The planes that the augmentation works on, float32 [3, *canvas], arbitrary in the padding; and
      how the normalisation went.
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
    """Downscales and normalises an image; arguments as for `prepare`.

    Returns:
      uint8 [h, w, 3], and how the normalisation went.
    """
    with jax.named_scope("resize"):
        small = resize.downscale(rgb, scale, size)
    with jax.named_scope("normalise"):
        return normalizer.normalize(small, _inside(scaled_size, small.shape[:2]))


def onto(planes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Pads planes below and to the right: [3, h, w] to [3, *canvas]."""
    below, right = np.subtract(canvas, planes.shape[1:])
    return jnp.pad(planes, ((0, 0), (0, below), (0, right)))


def _inside(size: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Which pixels of a padded image are not padding: bool of that shape."""
    return (jnp.arange(shape[0])[:, None] < size[0]) & (jnp.arange(shape[1])[None] < size[1])


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="pooled")
def encode(
    pooled: Pooled,
    variables: Variables,
    density: jax.Array,
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
      density: of `prepare`.
      size: height and width of the scaled image without padding, int32 [2].
      key: of the image, see `ops.crops.image_key`.
      first: the first augmentation, int32.
      plan: how.

    Returns:
      `pooled` with the rows of these augmentations filled in.
    """
    encode_crops = _encode_exact if plan.extraction.crop_mode == "exact" else _encode_shared
    descriptors = encode_crops(variables, density, size, key, first, plan)
    filled = {
        name: jax.lax.dynamic_update_slice(pooled[name], rows, (first, jnp.zeros_like(first)))
        for name, rows in descriptors.items()
    }
    return jax.lax.with_sharding_constraint(filled, replicated(plan.mesh))


def _encode_exact(
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts each crop through the encoder: float32 [per_call, D] by name of view."""
    (view,), extraction = plan.views, plan.extraction
    total = plan.per_call * extraction.crops
    # The last step repeats the last crop, so that all steps have one shape.
    numbers = np.minimum(
        np.arange(-(-total // plan.per_step) * plan.per_step, dtype=np.int32), total - 1
    )
    numbers = first * extraction.crops + numbers.reshape(-1, plan.per_step)

    def on_one_device(variables, density, size, key, numbers):
        def step(numbers: jax.Array) -> jax.Array:
            images = jax.vmap(lambda number: crop(density, size, key, number, view, extraction))(
                numbers
            )
            if plan.kernel:
                return _pool_by_kernel(plan, variables, images)
            return plan.encoder.descriptors(variables, images)

        return jax.lax.map(step, numbers)

    descriptors = _over_devices(plan, on_one_device, PartitionSpec(None, AXIS))(
        variables, density, size, key, numbers
    )
    descriptors = descriptors.reshape(-1, plan.encoder.width)
    if plan.kernel:
        return {view.name: descriptors[: plan.per_call]}
    with jax.named_scope("p-norm"):
        by_crop = descriptors[:total].reshape(plan.per_call, extraction.crops, -1)
        return {view.name: pooling.pnorm(by_crop, extraction.p)}


def crop(
    density: jax.Array,
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
        square = crops.cut(density, corner, turn, view.crop_size)
    with jax.named_scope("augment"):
        return jnp.moveaxis(augmented(square, key, augmentation, extraction), 0, -1)


def augmented(
    planes: jax.Array, key: jax.Array, augmentation: jax.Array, extraction: Extraction
) -> jax.Array:
    """Planes in one of the protocol's augmentations: float32 [3, H, W], whole grey levels."""
    step = stain.AUGMENTATIONS[extraction.stain_augmentation]
    gains = crops.gains(key, augmentation, extraction.gain_low, extraction.gain_high, step.gains)
    return step.apply(planes, gains)


def _pool_by_kernel(plan: Plan, variables: Variables, images: jax.Array) -> jax.Array:
    """Encodes and pools crops of whole augmentations: float32 [B, S, S, 3] -> [B / P, D]."""
    maps = plan.encoder.maps(variables, images)
    interpret = plan.mesh.devices.flat[0].platform == "cpu"

    def pool(tap: Tap) -> jax.Array:
        cells = maps[tap.layer]
        rows, columns = (tap.averaged_cells(side) for side in cells.shape[1:3])
        cells = cells[:, :rows, :columns]
        by_augmentation = cells.reshape(-1, plan.extraction.crops, *cells.shape[1:])
        return pooling_pallas.pool(by_augmentation, plan.extraction.p, interpret=interpret)

    with jax.named_scope("pooling kernel"):
        return jnp.concatenate([pool(tap) for tap in plan.encoder.outputs], axis=-1)


def _encode_shared(
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    first: jax.Array,
    plan: Plan,
) -> Pooled:
    """Puts the whole image through the encoder once an augmentation: [per_call, D] by view."""
    devices = plan.mesh.size

    def on_one_device(variables, density, size, key, augmentations):
        turned = jax.vmap(lambda a: crops.image_turn(key, a).transpose)(augmentations)
        batches, are_turned, places = by_turn(turned, plan.per_step // devices)

        def step(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            chosen, is_turned = batch
            upright, transposed = (
                functools.partial(_encode_images, plan, variables, density, size, key, transpose)
                for transpose in (False, True)
            )
            return jax.lax.cond(is_turned, transposed, upright, augmentations[chosen])

        descriptors = jax.lax.map(step, (batches, are_turned))
        return descriptors.reshape(-1, descriptors.shape[-1])[places]

    numbers = first + np.arange(plan.per_call, dtype=np.int32)
    descriptors = _over_devices(plan, on_one_device, PartitionSpec(AXIS))(
        variables, density, size, key, numbers
    )
    parts = jnp.split(descriptors, len(plan.views), axis=-1)
    return {view.name: part for view, part in zip(plan.views, parts, strict=True)}


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


def _encode_images(
    plan: Plan,
    variables: Variables,
    density: jax.Array,
    size: jax.Array,
    key: jax.Array,
    transposed: bool,
    augmentations: jax.Array,
) -> jax.Array:
    """Encodes whole images of which all are transposed, or none.

    Args:
      plan, variables, density, size, key: as for `encode`.
      transposed: whether the turns of these augmentations transpose the image.
      augmentations: int32 [B].

    Returns:
      Pooled descriptors of every view, float32 [B, views x D].
    """
    extraction, encoder = plan.extraction, plan.encoder
    # A network pads with zeros, after it has subtracted its mean.
    outside = jnp.array(encoder.convention.mean)[:, None, None]

    def image(augmentation: jax.Array) -> jax.Array:
        turn = crops.image_turn(key, augmentation)
        with jax.named_scope("augment"):
            planes = augmented(density, key, augmentation, extraction)
            planes = jnp.where(_inside(size, density.shape[1:])[None], planes, outside)
        with jax.named_scope("turn"):
            planes = jnp.swapaxes(planes, 1, 2) if transposed else planes
            planes = jnp.where(turn.reverse_rows, planes[:, ::-1], planes)
            return jnp.moveaxis(jnp.where(turn.reverse_columns, planes[:, :, ::-1], planes), 0, -1)

    def corners(augmentation: jax.Array, crop_size: int) -> jax.Array:
        """Top-left corners of the crops in the turned image, px: int32 [P, 2]."""
        turn = crops.image_turn(key, augmentation)
        corner_of = jax.vmap(
            lambda crop: crops.corner_and_turn(key, augmentation, crop, size, crop_size)[0]
        )
        corner = corner_of(jnp.arange(extraction.crops))
        sides = np.array(density.shape[1:])
        if transposed:
            corner, sides = corner[:, ::-1], sides[::-1]
        reversed_axes = jnp.stack([turn.reverse_rows, turn.reverse_columns])[None]
        return jnp.where(reversed_axes, sides[None] - crop_size - corner, corner)

    maps = encoder.maps(variables, jax.vmap(image)(augmentations))
    descriptors = []
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
            descriptors.append(pooling.pnorm(jnp.concatenate(by_crop, axis=-1), extraction.p))
    return jnp.concatenate(descriptors, axis=-1)


def crop_cells(encoder: Encoder, variables: Variables, crop_size: int) -> dict[Tap, int]:
    """Rows of each tap's map that a crop by itself averages: the side of its window, in cells."""
    image = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    maps = jax.eval_shape(encoder.maps, variables, image)
    return {tap: tap.averaged_cells(maps[tap.layer].shape[1]) for tap in encoder.outputs}


def _over_devices(plan: Plan, function: Callable, spread: PartitionSpec) -> Callable:
    """`function` on each device, for its share of the last argument and all of the others."""
    same = PartitionSpec()
    return jax.shard_map(
        function,
        mesh=plan.mesh,
        in_specs=(same, same, same, same, spread),
        out_specs=spread,
        check_vma=False,
    )
