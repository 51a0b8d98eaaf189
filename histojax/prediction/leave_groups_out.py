"""Do an ensemble's probabilities, sets and abstentions hold for patients it never saw? Groups are left out in turn.

For each part, whole groups, an ensemble is trained on all others by a cross-validation of its own, and predicts the
part as `predict` does: temperature, sets and what is typical come from the others alone. A stated coverage is of new
groups, so in its figure each group weighs one; all other figures are of images. Intervals resample groups.

OUT/part01/models    an ensemble, as training writes it

N images, K classes, B weightings.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.config import Boosting
from histojax.datasets import Dataset, folds
from histojax.errors import InputError
from histojax.evaluation import bootstrap, calibration, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners import boost, ensembles
from histojax.prediction import bundle, conformal, uncertainty
from histojax.prediction.uncertainty import Prediction, PredictionOptions

COVERAGES = (0.8, 0.9)
Key = tuple[str, float | None]  # A figure's name, and the stated coverage that it depends on.


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; `coverage` is the stated one that it depends on, None for none."""

    name: str
    coverage: float | None
    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class Transferred:
    """N images, each predicted by an ensemble that saw nothing of its group.

    Attributes:
      cases: with the mean scores of all models; the folds are the parts.
      calibrated: float64 [N, K], the probabilities that are given out.
      predictions: of each coverage, in the order of the cases.
      attainable: the highest coverage that the groups of every part's ensemble allow.
      made_with: the manifest of each configuration's descriptors.
    """

    cases: LabelledPredictions
    calibrated: np.ndarray
    predictions: dict[float, tuple[Prediction, ...]]
    attainable: float
    made_with: dict[str, store.Manifest | None]


def run(
    dataset: Dataset,
    descriptors: Path,
    out: Path,
    configurations: Sequence[str],
    boosting: Boosting,
    *,
    parts: int | None = None,
    coverages: Sequence[float] = COVERAGES,
    positive_classes: Sequence[str] = (),
    workers: int = 1,
) -> Transferred:
    """Leaves groups out in turn, and predicts them; trains only what is missing.

    Args:
      dataset: images of known groups.
      descriptors: where their descriptors are.
      out: where models go.
      configurations: to train on.
      boosting: of each ensemble; its folds are of the groups that are not left out.
      parts: of about equal size that the groups fall into, stratified by class; by default each group is one.
      coverages: of the sets.
      positive_classes: names of the classes that count as carcinoma, if not the default ones.
      workers: processes that train.

    Raises:
      InputError: a group is unknown, there are too few, or descriptors are missing.
    """
    for coverage in coverages:
        conformal.require_coverage(coverage)
    part = parts_of(dataset, parts, boosting.fold_seed)
    found = []
    for number in range(part.max() + 1):
        models = out / f"part{number + 1:02d}" / "models"
        others, here = (
            take(dataset, np.flatnonzero(chosen)) for chosen in (part != number, part == number)
        )
        split = folds.load_or_make(
            models / ensembles.FOLDS, others, boosting.folds, boosting.fold_seed, "grouped"
        )
        boost.train(descriptors, models, split, configurations, boosting, workers)
        trained = bundle.from_models(models, positive_classes, descriptors=descriptors)
        found.append(predicted(trained, here, descriptors, coverages, number))
    return joined(found)


def parts_of(dataset: Dataset, parts: int | None, seed: int) -> np.ndarray:
    """The part of each image, int [N], no group in two; InputError where a group is unknown or there are too few."""
    unknown = [
        name
        for name, group in zip(dataset.names, dataset.groups or dataset.names, strict=True)
        if not group
    ]
    if dataset.groups is None or unknown:
        count = f"{len(unknown)} of {len(dataset.names)} images are of unknown group ({', '.join(unknown[:5])})"
        which = "no group is known" if dataset.groups is None else count
        raise InputError(
            f"{which}: give each image its group, in a column `group` of the table or with --groups=TABLE"
        )
    if parts is not None:
        return folds.make(dataset, parts, seed, "grouped").folds
    names, part = np.unique(dataset.groups, return_inverse=True)
    if len(names) < 3:
        raise InputError(
            f"{len(names)} groups: at least three are needed, one to leave out and two to train on"
        )
    return part


