"""What people see of an evaluation: one page, text, tables as CSV, figures as PNG and PDF.

report.html     everything, in one file that needs no network
summary.txt     the main figures as text
metrics.json    every number, for programs
tables/         table1, statistics, out_of_fold and others, as CSV
figures/        roc, confusion, reliability and others, as PNG and PDF
"""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histojax.datasets import bach, leakage
from histojax.evaluation import evaluate as evaluation
from histojax.evaluation import operating_point
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.evaluate import Evaluation
from histojax.extraction import provenance
from histojax.inspection import near_duplicates
from histojax.learners import ensembles
from histojax.report import content, figures, images, page, summary, tables
from histojax.report.commands import Command, command_lines, versions
from histojax.report.images import Pictures
from histojax.utils import files


def write_report(
    models: Path,
    folder: Path,
    positive_classes: Sequence[str] = (),
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    data: Path | None = None,
    descriptors: Path | None = None,
    draws: int = DRAWS,
) -> str:
    """Judges the ensemble in `models` by its out-of-fold scores, writes the report and returns its summary.

    Args:
      models: the ensemble.
      folder: where the report goes.
      positive_classes: names of the classes that count as carcinoma, if not the default ones.
      target_sensitivity: that the nested operating point is chosen for.
      data: the labelled images, for pictures of them.
      descriptors: the folder of descriptors, for what is told of the stain there.
      draws: of each bootstrap.

    Raises:
      InputError: the ensemble is not complete, a positive class does not exist, or there are no such data.
    """
    ensembles.load(models)  # Before a folder is made for it.
    files.require_writable(folder)
    evaluated = evaluation.evaluate(models, tuple(positive_classes), target_sensitivity, draws)
    shown = images.find(evaluated, data)
    stain = content.stain(descriptors, evaluated.ensemble)
    commands = command_lines(
        evaluated.ensemble, folder, data, descriptors, tuple(positive_classes), target_sensitivity
    )
    return write_files(folder, evaluated, shown, stain, commands)


def write_files(
    folder: Path,
    evaluated: Evaluation,
    shown: Pictures,
    stain: content.Stain | None,
    commands: list[Command],
) -> str:
    """Writes everything below `folder` and returns the summary."""
    note = provenance.weights(evaluated.ensemble.extractions.values())
    with_published = (
        bach.is_bach(evaluated.folds.names, evaluated.folds.classes) and evaluated.folds.count == 10
    )
    blend = evaluated.out_of_fold.estimates["accuracy", ""].by_fold
    rows = tables.accuracy_rows(evaluated.by_configuration, blend, with_published)
    text = summary_text(evaluated, note, rows, with_published)
    found = numbers(evaluated, note)
    if shown.pairs is not None:
        text += (
            "\n".join(["", *near_duplicates.summary_lines(shown.pairs, shown.split, images.PAIRS)])
            + "\n"
        )
        found["duplicates"] = near_duplicates.counts(shown.pairs)
    drawn = draw(evaluated, stain)
    untrained = provenance.UNTRAINED if provenance.UNTRAINED in note else ""
    made = datetime.datetime.now()
    html = page.render(
        evaluated, note, untrained, rows, drawn, shown, stain, commands, with_published, made
    )
    files.write_text(folder / "report.html", html)
    files.write_text(folder / "summary.txt", text)
    files.write_json(folder / "metrics.json", found)
    write_tables(folder / "tables", evaluated, rows, stain, note)
    for name, figure in drawn.items():
        figures.save(folder / "figures", name, figure, note)
    return text


def summary_text(
    evaluated: Evaluation, note: str, rows: list[tables.Row], with_published: bool
) -> str:
    """The main figures as text, beginning with what the descriptors were made with."""
    head, rest = summary.summary(evaluated.out_of_fold).split("\n", 1)
    lines = [
        head,
        note,
        "",
        "accuracy (%) of out-of-fold predictions by fold:",
        tables.accuracy_text(rows),
        rest,
    ]
    if with_published and evaluated.out_of_fold.predictions.positive:
        mean, deviation = tables.PUBLISHED_TWO_CLASS_ACCURACY
        lines.append(
            f"published, two classes: accuracy {mean} ± {deviation} %, ROC AUC {tables.PUBLISHED_TWO_CLASS_AUC}"
        )
        for threshold, (sensitivity, specificity) in tables.PUBLISHED_SET_POINTS.items():
            lines.append(
                f"published at {threshold:.2f}: sensitivity {sensitivity} %, specificity {specificity} %"
            )
    lines += leakage.text_lines(evaluated.audit)
    if evaluated.test is not None:
        lines += ["", "test set:", summary.summary(evaluated.test)]
    return "\n".join(lines).rstrip("\n") + "\n"


