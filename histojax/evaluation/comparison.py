"""Whether one method is better than another on the same images: paired intervals, and McNemar's exact test."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from histojax.errors import InputError
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import MetricKey


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much larger a metric is of the other method.

    Attributes:
      name, of: the metric's key.
      one, other: its two values.
      value: other - one.
      images: interval of resampled images, the same for both methods.
      groups: interval of resampled groups; None where they are not known.
    """

    name: str
    of: str
    one: float
    other: float
    value: float
    images: Interval
    groups: Interval | None

    @property
    def label(self) -> str:
        return metrics.label(self.name, self.of)

    @property
    def interval(self) -> Interval:
        """The one to quote: of groups where they are known."""
        return self.groups or self.images


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two methods on the same images.

    Attributes:
      differences: by key, of every metric that both allow.
      only_one, only_other: images that only the one, or only the other, gets right.
      p_value: of McNemar's exact two-sided test, which takes images to be independent.
    """

    differences: dict[MetricKey, Difference]
    only_one: int
    only_other: int
    p_value: float


def compare(one: LabelledPredictions, other: LabelledPredictions, draws: int = DRAWS) -> Comparison:
    """Compares two methods by the images that both judged.

    Raises:
      InputError: they have no image in common, or differ in an image's label or in the classes.
    """
    one, other = pair_up(one, other)

    def both(weights: np.ndarray) -> dict[tuple[str, MetricKey], np.ndarray]:
        first, second = metrics.compute(one, weights), metrics.compute(other, weights)
        shared = [key for key in first if key in second]
        return {("one", key): first[key] for key in shared} | {
            ("change", key): second[key] - first[key] for key in shared
        }

    value = both(np.ones((1, len(one.truth))))
    of_images = sure(both, (one, other), len(one.truth), draws)
    of_groups = (
        sure(both, (one, other), one.resampling_groups, draws) if one.resampling_groups else None
    )
    differences = {}
    for key in of_images:
        first, change = float(value["one", key][0]), float(value["change", key][0])
        differences[key] = Difference(
            *key, first, first + change, change, of_images[key], of_groups and of_groups[key]
        )
    right, also = one.predicted == one.truth, other.predicted == other.truth
    only_one, only_other = int((right & ~also).sum()), int((~right & also).sum())
    discordant = only_one + only_other
    p_value = float(binomtest(only_one, discordant).pvalue) if discordant else 1.0
    return Comparison(differences, only_one, only_other, p_value)


def sure(
    both: Callable[[np.ndarray], dict[tuple[str, MetricKey], np.ndarray]],
    pair: tuple[LabelledPredictions, LabelledPredictions],
    groups: Sequence[str] | int,
    draws: int,
) -> dict[MetricKey, Interval]:
    """The interval of each change, images or groups resampled."""
    value = both(np.ones((1, len(pair[0].truth))))
    return {
        key: bootstrap.confidence_interval(
            float(value["change", key][0]),
            drawn,
            min(bootstrap.effective_size(groups, metrics.witnesses(cases, key)) for cases in pair),
        )
        for (kind, key), drawn in bootstrap.resample(both, groups, draws).items()
        if kind == "change"
    }


def pair_up(
    one: LabelledPredictions, other: LabelledPredictions
) -> tuple[LabelledPredictions, LabelledPredictions]:
    """The images that both judged, in the order of the first; groups and positive classes are the first's."""
    if one.classes != other.classes:
        raise InputError(
            f"the classes are {', '.join(one.classes)} and {', '.join(other.classes)}; pass --classes for tables"
        )
    place = {name: i for i, name in enumerate(other.names)}
    both = [i for i, name in enumerate(one.names) if name in place]
    if not both:
        raise InputError("no image is in both")
    first = select(one, both)
    second = select(other, [place[name] for name in first.names])
    if differing := [
        name for name, a, b in zip(first.names, first.truth, second.truth, strict=True) if a != b
    ]:
        raise InputError(
            f"they have other labels for {len(differing)} images: {', '.join(differing[:5])}"
        )
    return first, dataclasses.replace(second, groups=first.groups, positive=first.positive)


def restrict_to_common_images(
    runs: dict[str, LabelledPredictions],
) -> dict[str, LabelledPredictions]:
    """All runs on the images that all of them judged, in the order of the first, with groups where any knows them.

    Raises:
      InputError: there is no such image, or two runs differ in classes or labels; it names them.
    """
    first, *others = runs
    shared = set.intersection(*(set(run.names) for run in runs.values()))
    kept = select(runs[first], [i for i, name in enumerate(runs[first].names) if name in shared])
    groups = next((run.groups for run in runs.values() if run.resampling_groups), None)
    if groups:
        known = next(run for run in runs.values() if run.resampling_groups)
        of = dict(zip(known.names, known.groups, strict=True))
        kept = dataclasses.replace(kept, groups=tuple(of[name] for name in kept.names))
    found = {first: kept}
    for name in others:
        try:
            found[name] = pair_up(kept, runs[name])[1]
        except InputError as error:
            raise InputError(f"{first} and {name} cannot be compared: {error}") from None
    return found


def same_folds(one: LabelledPredictions, other: LabelledPredictions) -> bool:
    """Whether two runs on the same images were judged in the same folds, whatever these are called."""
    if one.folds is None or other.folds is None:
        return True
    pairs = set(zip(one.folds.tolist(), other.folds.tolist(), strict=True))
    return len(pairs) == len(set(one.folds.tolist())) == len(set(other.folds.tolist()))


def blend(runs: Sequence[LabelledPredictions]) -> LabelledPredictions:
    """The mean of the scores of several methods, of the images that all judged.

    Raises:
      InputError: a run has labels alone, or they cannot be paired.
    """
    if any(run.scores is None for run in runs):
        raise InputError("labels alone cannot be blended: every run must have probabilities")
    shared = set.intersection(*(set(run.names) for run in runs))
    kept = [i for i, name in enumerate(runs[0].names) if name in shared]
    if not kept:
        raise InputError("the runs have no image in common")
    first = select(runs[0], kept)
    scores = np.mean([pair_up(first, run)[1].scores for run in runs], axis=0)
    return dataclasses.replace(first, scores=scores, predicted=scores.argmax(axis=1))


def select(cases: LabelledPredictions, order: list[int]) -> LabelledPredictions:
    """The cases at these places."""
    return dataclasses.replace(
        cases,
        names=tuple(cases.names[i] for i in order),
        truth=cases.truth[order],
        predicted=cases.predicted[order],
        scores=None if cases.scores is None else cases.scores[order],
        folds=None if cases.folds is None else cases.folds[order],
        groups=cases.groups and tuple(cases.groups[i] for i in order),
    )
