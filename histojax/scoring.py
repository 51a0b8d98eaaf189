"""Scores of images by the models of an ensemble, whatever its learner. Needs no jax."""

from pathlib import Path

import numpy as np

from histojax import boost, heads, store
from histojax.ensembles import Ensemble
from histojax.errors import InputError
from histojax.progress import Progress

LEARNERS = ("trees", *heads.LAYERS)  # Those that score descriptors.


def score(learner: str, model: Path, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities by one saved model: [N, A, D] -> float64 [N, A, K].

    Raises:
      InputError: the model is damaged, takes descriptors of another width, or takes none at all.
    """
    if learner == "trees":
        booster = boost.read_model(model)
        check_width(model, booster.num_feature(), descriptors)
        return boost.score(booster, descriptors)
    if learner in heads.LAYERS:
        head = heads.read(model, learner)
        check_width(model, heads.width(head), descriptors)
        return heads.score(head, descriptors)
    raise InputError(f"{model} scores images, not descriptors: models that are {learner} cannot predict from these")


def check_width(model: Path, width: int, descriptors: np.ndarray) -> None:
    """Raises InputError where a model was trained on descriptors of another width."""
    if width != descriptors.shape[-1]:
        raise InputError(
            f"{model} takes {width} channels, the descriptors have {descriptors.shape[-1]}: they are of another encoder"
        )


def check_made_with(ensemble: Ensemble, descriptors_root: Path) -> None:
    """Raises InputError where descriptors are not of the protocol and weights that the models were trained on."""
    for configuration, trained_on in ensemble.made_with.items():
        here = store.read_manifest(descriptors_root, configuration)
        if trained_on is not None and here is not None and (lines := store.differences(here, trained_on)):
            raise InputError(
                f"{descriptors_root / configuration} is not of the protocol the models were trained on:\n"
                + "\n".join(f"  {line}" for line in lines)
            )


def mean(ensemble: Ensemble, configuration: str, descriptors: np.ndarray, bar: Progress) -> np.ndarray:
    """Mean scores of new images over augmentations, seeds and folds' models: [N, A, D] -> float64 [N, K]."""
    total = np.zeros((len(descriptors), len(ensemble.folds.classes)))
    for seed in range(ensemble.seeds):
        for fold in range(ensemble.folds.count):
            model = ensemble.model(configuration, seed, fold)
            total += score(ensemble.learner, model, descriptors).mean(axis=1)
            bar.add(1)
    return total / (ensemble.seeds * ensemble.folds.count)
