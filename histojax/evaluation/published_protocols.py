"""Heads that were fitted by a published protocol: their figures, over seeds, beside the published.

N images that are reported, S seeds, K classes.
"""

import dataclasses

import numpy as np

from histojax.datasets import Dataset
from histojax.datasets.bach.published_protocols import PublishedProtocol
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions

METRICS = ("balanced_accuracy", "macro_f1")  # The protocols' own, and the other beside it.


@dataclasses.dataclass(frozen=True)
class Figure:
    """A metric of the heads of all seeds.

    Attributes:
      by_seed: float64 [S].
      interval: of their mean, from resampled images, or groups where they are known.
    """

    by_seed: np.ndarray
    interval: Interval

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.by_seed.mean())

    @property
    def deviation(self) -> float:
        """The seeds' standard deviation, by S - 1."""
        return float(self.by_seed.std(ddof=1))


@dataclasses.dataclass(frozen=True)
class Judged:
    """What an encoder reached by a protocol.

    Attributes:
      encoder: its name.
      weights: where they come from, in words.
      described: what its descriptors are, in words.
      predictions: of each seed's head, on the reported images.
      figures: of each metric in METRICS.
      last: mean of the protocol's metric by the heads of the last epoch, that nothing chose.
      published: the protocol's metric as published; None where it is not, or does not apply.
      fitted: what was chosen for each seed, in words.
    """

    encoder: str
    weights: str
    described: str
    predictions: tuple[LabelledPredictions, ...]
    figures: dict[str, Figure]
    last: float
    published: float | None
    fitted: tuple[str, ...]


def labelled(dataset: Dataset, reported: np.ndarray, predicted: np.ndarray) -> LabelledPredictions:
    """The predictions of one head, int [N], for the images at these indices."""
    return LabelledPredictions(
        names=tuple(dataset.names[i] for i in reported),
        classes=dataset.classes,
        truth=np.array(dataset.labels)[reported],
        predicted=predicted,
        groups=dataset.groups and tuple(dataset.groups[i] for i in reported),
    )


def judge(
    protocol: PublishedProtocol,
    encoder: str,
    weights: str,
    described: str,
    predictions: tuple[LabelledPredictions, ...],
    last: tuple[LabelledPredictions, ...],
    fitted: tuple[str, ...],
    applies: bool,
    draws: int = DRAWS,
) -> Judged:
    """The figures of an encoder.

    Args:
      protocol: by which heads were fitted.
      encoder, weights, described, fitted: as of `Judged`.
      predictions, last: of each seed's head, of the chosen epoch and of the last.
      applies: whether published figures can be compared with these.
      draws: of the bootstrap.
    """
    images, groups = len(predictions[0].names), predictions[0].resampling_groups
    every_image = np.ones((1, images))

    def of_seeds(weights: np.ndarray) -> dict[str, np.ndarray]:
        computed = [metrics.compute(each, weights, METRICS) for each in predictions]
        return {name: np.stack([each[name, ""] for each in computed]) for name in METRICS}

    values = {name: by_seed[:, 0] for name, by_seed in of_seeds(every_image).items()}
    drawn = bootstrap.resample(
        lambda weights: {name: v.mean(axis=0) for name, v in of_seeds(weights).items()},
        groups or images,
        draws,
    )
    size = bootstrap.effective_size(groups or images)
    figures = {
        name: Figure(
            by_seed,
            bootstrap.confidence_interval(float(by_seed.mean()), drawn[name], size, (0.0, 1.0)),
        )
        for name, by_seed in values.items()
    }
    name = protocol.metric
    of_last = [metrics.compute(each, every_image, (name,))[name, ""] for each in last]
    published = protocol.figures.get(encoder) if applies else None
    mean_of_last = float(np.mean(of_last))
    return Judged(
        encoder, weights, described, predictions, figures, mean_of_last, published, fitted
    )


def groups_in_both(dataset: Dataset, fitted: np.ndarray, reported: np.ndarray) -> tuple[str, ...]:
    """The known groups that have images among both."""
    if dataset.groups is None:
        return ()
    first, second = ({dataset.groups[i] for i in part} for part in (fitted, reported))
    return tuple(sorted((first & second) - {""}))
