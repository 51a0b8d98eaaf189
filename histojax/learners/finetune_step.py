"""Fine-tuning as pure functions: crops to class probabilities, and a step of training.

image uint8 [3, H, W] -> augmented crop [S, S, 3] -> encoder -> descriptor [D], standardised
-> linear head -> class probabilities [K]

The encoder's batch norms keep their statistics and are folded into the convolutions. Trained and
frozen parameters are two arguments, and only the first is differentiated: below the trained block
there is no backward pass.

A model is {"body": trained layers, "head": {"kernel": [D, K], "bias": [K]}, "input": {"mean": [D],
"scale": [D]}}, float32. N images, B crops of a step, S side of a crop, P crops of each
augmentation, D channels, K classes. Images are padded below and to the right to one canvas, so
that every step has one shape.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from histojax.config import Extraction, Finetune, View
from histojax.encoders import Encoder, Variables, folding
from histojax.encoders.precision import PRECISIONS
from histojax.errors import InputError
from histojax.extraction import preparation
from histojax.learners import heads
from histojax.ops import crops, stain

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What the programs of a configuration are compiled for, the same for all seeds and folds.

    Attributes:
      encoder: of `fold_batch_norms`.
      view: scale and crop size.
      extraction, finetune: the protocol.
      classes: K.
      steps: of an epoch.
    """

    encoder: Encoder
    view: View
    extraction: Extraction
    finetune: Finetune
    classes: int
    steps: int


class Batch(NamedTuple):
    """B crops to train on.

    Attributes:
      images: uint8 [B, 3, H, W].
      sizes: int32 [B, 2], of the images without padding.
      keys: [B].
      augmentations: int32 [B]; of each, the first crop is taken.
      labels: int32 [B].
    """

    images: jax.Array
    sizes: jax.Array
    keys: jax.Array
    augmentations: jax.Array
    labels: jax.Array


class Images(NamedTuple):
    """Normalised images in the host's memory.

    Attributes:
      names: N.
      pixels: uint8 [N, 3, H, W], padded to one canvas.
      sizes: int32 [N, 2], height and width of each without padding.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    sizes: np.ndarray

    def take(self, indices: np.ndarray) -> "Images":
        """The images with these indices."""
        names = tuple(self.names[i] for i in indices)
        return Images(names, self.pixels[indices], self.sizes[indices])

    def keys(self, seed: int) -> jax.Array:
        """The images' random keys [N]."""
        return jnp.stack([crops.image_key(seed, name) for name in self.names])


def fold_batch_norms(
    encoder: Encoder, variables: Variables, precision: str
) -> tuple[Encoder, Variables]:
    """An encoder with only its batch norms folded, and its float32 parameters by layer.

    The input convention is not folded: it would make the first kernel too small to be trained at
    the rate of the others.

    Raises:
      InputError: it has batch norms, or other statistics, that cannot be folded.
    """
    if not encoder.folds:
        if statistics := sorted(variables.keys() - {"params"}):
            raise InputError(
                f"{encoder.name} cannot be fine-tuned, since its {statistics[0]} cannot be folded: "
                "make its module a histojax.encoders.layers.FrozenNetwork"
            )
        return encoder.folded(precision), variables.get("params", {})
    params = folding.fold_batch_norms(variables, getattr(encoder.module, "epsilon", 0.0))["params"]
    module = encoder.module.clone(folded=True, precision=PRECISIONS[precision])
    return dataclasses.replace(encoder, module=module), jax.tree.map(jnp.asarray, params)


def split_layers(params: Variables, encoder: Encoder, blocks: str) -> tuple[Variables, Variables]:
    """Layers to train, and frozen ones; InputError where there are none to train."""
    beginnings = encoder.last_block if blocks == "last" else ("",)
    trained = {name: layer for name, layer in params.items() if name.startswith(beginnings)}
    if not trained:
        raise InputError(
            f"{encoder.name} has no layers to fine-tune: pass --blocks=all, or say in its row how "
            f"their names begin, last_block=({(list(params) or [''])[-1]!r},)"
        )
    return trained, {name: layer for name, layer in params.items() if name not in trained}


@partial(jax.jit, static_argnames=("scale", "canvas", "normalizer"))
def normalized(
    rgb: jax.Array,
    size: jax.Array,
    scaled_size: jax.Array,
    *,
    scale: float,
    canvas: tuple[int, int],
    normalizer: stain.Normalizer = stain.MACENKO,
) -> jax.Array:
    """An image normalised as by extraction: grey levels uint8 [H, W, 3] -> uint8 [3, *canvas]."""
    image, _ = preparation.normalized(rgb, size, scaled_size, scale, normalizer)
    return preparation.onto(jnp.moveaxis(image, -1, 0), canvas)


def _crop(
    image: jax.Array,
    size: jax.Array,
    key: jax.Array,
    augmentation: jax.Array,
    number: jax.Array,
    config: StepConfig,
) -> jax.Array:
    """A crop as extraction draws it, in whole grey levels: float32 [S, S, 3]."""
    side, draws = config.view.crop_size, config.extraction
    corner, turn = crops.corner_and_turn(key, augmentation, number, size, side)
    square = jnp.moveaxis(crops.cut(image, corner, turn, side), 0, -1)
    planes = stain.AUGMENTATIONS[draws.stain_augmentation].planes(square)
    gains = preparation.gains(key, augmentation, draws)
    return jnp.moveaxis(preparation.augmented(planes, gains, draws), 0, -1)


