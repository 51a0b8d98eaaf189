"""How far an ensemble's answer can be trusted: what its out-of-fold scores and its training images say of new ones.

Everything is learned once, from the judged images of the cross-validation, and holds for images to come:
probabilities   by the temperature that fits the out-of-fold scores best
decision        carcinoma or not, by the threshold that reached a wished sensitivity out of fold
set             the classes that cannot be ruled out at a stated coverage (conformal)
abstention      with its causes: too little tissue, stain or descriptors far from training, too large a set

N images, F folds, K classes. No name of an image or a group is kept.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from histojax.errors import InputError
from histojax.evaluation import calibration, evaluate, metrics, operating_point
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble
from histojax.learners.scoring import EnsembleScores
from histojax.prediction import conformal, out_of_distribution
from histojax.prediction.out_of_distribution import ReferenceDistribution

COVERAGE = 0.9  # Of the sets, unless told otherwise.
TOO_LITTLE_TISSUE = "too little tissue"
FAR_STAIN = "stain far from training"
FAR_DESCRIPTORS = "descriptors far from training"
LARGE_SET = "prediction set too large"
ARRAYS = ("scores", "truth", "folds", "groups")


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What is known of an ensemble's mistakes.

    Attributes:
      cases: the judged images with their blended out-of-fold scores, by number, not by name.
      temperature: that calibrates the mean scores of all models.
      sets: the calibration of prediction sets.
      sensitivity: that the operating point is chosen for, unless wished otherwise.
      reference: the training images' descriptors and stain; None where they are not known.
    """

    cases: LabelledPredictions
    temperature: float
    sets: conformal.Calibration
    sensitivity: float = operating_point.TARGET_SENSITIVITY
    reference: ReferenceDistribution | None = None

    def threshold(self, sensitivity: float | None = None) -> float | None:
        """The calibrated carcinoma score that reached a sensitivity out of fold; None without such classes."""
        if not self.cases.positive:
            return None
        scores = calibration.apply_temperature(self.cases.scores, self.temperature)
        return operating_point.choose_threshold(
            metrics.positive_score(scores, self.cases.positive),
            self.cases.is_positive,
            sensitivity or self.sensitivity,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The cases as arrays for .npz."""
        cases = self.cases
        groups = np.unique(cases.resampling_groups or cases.names, return_inverse=True)[1]
        columns = (cases.scores, cases.truth, cases.folds, groups)
        return {name: np.asarray(column) for name, column in zip(ARRAYS, columns, strict=True)}


def learn(
    cases: LabelledPredictions, sensitivity: float, reference: ReferenceDistribution | None = None
) -> Uncertainty:
    """What out-of-fold scores tell: the cases must have scores and folds.

    Raises:
      InputError: there are no scores, or fewer than two folds.
    """
    found = conformal.calibrate(cases)
    temperature = calibration.fit_temperature(cases.scores, cases.truth)
    return Uncertainty(anonymous(cases), temperature, found, sensitivity, reference)


def of_ensemble(
    ensemble: Ensemble,
    positive: Sequence[int],
    sensitivity: float,
    descriptors_root: Path | None = None,
) -> Uncertainty:
    """What an ensemble on disk tells, and, where the folder of the training descriptors is named, its images.

    Raises:
      InputError: the ensemble's scores are damaged, or the descriptors are missing or others.
    """
    scores = [ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations]
    cases = evaluate.out_of_fold_predictions(
        ensemble.folds.held_out(), metrics.mean_scores(scores), positive
    )
    if descriptors_root is None:
        return learn(cases, sensitivity)
    return learn(
        cases,
        sensitivity,
        out_of_distribution.learn(ensemble.folds, ensemble.configurations, descriptors_root),
    )


def of_arrays(
    arrays: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    positive: tuple[int, ...],
    sensitivity: float,
    reference: ReferenceDistribution | None,
) -> Uncertainty:
    """What `Uncertainty.arrays` gave; InputError where it is no such thing."""
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise InputError(f"the out-of-fold scores lack {', '.join(missing)}: make the bundle anew")
    scores, truth, folds, groups = (np.asarray(arrays[name]) for name in ARRAYS)
    count = len(truth)
    sound = scores.shape == (
        count,
        len(classes),
    ) and folds.shape == groups.shape == truth.shape == (count,)
    sound = (
        sound and np.isfinite(scores).all() and set(np.unique(truth)) <= set(range(len(classes)))
    )
    if not sound:
        raise InputError("the out-of-fold scores do not fit together: make the bundle anew")
    names = tuple(str(i) for i in range(count))
    units = tuple(str(group) for group in groups)
    return learn(
        LabelledPredictions(
            names, classes, truth, scores.argmax(axis=1), scores, folds, units, positive
        ),
        sensitivity,
        reference,
    )


def anonymous(cases: LabelledPredictions) -> LabelledPredictions:
    """The same cases under numbers."""
    codes = np.unique(cases.resampling_groups or cases.names, return_inverse=True)[1]
    names = tuple(str(i) for i in range(len(cases.names)))
    return dataclasses.replace(cases, names=names, groups=tuple(map(str, codes)))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
      image: its name, without ending.
      file: its file's name; the same as `image` where only descriptors are known.
      predicted: the class.
      probabilities: calibrated, of each class.
      carcinoma_score: the largest calibrated probability of a carcinoma against the largest of the rest, 0 .. 1; None
        where no classes count as carcinoma.
      carcinoma: whether the score reaches the operating point.
      spread_augmentations, spread_models: standard deviation of the answer's uncalibrated probability over
        augmentations, and over models.
      prediction_set: the classes that cannot be ruled out, the likeliest first.
      stain_p, descriptors_p: share of training images whose stain, or descriptors, lie at least as far from the others'
        as this image's; None where it is not known.
      abstain: why the answer should not be used; empty if it may.
    """

    image: str
    file: str
    predicted: str
    probabilities: dict[str, float]
    carcinoma_score: float | None
    carcinoma: bool | None
    spread_augmentations: float
    spread_models: float
    prediction_set: tuple[str, ...]
    stain_p: float | None
    descriptors_p: float | None
    abstain: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PredictionOptions:
    """What the user wants of predictions.

    Attributes:
      coverage: share of images whose class shall be in the set.
      sensitivity: that the operating point is to have; None for the bundle's own.
      largest_set: classes that a set may have before the answer is abstained from; None for half of all.
    """

    coverage: float = COVERAGE
    sensitivity: float | None = None
    largest_set: int | None = None


def judge(
    uncertainty: Uncertainty,
    names: Sequence[str],
    files: Sequence[str],
    scores: EnsembleScores,
    means: Mapping[str, np.ndarray],
    stain: store.StainQC,
    options: PredictionOptions = PredictionOptions(),
) -> list[Prediction]:
    """What is said of N images.

    Args:
      uncertainty: of the ensemble.
      names, files: of the images, and of their files.
      scores: by all models.
      means: {configuration: float32 [N, D]}, descriptors averaged over augmentations.
      stain: rows of stain_qc.csv; those of images without are left open.
      options: of the user.

    Raises:
      InputError: a wish that cannot be, or descriptors of other configurations.
    """
    classes = uncertainty.cases.classes
    probabilities = calibration.apply_temperature(scores.mean, uncertainty.temperature)
    answers, every = scores.mean.argmax(axis=1), np.arange(len(names))
    in_set = conformal.sets(uncertainty.sets, scores.by_fold, options.coverage)
    threshold = uncertainty.threshold(options.sensitivity or uncertainty.sensitivity)
    positive = (
        None
        if threshold is None
        else metrics.positive_score(probabilities, uncertainty.cases.positive)
    )
    spreads = [
        each[every, :, answers].std(axis=1) for each in (scores.by_augmentation, scores.by_model)
    ]
    stain_p, descriptors_p, little, far = unusual(uncertainty.reference, names, means, stain)
    largest = max(1, len(classes) // 2) if options.largest_set is None else options.largest_set
    found = []
    for i, name in enumerate(names):
        likeliest = [k for k in probabilities[i].argsort()[::-1] if in_set[i, k]]
        causes = {
            TOO_LITTLE_TISSUE: little[i],
            FAR_STAIN: far["stain"][i],
            FAR_DESCRIPTORS: far["descriptors"][i],
            LARGE_SET: len(likeliest) > largest,
        }
        found.append(
            Prediction(
                image=name,
                file=files[i],
                predicted=classes[answers[i]],
                probabilities=dict(zip(classes, probabilities[i].tolist(), strict=True)),
                carcinoma_score=None if positive is None else float(positive[i]),
                carcinoma=None if positive is None else bool(positive[i] >= threshold),
                spread_augmentations=float(spreads[0][i]),
                spread_models=float(spreads[1][i]),
                prediction_set=tuple(classes[k] for k in likeliest),
                stain_p=known(stain_p[i]),
                descriptors_p=known(descriptors_p[i]),
                abstain=tuple(cause for cause, holds in causes.items() if holds),
            )
        )
    return found


def known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def unusual(
    reference: ReferenceDistribution | None,
    names: Sequence[str],
    means: Mapping[str, np.ndarray],
    stain: store.StainQC,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """p-values by stain and by descriptors, [N], NaN where unknown; which have too little tissue; which are far."""
    count = len(names)
    little = np.array([out_of_distribution.too_little_tissue(stain, name) for name in names], bool)
    stain_p, descriptors_p = np.full(count, np.nan), np.full(count, np.nan)
    far = {"stain": np.zeros(count, bool), "descriptors": np.zeros(count, bool)}
    if reference is None:
        return stain_p, descriptors_p, little, far
    descriptors_p = out_of_distribution.descriptor_p(reference, means)
    far["descriptors"] = out_of_distribution.far(descriptors_p, reference.masses)
    measured = [
        i
        for i, name in enumerate(names)
        if all((name, scale) in stain for scale in reference.scales)
    ]
    if measured and reference.scales:
        features = out_of_distribution.stain_features(
            stain, [names[i] for i in measured], reference.scales
        )
        found = out_of_distribution.stain_p(reference, features)
        if found is not None:
            stain_p[measured] = found
            far["stain"] = out_of_distribution.far(stain_p, reference.stain_masses)
    return stain_p, descriptors_p, little, far
