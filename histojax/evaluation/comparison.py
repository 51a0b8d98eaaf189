"""Two methods on the same images: paired differences with intervals, and McNemar's exact test."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from histojax.errors import InputError
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import MetricKey
from histojax.utils import ties


@dataclasses.dataclass(frozen=True)
class Difference:
    """How a metric differs between two methods.

    Attributes:
      name, of: the metric's key.
      one, other: its two values.
      value: other - one.
      images: interval from resampled images, the same for both methods.
      groups: interval from resampled groups; None where they are not known.
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
        """The metric in words."""
        return metrics.label(self.name, self.of)

    @property
    def interval(self) -> Interval:
        """The one to quote: from groups where they are known."""
        return self.groups or self.images


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two methods on the same images.

    Attributes:
      differences: by key, of every metric that both allow.
      only_one, only_other: images that only the one, or only the other, predicts rightly.
      p_value: of McNemar's exact two-sided test, which takes images to be independent.
    """

    differences: dict[MetricKey, Difference]
    only_one: int
    only_other: int
    p_value: float


def compare(one: LabelledPredictions, other: LabelledPredictions, draws: int = DRAWS) -> Comparison:
    """Compares two methods on the images that both predicted.

    Raises:
      InputError: they have no image in common, or differ in an image's label or in the classes.
    """
    one, other = pair_up(one, other)
    count, groups = len(one.truth), one.resampling_groups

    def changes(weights: np.ndarray) -> dict[MetricKey, np.ndarray]:
        first, second = metrics.compute(one, weights), metrics.compute(other, weights)
        return {key: second[key] - first[key] for key in first if key in second}

    every_image = np.ones((1, count))
    value, first = changes(every_image), metrics.compute(one, every_image)

    def size(groups: Sequence[str] | int, key: MetricKey) -> float:
        return min(
            bootstrap.effective_size(groups, metrics.rests_on(predictions, key))
            for predictions in (one, other)
        )

    def intervals(groups: Sequence[str] | int) -> dict[MetricKey, Interval]:
        return {
            key: bootstrap.confidence_interval(float(value[key][0]), drawn, size(groups, key))
            for key, drawn in bootstrap.resample(changes, groups, draws).items()
        }

    from_images, from_groups = intervals(count), intervals(groups) if groups else {}
    differences = {
        key: Difference(
            *key,
            one=float(first[key][0]),
            other=float(first[key][0]) + float(value[key][0]),
            value=float(value[key][0]),
            images=from_images[key],
            groups=from_groups.get(key),
        )
        for key in value
    }
    one_right, other_right = one.predicted == one.truth, other.predicted == other.truth
    only_one = int((one_right & ~other_right).sum())
    only_other = int((~one_right & other_right).sum())
    discordant = only_one + only_other
    p_value = float(binomtest(only_one, discordant).pvalue) if discordant else 1.0
    return Comparison(differences, only_one, only_other, p_value)


def pair_up(
    one: LabelledPredictions, other: LabelledPredictions
) -> tuple[LabelledPredictions, LabelledPredictions]:
    """Both on the images that both predicted, in the order of the first.

    Groups and positive classes are those of the first.

    Raises:
      InputError: they have no image in common, or differ in an image's label or in the classes.
    """
    if one.classes != other.classes:
        raise InputError(
            f"the classes are {', '.join(one.classes)} and {', '.join(other.classes)}; pass "
            "--classes for tables"
        )
    place = {name: i for i, name in enumerate(other.names)}
    first = select(one, [i for i, name in enumerate(one.names) if name in place])
    if not first.names:
        raise InputError(f"no image is in both ({one.names[0]}, ... and {other.names[0]}, ...)")
    second = select(other, [place[name] for name in first.names])
    differing = [first.names[i] for i in np.flatnonzero(first.truth != second.truth)]
    if differing:
        raise InputError(
            f"they have other labels for {len(differing)} images: {', '.join(differing[:5])}"
        )
    return first, dataclasses.replace(second, groups=first.groups, positive=first.positive)


def restrict_to_common_images(
    runs: dict[str, LabelledPredictions],
) -> dict[str, LabelledPredictions]:
    """All runs on the images that all of them predicted, in the order of the first.

    Groups are those of the first run that knows any.

    Raises:
      InputError: there is no such image, or two runs differ in classes or labels; it names them.
    """
    first, *others = runs
    for name in others:  # Pair by pair, so that the run that does not fit is the one blamed.
        try:
            pair_up(runs[first], runs[name])
        except InputError as error:
            raise InputError(f"{first} and {name} cannot be compared: {error}") from None
    common = _select_common(list(runs.values()))
    if not common.names:
        raise InputError(
            f"no image is in all of {', '.join(runs)}, although each shares some with {first}"
        )
    if known := [run for run in runs.values() if run.resampling_groups]:
        group_of = dict(zip(known[0].names, known[0].groups, strict=True))
        common = dataclasses.replace(common, groups=tuple(group_of[name] for name in common.names))
    return {first: common} | {name: pair_up(common, runs[name])[1] for name in others}


def blend(runs: Sequence[LabelledPredictions]) -> LabelledPredictions:
    """The mean of the scores of several methods, on the images that all predicted.

    Raises:
      InputError: a run has predicted classes alone, or they cannot be paired.
    """
    if any(run.scores is None for run in runs):
        raise InputError("labels alone cannot be blended: every run must have probabilities")
    common = _select_common(runs)
    if not common.names:
        raise InputError("the runs have no image in common")
    scores = np.mean([pair_up(common, run)[1].scores for run in runs], axis=0)
    return dataclasses.replace(common, scores=scores, predicted=ties.argmax(scores))


def same_folds(one: LabelledPredictions, other: LabelledPredictions) -> bool:
    """Whether two runs on the same images have the same folds, whatever these are called."""
    if one.folds is None or other.folds is None:
        return True
    pairs = set(zip(one.folds.tolist(), other.folds.tolist(), strict=True))
    return len(pairs) == len(set(one.folds.tolist())) == len(set(other.folds.tolist()))


def select(predictions: LabelledPredictions, order: Sequence[int]) -> LabelledPredictions:
    """The predictions at these places, in this order."""
    places = np.array(order, int)

    def at_places(values):
        if values is None:
            return None
        return values[places] if isinstance(values, np.ndarray) else tuple(values[i] for i in order)

    columns = ("names", "truth", "predicted", "scores", "folds", "groups")
    return dataclasses.replace(
        predictions, **{name: at_places(getattr(predictions, name)) for name in columns}
    )


def _select_common(runs: Sequence[LabelledPredictions]) -> LabelledPredictions:
    """The first run on the images that all runs predicted."""
    common = set.intersection(*(set(run.names) for run in runs))
    return select(runs[0], [i for i, name in enumerate(runs[0].names) if name in common])
