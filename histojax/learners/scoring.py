"""Scores of images by the models of an ensemble, whatever its learner. Needs no jax.

N images, A augmentations, K classes, S seeds, F folds; M = configurations x S x F models.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import boost, ensembles, heads
from histojax.learners.ensembles import Ensemble

LEARNERS = ("trees", *heads.LAYERS)  # Those that score descriptors.
Model = Any  # A LightGBM booster, or a head's arrays.


def parse(learner: str, content: bytes, name: str | Path) -> Model:
    """A saved model, from what its file holds; `name` is for messages.

    Raises:
      InputError: it is damaged, or takes no descriptors at all.
    """
    if learner == "trees":
        return boost.parse_model(content, name)
    if learner in heads.LAYERS:
        return heads.parse(content, name, learner)
    raise InputError(
        f"{name} scores images, not descriptors: models that are {learner} cannot predict from these"
    )


def score_by(learner: str, model: Model, descriptors: np.ndarray, name: str | Path) -> np.ndarray:
    """Class probabilities by one model: [N, A, D] -> float64 [N, A, K].

    Raises:
      InputError: the model takes descriptors of another width.
    """
    width = model.num_feature() if learner == "trees" else heads.width(model)
    if width != descriptors.shape[-1]:
        raise InputError(
            f"{name} takes {width} channels, the descriptors have {descriptors.shape[-1]}: they are of another encoder"
        )
    return (
        boost.score(model, descriptors) if learner == "trees" else heads.score(model, descriptors)
    )


def score(learner: str, model: Path, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities by one saved model: [N, A, D] -> float64 [N, A, K].

    Raises:
      InputError: as for `parse` and `score_by`.
    """
    return score_by(learner, parse(learner, model.read_bytes(), model), descriptors, model)


class EnsembleScores(NamedTuple):
    """What the models say of N images, each a mean over what it does not name; float64.

    Attributes:
      by_fold: [N, F, K], by the models of each fold.
      by_augmentation: [N, A, K].
      by_model: [N, M, K].
    """

    by_fold: np.ndarray
    by_augmentation: np.ndarray
    by_model: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over everything: [N, K]."""
        return self.by_fold.mean(axis=1)


@dataclasses.dataclass(frozen=True)
class LoadedEnsemble:
    """Every model of an ensemble, in memory.

    Attributes:
      learner: one of LEARNERS.
      seeds, folds: S and F.
      models: S x F models of each configuration, seed by seed.
    """

    learner: str
    seeds: int
    folds: int
    models: dict[str, tuple[Model, ...]]

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names such as ResNet-0.5-400."""
        return tuple(self.models)

    def scores_by_model(
        self, descriptors: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, int, np.ndarray]]:
        """Configuration, fold and scores [N, A, K] of every model of these configurations, in order.

        Args:
          descriptors: {configuration: float32 [N, A, D]}.

        Raises:
          InputError: as for `score_by`.
        """
        tasks = [
            (name, number % self.folds, model)
            for name in descriptors
            for number, model in enumerate(self.models[name])
        ]
        with concurrent.futures.ThreadPoolExecutor(boost.default_workers()) as pool:
            scores = pool.map(
                lambda task: score_by(self.learner, task[2], descriptors[task[0]], task[0]), tasks
            )
            for (name, fold, _), found in zip(tasks, scores, strict=True):
                yield name, fold, found

    def score(self, descriptors: Mapping[str, np.ndarray]) -> EnsembleScores:
        """What all models say of images, {configuration: [N, A, D]}."""
        by_fold, by_model, total = [[] for _ in range(self.folds)], [], 0.0
        for _, fold, found in self.scores_by_model(descriptors):
            mean = found.mean(axis=1)
            by_fold[fold].append(mean)
            by_model.append(mean)
            total = total + found
        folds = np.stack([np.mean(each, axis=0) for each in by_fold], axis=1)
        return EnsembleScores(folds, total / len(by_model), np.stack(by_model, axis=1))


def parse_models(
    learner: str,
    seeds: int,
    folds: int,
    configurations: tuple[str, ...],
    content: Callable[[str], bytes],
) -> LoadedEnsemble:
    """Reads every model of an ensemble, by what gives the content of `<configuration>/<model's file>`.

    Raises:
      InputError: the learner takes no descriptors, or a model is damaged.
    """
    if learner not in LEARNERS:
        raise InputError(
            f"models that are {learner} score images: they cannot predict from descriptors"
        )
    return LoadedEnsemble(
        learner,
        seeds,
        folds,
        {
            configuration: tuple(
                parse(learner, content(name), name)
                for name in ensembles.model_names(configuration, seeds, folds, learner)
            )
            for configuration in configurations
        },
    )


def load_models(ensemble: Ensemble) -> LoadedEnsemble:
    """Every model of an ensemble on disk."""
    return parse_models(
        ensemble.learner,
        ensemble.seeds,
        ensemble.folds.count,
        ensemble.configurations,
        lambda name: (ensemble.root / name).read_bytes(),
    )


def check_same_extraction(
    made_with: Mapping[str, store.Manifest | None], descriptors_root: Path
) -> None:
    """Raises InputError where descriptors are not of the protocol and weights that the models were trained on."""
    for configuration, trained_on in made_with.items():
        here = store.read_manifest(descriptors_root, configuration)
        if (
            trained_on is not None
            and here is not None
            and (lines := store.differences(here, trained_on))
        ):
            raise InputError(
                f"{descriptors_root / configuration} is not of the protocol the models were trained on:\n"
                + "\n".join(f"  {line}" for line in lines)
            )
