"""Whether predictions differ from chance: a permutation test that keeps groups whole.

If scores know nothing of the labels, the labels may change places without making the scores any
worse, by `utils.exchanges`: groups of one class exchange their labels, and the images of any other
group do so among themselves. An image of unknown group is a group of its own. The p-value is the
share of exchanges whose area under the ROC curve (or, without scores, balanced accuracy) is at
least the one found.

The models are not trained anew for each exchange. Those of a stratified cross-validation score
slightly below chance where there is nothing to learn, so the test errs on the side of chance.

N images, K classes, P exchanges.
"""

import dataclasses

import numpy as np
from scipy.stats import rankdata

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.weighted import mean_of_defined, ratio
from histojax.utils import exchanges, ties

DRAWS = 2000
SEED = 0
SIGNIFICANT = 0.05  # A p-value above it does not differ from chance.


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
    groups = predictions.resampling_groups or predictions.names
    tries = exchanges.exchange(groups, predictions.truth, draws, seed)
    (value,) = _statistic(predictions, predictions.truth[None])
    tried = np.concatenate([_statistic(predictions, labels) for labels in tries.parts])
    tried = exchanges.with_labels_as_they_are(tried, value, tries.exact)
    name = "balanced_accuracy" if predictions.scores is None else "macro_auc"
    p = exchanges.p_value(tried, value)
    return ChanceTest(name, float(value), p, len(tried), tries.exact)


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
            ranks = is_k @ rankdata(ties.merge(predictions.scores[:, k]))
            others = labels.shape[1] - count
            by_class.append(ratio(ranks - count * (count + 1) / 2, count * others))
    return mean_of_defined(np.stack(by_class, axis=1))
