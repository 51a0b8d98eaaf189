"""Several methods on the same images: quantities with intervals, and the differences of pairs.

Every method is computed in the same bootstrap draws, of whole groups where they are known, so that
a difference is that of two columns of draws. Where many pairs are looked at, some interval of 95 %
misses by chance: each difference has a second, wider one (Bonferroni's), and those of all pairs
hold together with at least 95 %, also for a pair that is chosen because of what it shows.
"""

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from histojax.evaluation import bootstrap, calibration, comparison, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import METRICS, MetricKey
from histojax.utils import ties

CALIBRATED = "calibrated"  # What losses are of where the temperature of the other folds is applied.
_LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error")
_LOSSES = ("log_loss", "calibration_error")

Runs = Mapping[str, LabelledPredictions]  # By method, of the same images in the same order.
Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Contrast:
    """How a quantity differs between two methods.

    Attributes:
      first, second: the methods.
      value: second - first.
      interval: of this pair alone, 95 %.
      together: wider, so that those of all pairs hold together with at least 95 %.
    """

    first: str
    second: str
    value: float
    interval: Interval
    together: Interval

    @property
    def is_told(self) -> bool:
        """Whether a difference can be told, among all pairs; False where there is no interval.

        What rounding alone makes of two equal methods is none.
        """
        return bool(self.together.low > ties.FLOAT64 or self.together.high < -ties.FLOAT64)

    def reversed(self) -> "Contrast":
        """The same difference with its sign turned: first - second."""
        turned = (
            Interval(-each.high, -each.low, each.left_out)
            for each in (self.interval, self.together)
        )
        return Contrast(self.second, self.first, -self.value, *turned)


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A number of each method, in all draws of one bootstrap.

    Attributes:
      name: of the column of a table: accuracy, log_loss calibrated.
      label: in words.
      values: by method.
      drawn: by method, float64 [B].
      sizes: the effective size of the sample, by method.
      bounds: between which it lies.
      percent: whether people read it in percent.
      lower_is_better: whether a lower one is better.
    """

    name: str
    label: str
    values: dict[Hashable, float]
    drawn: dict[Hashable, np.ndarray]
    sizes: dict[Hashable, float]
    bounds: tuple[float, float] = (0.0, 1.0)
    percent: bool = False
    lower_is_better: bool = False

    @property
    def noun(self) -> str:
        """The label within a sentence: ROC AUC, accuracy."""
        text = self.label.rpartition(": ")[2]
        return text if text.startswith("ROC") else text[0].lower() + text[1:]

    def interval(self, method: Hashable) -> Interval:
        """The 95 % interval of a method."""
        value, drawn = self.values[method], self.drawn[method]
        return bootstrap.confidence_interval(value, drawn, self.sizes[method], self.bounds)

    def contrasts(self, pairs: Sequence[Pair]) -> list[Contrast]:
        """The difference of each pair."""
        drawn = [self.drawn[second] - self.drawn[first] for first, second in pairs]
        level = 1 - (1 - bootstrap.LEVEL) / max(len(pairs), 1)
        with_draws = zip(pairs, drawn, strict=True)
        return [self._contrast(pair, of_pair, level) for pair, of_pair in with_draws]

    def _contrast(self, pair: Pair, drawn: np.ndarray, level: float) -> Contrast:
        first, second = pair
        value = self.values[second] - self.values[first]
        size = min(self.sizes[first], self.sizes[second])
        alone, together = (
            bootstrap.confidence_interval(value, drawn, size, level=each)
            for each in (bootstrap.LEVEL, level)
        )
        return Contrast(first, second, value, alone, together)

    def is_better(self, contrast: Contrast) -> bool:
        """Whether the second method of a difference is the better one."""
        return contrast.value < 0 if self.lower_is_better else contrast.value > 0

    def best(self, methods: Iterable[Hashable]) -> Hashable:
        """The one with the best value, the first of equal ones."""
        sign = -1 if self.lower_is_better else 1
        methods = list(methods)
        return methods[ties.argmax(sign * np.array([self.values[method] for method in methods]))]


def of_metrics(runs: Runs, draws: int = DRAWS) -> list[Quantity]:
    """Accuracy, ROC AUC, and both losses as they are and calibrated fold by fold.

    The area is that of the positive classes, or else the mean of each class against the rest.
    """
    first = next(iter(runs.values()))
    area = "positive_auc" if first.positive else "macro_auc"
    groups = first.resampling_groups or len(first.names)
    calibrated = {
        method: calibration.cross_fit(run).predictions
        for method, run in runs.items()
        if run.scores is not None and run.fold_count > 1
    }

    def compute(weights: np.ndarray) -> dict[tuple[str, MetricKey], np.ndarray]:
        values = {}
        for method, run in runs.items():
            computed = metrics.compute(run, weights, ("accuracy", area, *_LOSSES))
            if method in calibrated:
                losses = metrics.compute(calibrated[method], weights, _LOSSES)
                computed |= {(name, CALIBRATED): loss for (name, _), loss in losses.items()}
            values |= {(method, key): value for key, value in computed.items()}
        return values

    value = compute(np.ones((1, len(first.names))))
    drawn = bootstrap.resample(compute, groups, draws)
    keys = [key for method, key in value if method == next(iter(runs))]
    return [
        Quantity(
            name=" ".join(filter(None, key)),
            label=metrics.label(*key, first),
            values={method: float(value[method, key][0]) for method in runs},
            drawn={method: drawn[method, key] for method in runs},
            sizes={
                method: bootstrap.effective_size(groups, metrics.rests_on(run, key))
                for method, run in runs.items()
            },
            bounds=METRICS[key[0]].bounds,
            percent=METRICS[key[0]].percent,
            lower_is_better=key[0] in _LOWER_IS_BETTER,
        )
        for key in keys
        if all((method, key) in value for method in runs)
    ]


def of_means(
    name: str,
    label: str,
    values: Mapping[Hashable, np.ndarray],
    groups: Sequence[str] | int,
    draws: int = DRAWS,
) -> Quantity:
    """The mean over images of a share that each method has of each image, [N] in 0..1."""

    def means(weights: np.ndarray) -> dict[Hashable, np.ndarray]:
        return {method: weights @ of / weights.sum(axis=1) for method, of in values.items()}

    return Quantity(
        name=name,
        label=label,
        values={method: float(np.mean(of)) for method, of in values.items()},
        drawn=bootstrap.resample(means, groups, draws),
        sizes=dict.fromkeys(values, bootstrap.effective_size(groups)),
        percent=True,
        lower_is_better=True,
    )


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How two methods agree.

    Attributes:
      first, second: the methods.
      alike: share of images that both answer alike.
      interval: its 95 % interval.
      kappa: Cohen's, of the two answers: agreement beyond chance.
      both_wrong, first_wrong, second_wrong: images that both, or only the one, answers wrongly.
    """

    first: str
    second: str
    alike: float
    interval: Interval
    kappa: float
    both_wrong: int
    first_wrong: int
    second_wrong: int


