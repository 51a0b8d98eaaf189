"""Writes the report of an ensemble, or of anybody's predictions: a page, text, tables, figures.

report.html     everything in one file, which needs no network (for ensembles alone)
summary.txt     the main figures as text
metrics.json    every number, for programs; null where one is undefined
tables/         statistics.csv and, for ensembles, Table 1, out-of-fold scores, mistakes and others
figures/        the ROC curve, the confusion matrix and others, as PNG and PDF
"""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from histojax import datasets
from histojax.datasets import Dataset, bach, kather, leakage
from histojax.datasets import sites as site_columns_of
from histojax.errors import InputError
from histojax.evaluation import copies as copies_study
from histojax.evaluation import evaluate, own_data, site_study, verdict
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.evaluate import Evaluation
from histojax.evaluation.operating_point import TARGET_SENSITIVITY
from histojax.evaluation.statistics import Statistics
from histojax.extraction import manifests, provenance
from histojax.images.names import Images
from histojax.inspection import split_pairs
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble
from histojax.report import (
    answers,
    content,
    copies,
    figures,
    formats,
    images,
    page,
    sites,
    summary,
    tables,
)
from histojax.report.commands import command_lines, versions
from histojax.report.content import Report, StainQualitySummary
from histojax.utils import files

_MISTAKES = ("image", "truth", "predicted", "confidence", "score_of_truth", "fold")
_RELIABILITY = ("temperature", "images", "confidence", "right", "low", "high")


def write_report(
    models: Path | str,
    folder: Path | str,
    positive_classes: Sequence[str] = (),
    target_sensitivity: float = TARGET_SENSITIVITY,
    data: Path | str | None = None,
    descriptors: Path | str | None = None,
    draws: int = DRAWS,
    site_columns: Sequence[str] | None = None,
) -> str:
    """Evaluates an ensemble by its out-of-fold scores, writes the report and returns its summary.

    Args:
      models: the folder of the ensemble.
      folder: where the report goes.
      positive_classes: names of the positive classes, as `positive.choose` takes them.
      target_sensitivity: what the nested operating point is chosen for.
      data: the labelled images, to show some of them.
      descriptors: the folder of descriptors, for the quality of the stain normalisation.
      draws: of each bootstrap.
      site_columns: what tells the site of an image in `data`, as for `datasets.load`; None for what
        was told in training or, where that is not known, what is found in `data`.

    Raises:
      InputError: the ensemble is not complete, its positive class is unknown, there is no data
        set at `data`, or no readable stain_qc.csv in `descriptors` that were computed here, or
        these are not those trained on.
    """
    models, folder = files.as_path(models), files.as_path(folder)
    data = files.as_path(data) if data else None
    descriptors = files.as_path(descriptors) if descriptors else None
    # All is checked before a folder is made for the report.
    trained = ensembles.load(models)
    dataset = data and datasets.load(
        data,
        trained.folds.classes,
        False,
        with_groups=False,
        slides=_slides(trained, descriptors),
        site_columns=site_columns,
    )
    of_sites = _sites(models, dataset, site_columns)
    stain = content.stain_quality(descriptors, trained)
    notices = own_data.check(trained, data and (data, dataset), descriptors)
    files.require_writable(folder)
    positive_classes = tuple(positive_classes)
    evaluation = evaluate.evaluate(models, positive_classes, target_sensitivity, draws)
    ensemble, folds = evaluation.ensemble, evaluation.folds
    with_published = bach.is_bach(folds.names, folds.classes) and folds.count == 10
    blend = evaluation.out_of_fold.estimates["accuracy", ""].by_fold
    report_images = images.collect(evaluation, dataset, descriptors)
    of_copies = report_images.pairs and copies_study.study(
        evaluation.out_of_fold.predictions,
        report_images.pairs,
        report_images.split,
        descriptors,
        ensemble.configurations,
        draws,
    )
    report = Report(
        evaluation=evaluation,
        accuracy=tables.accuracy_rows(evaluation.by_configuration, blend, with_published),
        figures=_draw(evaluation, stain),
        images=report_images,
        copies=of_copies or None,
        stain=stain,
        notices=notices,
        commands=command_lines(
            ensemble, folder, data, descriptors, positive_classes, target_sensitivity
        ),
        with_published=with_published,
        published=kather.published(ensemble.folds),
        made=datetime.datetime.now(),
        sites=site_study.study(
            ensemble.folds, of_sites, descriptors, trained.configurations, draws
        ),
    )
    text = _text(report)
    files.write_text(folder / "report.html", page.render(report))
    files.write_text(folder / "summary.txt", text)
    files.write_json(folder / "metrics.json", _numbers(report))
    _write_tables(folder / "tables", report)
    figures.save_all(folder / "figures", report.figures, report.weights)
    return text


