"""Fine-tuning as pure functions: crops of normalised images to class probabilities, and a step of training.

image uint8 [3, H, W] -> crop, augmented [S, S, 3] -> encoder -> descriptor [D], standardised -> linear head [K]

The encoder's batch norms keep their statistics and are folded into the convolutions. What is trained is one argument
and what is frozen another, of which no derivative is taken: below the trained block there is no backward pass.

N images, B crops of a step, S side of a crop, A augmentations, P crops of each, D channels, K classes. Images are
padded below and to the right to one canvas, so that every step has one shape.
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
from histojax.extraction import programs
from histojax.learners import heads
from histojax.ops import crops, stain

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What the programs of a configuration are compiled for; the same for all its seeds and folds.

    Attributes:
      encoder: of `foldable`.
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
    """B crops to train on: images uint8 [B, 3, H, W], their own sizes int32 [B, 2], keys [B], augmentations int32 [B]
    (each is the first crop of one), and labels int32 [B]."""

    images: jax.Array
    sizes: jax.Array
    keys: jax.Array
    augmentations: jax.Array
    labels: jax.Array


def foldable(encoder: Encoder, variables: Variables, precision: str) -> tuple[Encoder, Variables]:
    """An encoder with its batch norms alone folded, and its float32 parameters by layer.

    The input convention stays outside: folded into the first kernel, it would make that too small to be trained at the
    others' rate.
    """
    params = folding.fold_batch_norms(variables, getattr(encoder.module, "epsilon", 0.0))["params"]
    module = encoder.module.clone(folded=True, precision=PRECISIONS[precision])
    return dataclasses.replace(encoder, module=module), jax.tree.map(jnp.asarray, params)


def split_layers(params: Variables, encoder: Encoder, blocks: str) -> tuple[Variables, Variables]:
    """Layers to train, and frozen ones."""
    beginnings = encoder.last_block if blocks == "last" else ("",)
    trained = {name: layer for name, layer in params.items() if name.startswith(beginnings)}
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
    """An image as extraction prepares it (`programs.prepare`), in grey levels: uint8 [H, W, 3] -> uint8 [3, *canvas]."""
    image, _ = programs.normalized(rgb, size, scaled_size, scale, normalizer)
    return programs.onto(jnp.moveaxis(image, -1, 0), canvas)


def crop(
    image: jax.Array,
    size: jax.Array,
    key: jax.Array,
    augmentation: jax.Array,
    number: jax.Array,
    tuning: Tuning,
) -> jax.Array:
    """Crop `number` of an augmentation, as extraction draws it: float32 [S, S, 3], whole grey levels."""
    side, draws = tuning.view.crop_size, tuning.extraction
    corner, turn = crops.corner_and_turn(key, augmentation, number, size, side)
    square = jnp.moveaxis(crops.cut(image, corner, turn, side), 0, -1)
    planes = stain.AUGMENTATIONS[draws.stain_augmentation].planes(square)
    return jnp.moveaxis(programs.augmented(planes, key, augmentation, draws), 0, -1)


def crops_of(batch: Batch, tuning: Tuning) -> jax.Array:
    """float32 [B, S, S, 3]."""
    draw = partial(crop, number=jnp.int32(0), tuning=tuning)
    return jax.vmap(draw)(batch.images, batch.sizes, batch.keys, batch.augmentations)


@partial(jax.jit, static_argnames="tuning")
def descriptors(params: Variables, batch: Batch, tuning: Tuning) -> jax.Array:
    """The encoder's descriptors of crops, before training: float32 [B, D]."""
    return tuning.encoder.descriptors({"params": params}, crops_of(batch, tuning))


def standardisation(found: np.ndarray) -> dict[str, jax.Array]:
    """Mean and 1 / deviation of descriptors [N, D], which the head's input is standardised by: float32 [D] each."""
    mean, deviation = found.mean(axis=0, dtype=np.float64), found.std(axis=0, dtype=np.float64)
    return {
        "mean": jnp.asarray(mean, jnp.float32),
        "scale": jnp.asarray(heads.scale_of(mean, deviation)),
    }


