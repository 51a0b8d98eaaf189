"""The fold x seed LightGBM ensemble as a scikit-learn estimator: descriptors in memory, nothing on disk.

float [N, D], a descriptor per image, or [N, A, D]: each augmentation is a row of its own with its image's label, all of
an image in one fold. With the same folds, models and out-of-fold scores are those of `boost.train`, bit for bit.
Errors are ValueError, as scikit-learn wants them.
"""

import dataclasses
from typing import Any

import lightgbm as lgb
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from histojax import config
from histojax.config import Boosting, Protocol
from histojax.datasets.folds import TRAIN_ONLY, stratified_folds
from histojax.errors import InputError
from histojax.learners import trees

# LightGBM's default leaves hold 20 rows at least: with fewer than two leaves' worth no tree could ever grow.
ROWS_TO_GROW = 2 * 20
DTYPES = (np.float64, np.float32)
SMALL = {"min_data_in_leaf": 1, "min_data_in_bin": 1, "bagging_freq": 0}


@dataclasses.dataclass(
    eq=False, repr=False, kw_only=True
)  # BaseEstimator's own __repr__ and identity stay.
class FoldEnsembleClassifier(ClassifierMixin, BaseEstimator):
    """A LightGBM model for every fold and seed, each trained on all other folds; probabilities are the mean of all.

    Parameters are those of `config.Boosting`, where each has a line of help, by default the paper's.

    Args:
      folds: at most so many; fewer where classes are small or groups uneven, as `assign_folds` says.
      random_state: of the shuffle into folds, as in scikit-learn: None splits anew at each fit. The trees' own seeds
        follow from seed and fold, as in the paper.
      n_jobs: threads that train models and predict, as in scikit-learn; each model has one.

    Attributes:
      classes_: the K labels, sorted.
      n_features_in_: D.
      folds_: int [N], the fold each image was held out in, or -1: never.
      models_: the S x F boosters, seed by seed.
      oof_scores_: float64 [N, K], mean over seeds and augmentations by the models that never saw the image; NaN where
        there are none.

    With fewer than 40 training rows leaves may hold a single row, and there is no bagging: LightGBM's 20 would not let
    any tree grow.
    """

    folds: int = Boosting.folds
    seeds: int = Boosting.seeds
    rounds: int = Boosting.rounds
    learning_rate: float = Boosting.learning_rate
    num_leaves: int = Boosting.num_leaves
    max_depth: int = Boosting.max_depth
    feature_fraction: float = Boosting.feature_fraction
    bagging_fraction: float = Boosting.bagging_fraction
    bagging_freq: int = Boosting.bagging_freq
    boost: str = Boosting.boost
    random_state: int | np.random.RandomState | None = Boosting.fold_seed
    n_jobs: int | None = None

    def fit(
        self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None
    ) -> "FoldEnsembleClassifier":
        """Splits into folds and trains all models.

        Args:
          X: float [N, D] or [N, A, D].
          y: [N], labels of any kind.
          groups: [N], the patient or slide of each image: none is both trained on and held out by a model.

        Raises:
          ValueError: a parameter makes no sense, X or y is none of the above, or y has a single class.
        """
        chosen = boosting_of(self)
        x, y = self._checked(X, y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class ({self.classes_[0]}), expected at least 2: add images of another"
            )
        if groups is not None:
            groups = column_or_1d(groups)
            if any(group is None or group != group for group in groups):
                raise ValueError(
                    "groups holds None or NaN; give an image of unknown group a name of its own"
                )
            check_consistent_length(x, groups)
        self.folds_ = assign_folds(labels, groups, self.folds, self.random_state)
        count = max(1, int(self.folds_.max()) + 1)  # 1: no image is held out.
        tasks = [(seed, fold) for seed in range(self.seeds) for fold in range(count)]
        fitted = self._parallel(
            delayed(fit_and_score)(
                x, labels, self.folds_ == fold, chosen, len(self.classes_), seed, fold
            )
            for seed, fold in tasks
        )
        self.models_ = [booster for booster, _ in fitted]
        scores = np.full((self.seeds, *x.shape[:2], len(self.classes_)), np.nan)
        for (seed, fold), (_, found) in zip(tasks, fitted, strict=True):
            scores[seed, self.folds_ == fold] = found
        self.oof_scores_ = scores.mean(axis=(0, 2))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Class probabilities, mean of all models and augmentations: [N, D] or [N, A, D] -> float64 [N, K]."""
        check_is_fitted(self)
        rows, augmentations = rows_of(X)
        x = validate_data(self, rows, reset=False, dtype=DTYPES).reshape(
            -1, augmentations, self.n_features_in_
        )
        return sum(
            self._parallel(delayed(mean_score)(booster, x) for booster in self.models_)
        ) / len(self.models_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each image: [N, D] or [N, A, D] -> [N]."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @property
    def feature_importances_(self) -> np.ndarray:
        """Each channel's share of what all splits gained, float64 [D]; zeros where no tree has a split."""
        check_is_fitted(self)
        gains = sum(booster.feature_importance("gain") for booster in self.models_)
        return gains / max(gains.sum(), np.finfo(float).tiny)

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's description of what is accepted: three axes too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """What is fitted, as [N, A, D] and [N], by scikit-learn's own checks; ValueError says what is wrong."""
        rows, augmentations = rows_of(X)
        if y is not None:  # scikit-learn's own message is for that.
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            y = np.repeat(y, augmentations)
        rows, y = validate_data(self, rows, y, dtype=DTYPES)
        check_classification_targets(y)
        return rows.reshape(-1, augmentations, self.n_features_in_), y[::augmentations]

    def _parallel(self, tasks: Any) -> list[Any]:
        return Parallel(self.n_jobs, prefer="threads")(tasks)


def rows_of(X: Any) -> tuple[Any, int]:
    """An array [N, A, D] as [N A, D], and A: scikit-learn would take A for the channels. All else as it is, and 1."""
    shape = getattr(X, "shape", ())
    return (np.reshape(X, (-1, shape[2])), shape[1]) if len(shape) == 3 else (X, 1)


def boosting_of(estimator: FoldEnsembleClassifier) -> Boosting:
    """An estimator's parameters as the library's own; ValueError names the first that makes no sense."""
    names = {field.name for field in dataclasses.fields(Boosting)} - {"fold_seed"}
    chosen = Boosting(**{name: getattr(estimator, name) for name in names})
    try:
        config.check(Protocol(boosting=chosen))
    except InputError as error:
        raise ValueError(str(error).removeprefix("--")) from None
    return chosen


def assign_folds(
    labels: np.ndarray,
    groups: np.ndarray | None,
    most: int,
    random_state: int | np.random.RandomState | None,
) -> np.ndarray:
    """The fold of each image, stratified by class, groups whole: int [N], or TRAIN_ONLY.

    Without groups each image is one. The only group of a class is never held out. The others make at most as many folds
    as the rarest of their classes has groups (a class with a single one left does not count), and so few that each fold
    holds out an image and no model lacks a class; where not even two folds do, no image is held out. Without groups and
    with `most` images of each class or more, the folds are those of `folds.make` with the same seed.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    there = np.zeros((labels.max() + 1, units.max() + 1), bool)
    there[labels, units] = True
    alone = there[there.sum(axis=1) == 1].any(axis=0)
    sizes = there[:, ~alone].sum(axis=1)
    held_out = ~alone[units]
    most = min(most, *sizes[sizes > 1]) if (sizes > 1).any() else 1
    for count in range(most, 1, -1):
        folds = np.full(len(labels), TRAIN_ONLY)
        folds[held_out] = stratified_folds(
            labels[held_out], None if groups is None else units[held_out], count, random_state
        )
        known = [len(np.unique(labels[folds != fold])) for fold in range(count)]
        if min(known) == len(there) and len(np.unique(folds[held_out])) == count:
            return folds
    return np.full(len(labels), TRAIN_ONLY)


def fit_and_score(
    x: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    boosting: Boosting,
    classes: int,
    seed: int,
    fold: int,
) -> tuple[lgb.Booster, np.ndarray]:
    """A model trained on what is not held out, and its scores of what is: [N, A, D] -> float64 [held out, A, K]."""
    parameters = trees.parameters(boosting, classes, seed, fold)
    if (~held_out).sum() * x.shape[1] < ROWS_TO_GROW:
        parameters |= SMALL
    booster = trees.fit(x[~held_out], labels[~held_out], parameters, boosting.rounds)
    scores = (
        trees.score(booster, x[held_out]) if held_out.any() else np.empty((0, x.shape[1], classes))
    )
    return booster, scores


def mean_score(booster: lgb.Booster, x: np.ndarray) -> np.ndarray:
    """A model's scores, mean over augmentations: [N, A, D] -> float64 [N, K]."""
    return trees.score(booster, x).mean(axis=1)