def _slides(trained: Ensemble, descriptors: Path | None) -> Images | None:
    """The slides among which labels are looked up where descriptors were imported; else None."""
    if not provenance.are_imported(trained.extractions):
        return None
    there = descriptors and manifests.imported_slides(descriptors, trained.configurations)
    return there or {name: Path(name) for name in trained.folds.names}


def _sites(
    models: Path, dataset: Dataset | None, wanted: Sequence[str] | None
) -> dict[str, dict[str, str]]:
    """The site of each image by its name, of each column that tells one."""
    if wanted is not None and dataset is None:
        raise InputError(f"--site_columns={','.join(wanted)} are of --data: pass it")
    known = None if wanted is not None else site_columns_of.load(models)
    if known is None:
        known = site_columns_of.by_name(dataset.names, dataset.sites) if dataset else {}
    return known


def write_statistics(folder: Path | str, statistics: Statistics) -> str:
    """Writes summary, metrics, table and figures of anybody's predictions; returns the summary."""
    folder = files.as_path(folder)
    judged = verdict.judge(statistics)
    text = "\n".join([*judged.lines, "", summary.text(statistics)])
    numbers = {"verdict": summary.verdict_as_dict(judged)} | summary.as_dict(statistics)
    files.write_text(folder / "summary.txt", text)
    files.write_json(folder / "metrics.json", numbers)
    summary.write_table(folder / "tables" / "statistics.csv", statistics)
    figures.save_all(folder / "figures", figures.draw_statistics(statistics))
    return text


def _draw(evaluation: Evaluation, stain: StainQualitySummary | None) -> dict[str, Figure]:
    """Every figure by name."""
    drawn = figures.draw_statistics(evaluation.out_of_fold)
    for name, points in evaluation.curves.items():
        drawn[f"accuracy_by_{name}"] = figures.draw_curve(name, points)
    if evaluation.configuration_ablations:
        drawn["without_each"] = figures.draw_ablation(evaluation.configuration_ablations)
    if stain is not None:
        drawn["stain"] = figures.draw_stain(stain.measures, stain.is_fallback)
    if evaluation.test is not None:
        of_test = figures.draw_statistics(evaluation.test)
        drawn |= {f"test_{name}": figure for name, figure in of_test.items()}
    return drawn


def _text(report: Report) -> str:
    """The main figures as text, beginning with what they allow one to say."""
    evaluation = report.evaluation
    head, rest = summary.text(evaluation.out_of_fold).split("\n", 1)
    lines = [
        *report.verdict.lines,
        *_beside_published(report),
        "",
        head,
        report.weights,
        *filter(None, [evaluation.crop_error]),
        "",
        "accuracy (%) of out-of-fold predictions by fold:",
    ]
    lines += [tables.accuracy_text(report.accuracy), rest]
    if report.with_published and evaluation.out_of_fold.predictions.positive:
        lines += tables.published_lines()
    lines += leakage.text_lines(evaluation.audit)
    if evaluation.test is not None:
        lines += ["", "test set:", summary.text(evaluation.test)]
    if (pairs := report.images.pairs) is not None:
        lines[-1] = lines[-1].rstrip("\n")
        lines += ["", *split_pairs.summary_lines(pairs, report.images.split, images.PAIRS)]
    if report.copies is not None:
        lines += copies.text_lines(report.copies)
    if report.sites is not None:
        lines[-1] = lines[-1].rstrip("\n")
        lines += ["", *sites.text_lines(report.sites)]
    lines += [f"note: {notice}" for notice in report.notices]
    return "\n".join(lines).rstrip("\n") + "\n"


