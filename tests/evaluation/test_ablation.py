"""Curves end at the whole ensemble, average over subsets by hand, and say what each configuration brings."""

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
def cases(scores):
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


def right(blended, cases):
    return np.mean(blended.argmax(axis=1) == cases.truth)


@pytest.mark.parametrize(
    "of", [ablation.by_augmentations, ablation.by_seeds, ablation.by_configurations]
)
def test_a_curve_ends_at_the_whole_ensemble(of, scores, cases):
    points = of(scores, cases)
    assert points[0].count == 1
    assert points[-1].accuracy == pytest.approx(right(cases.scores, cases))
    assert (
        points[-1].count
        == {"by_augmentations": 5, "by_seeds": 3, "by_configurations": 3}[of.__name__]
    )
    assert all(point.interval.low < point.accuracy <= point.interval.high for point in points)


def test_a_point_averages_over_all_subsets(scores, cases):
    pairs = list(itertools.combinations(range(3), 2))
    alone = [each.mean(axis=(0, 2)) for each in scores.values()]
    expected = np.mean([right((alone[a] + alone[b]) / 2, cases) for a, b in pairs])
    assert ablation.by_configurations(scores, cases)[1].accuracy == pytest.approx(expected)
    by_seed = np.mean([each.mean(axis=2) for each in scores.values()], axis=0)
    expected = np.mean([right((by_seed[a] + by_seed[b]) / 2, cases) for a, b in pairs])
    assert ablation.by_seeds(scores, cases)[1].accuracy == pytest.approx(expected)
    of_one = np.mean(
        [
            right(np.mean([e[:, :, a].mean(axis=0) for e in scores.values()], axis=0), cases)
            for a in range(5)
        ]
    )
    assert ablation.by_augmentations(scores, cases)[0].accuracy == pytest.approx(of_one)


def test_configurations_may_differ_in_augmentations(scores, cases):
    fewer = dict(scores) | {"VGG-0.5-650": scores["VGG-0.5-650"][:, :, :2]}
    assert ablation.by_augmentations(fewer, cases)[-1].count == 2


def test_folds_models_are_counted_on_a_test_set(cases):
    rng = np.random.default_rng(1)
    of_models = {
        "VGG-0.5-400": rng.dirichlet(np.ones(4), (2, 6, N, 3))
        + 0.1 * np.eye(4)[cases.truth][:, None]
    }
    points = ablation.by_folds(of_models, cases)
    assert [point.count for point in points] == [1, 2, 3, 4, 5, 6]
    by_fold = of_models["VGG-0.5-400"].mean(axis=(0, 3))
    assert points[0].accuracy == pytest.approx(np.mean([right(each, cases) for each in by_fold]))
    assert points[-1].accuracy == pytest.approx(right(by_fold.mean(axis=0), cases))
    assert points[-1].accuracy > points[0].accuracy


def test_leaving_out_what_knows_nothing_costs_nothing(scores, cases):
    found = {each.configuration: each for each in ablation.by_configuration_left_out(scores, cases)}
    assert list(found) == list(scores)
    kept = [scores["ResNet-0.5-400"], scores["VGG-0.5-400"]]
    assert found["VGG-0.5-650"].accuracy == pytest.approx(right(metrics.mean_scores(kept), cases))
    for each in found.values():
        assert each.change == pytest.approx(each.accuracy - right(cases.scores, cases))
        assert each.interval.low <= each.change <= each.interval.high
    assert found["ResNet-0.5-400"].change < 0 <= found["VGG-0.5-650"].change
    assert ablation.by_configuration_left_out({"one": scores["VGG-0.5-400"]}, cases) == []


@pytest.mark.parametrize("whole", [1, 2, 5, 50, 300])
def test_sizes_run_from_one_to_the_whole(whole):
    found = ablation.sizes(whole)
    assert (found[0], found[-1]) == (1, whole)
    assert found == sorted(set(found))
    assert len(found) <= ablation.POINTS


def test_subsets_are_all_or_a_sample():
    rng = np.random.default_rng(0)
    assert len(ablation.subsets(5, 2, rng)) == 10
    sampled = ablation.subsets(50, 25, rng)
    assert len(sampled) == ablation.SUBSETS
    assert all(len(set(subset)) == 25 for subset in sampled)
