"""What the training of every learner shares: the job, early stopping's split, and the time it took.

N images, A augmentations, D channels, S seeds, F folds.
"""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from histojax.datasets import folds as splits
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.learners import ensembles
from histojax.learners.ensembles import MissingModels
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """Descriptors to train on, and the folder of the ensemble.

    Attributes:
      descriptors: the folder that extraction wrote, or the authors' files.
      models: the ensemble's folder, with `folds.csv` already in it.
      folds: images, labels and folds.
      configurations: names such as ResNet-0.5-400.
    """

    descriptors: Path
    models: Path
    folds: Folds
    configurations: tuple[str, ...]

    def __post_init__(self):
        for name in ("descriptors", "models"):
            object.__setattr__(self, name, files.as_path(getattr(self, name)))

    def start(self, learner: str, parameters: Any) -> dict[str, MissingModels]:
        """Records what the ensemble is made of; returns its missing models by configuration.

        `parameters` are the learner's: a dataclass with a field `seeds`, the number of models of
        each fold.

        Raises:
          InputError: the folder holds models of another learner, split, or other parameters.
        """
        seeds = parameters.seeds
        as_dict = dataclasses.asdict(parameters)
        ensembles.record_ensemble(self.models, self.folds, learner, as_dict, seeds)
        return {
            name: ensembles.missing_models(self.models, name, learner, seeds, self.folds.count)
            for name in self.configurations
        }

    def load_descriptors(
        self,
        configuration: str,
        decided_by: Callable[[tuple[int, ...]], dict[str, Any]] = lambda shape: {},
        complete: bool = False,
    ) -> np.ndarray:
        """The descriptors of a configuration, float32 [N, A, D]; records what they are.

        Args:
          configuration: its name.
          decided_by: what else is recorded, by the descriptors' shape (N, A, D).
          complete: whether no model is missing; it does not matter then how one would be made now.

        Raises:
          InputError: they are missing or damaged, or the folder holds models of other descriptors.
        """
        descriptors = store.read(self.descriptors, configuration, self.folds.names)
        decided = decided_by(descriptors.shape)
        manifest = {
            "shape": list(descriptors.shape),
            "descriptors_sha256": ensembles.digest_of(descriptors),
            "extraction": manifests.read(self.descriptors, configuration),
            **decided,
        }
        path = self.models / configuration / ensembles.MANIFEST
        ensembles.record_manifest(path, manifest, tuple(decided) if complete else ())
        return descriptors


@contextlib.contextmanager
def record_time(models: Path, paths: Iterable[Path], workers: int, machine: str) -> Iterator[None]:
    """Adds a row to times.csv for the models of `paths` that are trained meanwhile, if any.

    The row is written even if training is stopped early.
    """
    start = time.monotonic()
    try:
        yield
    finally:
        if trained := sum(map(ensembles.is_finished, paths)):
            seconds = f"{time.monotonic() - start:.3f}"
            today = datetime.date.today().isoformat()
            ensembles.record_training_time(models, (today, trained, seconds, workers, machine))


def validation_splits(
    folds: Folds, seeds: int, parts: int
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """The split of `validation_split` for every (seed, fold)."""
    return {
        (seed, fold): validation_split(folds, fold, seed, parts)
        for seed in range(seeds)
        for fold in range(folds.count)
    }


def validation_split(
    folds: Folds, fold: int, seed: int, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """The images a fold's model is fitted to, and those that decide when to stop: bool [N] each.

    The second are one of `parts` parts of the training images, which are stratified by class and
    split no group; an image of unknown group is a group of its own.

    Raises:
      InputError: there are too few images or groups.
    """
    images = np.flatnonzero(folds.folds != fold)
    labels = folds.labels[images]
    groups = None
    if folds.groups is not None:
        groups = np.array([folds.groups[i] or f"\0{folds.names[i]}" for i in images], object)
    rng = np.random.default_rng((seed, fold))
    units = len(labels) if groups is None else len(set(groups))
    if np.bincount(labels).max() >= parts and units >= parts:
        part = splits.stratified_folds(labels, groups, parts, int(rng.integers(2**32)))
        # In random order, since scikit-learn always puts the largest group into the first part.
        for chosen in rng.permutation(parts):
            validates = part == chosen
            if validates.any() and set(labels[~validates]) == set(labels):
                masks = np.zeros((2, len(folds.names)), bool)
                masks[0, images[~validates]] = True
                masks[1, images[validates]] = True
                return masks[0], masks[1]
    of_groups = "" if groups is None else f", of {units} groups,"
    raise InputError(
        f"the {len(images)} training images of fold {fold + 1}{of_groups} cannot be split into "
        f"{parts} parts, one of them to decide when to stop, with every class in the rest: lower "
        "--validation_parts, or add images or groups"
    )
