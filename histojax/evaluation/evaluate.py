"""An ensemble on disk, judged: by its out-of-fold scores, and by a test set where there is one."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.datasets import leakage
from histojax.datasets.folds import Folds
from histojax.datasets.leakage import LeakageAudit
from histojax.evaluation import ablation, metrics, operating_point, statistics, test_set
from histojax.evaluation.ablation import ConfigurationAblation, CurvePoint
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Statistics
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that is told of an ensemble.

    Attributes:
      ensemble: it.
      folds: of the judged images.
      judgement: of its blended out-of-fold scores.
      by_configuration: accuracy of each configuration alone, float64 [S, F]: each seed's models judged by themselves,
        as in the paper's table, whose single models' accuracies are no whole numbers of a fold's 40 images.
      curves: accuracy against the number of augmentations, seeds, configurations and, with a test set, folds.
      without: what each configuration brings.
      audit: who shares a group with training.
      test: of a labelled test set; None where there is none.
      times: rows of times.csv.
    """

    ensemble: Ensemble
    folds: Folds
    out_of_fold: Statistics
    by_configuration: dict[str, np.ndarray]
    curves: dict[str, list[CurvePoint]]
    configuration_ablations: list[ConfigurationAblation]
    audit: LeakageAudit
    test: Statistics | None
    times: list[dict[str, str]]


def evaluate(
    models: Path,
    positive_classes: Sequence[str] = (),
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    draws: int = DRAWS,
) -> Evaluation:
    """Judges the ensemble in a folder.

    Raises:
      InputError: the ensemble is not complete, or a positive class does not exist.
    """
    ensemble = ensembles.load(models)
    positive = metrics.positive_classes(ensemble.folds.classes, positive_classes)
    folds = ensemble.folds.held_out()
    scores = {name: ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations}
    cases = out_of_fold_predictions(folds, metrics.mean_scores(list(scores.values())), positive)
    by_group = cases.resampling_groups is not None
    curves = {
        "augmentations": ablation.of_augmentations(scores, cases, by_group),
        "seeds": ablation.of_seeds(scores, cases, by_group),
        "configurations": ablation.of_configurations(scores, cases, by_group),
    }
    test = None
    if (found := test_set.load(ensemble)) and found.labels is not None:
        of_models = {name: test_set.load_scores(ensemble, name) for name in ensemble.configurations}
        blended = np.mean([each.mean(axis=(0, 1, 3)) for each in of_models.values()], axis=0)
        test_cases = test_set.labelled_predictions(found, folds.classes, blended, positive)
        test = statistics.compute(test_cases, target_sensitivity, draws)
        curves["folds"] = ablation.of_folds(
            of_models, test_cases, test_cases.resampling_groups is not None
        )
    return Evaluation(
        ensemble=ensemble,
        folds=folds,
        out_of_fold=statistics.compute(cases, target_sensitivity, draws),
        by_configuration={name: accuracies(each, folds) for name, each in scores.items()},
        curves=curves,
        configuration_ablations=ablation.without_each(scores, cases, by_group),
        audit=leakage.audit(ensemble.folds),
        test=test,
        times=ensembles.read_training_times(models),
    )


def out_of_fold_predictions(
    folds: Folds, scores: np.ndarray, positive: Sequence[int]
) -> LabelledPredictions:
    """Out-of-fold scores as cases: float64 [N, K]."""
    return LabelledPredictions(
        names=folds.names,
        classes=folds.classes,
        truth=folds.labels,
        predicted=scores.argmax(axis=1),
        scores=scores / scores.sum(axis=1, keepdims=True),
        folds=folds.folds,
        groups=folds.groups,
        positive=tuple(positive),
    )


def load_out_of_fold(models: Path, positive_classes: Sequence[str] = ()) -> LabelledPredictions:
    """An ensemble's blended out-of-fold scores alone, to compare with others."""
    ensemble = ensembles.load(models)
    positive = metrics.positive_classes(ensemble.folds.classes, positive_classes)
    scores = [ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations]
    return out_of_fold_predictions(ensemble.folds.held_out(), metrics.mean_scores(scores), positive)


def accuracies(scores: np.ndarray, folds: Folds) -> np.ndarray:
    """Accuracy of each seed's models by themselves in each fold: [S, N, A, K] -> float64 [S, F]."""
    right = scores.mean(axis=2).argmax(axis=-1) == folds.labels
    return np.stack(
        [right[:, folds.folds == fold].mean(axis=1) for fold in range(folds.count)], axis=1
    )


def settings(ensemble: Ensemble) -> dict[str, Any]:
    """What the ensemble was made with, for a report: learner, parameters, and each configuration's extraction."""
    return {
        "learner": ensemble.learner,
        "parameters": ensemble.parameters,
        "extraction": ensemble.extractions,
    }
