"""The compiled program that trains heads: one model a lane of `jax.vmap`, for any seed and fold.

A head is a multinomial logistic regression, linear or with a hidden layer; every augmentation of
an image is a row of its own. It is trained on minibatches of its training images' rows, gathered
from descriptors that all models share, and keeps the weights of the epoch with the lowest loss of
its validation images.

M models, C configurations, N images, A augmentations, R = N A rows, B rows of a minibatch, D
channels of the widest configuration, K classes. Kernels are [outputs, inputs] here: a CPU then
computes their gradient several times as fast.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from histojax.config import Probe

Layers = tuple[tuple[jax.Array, jax.Array], ...]


class Model(NamedTuple):
    """What distinguishes a model from those trained with it; all have a leading M if batched.

    Attributes:
      configuration, seed, fold: int32; the first is an index into the descriptors.
      channels: int32, the D of its configuration; beyond that is padding.
      training, validation: bool [N], its images.
      mean, scale: float32 [D], of its training rows; its input is (descriptors - mean) * scale.
    """

    configuration: jax.Array
    seed: jax.Array
    fold: jax.Array
    channels: jax.Array
    training: jax.Array
    validation: jax.Array
    mean: jax.Array
    scale: jax.Array


class Fitted(NamedTuple):
    """A model after training.

    Attributes:
      layers: of the best epoch.
      best_epoch: int32, counted from 1; 0 if no loss was finite.
      losses: float32 [epochs], of validation; infinite from where training stopped.
    """

    layers: Layers
    best_epoch: jax.Array
    losses: jax.Array


class _State(NamedTuple):
    """What one epoch passes on to the next."""

    epoch: jax.Array
    layers: Layers
    adam: optax.OptState
    best: Fitted


def _logits(layers: Layers, x: jax.Array) -> jax.Array:
    """Rows [B, D] -> [B, K], in full float32, which a GPU computes in only on request."""
    product = partial(jnp.einsum, "bi,oi->bo", precision=lax.Precision.HIGHEST)
    *hidden, (kernel, bias) = layers
    for hidden_kernel, hidden_bias in hidden:
        x = jax.nn.relu(product(x, hidden_kernel) + hidden_bias[None])
    return product(x, kernel) + bias[None]


def _initial_layers(key: jax.Array, model: Model, probe: Probe, width: int, classes: int) -> Layers:
    """Zeros; a hidden layer by He et al. (2015), eq. 12.

    A channel's weights do not depend on how many channels there are.
    """
    if probe.head == "linear":
        return ((jnp.zeros((classes, width)), jnp.zeros(classes)),)
    units = probe.hidden_units

    def draw(channel: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, channel), (units,))

    draws = jax.vmap(draw)(jnp.arange(width)).T
    hidden = (draws * jnp.sqrt(2 / model.channels), jnp.zeros(units))
    return hidden, (jnp.zeros((classes, units)), jnp.zeros(classes))


def _adam(probe: Probe) -> optax.GradientTransformation:
    """Adam (Kingma and Ba, 2015) on the loss plus an L2 penalty of kernels, not of biases."""
    penalty = optax.add_decayed_weights(
        probe.weight_decay, mask=partial(jax.tree.map, lambda leaf: leaf.ndim == 2)
    )
    return optax.chain(penalty, optax.adam(probe.learning_rate))


def fit(
    model: Model,
    descriptors: jax.Array,
    labels: jax.Array,
    probe: Probe,
    classes: int,
    steps: int,
    checks: int,
) -> Fitted:
    """Trains one model; a pure function for `jax.vmap` over `model`, random by seed and fold alone.

    Args:
      model: what it is trained on.
      descriptors: float32 [C, R, D].
      labels: int32 [R].
      probe: the learner's parameters.
      classes: K.
      steps: minibatches of an epoch, enough for the model with the most rows. Each epoch goes
        through a model's rows in random order, and begins again if they end early.
      checks: minibatches that hold the validation rows of any model.
    """
    augmentations = len(labels) // len(model.training)
    in_training, in_validation = (
        jnp.repeat(images, augmentations) for images in (model.training, model.validation)
    )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), model.seed), model.fold)
    start_key, order_key = jax.random.split(key)
    optimizer = _adam(probe)

    def losses(layers: Layers, rows: jax.Array) -> jax.Array:
        x = (descriptors[model.configuration, rows] - model.mean[None]) * model.scale[None]
        return optax.softmax_cross_entropy_with_integer_labels(_logits(layers, x), labels[rows])

    slots = jnp.arange(checks * probe.batch_rows).reshape(-1, probe.batch_rows)
    checked = jnp.argsort(~in_validation)[slots % len(labels)]
    counted = slots < in_validation.sum()

    def validation_loss(layers: Layers) -> jax.Array:
        def add(total, batch):
            rows, weights = batch
            return total + (losses(layers, rows) * weights).sum(), None

        total, _ = lax.scan(add, jnp.float32(0), (checked, counted))
        return total / in_validation.sum()

    def step(carry, rows):
        layers, state = carry
        gradient = jax.grad(lambda layers: losses(layers, rows).mean())(layers)
        updates, state = optimizer.update(gradient, state, layers)
        return (optax.apply_updates(layers, updates), state), None

    def epoch(state: _State) -> _State:
        draws = jax.random.uniform(jax.random.fold_in(order_key, state.epoch), labels.shape)
        training_first = jnp.argsort(jnp.where(in_training, draws, jnp.inf))
        slots = jnp.arange(steps * probe.batch_rows).reshape(-1, probe.batch_rows)
        order = training_first[slots % in_training.sum()]
        (layers, adam_state), _ = lax.scan(step, (state.layers, state.adam), order)
        loss = validation_loss(layers)
        better = loss < state.best.losses.min()
        best = Fitted(
            jax.tree.map(partial(jnp.where, better), layers, state.best.layers),
            jnp.where(better, state.epoch + 1, state.best.best_epoch),
            state.best.losses.at[state.epoch].set(loss),
        )
        return _State(state.epoch + 1, layers, adam_state, best)

    def continues(state: _State) -> jax.Array:
        return (state.epoch < probe.epochs) & (state.epoch - state.best.best_epoch < probe.patience)

    layers = _initial_layers(start_key, model, probe, descriptors.shape[-1], classes)
    best = Fitted(layers, jnp.int32(0), jnp.full(probe.epochs, jnp.inf))
    return lax.while_loop(
        continues, epoch, _State(jnp.int32(0), layers, optimizer.init(layers), best)
    ).best


def compiled(fitting: Callable, mesh: Mesh) -> Callable[[Model, jax.Array, jax.Array], Fitted]:
    """The program that fits M models, shared equally by the devices, which need not wait."""
    return jax.jit(
        jax.shard_map(
            jax.vmap(fitting, in_axes=(0, None, None)),
            mesh=mesh,
            in_specs=(P("models"), P(), P()),
            out_specs=P("models"),
            check_vma=False,
        )
    )