def _crops(batch: Batch, config: StepConfig) -> jax.Array:
    """float32 [B, S, S, 3]."""
    draw = partial(_crop, number=jnp.int32(0), config=config)
    return jax.vmap(draw)(batch.images, batch.sizes, batch.keys, batch.augmentations)


@partial(jax.jit, static_argnames="config")
def descriptors(params: Variables, batch: Batch, config: StepConfig) -> jax.Array:
    """The encoder's descriptors of crops, before training: float32 [B, D]."""
    return config.encoder.descriptors({"params": params}, _crops(batch, config))


def standardisation(descriptors: np.ndarray) -> dict[str, jax.Array]:
    """What standardises the head's input: mean and 1 / deviation of descriptors [N, D]."""
    mean = descriptors.mean(axis=0, dtype=np.float64)
    deviation = descriptors.std(axis=0, dtype=np.float64)
    return {
        "mean": jnp.asarray(mean, jnp.float32),
        "scale": jnp.asarray(heads.inverse_deviation(mean, deviation)),
    }


def _logits(trained: Tree, frozen: Tree, images: jax.Array, config: StepConfig) -> jax.Array:
    """The head's output for crops: float32 [B, S, S, 3] -> [B, K].

    Args:
      trained: {"body": layers, "head": {"kernel": [D, K], "bias": [K]}}.
      frozen: {"body": layers, "input": of `standardisation`}.
    """
    params = frozen["body"] | trained["body"]
    x = config.encoder.descriptors({"params": params}, images)
    x = (x - frozen["input"]["mean"][None]) * frozen["input"]["scale"][None]
    head = trained["head"]
    product = jnp.matmul(x, head["kernel"], precision=lax.Precision.HIGHEST)
    return product + head["bias"][None]


def initial_model(config: StepConfig, body: Variables) -> Tree:
    """A model before training: given layers, a head of zeros, and an input as it is."""
    width, classes = config.encoder.width, config.classes
    return {
        "body": body,
        "head": {"kernel": jnp.zeros((width, classes)), "bias": jnp.zeros(classes)},
        "input": {"mean": jnp.zeros(width), "scale": jnp.ones(width)},
    }


def optimizer(config: StepConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter, 2019), with one rate for the head and one for the body.

    Both rise linearly in the epochs of warm-up and fall to zero along a cosine. Kernels decay,
    biases do not.
    """
    finetune = config.finetune
    warm_up = finetune.warmup_epochs * config.steps
    steps = finetune.epochs * config.steps

    def adamw(rate: float) -> optax.GradientTransformation:
        first = rate / max(warm_up, 1)
        schedule = optax.warmup_cosine_decay_schedule(first, rate, warm_up, steps)
        return optax.adamw(schedule, weight_decay=finetune.weight_decay, mask=_is_kernel)

    rates = {"head": finetune.head_learning_rate, "body": finetune.body_learning_rate}
    optimizers = {part: adamw(rate) for part, rate in rates.items()}
    return optax.multi_transform(optimizers, {"head": "head", "body": "body"})


def _is_kernel(params: Tree) -> Tree:
    """Which parameters are kernels."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _loss(trained: Tree, frozen: Tree, batch: Batch, config: StepConfig) -> jax.Array:
    """Mean cross-entropy of crops, each by itself."""
    z = _logits(trained, frozen, _crops(batch, config), config)
    return optax.softmax_cross_entropy_with_integer_labels(z, batch.labels).mean()


@partial(jax.jit, static_argnames="config")
def step(
    trained: Tree, state: optax.OptState, frozen: Tree, batch: Batch, config: StepConfig
) -> tuple[Tree, optax.OptState, jax.Array]:
    """One update: parameters and the optimiser's state after it, and the loss before it."""
    value, gradient = jax.value_and_grad(_loss)(trained, frozen, batch, config)
    updates, state = optimizer(config).update(gradient, state, trained)
    return optax.apply_updates(trained, updates), state, value


@partial(jax.jit, static_argnames="config")
def score(
    trained: Tree,
    frozen: Tree,
    image: jax.Array,
    size: jax.Array,
    key: jax.Array,
    augmentation: jax.Array,
    config: StepConfig,
) -> jax.Array:
    """Class probabilities of an augmentation of an image, a mean over P crops: float32 [K]."""
    count = config.extraction.crops
    at_a_time = min(count, config.finetune.batch_crops)
    # The last group is filled up with the last crop, so that all groups have one shape.
    numbers = np.minimum(np.arange(-(-count // at_a_time) * at_a_time, dtype=np.int32), count - 1)

    def score_group(numbers: jax.Array) -> jax.Array:
        draw = partial(_crop, image, size, key, augmentation, config=config)
        return jax.nn.softmax(_logits(trained, frozen, jax.vmap(draw)(numbers), config))

    by_crop = lax.map(score_group, numbers.reshape(-1, at_a_time))
    return by_crop.reshape(-1, config.classes)[:count].mean(axis=0)
