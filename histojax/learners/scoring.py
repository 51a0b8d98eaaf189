"""Scores of images by the models of an ensemble, whatever its learner. Needs no JAX.

N images, A augmentations, D channels, K classes, S seeds, F folds; M models.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histojax.errors import InputError
from histojax.extraction import manifests, provenance
from histojax.learners import boost, ensembles
from histojax.learners.ensembles import LEARNERS, Ensemble

Model = Any  # What the learner's `parse` gives: a LightGBM booster, or a head's arrays.


def _parse(learner: str, content: bytes, name: str | Path) -> Model:
    """A model from the content of its file; `name` is for messages.

    Raises:
      InputError: it is damaged, or its learner scores images, not descriptors.
    """
    if LEARNERS[learner].parse is None:
        raise InputError(
            f"{name} cannot predict from descriptors: models that are {learner} score images"
        )
    return LEARNERS[learner].parse(content, name)


def _score_with(
    learner: str, model: Model, descriptors: np.ndarray, name: str | Path
) -> np.ndarray:
    """Class probabilities by one model: [N, A, D] -> float64 [N, A, K].

    Raises:
      InputError: the model takes descriptors of another width.
    """
    expected = LEARNERS[learner].channels(model)
    channels = descriptors.shape[-1]
    if expected != channels:
        raise InputError(
            f"{name} takes {expected} channels, the descriptors have {channels}: they are of "
            "another encoder"
        )
    return LEARNERS[learner].score(model, descriptors)


def score(learner: str, path: Path, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities by one saved model: [N, A, D] -> float64 [N, A, K].

    Raises:
      InputError: the model is damaged, or takes no such descriptors.
    """
    return _score_with(learner, _parse(learner, path.read_bytes(), path), descriptors, path)


class EnsembleScores(NamedTuple):
    """Class probabilities of N images, each a mean over all that it has no axis for; float64.

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
      learner: a key of `LEARNERS`.
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
        """Configuration, fold and scores [N, A, K] of every model of these configurations.

        Args:
          descriptors: float32 [N, A, D] by configuration.

        Raises:
          InputError: a model takes descriptors of another width.
        """
        models = [
            (name, number % self.folds, model)
            for name in descriptors
            for number, model in enumerate(self.models[name])
        ]

        def score_task(task: tuple[str, int, Model]) -> np.ndarray:
            name, _, model = task
            return _score_with(self.learner, model, descriptors[name], name)

        with concurrent.futures.ThreadPoolExecutor(boost.default_workers()) as pool:
            for (name, fold, _), scores in zip(models, pool.map(score_task, models), strict=True):
                yield name, fold, scores

    def score(self, descriptors: Mapping[str, np.ndarray]) -> EnsembleScores:
        """Scores by all models; descriptors are float32 [N, A, D] by configuration."""
        by_fold = [[] for _ in range(self.folds)]
        by_model = []
        total = 0.0
        for _, fold, scores in self.scores_by_model(descriptors):
            mean = scores.mean(axis=1)
            by_fold[fold].append(mean)
            by_model.append(mean)
            total = total + scores
        folds = np.stack([np.mean(of_fold, axis=0) for of_fold in by_fold], axis=1)
        return EnsembleScores(folds, total / len(by_model), np.stack(by_model, axis=1))


def parse_models(
    learner: str,
    seeds: int,
    folds: int,
    configurations: tuple[str, ...],
    read: Callable[[str], bytes],
) -> LoadedEnsemble:
    """Every model of an ensemble, wherever it is stored; arguments as for `LoadedEnsemble`.

    `read` gives the content of a file that is named as by `ensembles.model_names`.

    Raises:
      InputError: the learner is unknown or scores images, not descriptors; or a model is damaged.
    """
    if learner not in LEARNERS:
        raise InputError(f"no learner is called {learner}; expected one of {', '.join(LEARNERS)}")
    models = {
        configuration: tuple(
            _parse(learner, read(name), name)
            for name in ensembles.model_names(configuration, seeds, folds, learner)
        )
        for configuration in configurations
    }
    return LoadedEnsemble(learner, seeds, folds, models)


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
    extractions: Mapping[str, manifests.Manifest | None], descriptors: Path
) -> None:
    """Checks that a folder's descriptors are of the protocol and weights of those trained on.

    These are the manifests `extractions`, by configuration; None if unknown.

    Raises:
      InputError: they differ in what decides the descriptors; or nothing says that these were
        imported, too.
    """
    for configuration, trained_with in extractions.items():
        manifest = manifests.read(descriptors, configuration)
        if manifest is None and provenance.is_imported(trained_with):
            raise InputError(
                f"{descriptors / configuration} has no {manifests.MANIFEST}, so nothing says that "
                "it was imported as what the models were trained on, "
                f"{provenance.features_text(trained_with)}: import the features (histojax "
                "import_descriptors), and name that folder"
            )
        if trained_with is None or manifest is None:
            continue
        if lines := manifests.differences(manifest, trained_with):
            raise InputError(
                f"{descriptors / configuration} is not of the protocol the models were trained "
                "with:\n" + "\n".join(f"  {line}" for line in lines)
            )


def score_held_out(ensemble: Ensemble, configuration: str, descriptors: np.ndarray) -> np.ndarray:
    """Scores of other descriptors of the held-out images by the models that never saw them.

    Such as of the same images in other colours; with those trained on, it gives
    `ensembles.out_of_fold`.

    Args:
      ensemble: complete.
      configuration: whose models score.
      descriptors: float32 [N, A, D], of the images of `ensemble.folds.held_out()`, in its order.

    Returns:
      float64 [S, N, A, K].
    """
    folds = ensemble.folds.held_out()
    shape = (ensemble.seeds, *descriptors.shape[:2], len(folds.classes))
    scores = np.empty(shape)
    for seed in range(ensemble.seeds):
        for fold in range(folds.count):
            in_fold = folds.folds == fold
            model = ensemble.model(configuration, seed, fold)
            scores[seed, in_fold] = score(ensemble.learner, model, descriptors[in_fold])
    return scores
