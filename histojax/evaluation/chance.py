"""Whether predictions differ from chance: a permutation test that keeps groups whole.

If scores know nothing of the labels, the labels may change places without making the scores any
worse. Where all images of a group are of one class, whole groups exchange their labels; where a
group has several classes, its images do so among themselves. An image of unknown group is a group
of its own. The p-value is the share of exchanges whose area under the ROC curve (or, without
scores, balanced accuracy) is at least the one found: of all exchanges where they are few, else of
random ones (Phipson and Smyth, Permutation p-values should never be zero, 2010).

The models are not trained anew for each exchange. Those of a stratified cross-validation score
slightly below chance where there is nothing to learn, so the test errs on the side of chance.

N images, K classes, P exchanges.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import gammaln
from scipy.stats import rankdata

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import mean_of_defined, ratio

DRAWS = 2000
SEED = 0
SIGNIFICANT = 0.05  # A p-value above it does not differ from chance.
_LABELS_AT_ONCE = 1_000_000  # Held in memory at a time.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class ChanceTest:
    """The result of the test.

    Attributes:
      statistic: `macro_auc`, or `balanced_accuracy` without scores.
      value: it, of the labels as they are.
      p: the share of exchanges that reach it.
      exchanges: how many were tried, the labels as they are among them.
      exact: whether these are all that exist.
    """

    statistic: str
    value: float
    p: float
    exchanges: int
    exact: bool

    @property
    def is_chance(self) -> bool:
        """Whether the scores do not differ from chance."""
        return self.p > SIGNIFICANT

    @property
    def is_powerless(self) -> bool:
        """Whether there are so few exchanges that even the best scores would not differ."""
        return self.exact and 1 / self.exchanges > SIGNIFICANT


def permutation_test(
    predictions: LabelledPredictions, draws: int = DRAWS, seed: int = SEED
) -> ChanceTest:
    """Tests whether predictions are better than chance.

    Args:
      predictions: with scores or without.
      draws: exchanges that are tried, where more exist; the labels as they are count as one.
      seed: of numpy's default generator.
    """
    blocks = _blocks(predictions)
    exact = sum(_log_arrangements(labels) for _, labels in blocks) < math.log(draws + 0.5)
    parts = _all_labels(blocks) if exact else _random_labels(blocks, draws - 1, seed)
    (value,) = _statistic(predictions, predictions.truth[None])
    tried = np.concatenate([_statistic(predictions, labels) for labels in parts])
    if not exact:
        tried = np.append(tried, value)
    # Of labels that are all alike, no statistic is defined, and nothing is shown.
    p = 1.0 if math.isnan(value) else float((tried >= value - _ROUNDING).mean())
    name = "balanced_accuracy" if predictions.scores is None else "macro_auc"
    return ChanceTest(name, float(value), p, len(tried), exact)


# Units that exchange their labels: the images of each, as a list of index arrays, and their labels.
_Block = tuple[list[np.ndarray], np.ndarray]


def _blocks(predictions: LabelledPredictions) -> list[_Block]:
    """Groups of one class, which exchange labels with each other; then each other group's images.

    A unit has one label: it is a group in the first block, and an image in the others.
    """
    names = predictions.resampling_groups or predictions.names
    group = np.unique(names, return_inverse=True)[1]
    whole, blocks = [], []
    order = np.argsort(group, kind="stable")
    for images in np.split(order, np.cumsum(np.bincount(group))[:-1]):
        labels = predictions.truth[images]
        if (labels == labels[0]).all():
            whole.append(images)
        else:
            blocks.append(([np.array([image]) for image in images], labels))
    if whole:
        blocks.insert(0, (whole, np.array([predictions.truth[images[0]] for images in whole])))
    return blocks


def _log_arrangements(labels: np.ndarray) -> float:
    """The logarithm of the number of ways in which the labels of a block can be arranged."""
    return float(gammaln(len(labels) + 1) - gammaln(np.bincount(labels) + 1).sum())


def _all_labels(blocks: Sequence[_Block]) -> Iterator[np.ndarray]:
    """The labels of all images in every exchange, int [P, N]."""
    arrangements = [list(_arranged(labels.tolist())) for _, labels in blocks]
    exchanges = list(itertools.product(*arrangements))
    columns = [
        np.array([exchange[place] for exchange in exchanges]) for place in range(len(blocks))
    ]
    yield _spread(blocks, columns)


def _arranged(labels: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Each distinct arrangement of labels, once, in lexicographic order (Narayana's algorithm)."""
    row = sorted(labels)
    while True:
        yield tuple(row)
        rising = (i for i in range(len(row) - 2, -1, -1) if row[i] < row[i + 1])
        if (i := next(rising, None)) is None:
            return
        j = next(j for j in range(len(row) - 1, i, -1) if row[j] > row[i])
        row[i], row[j] = row[j], row[i]
        row[i + 1 :] = reversed(row[i + 1 :])


def _random_labels(blocks: Sequence[_Block], draws: int, seed: int) -> Iterator[np.ndarray]:
    """The labels of all images in random exchanges, int [at most P, N], some at a time."""
    rng = np.random.default_rng(seed)
    count = sum(len(images) for units, _ in blocks for images in units)
    step = max(1, _LABELS_AT_ONCE // count)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        columns = [rng.permuted(np.tile(labels, (rows, 1)), axis=1) for _, labels in blocks]
        yield _spread(blocks, columns)


def _spread(blocks: Sequence[_Block], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of units, int [P, units] by block, as labels of images, int [P, N]."""
    images = np.concatenate([images for units, _ in blocks for images in units])
    sizes = [[len(images) for images in units] for units, _ in blocks]
    spread = [np.repeat(labels, of, axis=1) for labels, of in zip(columns, sizes, strict=True)]
    found = np.empty((len(columns[0]), len(images)), np.int64)
    found[:, images] = np.concatenate(spread, axis=1)
    return found


def _statistic(predictions: LabelledPredictions, labels: np.ndarray) -> np.ndarray:
    """Mean area under the ROC curve of each class against the rest, or balanced accuracy, of other
    labels: int [P, N] -> float64 [P].
    """
    by_class = []
    for k in range(len(predictions.classes)):
        is_k = labels == k
        count = is_k.sum(axis=1)
        if predictions.scores is None:
            by_class.append(ratio(is_k @ (predictions.predicted == k).astype(float), count))
        else:
            # By the sum of ranks (Mann and Whitney, 1947).
            ranks = is_k @ rankdata(predictions.scores[:, k])
            others = labels.shape[1] - count
            by_class.append(ratio(ranks - count * (count + 1) / 2, count * others))
    return mean_of_defined(np.stack(by_class, axis=1))
