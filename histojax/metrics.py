"""Judgement: blending scores, and what the blend is worth for all classes and for carcinoma against the rest.

N images, A augmentations, S seeds, K classes, F folds.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from histojax.config import BACH_CARCINOMA, SET_POINTS
from histojax.errors import InputError


def blend(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over configurations, seeds and augmentations: [S, N, A, K] of each configuration -> float64 [N, K]."""
    return np.mean([each.mean(axis=(0, 2)) for each in scores], axis=0)


def positive_classes(classes: Sequence[str], named: Sequence[str] = ()) -> tuple[int, ...]:
    """Indices of the classes that count as carcinoma.

    Those named; else BACH's InSitu and Invasive where they are classes; else the second of two; else none, and then
    there are no two-class figures.

    Raises:
      InputError: a named class does not exist, or all classes are named.
    """
    if unknown := [name for name in named if name not in classes]:
        raise InputError(f"no class {', '.join(unknown)} to count as positive; there are {', '.join(classes)}")
    chosen = set(named) or (set(BACH_CARCINOMA) if set(BACH_CARCINOMA) <= set(classes) else set())
    if not chosen and len(classes) == 2:
        chosen = {classes[1]}
    if len(chosen) == len(classes) and not named:
        return ()
    if len(chosen) == len(classes):
        raise InputError(f"all of {', '.join(classes)} are named as positive; leave at least one out")
    return tuple(i for i, name in enumerate(classes) if name in chosen)


def positive_score(scores: np.ndarray, positive: Sequence[int]) -> np.ndarray:
    """The larger positive score against the larger negative one, renormalised to sum to 1: [N, K] -> [N]."""
    is_positive = np.isin(np.arange(scores.shape[1]), positive)
    highest = scores[:, is_positive].max(axis=1)
    return highest / (highest + scores[:, ~is_positive].max(axis=1))


def accuracy_by_fold(predicted: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Share of right answers in each fold: [N] each -> float64 [F]."""
    return np.array([np.mean(predicted[folds == fold] == truth[folds == fold]) for fold in range(folds.max() + 1)])


@dataclasses.dataclass(frozen=True)
class SetPoint:
    """Calling positive what scores at least `threshold`."""

    threshold: float
    sensitivity: float
    specificity: float


def set_point(score: np.ndarray, truth: np.ndarray, threshold: float) -> SetPoint:
    """Sensitivity and specificity at a threshold: float [N], bool [N]."""
    called = score >= threshold
    return SetPoint(threshold, float(np.mean(called[truth])), float(np.mean(~called[~truth])))


@dataclasses.dataclass(frozen=True)
class TwoClass:
    """Positive (carcinoma) against the rest.

    Attributes:
      positive: names of the positive classes.
      accuracies: float64 [F], of the argmax over all classes, collapsed to two.
      auc: area under the ROC curve of `positive_score`.
      false_positive_rate, true_positive_rate: the ROC curve.
      set_points: at the paper's thresholds.
    """

    positive: tuple[str, ...]
    accuracies: np.ndarray
    auc: float
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    set_points: tuple[SetPoint, ...]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What an ensemble's out-of-fold scores are worth.

    Attributes:
      scores: float64 [N, K], blended.
      predicted: int [N].
      by_configuration: accuracy of each configuration alone, float64 [S, F]: each seed's models judged by themselves,
        as in the paper's table, whose single models' accuracies are no whole numbers of a fold's 40 images.
      accuracies: float64 [F], of the blend.
      confusion: int [K, K], rows the truth.
      two_class: None where no class counts as positive.
    """

    scores: np.ndarray
    predicted: np.ndarray
    by_configuration: dict[str, np.ndarray]
    accuracies: np.ndarray
    confusion: np.ndarray
    two_class: TwoClass | None


def judge(
    scores: dict[str, np.ndarray], truth: np.ndarray, folds: np.ndarray, classes: Sequence[str], positive: Sequence[int]
) -> Judgement:
    """Blends the out-of-fold scores of all configurations and judges them.

    Args:
      scores: [S, N, A, K] by configuration.
      truth, folds: int [N].
      classes: K names.
      positive: indices of the positive classes, empty for none.
    """
    blended = blend(list(scores.values()))
    predicted = blended.argmax(axis=1)
    alone = {name: [blend([seed[None]]).argmax(axis=1) for seed in each] for name, each in scores.items()}
    return Judgement(
        scores=blended,
        predicted=predicted,
        by_configuration={
            name: np.array([accuracy_by_fold(seed, truth, folds) for seed in seeds]) for name, seeds in alone.items()
        },
        accuracies=accuracy_by_fold(predicted, truth, folds),
        confusion=confusion_matrix(truth, predicted, labels=range(len(classes))),
        two_class=judge_two_classes(blended, predicted, truth, folds, classes, positive) if positive else None,
    )


def judge_two_classes(
    scores: np.ndarray,
    predicted: np.ndarray,
    truth: np.ndarray,
    folds: np.ndarray,
    classes: Sequence[str],
    positive: Sequence[int],
) -> TwoClass:
    """The two-class figures of blended scores [N, K]."""
    score = positive_score(scores, positive)
    truly = np.isin(truth, positive)
    false_positive_rate, true_positive_rate, _ = roc_curve(truly, score, drop_intermediate=False)
    return TwoClass(
        positive=tuple(classes[i] for i in positive),
        accuracies=accuracy_by_fold(np.isin(predicted, positive), truly, folds),
        auc=float(roc_auc_score(truly, score)),
        false_positive_rate=false_positive_rate,
        true_positive_rate=true_positive_rate,
        set_points=tuple(set_point(score, truly, threshold) for threshold in SET_POINTS),
    )


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of right answers: blended scores [N, K], int [N]."""
    return float(np.mean(scores.argmax(axis=1) == truth))


def area(scores: np.ndarray, truth: np.ndarray, positive: Sequence[int]) -> float:
    """Area under the ROC curve of `positive_score`; NaN where the images are all positive or all negative."""
    truly = np.isin(truth, positive)
    return float(roc_auc_score(truly, positive_score(scores, positive))) if 0 < truly.sum() < len(truly) else np.nan


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference, the ends of its 95 % interval, and the bootstrap draws left out of that."""

    value: float
    low: float
    high: float
    left_out: int


def paired_difference(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    one: np.ndarray,
    other: np.ndarray,
    truth: np.ndarray,
    groups: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Difference:
    """How much larger a statistic is of `other` than of `one`, with a 95 % percentile bootstrap interval.

    Each draw takes the same images for both, with replacement: whole groups where they are known, for images of one
    patient are no independent witnesses (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8).

    Args:
      statistic: of scores [N, K] and truth [N]; NaN where it is undefined, and such draws are left out.
      one, other: scores of the same images by two methods, float [N, K].
      truth: int [N].
      groups: of each image, or None where each stands for itself.
      draws: bootstrap samples.
      seed: of numpy's default generator.

    Raises:
      ValueError: the statistic is undefined in every draw.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(np.arange(len(truth)) if groups is None else groups, return_inverse=True)
    members = [np.flatnonzero(group == i) for i in range(group.max() + 1)]

    def difference(images: np.ndarray) -> float:
        return statistic(other[images], truth[images]) - statistic(one[images], truth[images])

    drawn = np.array([
        difference(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(draws)
    ])  # fmt: skip
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        raise ValueError(f"the statistic is undefined in each of {draws} draws")
    low, high = np.percentile(defined, [2.5, 97.5])
    return Difference(difference(np.arange(len(truth))), float(low), float(high), draws - defined.size)
