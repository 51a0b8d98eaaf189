"""Predictions with their uncertainty, and when they should not be used.

Everything is learned once, from the held-out images of the cross-validation, and holds for new
images:

probabilities   by the temperature that fits the out-of-fold scores best
decision        positive or not, by the threshold that reached a target sensitivity out of fold
set             the classes that cannot be ruled out at a stated coverage (`conformal`)
abstention      with its reasons (`reasons_to_abstain`)

N images, F folds, K classes. No name of an image or a group is kept.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from histojax.datasets.positive import PositiveClasses
from histojax.errors import InputError
from histojax.evaluation import calibration, evaluate, metrics, operating_point
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble
from histojax.learners.scoring import EnsembleScores
from histojax.prediction import conformal, out_of_distribution
from histojax.prediction.out_of_distribution import Comparison, ReferenceDistribution

TOO_LITTLE_TISSUE = "too little tissue"
FAR_STAIN = "stain far from training"
FAR_DESCRIPTORS = "descriptors far from training"
LARGE_SET = "prediction set too large"
_ARRAYS = ("scores", "truth", "folds", "groups")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
      image: its name, without suffix.
      file: the name of its file; the same as `image` where only descriptors are known.
      predicted: the class.
      probabilities: calibrated, of each class.
      positive_score: the largest calibrated probability of a positive class relative to the largest
        of the others, 0 .. 1; None without positive classes.
      positive: whether the score reaches the operating point.
      spread_augmentations, spread_models: standard deviation of the predicted class's uncalibrated
        probability over augmentations, and over models.
      prediction_set: the classes that cannot be ruled out, the likeliest first.
      stain_p, descriptors_p: share of training images whose stain, or descriptors, lie at least as
        far from the others' as this image's; None where unknown.
      abstain: why the prediction should not be used; empty if it may be.
    """

    image: str
    file: str
    predicted: str
    probabilities: dict[str, float]
    positive_score: float | None
    positive: bool | None
    spread_augmentations: float
    spread_models: float
    prediction_set: tuple[str, ...]
    stain_p: float | None
    descriptors_p: float | None
    abstain: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PredictionOptions:
    """What may be chosen of predictions.

    Attributes:
      coverage: share of images whose class shall be in the prediction set.
      sensitivity: target of the operating point; None for the bundle's.
      largest_set: number of classes above which a set makes the prediction abstain; None for half
        of all.
    """

    coverage: float = 0.9
    sensitivity: float | None = None
    largest_set: int | None = None


@dataclasses.dataclass(frozen=True)
class ScoredImages:
    """N images as the models score them.

    Attributes:
      names, files: of the images, and of their files.
      scores: by all models.
      means: {configuration: float32 [N, D]}, descriptors averaged over augmentations.
      stain_rows: rows of stain_qc.csv; they may lack images, and have others.
    """

    names: Sequence[str]
    files: Sequence[str]
    scores: EnsembleScores
    means: Mapping[str, np.ndarray]
    stain_rows: store.StainQC


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What is known of an ensemble's mistakes.

    Attributes:
      out_of_fold: the held-out images with their mean out-of-fold scores, by number, not by name.
      temperature: of the calibration of the mean scores of all models.
      sets: the calibration of prediction sets.
      target_sensitivity: of the operating point, unless another one is chosen.
      reference: the training images' descriptors and stain; None where unknown.
    """

    out_of_fold: LabelledPredictions
    temperature: float
    sets: conformal.Calibration
    target_sensitivity: float
    reference: ReferenceDistribution | None

    def threshold(self, target_sensitivity: float | None = None) -> float | None:
        """The calibrated positive score that reached a sensitivity out of fold.

        None without positive classes.
        """
        images = self.out_of_fold
        if not images.positive:
            return None
        scores = calibration.apply_temperature(images.scores, self.temperature)
        return operating_point.choose_threshold(
            metrics.positive_score(scores, images.positive),
            images.is_positive,
            target_sensitivity or self.target_sensitivity,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The out-of-fold scores as arrays for an .npz file."""
        images = self.out_of_fold
        columns = (images.scores, images.truth, images.folds, _group_numbers(images))
        return {name: np.asarray(column) for name, column in zip(_ARRAYS, columns, strict=True)}


def learn(
    images: LabelledPredictions,
    target_sensitivity: float,
    reference: ReferenceDistribution | None = None,
) -> Uncertainty:
    """The uncertainty by out-of-fold scores.

    Raises:
      InputError: there are no scores, or fewer than two folds.
    """
    sets = conformal.calibrate(images)
    temperature = calibration.cross_fit(images).applied
    return Uncertainty(_anonymous(images), temperature, sets, target_sensitivity, reference)


def _anonymous(images: LabelledPredictions) -> LabelledPredictions:
    """The same, with numbers for names, whose order is that of the names."""
    groups = None
    if images.resampling_groups is not None:
        groups = _in_digits(_group_numbers(images))
    return dataclasses.replace(images, names=_in_digits(range(len(images.names))), groups=groups)


def _in_digits(numbers: Iterable[int]) -> tuple[str, ...]:
    """Numbers as text that sorts like them."""
    return tuple(f"{number:09d}" for number in numbers)


