"""What each part of an ensemble contributes, from its stored scores: accuracy against the number of
augmentations, seeds, configurations and folds' models, and with each configuration left out.

A point of a curve averages over random subsets of that size: the share of them that predict an
image rightly, averaged over images. Its interval resamples the images, or groups where known.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from histojax.evaluation import bootstrap
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.utils import ties

SUBSETS = 40  # That a point averages over, or all where there are fewer.
POINTS = 12  # Of a curve at most.

# By configuration: out-of-fold scores, float64 [S, N, A, K], unless said otherwise.
Scores = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Accuracy with `count` of something, averaged over subsets, with its interval."""

    count: int
    accuracy: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class ConfigurationAblation:
    """Accuracy without one configuration, and the paired difference to that of all."""

    configuration: str
    accuracy: float
    change: float
    interval: Interval


def by_augmentations(scores: Scores, predictions: LabelledPredictions) -> list[CurvePoint]:
    """Accuracy against the number of augmentations; the fewest of any configuration are counted."""
    by_augmentation = [array.mean(axis=0) for array in scores.values()]
    count = min(array.shape[1] for array in by_augmentation)

    def blend(subset: list[int]) -> np.ndarray:
        return np.mean([array[:, subset].mean(axis=1) for array in by_augmentation], axis=0)

    return _curve(count, blend, predictions)


def by_seeds(scores: Scores, predictions: LabelledPredictions) -> list[CurvePoint]:
    """Accuracy against the number of seeds."""
    by_seed = np.mean([array.mean(axis=2) for array in scores.values()], axis=0)
    return _curve_of_means(by_seed, predictions)


def by_configurations(scores: Scores, predictions: LabelledPredictions) -> list[CurvePoint]:
    """Accuracy against the number of configurations."""
    alone = np.stack([array.mean(axis=(0, 2)) for array in scores.values()])
    return _curve_of_means(alone, predictions)


def by_folds(scores: Scores, predictions: LabelledPredictions) -> list[CurvePoint]:
    """Accuracy on a labelled test set against the number of folds' models.

    Out of fold there is no such curve: an image is scored by the models of one fold alone.

    Args:
      scores: of the test set by configuration, float64 [S, F, T, A, K].
      predictions: of the test set.
    """
    by_fold = np.mean([array.mean(axis=(0, 3)) for array in scores.values()], axis=0)
    return _curve_of_means(by_fold, predictions)


def by_configuration_left_out(
    scores: Scores, predictions: LabelledPredictions
) -> list[ConfigurationAblation]:
    """Accuracy without each configuration, against that of all; nothing where there is only one."""
    if len(scores) < 2:
        return []
    alone = {name: array.mean(axis=(0, 2)) for name, array in scores.items()}

    def is_right(names: Sequence[str]) -> np.ndarray:
        blended = np.mean([alone[name] for name in names], axis=0)
        return (ties.argmax(blended) == predictions.truth).astype(np.float64)

    right_by_all = is_right(list(alone))
    right = {name: is_right([other for other in alone if other != name]) for name in alone}
    changes = {name: right[name] - right_by_all for name in alone}
    intervals = _intervals_of_means(changes, predictions, None)
    return [
        ConfigurationAblation(
            name, float(right[name].mean()), float(changes[name].mean()), intervals[name]
        )
        for name in alone
    ]


def _curve_of_means(scores: np.ndarray, predictions: LabelledPredictions) -> list[CurvePoint]:
    """A curve against how many of the scores, [M, N, K], are averaged."""
    return _curve(len(scores), lambda subset: scores[subset].mean(axis=0), predictions)


def _curve(
    count: int, blend: Callable[[list[int]], np.ndarray], predictions: LabelledPredictions
) -> list[CurvePoint]:
    """Accuracy against how many of `count` are blended; `blend` gives a subset's scores [N, K]."""
    rng, right = np.random.default_rng(0), {}
    for size in sizes(count):
        chosen = [ties.argmax(blend(list(subset))) for subset in subsets(count, size, rng)]
        right[size] = np.mean([classes == predictions.truth for classes in chosen], axis=0)
    intervals = _intervals_of_means(right, predictions, (0.0, 1.0))
    return [CurvePoint(size, float(right[size].mean()), intervals[size]) for size in right]


def sizes(count: int) -> list[int]:
    """1 to `count`, at most POINTS numbers about evenly spaced on a logarithmic scale."""
    return sorted(set(np.round(np.geomspace(1, count, POINTS)).astype(int).tolist()))


def subsets(count: int, size: int, rng: np.random.Generator) -> list[Sequence[int]]:
    """All subsets of that size of range(count), or SUBSETS random ones."""
    if math.comb(count, size) <= SUBSETS:
        return list(itertools.combinations(range(count), size))
    return [rng.choice(count, size, replace=False) for _ in range(SUBSETS)]


def _intervals_of_means(
    values: dict[int | str, np.ndarray],
    predictions: LabelledPredictions,
    bounds: tuple[float, float] | None,
) -> dict[int | str, Interval]:
    """Intervals of the means over images of values [N] each."""
    groups = predictions.resampling_groups or len(predictions.truth)

    def means(weights: np.ndarray) -> dict[int | str, np.ndarray]:
        total = weights.sum(axis=1)
        return {key: weights @ array / total for key, array in values.items()}

    drawn, size = bootstrap.resample(means, groups), bootstrap.effective_size(groups)
    return {
        key: bootstrap.confidence_interval(float(array.mean()), drawn[key], size, bounds)
        for key, array in values.items()
    }
