"""Scores of a test set by every model of an ensemble, computed once and kept beside the models.

<models>/test.csv                                image[,label[,group]]
<models>/<configuration>/seed0-fold01.test.npy   float64 [T, A, K]
"""

import dataclasses
from pathlib import Path

import numpy as np

from histojax.datasets import Dataset
from histojax.datasets.positive import PositiveClasses
from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners import ensembles, scoring
from histojax.learners.ensembles import Ensemble
from histojax.utils import files, ties
from histojax.utils.progress import Progress

TABLE = "test.csv"


@dataclasses.dataclass(frozen=True)
class TestSet:
    """T images that no model was trained on; labels and groups where they are known."""

    __test__ = False  # Not a test case, whatever pytest makes of the name.

    names: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


def from_dataset(dataset: Dataset) -> TestSet:
    """A labelled data set as a test set."""
    labels = tuple(dataset.classes[label] for label in dataset.labels)
    return TestSet(dataset.names, labels, dataset.groups)


def scores_path(model: Path) -> Path:
    """Where a model's scores of the test set are."""
    return model.with_suffix(".test.npy")


def score(ensemble: Ensemble, descriptors_root: str | Path, test: TestSet) -> int:
    """Scores the test set by each model that has not scored it yet, and returns how many these are.

    Raises:
      InputError: images were trained on, classes are unknown, descriptors are missing or of another
        protocol, or the folder keeps scores of another test set.
    """
    descriptors_root = files.as_path(descriptors_root)
    _check(ensemble, test)
    save(ensemble.root / TABLE, test)
    scoring.check_same_extraction(ensemble.extractions, descriptors_root)
    missing = [path for path in ensemble.models if not scores_path(path).exists()]
    with Progress("score test set", len(missing), "models") as bar:
        for configuration in dict.fromkeys(path.parent.name for path in missing):
            descriptors = store.read(descriptors_root, configuration, test.names)
            for model in missing:
                if model.parent.name == configuration:
                    scores = scoring.score(ensemble.learner, model, descriptors)
                    files.write_array(scores_path(model), scores)
                    bar.add(1)
    return len(missing)


def _check(ensemble: Ensemble, test: TestSet) -> None:
    """Raises InputError unless the ensemble can score this test set."""
    if common := sorted(set(test.names) & set(ensemble.folds.names)):
        raise InputError(
            f"{len(common)} test images were trained on: {', '.join(common[:5])}; leave them out"
        )
    if unknown := sorted(set(test.labels or ()) - set(ensemble.folds.classes)):
        raise InputError(
            f"the test set has classes {', '.join(unknown)}; expected "
            f"{', '.join(ensemble.folds.classes)}"
        )
    kept = load(ensemble)
    if kept and kept.names != test.names:
        raise InputError(
            f"{ensemble.root / TABLE} names another test set: remove it and the *.test.npy beside "
            "models"
        )


def save(path: Path, test: TestSet) -> None:
    """Writes a test set as a table."""
    columns = {"image": test.names, "label": test.labels, "group": test.groups}
    known = {name: column for name, column in columns.items() if column is not None}
    files.write_csv(path, zip(*known.values(), strict=True), known)


def load(ensemble: Ensemble) -> TestSet | None:
    """Reads the test set whose scores are kept; None where there is none."""
    path = ensemble.root / TABLE
    if not path.exists():
        return None
    rows = files.read_csv(path, ["image"])
    columns = {name: tuple(row[name] for row in rows) for name in (rows[0] if rows else ())}
    return TestSet(columns.get("image", ()), columns.get("label"), columns.get("group"))


def load_scores(ensemble: Ensemble, configuration: str) -> np.ndarray:
    """Reads the test set's scores by every model of a configuration: float64 [S, F, T, A, K].

    Raises:
      InputError: scores are missing or damaged.
    """
    seeds, folds = range(ensemble.seeds), range(ensemble.folds.count)
    models = [[ensemble.model(configuration, seed, fold) for fold in folds] for seed in seeds]
    if missing := [m for row in models for m in row if not scores_path(m).exists()]:
        raise InputError(
            f"{scores_path(missing[0])} is not there: score the test set again, it goes on from "
            "there"
        )
    scores = [[ensembles.read_scores(scores_path(model)) for model in row] for row in models]
    if len({array.shape for row in scores for array in row}) > 1:
        raise InputError(
            f"scores of the test set beside the models of {configuration} differ in shape: remove "
            "them"
        )
    return np.array(scores)


def labelled_predictions(
    test: TestSet, classes: tuple[str, ...], scores: np.ndarray, chosen: PositiveClasses
) -> LabelledPredictions:
    """Scores of a labelled test set, float64 [T, K], as labelled predictions."""
    predictions = LabelledPredictions(
        names=test.names,
        classes=classes,
        truth=np.array([classes.index(label) for label in test.labels]),
        predicted=ties.argmax(scores),
        scores=scores / scores.sum(axis=1, keepdims=True),
        groups=test.groups,
    )
    return predictions.with_positive(chosen)