def from_ensemble(
    ensemble: Ensemble,
    positive: PositiveClasses,
    target_sensitivity: float,
    descriptors_root: Path | None = None,
) -> Uncertainty:
    """The uncertainty of an ensemble on disk.

    Args:
      ensemble: with its out-of-fold scores.
      positive: the positive classes.
      target_sensitivity: of the operating point.
      descriptors_root: the folder of the training images' descriptors, with stain_qc.csv or without
        (the authors'); None if new images shall not be compared with them.

    Raises:
      InputError: scores, descriptors or stain_qc.csv are missing or damaged.
    """
    folds = ensemble.folds
    scores = [ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations]
    held_out = evaluate.out_of_fold_predictions(
        folds.held_out(), metrics.mean_scores(scores), positive
    )
    reference = None
    if descriptors_root is not None:
        means = {
            name: store.read(descriptors_root, name, folds.names).mean(axis=1)
            for name in ensemble.configurations
        }
        stain_rows = store.read_stain_qc(descriptors_root)
        reference = out_of_distribution.fit(folds, means, stain_rows)
    return learn(held_out, target_sensitivity, reference)


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    positive: PositiveClasses,
    target_sensitivity: float,
    reference: ReferenceDistribution | None,
    groups_are_known: bool = True,
) -> Uncertainty:
    """The inverse of `Uncertainty.to_arrays`; InputError where arrays are missing or damaged."""
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise InputError(f"the out-of-fold scores lack {', '.join(missing)}: make the bundle again")
    scores, truth, folds, groups = (np.asarray(arrays[name]) for name in _ARRAYS)
    count = len(truth)
    if (
        scores.shape != (count, len(classes))
        or not folds.shape == groups.shape == truth.shape == (count,)
        or not np.isfinite(scores).all()
        or not set(np.unique(truth)) <= set(range(len(classes)))
    ):
        raise InputError("the out-of-fold scores do not fit together: make the bundle again")
    images = LabelledPredictions(
        names=_in_digits(range(count)),
        classes=classes,
        truth=truth,
        predicted=scores.argmax(axis=1),
        scores=scores,
        folds=folds,
        groups=_in_digits(groups) if groups_are_known else None,
    )
    return learn(images.with_positive(positive), target_sensitivity, reference)


def assess(
    uncertainty: Uncertainty, images: ScoredImages, options: PredictionOptions = PredictionOptions()
) -> list[Prediction]:
    """Predictions, with their uncertainty, for N images.

    Raises:
      InputError: an impossible option, or descriptors of other configurations.
    """
    classes, scores = uncertainty.out_of_fold.classes, images.scores
    probabilities = calibration.apply_temperature(scores.mean, uncertainty.temperature)
    predicted, rows = scores.mean.argmax(axis=1), np.arange(len(images.names))
    in_set = conformal.sets(uncertainty.sets, scores.by_fold, options.coverage)
    threshold = uncertainty.threshold(options.sensitivity)
    positive_scores = None
    if threshold is not None:
        positive_scores = metrics.positive_score(probabilities, uncertainty.out_of_fold.positive)
    spread_augmentations, spread_models = (
        each[rows, :, predicted].std(axis=1) for each in (scores.by_augmentation, scores.by_model)
    )
    comparison = out_of_distribution.compare(
        uncertainty.reference, images.names, images.means, images.stain_rows
    )
    largest_set = options.largest_set or max(1, len(classes) // 2)
    reasons = reasons_to_abstain(comparison, in_set.sum(axis=1), largest_set)
    predictions = []
    for i, name in enumerate(images.names):
        positive_score = None if positive_scores is None else float(positive_scores[i])
        prediction = Prediction(
            image=name,
            file=images.files[i],
            predicted=classes[predicted[i]],
            probabilities=dict(zip(classes, probabilities[i].tolist(), strict=True)),
            positive_score=positive_score,
            positive=None if positive_score is None else bool(positive_score >= threshold),
            spread_augmentations=float(spread_augmentations[i]),
            spread_models=float(spread_models[i]),
            prediction_set=tuple(
                classes[k] for k in probabilities[i].argsort()[::-1] if in_set[i, k]
            ),
            stain_p=_none_if_nan(comparison.stain_p[i]),
            descriptors_p=_none_if_nan(comparison.descriptors_p[i]),
            abstain=reasons[i],
        )
        predictions.append(prediction)
    return predictions


def reasons_to_abstain(
    comparison: Comparison, set_sizes: np.ndarray, largest_set: int
) -> list[tuple[str, ...]]:
    """Why each of N predictions should not be used; `abstain` is true where there is a reason.

    Args:
      comparison: of the images with the training images; what is unknown is no reason.
      set_sizes: int [N], classes in the prediction sets.
      largest_set: classes that a set may have.
    """
    holds = {
        TOO_LITTLE_TISSUE: comparison.too_little_tissue,
        FAR_STAIN: comparison.stain_far,
        FAR_DESCRIPTORS: comparison.descriptors_far,
        LARGE_SET: set_sizes > largest_set,
    }
    return [
        tuple(reason for reason, where in holds.items() if where[i]) for i in range(len(set_sizes))
    ]


def _group_numbers(images: LabelledPredictions) -> np.ndarray:
    """The group of each image as a number, int [N]; an image of unknown group is its own."""
    return np.unique(images.resampling_groups or images.names, return_inverse=True)[1]


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