def agreements(runs: Runs, draws: int = DRAWS) -> list[Agreement]:
    """The agreement of every pair."""
    pairs = pairs_of(runs)
    some = next(iter(runs.values()))
    groups = some.resampling_groups or len(some.names)
    same = {pair: runs[pair[0]].predicted == runs[pair[1]].predicted for pair in pairs}
    alike = of_means("alike", "answered alike", same, groups, draws)
    return [_agreement(runs, pair, alike) for pair in pairs]


def _agreement(runs: Runs, pair: Pair, alike: Quantity) -> Agreement:
    first, second = (runs[method] for method in pair)
    wrong, also = (run.predicted != run.truth for run in (first, second))
    answers = dataclasses.replace(second, truth=first.predicted)
    return Agreement(
        *pair,
        alike=alike.values[pair],
        interval=alike.interval(pair),
        kappa=float(metrics.compute(answers, np.ones((1, len(wrong))), ["kappa"])["kappa", ""][0]),
        both_wrong=int((wrong & also).sum()),
        first_wrong=int((wrong & ~also).sum()),
        second_wrong=int((~wrong & also).sum()),
    )


def pairs_of(methods: Sequence[str] | Runs) -> list[Pair]:
    """Every pair, in order."""
    return list(itertools.combinations(methods, 2))


def judged_by(quantities: Sequence[Quantity]) -> Quantity:
    """What methods are judged by in words: the area under the ROC curve, or else the accuracy."""
    areas = [quantity for quantity in quantities if quantity.name.endswith("auc")]
    defined = [area for area in areas if not np.isnan(list(area.values.values())).any()]
    return (defined or quantities)[0]


def choose_by_other_folds(runs: Runs) -> tuple[LabelledPredictions, list[str]]:
    """The answers of whoever takes the best method, judged without the images that it answers.

    In each fold they are those of the method with the lowest log-loss on all other folds.

    Returns:
      The predictions, and the method chosen for each fold.
    """
    some = next(iter(runs.values()))
    scores, chosen = np.empty_like(some.scores), []
    for fold in range(some.fold_count):
        inside = some.folds == fold
        losses = {
            method: calibration.log_loss(run.scores[~inside], run.truth[~inside])
            for method, run in runs.items()
        }
        chosen.append(list(runs)[ties.argmax(-np.array(list(losses.values())))])
        scores[inside] = runs[chosen[-1]].scores[inside]
    return dataclasses.replace(some, scores=scores, predicted=ties.argmax(scores)), chosen


def blends(runs: Runs) -> dict[str, LabelledPredictions]:
    """The mean of the scores of all methods and, where there are more than two, of each pair."""
    made = {"blend of all": comparison.blend(list(runs.values()))}
    if len(runs) > 2:
        made |= {f"{a} + {b}": comparison.blend([runs[a], runs[b]]) for a, b in pairs_of(runs)}
    return made
