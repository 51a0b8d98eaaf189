"""Linear heads as published benchmarks fit them: Adam or AdamW, the best epoch by a metric kept.

One program fits all heads of an encoder, a lane each of `jax.vmap`: every seed with every pair of
learning rate and weight decay. PyTorch's ways are kept where they decide something: the first
weights and biases are uniform up to 1 / sqrt(D), biases decay too, an epoch goes through all rows
in random order, and its last batch has what is left.

N images that heads are fitted to, M that they are chosen by, D channels, K classes, L lanes.
"""

import dataclasses
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from histojax.datasets.bach.published_protocols import PublishedProtocol, Split

_Head = tuple[jax.Array, jax.Array]  # Kernel [D, K] and bias [K].


class _Examples(NamedTuple):
    """Descriptors float32 [N, D], and the class index of each, int32 [N]."""

    descriptors: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Head:
    """A fitted head, the best of those of its seed.

    Attributes:
      kernel, bias: of the best epoch, float32 [D, K] and [K].
      last_kernel, last_bias: of the last epoch.
      score: the metric of the best epoch on the examples that decided it.
      epoch, epochs: the best one, counted from 1, and how many there were.
      learning_rate, weight_decay: that it was fitted with.
    """

    kernel: np.ndarray
    bias: np.ndarray
    last_kernel: np.ndarray
    last_bias: np.ndarray
    score: float
    epoch: int
    epochs: int
    learning_rate: float
    weight_decay: float

    def predict(self, descriptors: np.ndarray, last: bool = False) -> np.ndarray:
        """Class indices of descriptors [N, D]; with `last`, by the last epoch."""
        kernel, bias = (self.last_kernel, self.last_bias) if last else (self.kernel, self.bias)
        return (descriptors.astype(np.float64) @ kernel + bias).argmax(axis=1)


class _Lane(NamedTuple):
    """What distinguishes a head from those fitted with it."""

    seed: jax.Array
    pair: jax.Array
    learning_rate: jax.Array
    weight_decay: jax.Array


class _State(NamedTuple):
    """What one epoch passes on to the next; `epoch` counts those done, `best_epoch` from 1."""

    epoch: jax.Array
    head: _Head
    adam: optax.OptState
    best: _Head
    best_epoch: jax.Array
    best_score: jax.Array


