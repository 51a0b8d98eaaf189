"""What people see of an evaluation: text, tables as CSV, figures as PNG."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from histojax import ensembles, files, metrics
from histojax.datasets import bach
from histojax.folds import Folds
from histojax.metrics import Judgement
from histojax.report import figures, tables


def provenance(made_with: Iterable[dict[str, Any] | None]) -> str:
    """One line on the weights behind a result; random ones are called what they are."""
    sources = sorted({each["weights"]["source"] if each else "not recorded" for each in made_with})
    note = " (UNTRAINED encoders: a trial of the pipeline, not a result)" if any("random" in s for s in sources) else ""
    return f"weights: {' and '.join(sources)}{note}"


def evaluate(models: Path, folder: Path, positive_classes: Iterable[str] = ()) -> str:
    """Judges the ensemble in `models` by its out-of-fold scores, writes the report and returns its summary.

    Raises:
      InputError: the ensemble is not complete, or a positive class does not exist.
    """
    ensemble = ensembles.load(models)
    folds = ensemble.folds.judged()
    positive = metrics.positive_classes(folds.classes, tuple(positive_classes))
    files.require_writable(folder)
    scores = {name: ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations}
    judgement = metrics.judge(scores, folds.labels, folds.folds, folds.classes, positive)
    return write(folder, judgement, folds, provenance(ensemble.made_with.values()))


def write(folder: Path, judgement: Judgement, folds: Folds, weights: str) -> str:
    """Writes everything below `folder` and returns the summary.

    summary.txt, table1.csv, metrics.json, out_of_fold.csv, confusion.png, and roc.png where classes count as positive.
    """
    with_published = bach.is_bach(folds.names, folds.classes) and folds.count == 10
    text = tables.summary(judgement, folds, weights, with_published)
    two_class = judgement.two_class
    files.write_text(folder / "summary.txt", text)
    tables.write_table1(folder / "table1.csv", tables.accuracy_rows(judgement, with_published))
    files.write_json(folder / "metrics.json", numbers(judgement, folds, weights))
    positive = None
    if two_class is not None:
        indices = [folds.classes.index(name) for name in two_class.positive]
        positive = metrics.positive_score(judgement.scores, indices)
        figures.roc(folder / "roc.png", two_class, weights)
    path = folder / "out_of_fold.csv"
    tables.write_predictions(path, folds.names, judgement.scores, folds.classes, weights, positive, folds)
    figures.confusion(folder / "confusion.png", judgement.confusion, folds.classes, weights)
    return text


def numbers(judgement: Judgement, folds: Folds, weights: str) -> dict[str, Any]:
    """Every number of the evaluation, for programs."""
    two_class = judgement.two_class
    return {
        "weights": weights,
        "images": len(folds.names),
        "classes": list(folds.classes),
        "accuracy": float(np.mean(judgement.predicted == folds.labels)),
        "accuracy_by_fold": judgement.accuracies.tolist(),
        "accuracy_by_fold_of_configuration": {n: a.tolist() for n, a in judgement.by_configuration.items()},
        "confusion": judgement.confusion.tolist(),
        "two_class": two_class
        and {
            "positive": list(two_class.positive),
            "accuracy_by_fold": two_class.accuracies.tolist(),
            "auc": two_class.auc,
            "set_points": [vars(point) for point in two_class.set_points],
        },
    }
