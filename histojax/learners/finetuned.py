"""A fine-tuned model: what its file holds, and how it scores images.

What was trained, float32 by flat name: body/<layer>/kernel and bias, head/kernel [D, K] and bias [K], and input/mean
and scale [D], by which descriptors are standardised before the head. N images, A augmentations, D channels, K classes;
images are uint8 [N, 3, H, W] in the host's memory.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from histojax.config import View
from histojax.encoders import Variables, weights
from histojax.errors import InputError
from histojax.extraction import extract
from histojax.images.padding import common_canvas, read_padded, scaled_size
from histojax.images.resampling import NO_RESAMPLING, Resampling
from histojax.learners import finetune_step
from histojax.learners.finetune_step import Tree, Tuning
from histojax.ops import crops, stain
from histojax.utils import prefetch


class Images(NamedTuple):
    """Normalised images on the host: names, pixels uint8 [N, 3, H, W] on one canvas, own sizes int32 [N, 2]."""

    names: tuple[str, ...]
    pixels: np.ndarray
    sizes: np.ndarray


def read_images(
    paths: Sequence[Path],
    view: View,
    resampling: Resampling = NO_RESAMPLING,
    normalizer: stain.Normalizer = stain.MACENKO,
) -> Images:
    """Images resampled, downscaled and normalised as for extraction."""
    scale = view.scale
    canvas = common_canvas([resampling.size(path) for path in paths], [view])[scale]
    pixels, sizes = (
        np.empty((len(paths), 3, *canvas), np.uint8),
        np.empty((len(paths), 2), np.int32),
    )
    decoded = prefetch.prefetch(
        functools.partial(read_padded, resampling=resampling),
        paths,
        extract.DECODED_AHEAD,
        extract.DECODERS,
    )
    for i, image in enumerate(decoded):
        sizes[i] = scaled_size(image.size, scale)
        own = np.array(image.size, np.int32)
        pixels[i] = finetune_step.normalized(
            image.rgb, own, sizes[i], scale=scale, canvas=canvas, normalizer=normalizer
        )
    return Images(tuple(path.stem for path in paths), pixels, sizes)


def taken(found: Images, places: np.ndarray) -> Images:
    """The images at these places."""
    return Images(tuple(found.names[i] for i in places), found.pixels[places], found.sizes[places])


def image_keys(seed: int, names: Sequence[str]) -> jax.Array:
    """The keys of images [N]."""
    return jnp.stack([crops.image_key(seed, name) for name in names])


def scores(
    chosen: Tuning, trained: Tree, frozen: Tree, found: Images, augmentations: int
) -> np.ndarray:
    """Class probabilities of images, by the crops that extraction would draw: float64 [N, A, K]."""
    keys = image_keys(chosen.extraction.seed, found.names)
    by_image = [
        [
            finetune_step.score(trained, frozen, pixels, size, key, np.int32(augmentation), chosen)
            for augmentation in range(augmentations)
        ]
        for pixels, size, key in zip(found.pixels, found.sizes, keys, strict=True)
    ]
    probabilities = np.array(jax.device_get(by_image), np.float64)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def flat(model: Tree) -> dict[str, np.ndarray]:
    """A nested model as its file holds it."""
    return {
        name: np.asarray(array)
        for name, array in traverse_util.flatten_dict(model, sep="/").items()
    }


def score_images(
    chosen: Tuning, params: Variables, model: dict[str, np.ndarray], found: Images
) -> np.ndarray:
    """Class probabilities of images by a fine-tuned model: float64 [N, A, K].

    Args:
      chosen: of the model's training.
      params: the encoder's as they were before it, by layer; the frozen ones are used.
      model: of `read`.
      found: of `read_images`, at the model's scale.
    """
    nested = traverse_util.unflatten_dict(model, sep="/")
    trained = {"body": nested["body"], "head": nested["head"]}
    _, frozen = finetune_step.split_layers(params, chosen.encoder, chosen.finetune.blocks)
    return scores(
        chosen,
        trained,
        {"body": frozen, "input": nested["input"]},
        found,
        chosen.extraction.augmentations,
    )


def read(path: Path, chosen: Tuning, params: Variables) -> dict[str, np.ndarray]:
    """A saved model.

    Raises:
      InputError: the file is damaged, or of another encoder, other classes or blocks.
    """
    body, _ = finetune_step.split_layers(params, chosen.encoder, chosen.finetune.blocks)
    wanted = {
        name: array.shape for name, array in flat(finetune_step.beginning(chosen, body)).items()
    }
    model = weights.load_npz(path)
    if model is None:
        raise InputError(
            f"{path} cannot be read as a fine-tuned model (.npz): remove it and train again"
        )
    shapes = {name: array.shape for name, array in model.items()}
    if shapes != wanted or not all(
        a.dtype == np.float32 and np.isfinite(a).all() for a in model.values()
    ):
        differing = sorted(name for name in shapes | wanted if shapes.get(name) != wanted.get(name))
        reason = f"differ in {', '.join(differing[:5])}" if differing else "are not finite float32"
        raise InputError(
            f"the arrays of {path} {reason}; expected the {chosen.finetune.blocks} blocks of {chosen.encoder.name} "
            f"and a head for {chosen.classes} classes: remove it and train again"
        )
    return model
