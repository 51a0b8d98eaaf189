"""Heads of published protocols against NumPy by PyTorch's formulas, and what may choose them."""

import dataclasses

import jax
import numpy as np
import pytest

from histojax.datasets.bach.published_protocols import PROTOCOLS, PublishedProtocol, Split
from histojax.evaluation import metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.learners import published_heads

N, D, K = 39, 6, 4
SPLIT = Split(np.arange(0, 23), np.arange(23, 31), np.arange(31, 39))


def small(name: str) -> PublishedProtocol:
    """A protocol whose epochs have batches of 10, 10 and 3, and larger steps."""
    rates = (0.05, 0.02) if name == "thunder-bach" else (0.05,)
    decays = (0.0, 0.3) if name == "thunder-bach" else (0.3,)
    return dataclasses.replace(
        PROTOCOLS[name],
        learning_rates=rates,
        weight_decays=decays,
        batch_rows=10,
        epochs=12,
        patience=5,
        seeds=2,
    )


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(N) % K)
    means = rng.normal(size=(K, D))
    return (means[labels] + rng.normal(size=(N, D))).astype(np.float32), labels


def value(metric: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    names = tuple(map(str, range(len(truth))))
    predictions = LabelledPredictions(names, tuple("abcd"), truth, predicted)
    return metrics.compute(predictions, np.ones((1, len(truth))), (metric,))[metric, ""].item()


@pytest.mark.parametrize("name", published_heads.METRICS)
def test_metrics_that_choose_are_those_that_are_reported(name):
    rng = np.random.default_rng(0)
    metric = jax.jit(published_heads.METRICS[name], static_argnums=2)
    for _ in range(20):
        truth, predicted = rng.integers(0, rng.integers(2, K + 1), (2, 15))
        chosen_by = metric(truth, predicted, K)
        assert float(chosen_by) == pytest.approx(value(name, truth, predicted), abs=1e-6)


def reference(protocol: PublishedProtocol, data, seed: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Kernel over bias, float64 [D + 1, K], of the best epoch and the last, and which was chosen.

    By the formulas of PyTorch's documentation of Adam and AdamW; first weights and order of rows
    are the code's own.
    """
    descriptors, labels = data
    fitted, targets = descriptors[SPLIT.fitted].astype(np.float64), np.eye(K)[labels[SPLIT.fitted]]
    fitted = np.concatenate([fitted, np.ones((len(fitted), 1))], axis=1)
    start_key, order_key = jax.random.split(jax.random.key(seed))
    orders = jax.vmap(
        lambda epoch: jax.random.permutation(jax.random.fold_in(order_key, epoch), len(fitted))
    )(np.arange(protocol.epochs))
    orders = np.asarray(orders)
    runs = []
    for pair, (rate, decay) in enumerate(protocol.settings):
        kernel, bias = published_heads._first_head(jax.random.fold_in(start_key, pair), D, K)
        weights = np.concatenate([kernel, bias[None]]).astype(np.float64)
        first, second, step, best = 0.0, 0.0, 0, (-1.0, 0)
        for epoch in range(protocol.epochs):
            if epoch - best[1] >= protocol.patience:
                break
            order = orders[epoch]
            for start in range(0, len(fitted), protocol.batch_rows):
                rows = np.flatnonzero((order >= start) & (order < start + protocol.batch_rows))
                odds = np.exp(fitted[rows] @ weights)
                shares = odds / odds.sum(axis=1, keepdims=True)
                gradient = fitted[rows].T @ (shares - targets[rows]) / len(rows)
                if protocol.decoupled_decay:
                    weights = weights * (1 - rate * decay)
                else:
                    gradient = gradient + decay * weights
                step += 1
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
                weights = weights - rate * first / (1 - 0.9**step) / scale
            predicted = (descriptors[SPLIT.chosen] @ weights[:-1] + weights[-1]).argmax(axis=1)
            score = value(protocol.metric, labels[SPLIT.chosen], predicted)
            if score > best[0] + 1e-6:
                best, kept = (score, epoch + 1), weights
        setting = {"learning_rate": rate, "weight_decay": decay}
        runs.append((-best[0], best[1], pair, kept, weights, setting))
    score, epoch, _, kept, last, setting = min(runs, key=lambda run: run[:3])
    return kept, last, setting | {"score": pytest.approx(-score, abs=1e-6), "epoch": epoch}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_heads_are_those_of_adam_as_pytorch_has_it(name, data):
    protocol = small(name)
    heads = published_heads.fit(protocol, SPLIT, *data, K)
    assert len(heads) == protocol.seeds
    for seed, head in enumerate(heads):
        weights, last, chosen = reference(protocol, data, seed)
        assert {key: getattr(head, key) for key in chosen} == chosen
        np.testing.assert_allclose(head.kernel, weights[:-1], atol=2e-5)
        np.testing.assert_allclose(head.bias, weights[-1], atol=2e-5)
        np.testing.assert_allclose(head.last_kernel, last[:-1], atol=2e-5)
        np.testing.assert_allclose(head.last_bias, last[-1], atol=2e-5)
        for which, (*kernel, bias) in ((False, weights), (True, last)):
            answers = (data[0] @ np.array(kernel) + bias).argmax(axis=1)
            np.testing.assert_array_equal(head.predict(data[0], which), answers)
    assert not np.allclose(heads[0].kernel, heads[1].kernel, atol=1e-3)


@pytest.mark.parametrize(("name", "may_look"), [("eva-bach", True), ("thunder-bach", False)])
def test_only_eva_chooses_by_the_labels_that_are_reported(name, may_look, data):
    """Labels of the reported images are exchanged: the heads change only where they may."""
    protocol, (descriptors, labels) = small(name), data
    split = SPLIT._replace(chosen=SPLIT.reported) if protocol.chosen_on_reported else SPLIT
    others = labels.copy()
    others[split.reported] = (labels[split.reported] + 1) % K
    before = published_heads.fit(protocol, split, descriptors, labels, K)
    after = published_heads.fit(protocol, split, descriptors, others, K)
    same = [
        (one.epoch, one.score) == (other.epoch, other.score)
        and np.array_equal(one.kernel, other.kernel)
        for one, other in zip(before, after, strict=True)
    ]
    assert any(same) != may_look
    assert all(same) != may_look
