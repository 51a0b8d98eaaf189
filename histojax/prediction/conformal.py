"""Prediction sets: the classes that cannot be ruled out at a stated coverage.

A class is ruled out where its nonconformity exceeds that of so many calibration images that the
coverage is reached. A calibration image is scored by its own fold's models alone, and is compared
with the new image under those same models: cross-conformal prediction, CV+ (Barber, Candes, Ramdas
and Tibshirani, Annals of Statistics 49, 2021; for classes Romano, Sesia and Candes, NeurIPS 2020).
A coverage of 1 - a is what is found in practice; 1 - 2a is proved.

New images come from new patients, so what is exchangeable is groups, not images: each group has
mass 1 / (G + 1), shared by its images, and so has the new image's own group (Lee, Barber and
Willett, hierarchical conformal prediction, 2023). An image of unknown group is a group of its own.
With few groups high coverage has a price that no method avoids: above G / (G + 1) every set holds
all classes.

The nonconformity of class y is the probability given to the classes that are likelier than y: the
adaptive score of Romano et al. without y's own part, which needs no random number. It replaces
1 - p(y), under which a flat answer, the most uncertain of all, would have an empty set: forced to
hold the answer, it would look like the most certain. Here the likeliest class has nonconformity 0,
and the flatter an answer, the larger its set. For two classes both scores rank alike.

Shapes: scores [N, K] out of fold, [N, F, K] of new images by the models of each fold; sets
bool [N, K].
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.utils import ties


@dataclasses.dataclass(frozen=True)
class Calibration:
    """N calibration images.

    Attributes:
      nonconformity: float64 [N], of each image's true class under the models of its fold.
      folds: int [N], 0 .. F - 1.
      masses: float64 [N], of each image within its group; they sum to G.
      classes: K names.
    """

    nonconformity: np.ndarray
    folds: np.ndarray
    masses: np.ndarray
    classes: tuple[str, ...]


def nonconformity(scores: np.ndarray) -> np.ndarray:
    """For every class, the probability of all likelier ones: float64 [..., K] to [..., K]."""
    likelier = ties.lower(scores)[..., None, :] > scores[..., :, None]
    return np.where(likelier, scores[..., None, :], 0).sum(axis=-1)


def masses(units: Sequence[str]) -> np.ndarray:
    """One for each group, shared by its images: float64 [N]."""
    _, group, sizes = np.unique(np.array(units, object), return_inverse=True, return_counts=True)
    return 1 / sizes[group]


def share_below(
    known: np.ndarray,
    folds: np.ndarray,
    masses: np.ndarray,
    values: np.ndarray,
    tolerance: float = ties.FLOAT64,
) -> np.ndarray:
    """The share of mass of known values that are below a new image's value for their own fold.

    The mass of the new image's group counts as not below.

    Args:
      known: float64 [N].
      folds: int [N], 0 .. F - 1.
      masses: float64 [N], which sum to G.
      values: float64 [F, ...], of new images, under each fold's models.
      tolerance: relative, up to which a known value is tied, and not below; see `ties`.

    Returns:
      float64 [...], 0 .. G / (G + 1). One minus it is the conformal p-value.
    """
    below = np.zeros(values.shape[1:])
    for fold, value in enumerate(values):
        members = np.flatnonzero(folds == fold)
        members = members[known[members].argsort()]
        cumulative = np.concatenate([[0.0], masses[members].cumsum()])
        places = np.searchsorted(known[members], ties.lower(value, tolerance), side="left")
        below += cumulative[places]
    return below / (masses.sum() + 1)


def calibrate(cases: LabelledPredictions) -> Calibration:
    """The calibration by out-of-fold scores; scores of new images must be processed like these.

    Raises:
      InputError: the cases have no scores or no folds.
    """
    _require_folds(cases)
    of_truth = nonconformity(cases.scores)[np.arange(len(cases.truth)), cases.truth]
    return Calibration(of_truth, np.asarray(cases.folds), masses(_units_of(cases)), cases.classes)


def sets(calibration: Calibration, by_fold: np.ndarray, coverage: float) -> np.ndarray:
    """The prediction sets of new images, never empty: the class of the highest mean score is in.

    Args:
      calibration: made by `calibrate`.
      by_fold: float64 [N, F, K], scores by the models of each fold.
      coverage: share of new groups' images whose true class shall be in the set, between 0 and 1.

    Returns:
      bool [N, K]; the higher the coverage, the larger the sets.

    Raises:
      InputError: the coverage is not between 0 and 1, or the scores have other folds or classes.
    """
    require_coverage(coverage)
    folds, classes = int(calibration.folds.max()) + 1, len(calibration.classes)
    if by_fold.ndim != 3 or by_fold.shape[1:] != (folds, classes):
        raise InputError(
            f"scores of shape {by_fold.shape} do not fit a calibration of {folds} folds and "
            f"{classes} classes ({', '.join(calibration.classes)}): expected (images, {folds}, "
            f"{classes}), by the same ensemble"
        )
    values = np.moveaxis(nonconformity(by_fold), 1, 0)
    below = share_below(calibration.nonconformity, calibration.folds, calibration.masses, values)
    return _with_likeliest(below < ties.lower(coverage), by_fold.mean(axis=1))


def attainable_coverage(calibration: Calibration) -> float:
    """The highest coverage at which sets do not always hold all classes: G / (G + 1)."""
    groups = round(calibration.masses.sum())
    return groups / (groups + 1)


def out_of_fold(cases: LabelledPredictions, coverage: float) -> np.ndarray:
    """Sets of the calibration images themselves, bool [N, K], calibrated on the other folds alone.

    For a report of coverage: an image of one fold is compared with those of other folds under their
    own models, so this is the cross-validated figure of the method, not of one new image.

    Raises:
      InputError: the cases have no scores or no folds, or the coverage is not between 0 and 1.
    """
    require_coverage(coverage)
    _require_folds(cases)
    scores, folds = nonconformity(cases.scores), np.asarray(cases.folds)
    units = np.array(_units_of(cases), object)
    of_truth = scores[np.arange(len(cases.truth)), cases.truth]
    in_set = np.empty(scores.shape, bool)
    for fold in np.unique(folds):
        held_out, others = folds == fold, folds != fold
        one_fold = np.zeros(int(others.sum()), int)
        below = share_below(
            of_truth[others], one_fold, masses(units[others]), scores[None, held_out]
        )
        in_set[held_out] = below < ties.lower(coverage)
    return _with_likeliest(in_set, cases.scores)


def require_coverage(coverage: float) -> None:
    """Raises InputError where a coverage is not between 0 and 1."""
    if not 0 < coverage < 1:
        raise InputError(
            f"coverage {coverage} is no share of new images: expected a number between 0 and 1, "
            "such as 0.9"
        )


def _with_likeliest(in_set: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sets, to which the class of the highest score is added."""
    in_set[np.arange(len(in_set)), ties.argmax(scores)] = True
    return in_set


def _units_of(cases: LabelledPredictions) -> Sequence[str]:
    """What is exchangeable: groups, or images where no group is known."""
    return cases.resampling_groups or cases.names


def _require_folds(cases: LabelledPredictions) -> None:
    """Raises InputError without scores, or without at least two folds, none of them empty."""
    missing = [name for name in ("scores", "folds") if getattr(cases, name) is None]
    if missing:
        raise InputError(
            f"prediction sets are calibrated by out-of-fold scores, but {' and '.join(missing)} "
            "are not known: pass a trained ensemble, or a table with probabilities and a column "
            "`fold`"
        )
    folds = np.unique(cases.folds).tolist()
    if len(folds) < 2 or folds != list(range(len(folds))):
        raise InputError(f"prediction sets need at least two folds, none empty; found {folds}")
