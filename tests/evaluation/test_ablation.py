"""Curves end at the whole ensemble, average over subsets by hand; ablations leave one out."""

import itertools

import numpy as np
import pytest

from histojax.config import BACH_CLASSES
from histojax.evaluation import ablation, metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions

N = 48


@pytest.fixture(scope="module")
def scores():
    """Two good configurations and one that knows nothing: [S, N, A, K]."""
    rng = np.random.default_rng(0)
    truth = np.arange(N) % 4
    hard = rng.dirichlet(np.ones(4), (N, 1))  # What every model sees in an image.
    gains = {"ResNet-0.5-400": 0.4, "VGG-0.5-400": 0.2, "VGG-0.5-650": 0.0}
    return {
        name: hard + rng.dirichlet(np.ones(4), (3, N, 5)) + gain * np.eye(4)[truth][None, :, None]
        for name, gain in gains.items()
    }


@pytest.fixture(scope="module")
def predictions(scores):
    blended = metrics.mean_scores(list(scores.values()))
    groups = tuple(f"g{i // 3}" for i in range(N))
    truth = np.arange(N) % 4
    return LabelledPredictions(
        tuple(map(str, range(N))),
        BACH_CLASSES,
        truth,
        blended.argmax(axis=1),
        blended,
        None,
        groups,
        (2, 3),
    )


def accuracy(blended, predictions):
    return np.mean(blended.argmax(axis=1) == predictions.truth)


@pytest.mark.parametrize(
    "of", [ablation.by_augmentations, ablation.by_seeds, ablation.by_configurations]
)
def test_a_curve_ends_at_the_whole_ensemble(of, scores, predictions):
    points = of(scores, predictions)
    assert points[0].count == 1
    assert points[-1].accuracy == pytest.approx(accuracy(predictions.scores, predictions))
    assert (
        points[-1].count
        == {"by_augmentations": 5, "by_seeds": 3, "by_configurations": 3}[of.__name__]
    )
    assert all(point.interval.low < point.accuracy <= point.interval.high for point in points)


def test_a_point_averages_over_all_subsets(scores, predictions):
    pairs = list(itertools.combinations(range(3), 2))
    alone = [array.mean(axis=(0, 2)) for array in scores.values()]
    expected = np.mean([accuracy((alone[a] + alone[b]) / 2, predictions) for a, b in pairs])
    assert ablation.by_configurations(scores, predictions)[1].accuracy == pytest.approx(expected)
    by_seed = np.mean([array.mean(axis=2) for array in scores.values()], axis=0)
    expected = np.mean([accuracy((by_seed[a] + by_seed[b]) / 2, predictions) for a, b in pairs])
    assert ablation.by_seeds(scores, predictions)[1].accuracy == pytest.approx(expected)
    of_one = np.mean(
        [
            accuracy(
                np.mean([array[:, :, a].mean(axis=0) for array in scores.values()], axis=0),
                predictions,
            )
            for a in range(5)
        ]
    )
    assert ablation.by_augmentations(scores, predictions)[0].accuracy == pytest.approx(of_one)


def test_configurations_may_differ_in_augmentations(scores, predictions):
    fewer = dict(scores) | {"VGG-0.5-650": scores["VGG-0.5-650"][:, :, :2]}
    assert ablation.by_augmentations(fewer, predictions)[-1].count == 2


def test_folds_models_are_counted_on_a_test_set(predictions):
    rng = np.random.default_rng(1)
    of_models = {
        "VGG-0.5-400": rng.dirichlet(np.ones(4), (2, 6, N, 3))
        + 0.1 * np.eye(4)[predictions.truth][:, None]
    }
    points = ablation.by_folds(of_models, predictions)
    assert [point.count for point in points] == [1, 2, 3, 4, 5, 6]
    by_fold = of_models["VGG-0.5-400"].mean(axis=(0, 3))
    assert points[0].accuracy == pytest.approx(
        np.mean([accuracy(scores, predictions) for scores in by_fold])
    )
    assert points[-1].accuracy == pytest.approx(accuracy(by_fold.mean(axis=0), predictions))
    assert points[-1].accuracy > points[0].accuracy


def test_leaving_out_what_knows_nothing_costs_nothing(scores, predictions):
    ablated = {
        row.configuration: row for row in ablation.by_configuration_left_out(scores, predictions)
    }
    assert list(ablated) == list(scores)
    kept = [scores["ResNet-0.5-400"], scores["VGG-0.5-400"]]
    assert ablated["VGG-0.5-650"].accuracy == pytest.approx(
        accuracy(metrics.mean_scores(kept), predictions)
    )
    for row in ablated.values():
        assert row.change == pytest.approx(row.accuracy - accuracy(predictions.scores, predictions))
        assert row.interval.low <= row.change <= row.interval.high
    assert ablated["ResNet-0.5-400"].change < 0 <= ablated["VGG-0.5-650"].change
    assert ablation.by_configuration_left_out({"one": scores["VGG-0.5-400"]}, predictions) == []


@pytest.mark.parametrize("whole", [1, 2, 5, 50, 300])
def test_sizes_run_from_one_to_the_whole(whole):
    sizes = ablation.sizes(whole)
    assert (sizes[0], sizes[-1]) == (1, whole)
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= ablation.POINTS


def test_subsets_are_all_or_a_sample():
    rng = np.random.default_rng(0)
    assert len(ablation.subsets(5, 2, rng)) == 10
    sampled = ablation.subsets(50, 25, rng)
    assert len(sampled) == ablation.SUBSETS
    assert all(len(set(subset)) == 25 for subset in sampled)
