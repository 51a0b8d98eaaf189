"""Predictions with their uncertainty, and when they should not be used.

What `learned` knows from the held-out images of the cross-validation is applied to new images:

probabilities   by the temperature that fits the out-of-fold scores best
decision        positive or not, by the threshold that reached a target sensitivity out of fold
set             the classes that cannot be ruled out at a stated coverage (`conformal`)
abstention      with its reasons (`reasons_to_abstain`)

N images, F folds, K classes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from histojax.evaluation import calibration, metrics
from histojax.extraction import store
from histojax.learners.scoring import EnsembleScores
from histojax.prediction import conformal, learned, out_of_distribution
from histojax.prediction.learned import Uncertainty
from histojax.prediction.out_of_distribution import Comparison
from histojax.utils import ties

COVERAGE = 0.9  # Unless another is asked for, or the groups can promise less.
TOO_LITTLE_TISSUE = "too little tissue"
FAR_STAIN = "stain far from training"
FAR_DESCRIPTORS = "descriptors far from training"
LARGE_SET = "prediction set too large"
ONE_COLOUR = "one colour only"
NO_CLASS = (TOO_LITTLE_TISSUE, ONE_COLOUR)  # There is nothing in the image to classify.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
      image: its name, without suffix.
      file: the name of its file; the same as `image` where only descriptors are known.
      predicted: the class; empty for an image without anything to classify (see NO_CLASS), whose
        probabilities, scores and spreads are None.
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
      trained_on: whether the models were trained on this very file, so that the prediction tells
        nothing of new images; None where the training files are unknown.
    """

    image: str
    file: str
    predicted: str
    probabilities: dict[str, float | None]
    positive_score: float | None
    positive: bool | None
    spread_augmentations: float | None
    spread_models: float | None
    prediction_set: tuple[str, ...]
    stain_p: float | None
    descriptors_p: float | None
    abstain: tuple[str, ...]
    trained_on: bool | None = None


@dataclasses.dataclass(frozen=True)
class PredictionOptions:
    """What may be chosen of predictions.

    Attributes:
      coverage: share of images whose class shall be in the prediction set; None for `COVERAGE`, or
        the most that the groups can promise.
      sensitivity: target of the operating point; None for the bundle's.
      largest_set: number of classes above which a set makes the prediction abstain; None for half
        of all.
    """

    coverage: float | None = None
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
      digests: SHA-256 of imported descriptors by image; empty where the rows know the image files.
    """

    names: Sequence[str]
    files: Sequence[str]
    scores: EnsembleScores
    means: Mapping[str, np.ndarray]
    stain_rows: store.StainQC
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)


def coverage_of(uncertainty: Uncertainty, options: PredictionOptions) -> float:
    """The coverage asked for, or the highest of `COVERAGE` and what the groups can promise."""
    if options.coverage is not None:
        return options.coverage
    return min(COVERAGE, conformal.attainable_coverage(uncertainty.sets))


def assess(
    uncertainty: Uncertainty, images: ScoredImages, options: PredictionOptions = PredictionOptions()
) -> list[Prediction]:
    """Predictions, with their uncertainty, for N images.

    Raises:
      InputError: an impossible option, or descriptors of other configurations.
    """
    classes, scores = uncertainty.out_of_fold.classes, images.scores
    probabilities = calibration.apply_temperature(scores.mean, uncertainty.temperature)
    predicted, rows = ties.argmax(scores.mean), np.arange(len(images.names))
    coverage = coverage_of(uncertainty, options)
    in_set = conformal.sets(uncertainty.sets, scores.by_fold, coverage)
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
        positive_score = positive = None
        if positive_scores is not None:
            positive_score = float(positive_scores[i])
            positive = bool(positive_score >= ties.lower(threshold))
        prediction = Prediction(
            image=name,
            file=images.files[i],
            predicted=classes[predicted[i]],
            probabilities=dict(zip(classes, probabilities[i].tolist(), strict=True)),
            positive_score=positive_score,
            positive=positive,
            spread_augmentations=float(spread_augmentations[i]),
            spread_models=float(spread_models[i]),
            prediction_set=tuple(
                classes[k] for k in _likeliest_first(probabilities[i]) if in_set[i, k]
            ),
            stain_p=_none_if_nan(comparison.stain_p[i]),
            descriptors_p=_none_if_nan(comparison.descriptors_p[i]),
            abstain=reasons[i],
            trained_on=_trained_on(uncertainty, images, name),
        )
        predictions.append(prediction)
    return [_without_class(prediction) for prediction in predictions]


def _likeliest_first(probabilities: np.ndarray) -> np.ndarray:
    """The classes by falling probability, those tied in their own order: float64 [K] -> int [K]."""
    return np.argsort(-ties.merge(probabilities), kind="stable")


def _without_class(prediction: Prediction) -> Prediction:
    """The same without any answer, where there is nothing in the image to classify."""
    if not set(prediction.abstain) & set(NO_CLASS):
        return prediction
    return dataclasses.replace(
        prediction,
        predicted="",
        probabilities=dict.fromkeys(prediction.probabilities),
        positive_score=None,
        positive=None,
        spread_augmentations=None,
        spread_models=None,
        prediction_set=tuple(prediction.probabilities),
    )


def _trained_on(uncertainty: Uncertainty, images: ScoredImages, name: str) -> bool | None:
    """Whether an image's file was trained on; None where its file, or those, are unknown."""
    files = learned.files_of(images.stain_rows, [name])
    if name in images.digests:
        files = frozenset([images.digests[name]])
    if uncertainty.training_files is None or not files:
        return None
    return bool(files & uncertainty.training_files)


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
        ONE_COLOUR: comparison.one_colour,
        FAR_STAIN: comparison.stain_far,
        FAR_DESCRIPTORS: comparison.descriptors_far,
        LARGE_SET: set_sizes > largest_set,
    }
    return [
        tuple(reason for reason, where in holds.items() if where[i]) for i in range(len(set_sizes))
    ]


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
