"""The statistics of one set of predictions as text, JSON and CSV, whoever made the predictions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from histojax.datasets import copies
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Estimate, Statistics
from histojax.evaluation.verdict import Verdict
from histojax.report import formats, shown, tables
from histojax.utils import files

_TEMPERED = "after temperature"


def _estimates(statistics: Statistics) -> list[Estimate]:
    """Every metric, those of the calibrated scores last."""
    tempered = statistics.calibrated.values()
    tempered = [dataclasses.replace(estimate, of=_TEMPERED) for estimate in tempered]
    return [*statistics.estimates.values(), *tempered]


def _row(estimate: Estimate, predictions: LabelledPredictions) -> dict[str, Any]:
    """A metric as a row of statistics.csv, without its values by fold."""
    return {
        "metric": estimate.name,
        "of": estimate.of,
        "label": formats.label(estimate, predictions),
        "value": estimate.value,
        "low": estimate.interval.low,
        "high": estimate.interval.high,
        "resampled": "images" if estimate.groups is None else "groups",
        "left_out": estimate.interval.left_out,
        "low_of_images": estimate.images.low,
        "high_of_images": estimate.images.high,
        "mean": estimate.mean,
        "deviation": estimate.deviation,
    }


def fold_count(statistics: Statistics) -> int:
    """How many folds there are; 0 where they are not known."""
    folds = statistics.predictions.folds
    return 0 if folds is None else int(folds.max()) + 1


def resampling(statistics: Statistics) -> str:
    """What the bootstrap behind the intervals resamples: `22 whole groups`."""
    predictions = statistics.predictions
    if predictions.resampling_groups is None:
        count = len(predictions.names)
        return f"{count} images (no groups are known: images of one patient count as independent)"
    text = f"{len(set(predictions.resampling_groups))} whole groups"
    if unknown := sum(map(copies.is_unknown, predictions.groups)):
        each = " (copies of one together)" if predictions.groups.count("") < unknown else ""
        text += f"; {unknown} images of unknown group count as a group each{each}"
    return text


def missing_intervals(statistics: Statistics) -> str:
    """Why some metrics have no interval; empty where all have one."""
    if all(np.isfinite(one.interval.low) for one in statistics.estimates.values()):
        return ""
    return formats.no_interval(statistics.predictions)


def as_dict(statistics: Statistics) -> dict[str, Any]:
    """Every number, ready for JSON; `by_fold` has a metric's value in each fold."""
    predictions, point = statistics.predictions, statistics.operating_point
    temperature = statistics.temperature
    figures = [
        _row(estimate, predictions) | {"by_fold": estimate.by_fold}
        for estimate in _estimates(statistics)
    ]
    return formats.for_json(
        {
            "images": len(predictions.names),
            "classes": predictions.classes,
            "positive": [predictions.classes[i] for i in predictions.positive],
            "positive_reason": predictions.positive_reason,
            "folds": fold_count(statistics),
            "accuracy": statistics.value("accuracy"),
            "confusion": statistics.confusion,
            "chance": statistics.chance and dataclasses.asdict(statistics.chance),
            "figures": figures,
            "roc": statistics.roc and dataclasses.asdict(statistics.roc),
            "reliability": _bins(statistics.reliability),
            "calibrated_reliability": _bins(statistics.calibrated_reliability),
            "temperature": temperature
            and {
                "by_fold": temperature.by_fold,
                "overall": temperature.overall,
                "applied": temperature.applied,
            },
            "operating": point
            and {
                "wished": point.target_sensitivity,
                "thresholds": point.thresholds,
                "threshold": point.threshold,
            },
        }
    )


def verdict_as_dict(verdict: Verdict) -> dict[str, Any]:
    """The verdict, ready for JSON."""
    findings = [dataclasses.asdict(finding) for finding in verdict.findings]
    return {"better_than_chance": verdict.works, "findings": findings}


def _bins(reliability: tuple | None) -> list[dict[str, Any]] | None:
    return reliability and [dataclasses.asdict(reliability_bin) for reliability_bin in reliability]


def text(statistics: Statistics) -> str:
    """The statistics as text."""
    predictions, folds = statistics.predictions, fold_count(statistics)
    images, classes = len(predictions.names), predictions.classes
    correct = int(np.sum(predictions.predicted == predictions.truth))
    head = f"{images} images of {len(classes)} classes ({', '.join(classes)})"
    lines = [
        head + (f", {folds} folds" if folds else ""),
        *([predictions.positive_reason] if predictions.positive_reason else []),
        f"{correct} of {images} images classified correctly",
        "",
        *_estimate_lines(statistics),
        *_operating_lines(statistics),
        "",
        *tables.confusion_lines(statistics.confusion, classes),
    ]
    return "\n".join(lines) + "\n"


def _estimate_lines(statistics: Statistics) -> list[str]:
    """A line for each metric."""
    estimates = {
        formats.label(estimate, statistics.predictions): estimate
        for estimate in _estimates(statistics)
        if shown.is_shown(statistics, (estimate.name, estimate.of))
    }
    width = max(map(len, estimates))
    by_fold = fold_count(statistics) > 1
    header = f"{'':<{width}}{'value':>10}  {'95 % interval':<18}"
    lines = [header + "mean ± deviation by fold" if by_fold else header]
    for label, estimate in estimates.items():
        name = estimate.name
        line = f"{label:<{width}}{formats.number(name, estimate.value):>10}  "
        line += f"{formats.interval(name, estimate.interval):<18}"
        line += formats.spread(name, estimate.mean, estimate.deviation) if by_fold else ""
        lines.append(line)
    lines = [line.rstrip() for line in lines]
    lines.append(f"intervals: bootstrap of {resampling(statistics)}")
    return lines + ([missing] if (missing := missing_intervals(statistics)) else [])


def _operating_lines(statistics: Statistics) -> list[str]:
    """A line each on the nested operating point and on the temperature, where there are any."""
    lines = []
    if point := statistics.operating_point:
        low, high = min(point.thresholds), max(point.thresholds)
        lines.append(
            f"for a sensitivity of {formats.percent(point.target_sensitivity)} call an image "
            f"{statistics.predictions.positive_names} if its calibrated score is at least "
            f"{point.threshold:.4f} (nested: {low:.4f} to {high:.4f} by fold)"
        )
    if temperature := statistics.temperature:
        low, high = min(temperature.by_fold), max(temperature.by_fold)
        lines.append(
            f"temperature {temperature.applied:.3f} (fitted on all folds: "
            f"{temperature.overall:.3f}; cross-fitted: {low:.3f} to {high:.3f} by fold)"
        )
    return lines


def write_table(path: Path, statistics: Statistics) -> None:
    """Every metric as CSV; an undefined value is an empty cell."""
    rows = [_row(estimate, statistics.predictions) for estimate in _estimates(statistics)]
    header = [*rows[0], *tables.fold_columns(fold_count(statistics))]
    cells = [
        [*row.values(), *estimate.by_fold]
        for row, estimate in zip(rows, _estimates(statistics), strict=True)
    ]
    files.write_csv(path, formats.for_json(cells), header)
