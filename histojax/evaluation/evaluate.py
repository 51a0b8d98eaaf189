"""The evaluation of an ensemble on disk: by its out-of-fold scores, and by a test set if any."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.datasets import leakage, positive
from histojax.datasets.folds import Folds
from histojax.datasets.leakage import LeakageAudit
from histojax.datasets.positive import PositiveClasses
from histojax.evaluation import (
    ablation,
    chance,
    metrics,
    operating_point,
    statistics,
    test_set,
    verdict,
)
from histojax.evaluation.ablation import ConfigurationAblation, CurvePoint
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Statistics
from histojax.evaluation.verdict import Verdict
from histojax.extraction import crop_errors, manifests
from histojax.learners import ensembles, growth
from histojax.learners.ensembles import Ensemble
from histojax.learners.growth import Growth
from histojax.utils import ties
from histojax.utils.files import as_path


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that a report says of an ensemble.

    Attributes:
      ensemble: that was evaluated.
      folds: of the images that were held out.
      out_of_fold: statistics of the blended out-of-fold scores.
      by_configuration: accuracy of each configuration alone, float64 [S, F], each seed's models by
        themselves. (So it is in the paper's table: its single models' accuracies are no whole
        numbers of a fold's 40 images.)
      curves: accuracy against the number of augmentations, seeds, configurations and, with a test
        set, folds.
      configuration_ablations: accuracy with each configuration left out.
      audit: images that share a group with training.
      test: statistics of the test set; None where there is none, or it has no labels.
      times: rows of times.csv.
      growth: how many models learned nothing.
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
    growth: Growth

    @property
    def weights(self) -> str:
        """One line on the encoders' weights."""
        return manifests.weights_text(self.ensemble.extractions.values())

    @property
    def crop_error(self) -> str:
        """One line on how far descriptors are from exact crops; empty where they are these."""
        return crop_errors.text(self.ensemble.extractions.values())

    def judge(self, duplicates: int, site: str = "", conflicts: int = 0) -> Verdict:
        """What the out-of-fold figures allow one to say; arguments as for `verdict.judge`."""
        untrained = manifests.UNTRAINED in self.weights
        return verdict.judge(
            self.out_of_fold, self.growth, self.audit, untrained, duplicates, site, conflicts
        )


def evaluate(
    models: str | Path,
    positive_classes: Sequence[str] = (),
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    draws: int = DRAWS,
) -> Evaluation:
    """Evaluates the ensemble in a folder.

    Args:
      models: the folder.
      positive_classes: names of the classes that count as positive, as `positive.choose` takes
        them.
      target_sensitivity: that the operating point is chosen for.
      draws: of each bootstrap.

    Raises:
      InputError: the ensemble is not complete, or its positive class is unknown.
    """
    models = as_path(models)
    ensemble = ensembles.load(models)
    chosen = positive.choose(ensemble.folds.classes, positive_classes)
    folds = ensemble.folds.held_out()
    scores = {name: ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations}
    mean_scores = metrics.mean_scores(list(scores.values()))
    predictions = out_of_fold_predictions(folds, mean_scores, chosen)
    curves = {
        "augmentations": ablation.by_augmentations(scores, predictions),
        "seeds": ablation.by_seeds(scores, predictions),
        "configurations": ablation.by_configurations(scores, predictions),
    }
    test = None
    images = test_set.load(ensemble)
    if images is not None and images.labels is not None:
        by_model = {name: test_set.load_scores(ensemble, name) for name in ensemble.configurations}
        blended = np.mean([array.mean(axis=(0, 1, 3)) for array in by_model.values()], axis=0)
        of_test = test_set.labelled_predictions(images, folds.classes, blended, chosen)
        test = statistics.compute(of_test, target_sensitivity, draws)
        curves["folds"] = ablation.by_folds(by_model, of_test)
    return Evaluation(
        ensemble=ensemble,
        folds=folds,
        out_of_fold=statistics.compute(predictions, target_sensitivity, draws),
        by_configuration={name: _accuracies(array, folds) for name, array in scores.items()},
        curves=curves,
        configuration_ablations=ablation.by_configuration_left_out(scores, predictions),
        audit=leakage.audit(ensemble.folds),
        test=test,
        times=ensembles.read_training_times(models),
        growth=growth.check(ensemble),
    )


def load_out_of_fold(
    models: str | Path,
    positive_classes: Sequence[str] = (),
    configurations: Sequence[str] | None = None,
) -> LabelledPredictions:
    """Reads an ensemble's blended out-of-fold scores alone, to compare them with others.

    Those of all its configurations, or of some.

    Raises:
      InputError: the ensemble is not complete, or its positive class is unknown.
    """
    ensemble = ensembles.load(as_path(models))
    chosen = positive.choose(ensemble.folds.classes, positive_classes)
    names = configurations or ensemble.configurations
    scores = [ensembles.out_of_fold(ensemble, name) for name in names]
    return out_of_fold_predictions(ensemble.folds.held_out(), metrics.mean_scores(scores), chosen)


def doubts(models: str | Path) -> list[str]:
    """A line on models that learned nothing, and one on scores that do not differ from chance.

    Raises:
      InputError: the ensemble is not complete.
    """
    ensemble = ensembles.load(as_path(models))
    grown = growth.check(ensemble)
    if grown.constant == grown.models:
        return [grown.text]
    scores = [ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations]
    folds = ensemble.folds.held_out()
    without_positive = positive.choose(folds.classes, (positive.NONE,))
    test = chance.permutation_test(
        out_of_fold_predictions(folds, metrics.mean_scores(scores), without_positive)
    )
    lines = [grown.text, verdict.chance_text(test) if test.is_chance else ""]
    return [line for line in lines if line]


def out_of_fold_predictions(
    folds: Folds, scores: np.ndarray, chosen: PositiveClasses
) -> LabelledPredictions:
    """Out-of-fold scores, float64 [N, K], as labelled predictions, renormalised to sum to 1."""
    predictions = LabelledPredictions(
        names=folds.names,
        classes=folds.classes,
        truth=folds.labels,
        predicted=ties.argmax(scores),
        scores=scores / scores.sum(axis=1, keepdims=True),
        folds=folds.folds,
        groups=folds.groups,
    )
    return predictions.with_positive(chosen)


def settings(ensemble: Ensemble) -> dict[str, Any]:
    """Learner, parameters and each configuration's extraction, for a report."""
    return {
        "learner": ensemble.learner,
        "parameters": ensemble.parameters,
        "extraction": ensemble.extractions,
    }


def _accuracies(scores: np.ndarray, folds: Folds) -> np.ndarray:
    """Accuracy of each seed's models in each fold: [S, N, A, K] -> float64 [S, F]."""
    right = ties.argmax(scores.mean(axis=2)) == folds.labels
    by_fold = [right[:, folds.folds == fold].mean(axis=1) for fold in range(folds.count)]
    return np.stack(by_fold, axis=1)