def logits(trained: Tree, frozen: Tree, images: jax.Array, tuning: Tuning) -> jax.Array:
    """Crops to the head's output: float32 [B, S, S, 3] -> [B, K].

    Args:
      trained: {"body": layers, "head": {"kernel": [D, K], "bias": [K]}}.
      frozen: {"body": layers, "input": of `standardisation`}.
    """
    described = tuning.encoder.descriptors({"params": frozen["body"] | trained["body"]}, images)
    x = (described - frozen["input"]["mean"][None]) * frozen["input"]["scale"][None]
    return (
        jnp.matmul(x, trained["head"]["kernel"], precision=lax.Precision.HIGHEST)
        + trained["head"]["bias"][None]
    )


def beginning(tuning: Tuning, body: Variables) -> Tree:
    """A model before its first epoch: the layers to train as they are, a head of zeros, and descriptors as they are."""
    width, classes = tuning.encoder.width, tuning.classes
    return {
        "body": body,
        "head": {"kernel": jnp.zeros((width, classes)), "bias": jnp.zeros(classes)},
        "input": {"mean": jnp.zeros(width), "scale": jnp.ones(width)},
    }


def optimizer(tuning: Tuning) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter, 2019), at a rate of its own for head and body; kernels decay, biases do not.

    Both rates rise linearly in the epochs of warm-up and fall to zero along a cosine.
    """
    chosen = tuning.finetune
    warm_up = chosen.warmup_epochs * tuning.steps

    def adamw(rate: float) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(
            rate / max(warm_up, 1), rate, warm_up, chosen.epochs * tuning.steps
        )
        return optax.adamw(schedule, weight_decay=chosen.weight_decay, mask=kernels)

    rates = {"head": adamw(chosen.head_learning_rate), "body": adamw(chosen.body_learning_rate)}
    return optax.multi_transform(rates, {"head": "head", "body": "body"})


def kernels(params: Tree) -> Tree:
    """Which parameters are kernels."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def loss(trained: Tree, frozen: Tree, batch: Batch, tuning: Tuning) -> jax.Array:
    """Mean cross-entropy of crops, each for itself."""
    found = logits(trained, frozen, crops_of(batch, tuning), tuning)
    return optax.softmax_cross_entropy_with_integer_labels(found, batch.labels).mean()


@partial(jax.jit, static_argnames="tuning")
def step(
    trained: Tree, state: optax.OptState, frozen: Tree, batch: Batch, tuning: Tuning
) -> tuple[Tree, optax.OptState, jax.Array]:
    """One update: parameters and optimiser's state after it, and the loss before it."""
    value, gradient = jax.value_and_grad(loss)(trained, frozen, batch, tuning)
    updates, state = optimizer(tuning).update(gradient, state, trained)
    return optax.apply_updates(trained, updates), state, value


@partial(jax.jit, static_argnames="tuning")
def score(
    trained: Tree,
    frozen: Tree,
    image: jax.Array,
    size: jax.Array,
    key: jax.Array,
    augmentation: jax.Array,
    tuning: Tuning,
) -> jax.Array:
    """Class probabilities of an augmentation of an image, averaged over its P crops: float32 [K]."""
    count, at_a_time = (
        tuning.extraction.crops,
        min(tuning.extraction.crops, tuning.finetune.batch_crops),
    )
    # The last group is filled up with repetitions of the last crop, so that every group has one shape.
    numbers = np.minimum(np.arange(-(-count // at_a_time) * at_a_time, dtype=np.int32), count - 1)

    def some(numbers: jax.Array) -> jax.Array:
        images = jax.vmap(lambda number: crop(image, size, key, augmentation, number, tuning))(
            numbers
        )
        return jax.nn.softmax(logits(trained, frozen, images, tuning))

    found = lax.map(some, numbers.reshape(-1, at_a_time))
    return found.reshape(-1, tuning.classes)[:count].mean(axis=0)
