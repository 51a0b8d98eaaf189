"""Prediction sets: the classes that cannot be ruled out at a stated coverage, calibrated out of fold.

A class is ruled out where its nonconformity is above that of so many calibration images that the coverage is reached.
A calibration image is scored by its own fold's models alone, and is compared with the new image under those same
models: cross-conformal prediction, CV+ (Barber, Candes, Ramdas and Tibshirani, Annals of Statistics 49, 2021; for
classes Romano, Sesia and Candes, NeurIPS 2020). Coverage 1 - a is what is found in practice; 1 - 2a is proved.

New images come from new patients, so what is exchangeable is groups, not images: each group has mass 1 / (G + 1),
shared by its images, and so has the new image's own group (Lee, Barber and Willett, hierarchical conformal prediction,
2023). An image of unknown group is a group of its own. With few groups high coverage has a price that no method
avoids: above G / (G + 1) every set holds all classes.

Nonconformity of class y is the probability given to the classes held likelier than y: the adaptive score of Romano et
al. without y's own part, which needs no random number. In place of 1 - p(y), because then a flat answer, the most
doubtful of all, would have an empty set: forced to hold the answer, it would look like the surest. Here the likeliest
class has nonconformity 0, and the flatter an answer is, the larger its set. For two classes both scores rank alike.

Shapes: scores [N, K] out of fold, [N, F, K] of new images by the models of each fold; sets bool [N, K].
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions

ROUNDING = 1e-9  # By which a sum of masses may miss the bound that it equals.
ARRAYS = ("nonconformity", "folds", "masses", "classes")


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

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As arrays for .npz, none of which needs pickle."""
        return {name: np.asarray(getattr(self, name)) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Calibration":
        """What `to_arrays` gave; InputError where it is no such thing."""
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise InputError(
                f"the calibration of prediction sets lacks {', '.join(missing)}: make it anew"
            )
        nonconformity, folds, masses, classes = (np.asarray(arrays[name]) for name in ARRAYS)
        shape = (len(folds),)
        sound = (
            nonconformity.dtype == np.float64
            and masses.dtype == np.float64
            and folds.dtype.kind == "i"
            and classes.dtype.kind == "U"
            and classes.ndim == 1
            and len(folds) > 0
            and nonconformity.shape == masses.shape == folds.shape == shape
            and np.isfinite(nonconformity).all()
            and np.isfinite(masses).all()
            and (masses > 0).all()
            and (folds >= 0).all()
        )
        if not sound:
            found = ", ".join(
                f"{name} {np.asarray(arrays[name]).dtype}{np.shape(arrays[name])}"
                for name in ARRAYS
            )
            raise InputError(
                f"the calibration of prediction sets is damaged: {found}; expected finite float64, whole numbers from "
                "0 and positive float64 of one length, and class names. Make it anew"
            )
        return cls(nonconformity, folds, masses, tuple(classes.tolist()))


def nonconformity(scores: np.ndarray) -> np.ndarray:
    """Of every class, the probability of all that are likelier: float64 [..., K] to [..., K]; equals share theirs."""
    likelier = scores[..., None, :] > scores[..., :, None]
    return np.where(likelier, scores[..., None, :], 0).sum(axis=-1)


def masses(units: Sequence[str]) -> np.ndarray:
    """One a group, shared by its images: float64 [N]."""
    _, group, sizes = np.unique(np.array(units, object), return_inverse=True, return_counts=True)
    return 1 / sizes[group]


def share_below(
    known: np.ndarray, folds: np.ndarray, masses: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """The share of mass, the new group's included, of known values that are below a new one's for their own fold.

    Args:
      known: float64 [N].
      folds: int [N], 0 .. F - 1.
      masses: float64 [N], which sum to G.
      values: float64 [F, ...], of what is new, under each fold's models.

    Returns:
      float64 [...], 0 .. G / (G + 1). One minus it is the conformal p-value.
    """
    total = np.zeros(values.shape[1:])
    for fold, value in enumerate(values):
        there = np.flatnonzero(folds == fold)
        there = there[known[there].argsort()]
        summed = np.concatenate([[0.0], masses[there].cumsum()])
        total += summed[np.searchsorted(known[there], value, side="left")]
    return total / (masses.sum() + 1)


def calibrate(cases: LabelledPredictions) -> Calibration:
    """The calibration by out-of-fold scores; whatever was done to these must be done to the scores of new images.

    Raises:
      InputError: the cases have no scores or no folds.
    """
    require_folds(cases)
    true_class = nonconformity(cases.scores)[np.arange(len(cases.truth)), cases.truth]
    return Calibration(true_class, np.asarray(cases.folds), masses(units_of(cases)), cases.classes)


def sets(calibration: Calibration, by_fold: np.ndarray, coverage: float) -> np.ndarray:
    """The prediction sets of new images, never empty: the class of the highest mean score is always in.

    Args:
      calibration: of `calibrate`.
      by_fold: float64 [N, F, K], scores by the models of each fold.
      coverage: share of new groups' images whose true class shall be in the set, between 0 and 1.

    Returns:
      bool [N, K]; larger coverage, larger sets.

    Raises:
      InputError: the coverage is not between 0 and 1, or the scores are of other folds or classes.
    """
    require_coverage(coverage)
    folds, classes = int(calibration.folds.max()) + 1, len(calibration.classes)
    if by_fold.ndim != 3 or by_fold.shape[1:] != (folds, classes):
        raise InputError(
            f"scores of shape {by_fold.shape} do not fit a calibration of {folds} folds and {classes} classes "
            f"({', '.join(calibration.classes)}): expected (images, {folds}, {classes}), by the same ensemble"
        )
    values = np.moveaxis(nonconformity(by_fold), 1, 0)
    below = share_below(calibration.nonconformity, calibration.folds, calibration.masses, values)
    return with_answer(below < coverage - ROUNDING, by_fold.mean(axis=1))


def attainable(calibration: Calibration) -> float:
    """The highest coverage at which sets are not always all classes: G / (G + 1)."""
    groups = round(calibration.masses.sum())
    return groups / (groups + 1)


def out_of_fold(cases: LabelledPredictions, coverage: float) -> np.ndarray:
    """Sets of the calibration images themselves, bool [N, K], each calibrated on the other folds alone.

    For a report of coverage: an image of one fold is compared with those of other folds under their own models, so this
    is the cross-validated figure of the method, not of one new image.

    Raises:
      InputError: the cases have no scores or no folds, or the coverage is not between 0 and 1.
    """
    require_coverage(coverage)
    require_folds(cases)
    scores, folds, units = (
        nonconformity(cases.scores),
        np.asarray(cases.folds),
        np.array(units_of(cases), object),
    )
    true_class = scores[np.arange(len(cases.truth)), cases.truth]
    found = np.empty(scores.shape, bool)
    for fold in np.unique(folds):
        here, others = folds == fold, folds != fold
        together = np.zeros(int(others.sum()), int)
        below = share_below(true_class[others], together, masses(units[others]), scores[None, here])
        found[here] = below < coverage - ROUNDING
    return with_answer(found, cases.scores)


def with_answer(found: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sets to which the class of the highest score was added."""
    found[np.arange(len(found)), scores.argmax(axis=1)] = True
    return found


def units_of(cases: LabelledPredictions) -> Sequence[str]:
    """What is exchangeable: groups, or images where no group is known."""
    return cases.resampling_groups or cases.names


def require_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise InputError(
            f"coverage {coverage} is no share of new images: expected a number between 0 and 1, as 0.9"
        )


def require_folds(cases: LabelledPredictions) -> None:
    lacking = [name for name in ("scores", "folds") if getattr(cases, name) is None]
    if lacking:
        raise InputError(
            f"prediction sets are calibrated by out-of-fold scores, but {' and '.join(lacking)} are not known: name "
            "a trained ensemble, or a table with probabilities and a column `fold`"
        )
    if len(np.unique(cases.folds)) < 2 or set(np.unique(cases.folds)) != set(
        range(int(np.max(cases.folds)) + 1)
    ):
        raise InputError(
            f"prediction sets need at least two folds, none empty; found {np.unique(cases.folds).tolist()}"
        )