def draw(evaluated: Evaluation, stain: content.Stain | None) -> dict[str, Any]:
    """Every figure by name."""
    drawn = figures.of_judgement(evaluated.out_of_fold)
    drawn |= {
        f"accuracy_by_{name}": figures.curve(name, points)
        for name, points in evaluated.curves.items()
    }
    if evaluated.configuration_ablations:
        drawn["without_each"] = figures.without(evaluated.configuration_ablations)
    if stain is not None:
        drawn["stain"] = figures.stain(stain.measures, stain.flagged)
    if evaluated.test is not None:
        drawn |= {
            f"test_{name}": figure for name, figure in figures.of_judgement(evaluated.test).items()
        }
    return drawn


def numbers(evaluated: Evaluation, note: str) -> dict[str, Any]:
    """Every number of the evaluation, for programs."""
    return (
        {"weights": note}
        | summary.numbers(evaluated.out_of_fold)
        | summary.plain(
            {
                "accuracy_by_fold_of_configuration": evaluated.by_configuration,
                "curves": {
                    name: list(map(dataclasses.asdict, points))
                    for name, points in evaluated.curves.items()
                },
                "without": list(map(dataclasses.asdict, evaluated.configuration_ablations)),
                "split": evaluated.folds.origin,
                "audit": leakage.as_dict(evaluated.audit),
                "test": evaluated.test and summary.numbers(evaluated.test),
                "times": evaluated.times,
                "versions": versions(),
            }
            | evaluation.settings(evaluated.ensemble)
        )
    )


def write_tables(
    folder: Path,
    evaluated: Evaluation,
    rows: list[tables.Row],
    stain: content.Stain | None,
    note: str,
) -> None:
    """Every table as CSV."""
    judgement, folds = evaluated.out_of_fold, evaluated.folds
    cases = judgement.predictions
    tables.write_accuracy(folder / "table1.csv", rows)
    tables.write_out_of_fold(folder / "out_of_fold.csv", cases, folds, note)
    summary.write_table(folder / "statistics.csv", judgement)
    if evaluated.test is not None:
        summary.write_table(folder / "test_statistics.csv", evaluated.test)
    header = ("truth", *cases.classes)
    confusion = (
        (name, *row) for name, row in zip(cases.classes, judgement.confusion.tolist(), strict=True)
    )
    files.write_csv(folder / "confusion.csv", confusion, header)
    mistakes = [
        (e.image, e.truth, e.predicted, e.confidence, e.of_truth, e.fold)
        for e in content.mistakes(cases)
    ]
    header = ("image", "truth", "predicted", "confidence", "score_of_truth", "fold")
    files.write_csv(folder / "mistakes.csv", mistakes, header)
    curves = [
        (name, e.count, e.accuracy, e.interval.low, e.interval.high)
        for name, es in evaluated.curves.items()
        for e in es
    ]
    files.write_csv(folder / "curves.csv", curves, ("blended", "count", "accuracy", "low", "high"))
    without = [
        (e.configuration, e.accuracy, e.change, e.interval.low, e.interval.high)
        for e in evaluated.configuration_ablations
    ]
    files.write_csv(
        folder / "without_each.csv", without, ("configuration", "accuracy", "change", "low", "high")
    )
    bins = [
        (when, *dataclasses.astuple(each))
        for when, found in (
            ("before", judgement.reliability),
            ("after", judgement.calibrated_reliability),
        )
        for each in found or ()
    ]
    files.write_csv(
        folder / "reliability.csv",
        bins,
        ("temperature", "images", "confidence", "right", "low", "high"),
    )
    files.write_csv(folder / "leakage.csv", *leakage.as_table(evaluated.audit))
    if stain is not None:
        files.write_csv(folder / "stain_fallbacks.csv", stain.rows, ("image", "scale", "status"))
