"""Do probabilities, prediction sets and abstentions hold for groups that no model saw?

Groups (patients) are divided into parts. For each part an ensemble is trained on all other groups,
by a cross-validation of its own, and predicts the part just as `predict` does: temperature, sets
and reference distribution come from the other groups alone. A stated coverage is of new groups, so
in its estimate every group weighs the same; all other metrics are of images. Intervals resample
groups.

OUT/part01/models    an ensemble, as training writes it

N images, K classes, B weightings.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from histojax.config import Boosting
from histojax.datasets import Dataset, folds, positive
from histojax.errors import InputError
from histojax.evaluation import bootstrap, calibration, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import manifests, store
from histojax.images.names import file_label
from histojax.learners import boost, ensembles, growth
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, conformal, predict, uncertainty
from histojax.prediction.bundle import Bundle
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files, ties

COVERAGES = (0.8, 0.9)
Key = tuple[str, float | None]  # A metric's name, and the stated coverage that it depends on.


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be chosen.

    Attributes:
      parts: number of parts of about equal size, stratified by class; None for a part per group.
      coverages: stated coverages of the prediction sets.
      positive_classes: names of the positive classes, as `positive.choose` takes them.
    """

    parts: int | None = None
    coverages: Sequence[float] = COVERAGES
    positive_classes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; `coverage` is the stated one, None where it has no part."""

    name: str
    coverage: float | None
    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """N images, each predicted by an ensemble that saw no image of its group.

    Attributes:
      images: with the mean scores of all models; the folds are the parts.
      calibrated: float64 [N, K], the probabilities of the predictions.
      predictions: of each coverage, in the order of the images.
      attainable: the highest coverage that the groups of every part's ensemble allow.
      made_with: the manifest of each configuration's descriptors.
    """

    images: LabelledPredictions
    calibrated: np.ndarray
    predictions: dict[float, tuple[Prediction, ...]]
    attainable: float
    made_with: dict[str, manifests.Manifest | None]


def run(
    dataset: Dataset,
    descriptors: str | Path,
    out: str | Path,
    configurations: Sequence[str],
    boosting: Boosting,
    options: Options = Options(),
    workers: int = 1,
) -> LeftOut:
    """Leaves groups out in turn and predicts them; trains only what is missing.

    Args:
      dataset: images of known groups.
      descriptors: the folder of their descriptors.
      out: the folder that models go to.
      configurations: those to train on.
      boosting: of each ensemble; its folds divide the groups that are not left out.
      options: parts, coverages, positive classes.
      workers: processes that train.

    Raises:
      InputError: a group is unknown, there are too few, or descriptors are missing.
    """
    root, out = files.as_path(descriptors), files.as_path(out)
    for coverage in options.coverages:
        conformal.require_coverage(coverage)
    positive.choose(dataset.classes, options.positive_classes)  # Before the long work.
    part = _parts(dataset, options.parts, boosting.fold_seed)
    jobs, results = [], []
    for number in range(part.max() + 1):  # All before the first is trained: a split may be refused.
        models = out / f"part{number + 1:02d}" / "models"
        others = _subset(dataset, np.flatnonzero(part != number))
        split = folds.load_or_make(
            models / ensembles.FOLDS, others, boosting.folds, boosting.fold_seed, "grouped"
        )
        jobs.append(TrainingJob(root, models, split, configurations))
    for number, job in enumerate(jobs):
        boost.train(job, boosting, workers)
        if number == 0 and (doubt := growth.check(ensembles.load(job.models)).text):
            logging.warning("%s", doubt)  # Before the other parts are trained in vain.
        trained = bundle.from_models(job.models, options.positive_classes, descriptors=root)
        left_out = _subset(dataset, np.flatnonzero(part == number))
        results.append(_predict(trained, left_out, root, options.coverages, number))
    return concatenate(results)


def concatenate(results: Sequence[LeftOut]) -> LeftOut:
    """The images of all parts together."""
    first = results[0]
    images = dataclasses.replace(
        first.images,
        names=sum((result.images.names for result in results), ()),
        groups=sum((result.images.groups for result in results), ()),
        **{
            field: np.concatenate([getattr(result.images, field) for result in results])
            for field in ("truth", "predicted", "scores", "folds")
        },
    )
    predictions = {
        coverage: sum((result.predictions[coverage] for result in results), ())
        for coverage in first.predictions
    }
    return LeftOut(
        images,
        np.concatenate([result.calibrated for result in results]),
        predictions,
        min(result.attainable for result in results),
        first.made_with,
    )


def estimate(left_out: LeftOut, draws: int = DRAWS) -> dict[Key, Estimate]:
    """Every metric with its interval, by a bootstrap of groups."""
    groups = left_out.images.groups
    values = _metrics(left_out, np.ones((1, len(groups))))
    drawn = bootstrap.resample(lambda weights: _metrics(left_out, weights), groups, draws)
    bounds = {
        "set_size": (1.0, float(len(left_out.images.classes))),
        "log_loss": (0.0, np.inf),
        "log_loss_calibrated": (0.0, np.inf),
    }
    estimates = {}
    for key in values:
        size = bootstrap.effective_size(groups, _images_behind(left_out, key))
        value = float(values[key][0])
        interval = bootstrap.confidence_interval(
            value, drawn[key], size, bounds.get(key[0], (0.0, 1.0))
        )
        estimates[key] = Estimate(*key, value, interval)
    return estimates


def true_class_in_set(images: LabelledPredictions, predictions: Sequence[Prediction]) -> np.ndarray:
    """Whether each prediction set has the true class, bool [N]."""
    return np.array(
        [
            images.classes[truth] in prediction.prediction_set
            for truth, prediction in zip(images.truth, predictions, strict=True)
        ]
    )


def _parts(dataset: Dataset, count: int | None, seed: int) -> np.ndarray:
    """The part of each image, int [N], with no group in two; InputError for unknown groups."""
    groups = dataset.groups or ("",) * len(dataset.names)
    unknown = [name for name, group in zip(dataset.names, groups, strict=True) if not group]
    if dataset.groups is None or unknown:
        problem = "no group is known"
        if dataset.groups is not None:
            problem = (
                f"{len(unknown)} of {len(groups)} images are of unknown group "
                f"({', '.join(unknown[:5])})"
            )
        raise InputError(
            f"{problem}: give each image its group, in a column `group` of the table or with "
            "--groups=TABLE"
        )
    if count is not None:
        return folds.make(dataset, count, seed, "grouped", flag="parts").folds
    names, part = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        raise InputError(
            f"{len(names)} groups: at least three are needed, one to leave out and two to train on"
        )
    return part


def _subset(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """The images of these indices; classes stay, whether they have images or not."""
    names, labels, groups = (
        tuple(column[i] for i in chosen)
        for column in (dataset.names, dataset.labels, dataset.groups)
    )
    images = {name: dataset.images[name] for name in names}
    sets = dataset.copies and tuple(dataset.copies[i] for i in chosen)
    return Dataset(images, labels, dataset.classes, groups, copies=sets)


def _predict(
    trained: Bundle, dataset: Dataset, root: Path, coverages: Sequence[float], number: int
) -> LeftOut:
    """The images of a part as the ensemble of all others predicts them."""
    file_names = [file_label(name, path) for name, path in dataset.images.items()]
    stain_rows = store.read_stain_qc(root)
    scored = predict.score_stored(trained, root, dataset.names, file_names, stain_rows)
    predictions = {
        coverage: tuple(
            uncertainty.assess(trained.uncertainty, scored, PredictionOptions(coverage))
        )
        for coverage in coverages
    }
    scores = scored.scores.mean
    images = LabelledPredictions(
        dataset.names,
        dataset.classes,
        np.array(dataset.labels),
        ties.argmax(scores),
        scores,
        np.full(len(dataset.names), number),
        dataset.groups,
        trained.positive,
        trained.positive_reason,
    )
    calibrated = calibration.apply_temperature(scores, trained.temperature)
    attainable = conformal.attainable_coverage(trained.uncertainty.sets)
    return LeftOut(images, calibrated, predictions, attainable, trained.made_with)


def _metrics(left_out: LeftOut, weights: np.ndarray) -> dict[Key, np.ndarray]:
    """Every metric under weights of the images: float64 [B, N] to [B] each, NaN if undefined."""
    images = left_out.images
    right, total = images.predicted == images.truth, weights.sum(axis=1)
    values: dict[Key, np.ndarray] = {("accuracy", None): weights @ right / total}
    for suffix, scores in (("", images.scores), ("_calibrated", left_out.calibrated)):
        names = ("calibration_error", "log_loss")
        computed = metrics.compute(dataclasses.replace(images, scores=scores), weights, names)
        values |= {(f"{name}{suffix}", None): computed[name, ""] for name in names}
    by_group = weights * conformal.masses(images.groups)
    for coverage, predictions in left_out.predictions.items():
        in_set = true_class_in_set(images, predictions)
        sizes = np.array([len(prediction.prediction_set) for prediction in predictions])
        abstained = _abstained(predictions)
        values |= {
            ("coverage", coverage): by_group @ in_set / by_group.sum(axis=1),
            ("set_size", coverage): weights @ sizes / total,
            ("abstained", coverage): weights @ abstained / total,
            ("accuracy_used", coverage): metrics.ratio(
                weights @ (right & ~abstained), weights @ ~abstained
            ),
            ("accuracy_abstained", coverage): metrics.ratio(
                weights @ (right & abstained), weights @ abstained
            ),
        }
    return values


def _abstained(predictions: Sequence[Prediction]) -> np.ndarray:
    return np.array([bool(prediction.abstain) for prediction in predictions])


def _images_behind(left_out: LeftOut, key: Key) -> np.ndarray:
    """The images that a metric rests on, bool [N]."""
    name, coverage = key
    if name == "accuracy_used":
        return ~_abstained(left_out.predictions[coverage])
    if name == "accuracy_abstained":
        return _abstained(left_out.predictions[coverage])
    return np.ones(len(left_out.images.names), bool)