def _beside_published(report: Report) -> list[str]:
    """The accuracy and the published one, a line each, where there is a published one."""
    if not report.published:
        return []
    accuracy = report.evaluation.out_of_fold.estimates["accuracy", ""]
    value = formats.number("accuracy", accuracy.value)
    interval = formats.interval("accuracy", accuracy.interval)
    return [f"Accuracy: {value} (95 % interval: {interval}).", report.published]


def _numbers(report: Report) -> dict[str, Any]:
    """Every number of the evaluation, for programs."""
    evaluation, pairs = report.evaluation, report.images.pairs
    curves = {
        name: [dataclasses.asdict(point) for point in points]
        for name, points in evaluation.curves.items()
    }
    numbers = {
        "accuracy_by_fold_of_configuration": evaluation.by_configuration,
        "curves": curves,
        "without": list(map(dataclasses.asdict, evaluation.configuration_ablations)),
        "split": evaluation.folds.origin,
        "audit": leakage.as_dict(evaluation.audit),
        "test": evaluation.test and summary.as_dict(evaluation.test),
        "times": evaluation.times,
        "growth": dataclasses.asdict(evaluation.growth),
        "versions": versions(),
        **evaluate.settings(evaluation.ensemble),
        **({} if pairs is None else {"duplicates": split_pairs.counts(pairs)}),
        **({} if report.sites is None else {"sites": sites.as_dict(report.sites)}),
        "copies_kept_together": copies.kept_together(evaluation.ensemble.folds),
        "without_copies": report.copies and copies.as_dict(report.copies),
    }
    statistics = summary.as_dict(evaluation.out_of_fold)
    judged = summary.verdict_as_dict(report.verdict)
    return {"verdict": judged, "weights": report.weights} | statistics | formats.for_json(numbers)


def _write_tables(folder: Path, report: Report) -> None:
    """Every table as CSV."""
    evaluation, statistics = report.evaluation, report.evaluation.out_of_fold
    tables.write_accuracy(folder / "table1.csv", report.accuracy)
    tables.write_out_of_fold(
        folder / "out_of_fold.csv", statistics.predictions, evaluation.folds, report.weights
    )
    summary.write_table(folder / "statistics.csv", statistics)
    if evaluation.test is not None:
        summary.write_table(folder / "test_statistics.csv", evaluation.test)
    files.write_csv(folder / "leakage.csv", *leakage.as_table(evaluation.audit))
    for name, header, rows in _other_tables(report):
        files.write_csv(folder / f"{name}.csv", rows, header)


def _other_tables(report: Report) -> list[tuple[str, Sequence[str], Iterable[Sequence[Any]]]]:
    """(name, header, rows) of each table that no other module writes."""
    evaluation, statistics = report.evaluation, report.evaluation.out_of_fold
    classes = statistics.predictions.classes
    confusion = [
        (name, *counts) for name, counts in zip(classes, statistics.confusion.tolist(), strict=True)
    ]
    mistakes = map(dataclasses.astuple, answers.mistakes(statistics.predictions))
    curves = [
        (name, point.count, point.accuracy, point.interval.low, point.interval.high)
        for name, points in evaluation.curves.items()
        for point in points
    ]
    ablations = [
        (row.configuration, row.accuracy, row.change, row.interval.low, row.interval.high)
        for row in evaluation.configuration_ablations
    ]
    bins_by_time = {"before": statistics.reliability, "after": statistics.calibrated_reliability}
    reliability = [
        (when, *dataclasses.astuple(reliability_bin))
        for when, bins in bins_by_time.items()
        for reliability_bin in bins or ()
    ]
    named = [
        ("confusion", ("truth", *classes), confusion),
        ("mistakes", _MISTAKES, mistakes),
        ("curves", ("blended", "count", "accuracy", "low", "high"), curves),
        ("without_each", ("configuration", "accuracy", "change", "low", "high"), ablations),
        ("reliability", _RELIABILITY, reliability),
    ]
    if report.stain is not None:
        named.append(("stain_fallbacks", ("image", "scale", "status"), report.stain.fallbacks))
    return named
