"""An ensemble on disk with random scores, for reports of every kind."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax import config
from histojax.config import BACH_CLASSES, Boosting, Extraction
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.evaluation import test_set
from histojax.learners import ensembles
from histojax.utils import files

BACH_NAMES = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in range(1, 101))
TWO_CONFIGURATIONS = ("ResNet-0.5-400", "VGG-1.0-800")


def manifest(configuration: str, source: str = "imagenet") -> dict:
    """The manifest of a configuration's descriptors; `source` is that of the weights."""
    (encoder, view), paper = config.split(configuration), Extraction()
    names = ("crop_mode", "augmentations", "crops", "gain_low", "gain_high")
    protocol = {name: getattr(paper, name) for name in names}
    protocol |= {"encoder": encoder, "scale": view.scale, "crop_size": view.crop_size}
    return {
        "protocol": protocol | {"p": 3.0, "seed": 0},
        "weights": {"source": source, "sha256": f"{len(encoder):064x}"},
        "versions": {"histojax": "0.1.0", "jax": "0.10.2"},
    }


def write(
    root: Path,
    names: Sequence[str] = BACH_NAMES,
    classes: Sequence[str] = BACH_CLASSES,
    count: int = 10,
    groups: Sequence[str] | None = None,
    configurations: Sequence[str] = TWO_CONFIGURATIONS,
    accuracy: float = 0.9,
    never: int | None = None,
    source: str | None = "imagenet",
    test: int = 0,
) -> Path:
    """Writes an ensemble of two seeds and three augmentations; classes have equally many images.

    Args:
      root: its folder, which is returned.
      names, classes, groups: of the images, which are sorted by class.
      count: of folds.
      configurations: names.
      accuracy: about the share of correct answers.
      never: a class that is never the answer.
      source: of the weights; None where descriptors are of unknown origin.
      test: how many labelled images of a test set are kept beside the models.
    """
    rng, k = np.random.default_rng(0), len(classes)
    labels = np.arange(len(names)) * k // len(names)
    fold = np.arange(len(names)) % count
    split = Folds(tuple(names), labels, fold, tuple(classes), groups and tuple(groups))
    folds.save(split, root / ensembles.FOLDS)
    ensembles.record_ensemble(
        root, split, "trees", dataclasses.asdict(Boosting(seeds=2, folds=count)), 2
    )
    answers = np.where(rng.random(len(names)) < accuracy, labels, (labels + 1) % k)
    answers = np.where(answers == never, (answers + 1) % k, answers)
    for configuration in configurations:
        extraction = source and manifest(configuration, source)
        files.write_json(root / configuration / ensembles.MANIFEST, {"extraction": extraction})
        for seed in range(2):
            scores = rng.dirichlet(np.ones(k), (len(names), 3)) + 1.5 * np.eye(k)[answers][:, None]
            scores = scores / scores.sum(axis=-1, keepdims=True)
            for i in range(count):
                model = ensembles.model_path(root, configuration, seed, i)
                ensembles.save_model(model, "a model", scores[fold == i])
                if test:
                    truth = np.eye(k)[np.arange(test) % k][:, None]
                    of_test = rng.dirichlet(np.ones(k), (test, 3)) + truth
                    of_test = of_test / of_test.sum(axis=-1, keepdims=True)
                    files.write_array(test_set.scores_path(model), of_test)
    if test:
        labels = tuple(classes[i % k] for i in range(test))
        test_set.save(
            root / test_set.TABLE, test_set.TestSet(tuple(f"test{i}" for i in range(test)), labels)
        )
    ensembles.record_training_time(root, ("2026-01-01", 40, 12.5, 2, "a machine"))
    return root
