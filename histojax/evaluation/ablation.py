"""What each part of an ensemble brings, from its stored scores: accuracy against the number of augmentations, of seeds,
of configurations and of folds' models, and without each configuration.

A point of a curve averages over random subsets of that size: the share of them that get an image right, averaged over
images; its interval resamples the images (or groups), since they are what a figure is generalised to.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from histojax.evaluation import bootstrap
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions

SUBSETS = 40  # Averaged over, or all of them where there are fewer.
POINTS = 12  # Of a curve at most.


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Accuracy with `count` of something, averaged over subsets, with its interval."""

    count: int
    accuracy: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class ConfigurationAblation:
    """Accuracy without one configuration, and the paired difference to the whole."""

    configuration: str
    accuracy: float
    change: float
    interval: Interval


def sizes(whole: int) -> list[int]:
    """1 to the whole, at most POINTS numbers about evenly spaced on a logarithmic scale."""
    return sorted(set(np.round(np.geomspace(1, whole, POINTS)).astype(int).tolist()))


def subsets(whole: int, size: int, rng: np.random.Generator) -> list[Sequence[int]]:
    """All subsets of that size, or SUBSETS random ones."""
    if math.comb(whole, size) <= SUBSETS:
        return list(itertools.combinations(range(whole), size))
    return [rng.choice(whole, size, replace=False) for _ in range(SUBSETS)]


def curve(
    whole: int,
    score: Callable[[Sequence[int]], np.ndarray],
    cases: LabelledPredictions,
    by_group: bool,
) -> list[CurvePoint]:
    """Accuracy against how many of `whole` are blended.

    Args:
      whole: how many there are.
      score: of a subset of range(whole) to blended scores [N, K].
      cases: whose truth and groups.
      by_group: whether the intervals resample groups.
    """
    rng = np.random.default_rng(0)
    right = {
        size: np.mean(
            [score(subset).argmax(axis=1) == cases.truth for subset in subsets(whole, size, rng)],
            axis=0,
        )
        for size in sizes(whole)
    }
    found = sure(right, cases, by_group, (0.0, 1.0))
    return [CurvePoint(size, float(right[size].mean()), found[size]) for size in right]


def sure(
    values: dict[int | str, np.ndarray],
    cases: LabelledPredictions,
    by_group: bool,
    bounds: tuple[float, float] | None,
) -> dict[int | str, Interval]:
    """Intervals of means over images of values [N] each."""
    groups = cases.resampling_groups if by_group else len(cases.truth)

    def statistic(weights: np.ndarray) -> dict[int | str, np.ndarray]:
        total = weights.sum(axis=1)
        return {key: weights @ each / total for key, each in values.items()}

    found, units = bootstrap.resample(statistic, groups), bootstrap.effective_size(groups)
    return {
        key: bootstrap.confidence_interval(float(values[key].mean()), found[key], units, bounds)
        for key in values
    }


def of_augmentations(
    scores: dict[str, np.ndarray], cases: LabelledPredictions, by_group: bool
) -> list[CurvePoint]:
    """Against the number of augmentations: out-of-fold scores [S, N, A, K] by configuration."""
    by_augmentation = [each.mean(axis=0) for each in scores.values()]
    whole = min(each.shape[1] for each in by_augmentation)
    return curve(
        whole,
        lambda chosen: np.mean([e[:, list(chosen)].mean(axis=1) for e in by_augmentation], axis=0),
        cases,
        by_group,
    )


def of_seeds(
    scores: dict[str, np.ndarray], cases: LabelledPredictions, by_group: bool
) -> list[CurvePoint]:
    """Against the number of seeds."""
    by_seed = np.mean([each.mean(axis=2) for each in scores.values()], axis=0)
    return curve(len(by_seed), lambda chosen: by_seed[list(chosen)].mean(axis=0), cases, by_group)


def of_configurations(
    scores: dict[str, np.ndarray], cases: LabelledPredictions, by_group: bool
) -> list[CurvePoint]:
    """Against the number of configurations."""
    alone = np.stack([each.mean(axis=(0, 2)) for each in scores.values()])
    return curve(len(alone), lambda chosen: alone[list(chosen)].mean(axis=0), cases, by_group)


def of_folds(
    scores: dict[str, np.ndarray], cases: LabelledPredictions, by_group: bool
) -> list[CurvePoint]:
    """Against the number of folds' models, on a labelled test set: its scores [S, F, T, A, K] by configuration.

    Out of fold there is no such curve: an image is scored by the models of one fold alone.
    """
    by_fold = np.mean([each.mean(axis=(0, 3)) for each in scores.values()], axis=0)
    return curve(len(by_fold), lambda chosen: by_fold[list(chosen)].mean(axis=0), cases, by_group)


def without_each(
    scores: dict[str, np.ndarray], cases: LabelledPredictions, by_group: bool
) -> list[ConfigurationAblation]:
    """Accuracy without each configuration against that of all."""
    alone = {name: each.mean(axis=(0, 2)) for name, each in scores.items()}
    if len(alone) < 2:
        return []

    def right(names: Sequence[str]) -> np.ndarray:
        blended = np.mean([alone[name] for name in names], axis=0)
        return (blended.argmax(axis=1) == cases.truth).astype(np.float64)

    whole = right(list(alone))
    lacking = {name: right([other for other in alone if other != name]) for name in alone}
    found = sure({name: each - whole for name, each in lacking.items()}, cases, by_group, None)
    return [
        ConfigurationAblation(n, float(e.mean()), float((e - whole).mean()), found[n])
        for n, e in lacking.items()
    ]