def fit(
    protocol: PublishedProtocol,
    split: Split,
    descriptors: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> tuple[Head, ...]:
    """The head of each seed, chosen among pairs of learning rate and weight decay and epochs.

    Of equal scores the earliest epoch counts, and of one epoch the first pair.

    Args:
      protocol: how to fit and to choose.
      split: which images heads are fitted to, and chosen by; those reported are not looked at.
      descriptors: float32 [images, D].
      labels: class index of each image, int [images].
      classes: K.
    """
    fitted, chosen = (
        _Examples(descriptors[part], labels[part].astype(np.int32))
        for part in (split.fitted, split.chosen)
    )
    settings = protocol.settings
    seeds, pairs = np.divmod(
        np.arange(protocol.seeds * len(settings), dtype=np.int32), np.int32(len(settings))
    )
    lanes = _Lane(seeds, pairs, *np.array(settings, np.float32)[pairs].T)
    states = jax.device_get(_fit(lanes, fitted, chosen, protocol, classes))
    heads = []
    for seed in range(protocol.seeds):
        of_seed = np.flatnonzero(seeds == seed)
        first = min(of_seed, key=lambda i: (-states.best_score[i], states.best_epoch[i], i))
        state = jax.tree.map(itemgetter(first), states)
        counts = float(state.best_score), int(state.best_epoch), int(state.epoch)
        heads.append(Head(*state.best, *state.head, *counts, *settings[pairs[first]]))
    return tuple(heads)


def optimizer(
    protocol: PublishedProtocol, learning_rate: jax.Array, weight_decay: jax.Array
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter, 2019), or Adam with the decay added to the gradient.

    Both decay biases too, as PyTorch's `AdamW` and `Adam` do.
    """
    if protocol.decoupled_decay:
        return optax.adamw(learning_rate, weight_decay=weight_decay)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))


@partial(jax.jit, static_argnums=(3, 4))
def _fit(
    lanes: _Lane, fitted: _Examples, chosen: _Examples, protocol: PublishedProtocol, classes: int
) -> _State:
    """Fits a head for each lane; leaves of the result have a leading L."""
    one = partial(_fit_one, protocol=protocol, classes=classes)
    return jax.vmap(one, in_axes=(0, None, None))(lanes, fitted, chosen)


def _fit_one(
    lane: _Lane, fitted: _Examples, chosen: _Examples, protocol: PublishedProtocol, classes: int
) -> _State:
    """Fits one head; random by seed and pair alone, and the order of rows by seed alone.

    A batch is a mask of all rows, which costs more operations than to gather its rows would, but
    makes one matrix product of all lanes.
    """
    rows, width = fitted.descriptors.shape
    steps = -(-rows // protocol.batch_rows)
    start_key, order_key = jax.random.split(jax.random.key(lane.seed))
    adam = optimizer(protocol, lane.learning_rate, lane.weight_decay)
    score = METRICS[protocol.metric]

    def loss(head: _Head, weights: jax.Array) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(
            _logits(head, fitted.descriptors), fitted.labels
        )
        return (losses * weights).sum() / weights.sum()

    def step(carry: tuple[_Head, optax.OptState], weights: jax.Array):
        head, state = carry
        updates, state = adam.update(jax.grad(loss)(head, weights), state, head)
        return (optax.apply_updates(head, updates), state), None

    def epoch(state: _State) -> _State:
        key = jax.random.fold_in(order_key, state.epoch)
        batch = jax.random.permutation(key, rows) // protocol.batch_rows
        masks = (batch[None] == jnp.arange(steps)[:, None]).astype(jnp.float32)
        (head, adam_state), _ = lax.scan(step, (state.head, state.adam), masks)
        predicted = _logits(head, chosen.descriptors).argmax(axis=1)
        new_score = score(chosen.labels, predicted, classes)
        better = new_score > state.best_score
        best, best_epoch, best_score = jax.tree.map(
            partial(jnp.where, better),
            (head, state.epoch + 1, new_score),
            (state.best, state.best_epoch, state.best_score),
        )
        return _State(state.epoch + 1, head, adam_state, best, best_epoch, best_score)

    def continues(state: _State) -> jax.Array:
        not_done = state.epoch < protocol.epochs
        return not_done & (state.epoch - state.best_epoch < protocol.patience)

    head = _first_head(jax.random.fold_in(start_key, lane.pair), width, classes)
    state = _State(jnp.int32(0), head, adam.init(head), head, jnp.int32(0), jnp.float32(-1))
    return lax.while_loop(continues, epoch, state)


def _first_head(key: jax.Array, width: int, classes: int) -> _Head:
    """Kernel and bias, uniform up to 1 / sqrt(D), as of PyTorch's `Linear`."""
    keys, reach = jax.random.split(key), width**-0.5
    shapes = (width, classes), (classes,)
    return tuple(
        jax.random.uniform(key, shape, minval=-reach, maxval=reach)
        for key, shape in zip(keys, shapes, strict=True)
    )


def _logits(head: _Head, descriptors: jax.Array) -> jax.Array:
    """[N, D] -> [N, K], in full float32, which a GPU computes in only on request."""
    kernel, bias = head
    return jnp.dot(descriptors, kernel, precision=lax.Precision.HIGHEST) + bias[None]


def _counts(
    truth: jax.Array, predicted: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Correct predictions, images and predictions of each class, float32 [K]."""
    true, called = (jax.nn.one_hot(labels, classes) for labels in (truth, predicted))
    return (true * called).sum(axis=0), true.sum(axis=0), called.sum(axis=0)


def _mean_ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Mean over the classes where it is defined."""
    defined = whole > 0
    return jnp.where(defined, part / jnp.maximum(whole, 1), 0).sum() / defined.sum()


def _balanced_accuracy(truth: jax.Array, predicted: jax.Array, classes: int) -> jax.Array:
    correct, images, _ = _counts(truth, predicted, classes)
    return _mean_ratio(correct, images)


def _macro_f1(truth: jax.Array, predicted: jax.Array, classes: int) -> jax.Array:
    correct, images, predictions = _counts(truth, predicted, classes)
    return _mean_ratio(2 * correct, images + predictions)


# Of class indices int [M] each and K, float32: those of `evaluation.metrics` by the same names.
METRICS = {"balanced_accuracy": _balanced_accuracy, "macro_f1": _macro_f1}