def take(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """The images at these places; the classes stay, whether they have images or not."""
    paths, labels, groups = (
        [each[i] for i in chosen] for each in (dataset.paths, dataset.labels, dataset.groups)
    )
    return Dataset(tuple(paths), tuple(labels), dataset.classes, tuple(groups))


def predicted(
    trained: bundle.Bundle, here: Dataset, root: Path, coverages: Sequence[float], number: int
) -> Transferred:
    """The images of a part as its ensemble predicts them."""
    descriptors = {name: store.read(root, name, here.names) for name in trained.configurations}
    means = {name: each.mean(axis=1) for name, each in descriptors.items()}
    scores, stain = trained.ensemble.score(descriptors), store.read_stain_qc(root)
    file_names = [path.name for path in here.paths]
    predictions = {
        coverage: tuple(
            uncertainty.judge(
                trained.uncertainty,
                here.names,
                file_names,
                scores,
                means,
                stain,
                PredictionOptions(coverage),
            )
        )
        for coverage in coverages
    }
    cases = LabelledPredictions(
        here.names,
        here.classes,
        np.array(here.labels),
        scores.mean.argmax(axis=1),
        scores.mean,
        np.full(len(here.names), number),
        here.groups,
        trained.positive,
    )
    calibrated = calibration.apply_temperature(scores.mean, trained.temperature)
    attainable = conformal.attainable(trained.uncertainty.sets)
    return Transferred(cases, calibrated, predictions, attainable, trained.made_with)


def joined(found: Sequence[Transferred]) -> Transferred:
    """All parts as one."""
    all_cases = [each.cases for each in found]
    cases = dataclasses.replace(
        all_cases[0],
        names=sum((each.names for each in all_cases), ()),
        groups=sum((each.groups for each in all_cases), ()),
        **{
            name: np.concatenate([getattr(each, name) for each in all_cases])
            for name in ("truth", "predicted", "scores", "folds")
        },
    )
    return Transferred(
        cases,
        np.concatenate([each.calibrated for each in found]),
        {
            coverage: sum((each.predictions[coverage] for each in found), ())
            for coverage in found[0].predictions
        },
        min(each.attainable for each in found),
        found[0].made_with,
    )


def statistic(transferred: Transferred, weights: np.ndarray) -> dict[Key, np.ndarray]:
    """Every figure under weights of the images: float64 [B, N] to [B] each, NaN where it is undefined."""
    cases = transferred.cases
    right, total = cases.predicted == cases.truth, weights.sum(axis=1)
    found: dict[Key, np.ndarray] = {("accuracy", None): weights @ right / total}
    for ending, scores in (("", cases.scores), ("_calibrated", transferred.calibrated)):
        rescored = dataclasses.replace(cases, scores=scores)
        judged = metrics.compute(rescored, weights, ("calibration_error", "log_loss"))
        found |= {
            (f"{name}{ending}", None): judged[name, ""]
            for name in ("calibration_error", "log_loss")
        }
    by_group = weights * conformal.masses(cases.groups)
    for coverage, predictions in transferred.predictions.items():
        sizes = np.array([len(each.prediction_set) for each in predictions])
        left = np.array([bool(each.abstain) for each in predictions])
        found |= {
            ("coverage", coverage): by_group @ covered(cases, predictions) / by_group.sum(axis=1),
            ("set_size", coverage): weights @ sizes / total,
            ("abstained", coverage): weights @ left / total,
            ("accuracy_used", coverage): metrics.ratio(weights @ (right & ~left), weights @ ~left),
            ("accuracy_abstained", coverage): metrics.ratio(
                weights @ (right & left), weights @ left
            ),
        }
    return found


def covered(cases: LabelledPredictions, predictions: Sequence[Prediction]) -> np.ndarray:
    """Whether each set has the true class, bool [N]."""
    truth = [cases.classes[k] for k in cases.truth]
    return np.array(
        [label in each.prediction_set for label, each in zip(truth, predictions, strict=True)]
    )


def figures(transferred: Transferred, draws: int = DRAWS) -> dict[Key, Figure]:
    """Every figure with its interval, groups resampled."""
    groups, classes = transferred.cases.groups, len(transferred.cases.classes)
    value = statistic(transferred, np.ones((1, len(groups))))
    drawn = bootstrap.resample(lambda weights: statistic(transferred, weights), groups, draws)
    bounds = {
        "set_size": (1.0, float(classes)),
        "log_loss": (0.0, np.inf),
        "log_loss_calibrated": (0.0, np.inf),
    }
    found = {}
    for key in value:
        units = bootstrap.effective_size(groups, witnesses(transferred, key))
        sure = bootstrap.confidence_interval(
            float(value[key][0]), drawn[key], units, bounds.get(key[0], (0.0, 1.0))
        )
        found[key] = Figure(*key, float(value[key][0]), sure)
    return found


def witnesses(transferred: Transferred, key: Key) -> np.ndarray:
    """The images that a figure rests on, bool [N]."""
    name, coverage = key
    if name not in ("accuracy_used", "accuracy_abstained"):
        return np.ones(len(transferred.cases.names), bool)
    wanted = name == "accuracy_abstained"
    return np.array([bool(each.abstain) == wanted for each in transferred.predictions[coverage]])
