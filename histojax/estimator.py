"""The fold x seed LightGBM ensemble as a scikit-learn estimator, in memory alone.

Descriptors are float [N, D], one per image, or [N, A, D]: each augmentation is a row with its
image's label, and all of an image are in one fold. With the same folds, models and out-of-fold
scores equal those of `boost.train`, bit for bit. Errors are ValueError, as in scikit-learn.
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
from histojax.utils import ties

_DTYPES = (np.float64, np.float32)
# With fewer training rows no tree of the paper's parameters can grow.
_FEW_ROWS = 2 * trees.LEAF_ROWS


# Identity and __repr__ are those of BaseEstimator.
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class FoldEnsembleClassifier(ClassifierMixin, BaseEstimator):
    """A LightGBM model for every fold and seed, trained on all other folds; the mean predicts.

    Parameters are those of `config.Boosting`, documented there, and by default the paper's.

    With fewer than 40 training rows, leaves may hold a single row and there is no bagging; with
    boost="fast", leaves follow the rows below 4,000 of them (`trees.for_few_rows`).

    Args:
      folds: at most so many; fewer if classes are small or groups uneven (see `_assign_folds`).
      random_state: of the shuffle into folds, as in scikit-learn: None splits anew at each fit. The
        trees' own seeds follow from seed and fold, as in the paper.
      n_jobs: threads that train models and predict, as in scikit-learn; each model has one.

    Attributes:
      classes_: the K labels, sorted.
      n_features_in_: D.
      folds_: int [N], the fold each image was held out in; -1 if none.
      models_: the S x F boosters, seed by seed.
      oof_scores_: float64 [N, K], mean over seeds and augmentations by the models that never saw
        the image; NaN if there are none.
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
          groups: [N], the patient or slide of each image; no group is split between folds.

        Raises:
          ValueError: a parameter is out of bounds, X or y has another form, or y has one class.
        """
        boosting = _boosting_of(self)
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
        self.folds_ = _assign_folds(labels, groups, self.folds, self.random_state)
        count = max(1, int(self.folds_.max()) + 1)  # 1: no image is held out.
        places = [(seed, fold) for seed in range(self.seeds) for fold in range(count)]
        classes = len(self.classes_)
        fitted = self._parallel(
            delayed(_fit_and_score)(
                x,
                labels,
                self.folds_ == fold,
                trees.parameters(
                    boosting,
                    classes,
                    seed,
                    fold,
                    trees.training_rows(self.folds_, fold, x.shape[1]),
                ),
                self.rounds,
            )
            for seed, fold in places
        )
        self.models_ = [booster for booster, _ in fitted]
        scores = np.full((self.seeds, *x.shape[:2], classes), np.nan)
        for (seed, fold), (_, held_out) in zip(places, fitted, strict=True):
            scores[seed, self.folds_ == fold] = held_out
        self.oof_scores_ = scores.mean(axis=(0, 2))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Class probabilities, the mean over models and augmentations: float64 [N, K].

        Args:
          X: float [N, D] or [N, A, D].
        """
        check_is_fitted(self)
        rows, augmentations = _rows_of(X)
        rows = validate_data(self, rows, reset=False, dtype=_DTYPES)
        x = rows.reshape(-1, augmentations, self.n_features_in_)
        scores = self._parallel(delayed(_mean_score)(booster, x) for booster in self.models_)
        return sum(scores) / len(scores)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each image: [N, D] or [N, A, D] -> [N]."""
        best = ties.argmax(self.predict_proba(X))
        return self.classes_[best]

    @property
    def feature_importances_(self) -> np.ndarray:
        """Each channel's share of the gain of all splits, float64 [D]; zeros without any split."""
        check_is_fitted(self)
        gains = sum(booster.feature_importance("gain") for booster in self.models_)
        return gains / max(gains.sum(), np.finfo(float).tiny)

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's description of accepted input, with three axes too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors [N, A, D] and labels [N] that passed scikit-learn's checks, or ValueError."""
        rows, augmentations = _rows_of(X)
        if y is not None:  # For None, `validate_data` has a message.
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            y = np.repeat(y, augmentations)
        rows, y = validate_data(self, rows, y, dtype=_DTYPES)
        check_classification_targets(y)
        return rows.reshape(-1, augmentations, self.n_features_in_), y[::augmentations]

    def _parallel(self, tasks: Any) -> list[Any]:
        return Parallel(self.n_jobs, prefer="threads")(tasks)


def _rows_of(X: Any) -> tuple[Any, int]:
    """An array [N, A, D] as [N A, D], and A; anything else as it is, and 1."""
    shape = getattr(X, "shape", ())
    return (np.reshape(X, (-1, shape[2])), shape[1]) if len(shape) == 3 else (X, 1)


def _boosting_of(estimator: FoldEnsembleClassifier) -> Boosting:
    """An estimator's parameters, checked; ValueError names the first that is out of bounds."""
    names = {field.name for field in dataclasses.fields(Boosting)} - {"fold_seed"}
    boosting = Boosting(**{name: getattr(estimator, name) for name in names})
    try:
        config.check(Protocol(boosting=boosting))
    except InputError as error:
        raise ValueError(str(error).removeprefix("--")) from None
    if boosting.learner != "trees":
        raise ValueError(f"boost is {boosting.boost}, expected paper or fast: LightGBM's trees")
    return boosting


def _assign_folds(
    labels: np.ndarray,
    groups: np.ndarray | None,
    most: int,
    random_state: int | np.random.RandomState | None,
) -> np.ndarray:
    """The fold of each image, stratified by class and splitting no group: int [N], or TRAIN_ONLY.

    Without groups, each image is one. The only group of a class is never held out. There are at
    most as many folds as the rarest other class has groups, and so few that each holds out an image
    and every model sees all classes; if not even two are possible, no image is held out. Without
    groups, and with `most` images or more of each class, the folds equal those of `folds.make` with
    the same seed.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    has_class = np.zeros((labels.max() + 1, units.max() + 1), bool)
    has_class[labels, units] = True
    alone = has_class[has_class.sum(axis=1) == 1].any(axis=0)
    sizes = has_class[:, ~alone].sum(axis=1)
    held_out = ~alone[units]
    groups_held_out = None if groups is None else units[held_out]
    most = min(most, *sizes[sizes > 1]) if (sizes > 1).any() else 1
    for count in range(most, 1, -1):
        folds = np.full(len(labels), TRAIN_ONLY)
        folds[held_out] = stratified_folds(labels[held_out], groups_held_out, count, random_state)
        seen = [len(np.unique(labels[folds != fold])) for fold in range(count)]
        if min(seen) == len(has_class) and len(np.unique(folds[held_out])) == count:
            return folds
    return np.full(len(labels), TRAIN_ONLY)


def _fit_and_score(
    x: np.ndarray, labels: np.ndarray, held_out: np.ndarray, parameters: dict[str, Any], rounds: int
) -> tuple[lgb.Booster, np.ndarray]:
    """A model of the other images, and its scores of those held out: float64 [held out, A, K]."""
    if (rows := int((~held_out).sum()) * x.shape[1]) < _FEW_ROWS:
        parameters = parameters | trees.for_few_rows(rows)
    booster = trees.fit(x[~held_out], labels[~held_out], parameters, rounds)
    if not held_out.any():
        return booster, np.empty((0, x.shape[1], parameters["num_class"]))
    return booster, trees.score(booster, x[held_out])


def _mean_score(booster: lgb.Booster, x: np.ndarray) -> np.ndarray:
    """A model's scores, mean over augmentations: [N, A, D] -> float64 [N, K]."""
    return trees.score(booster, x).mean(axis=1)
