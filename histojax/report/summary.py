"""One judgement as rows, text, JSON and figures, whoever made the predictions.

tables/statistics.csv    every metric: value, 95 % interval, mean and deviation over folds, each fold
metrics.json             the same and all curves; what is not defined is null
summary.txt              the same for people
figures/                 as PNG and PDF
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from histojax.evaluation.statistics import Estimate, Statistics
from histojax.report import figures, formats, tables
from histojax.utils import files

TEMPERED = "after temperature"
COLUMNS = (
    "metric",
    "of",
    "label",
    "value",
    "low",
    "high",
    "resampled",
    "left_out",
    "low_of_images",
    "high_of_images",
    "mean",
    "deviation",
)


def all_figures(judgement: Statistics) -> list[Estimate]:
    """Every metric, those of calibrated scores last."""
    tempered = [dataclasses.replace(each, of=TEMPERED) for each in judgement.calibrated.values()]
    return [*judgement.estimates.values(), *tempered]


def figure_rows(judgement: Statistics) -> list[dict[str, Any]]:
    """A row of COLUMNS for each metric, and `by_fold`: its value in each fold. Not defined is NaN."""
    return [
        {
            "metric": each.name,
            "of": each.of,
            "label": each.label,
            "value": each.value,
            "low": each.interval.low,
            "high": each.interval.high,
            "resampled": "images" if each.groups is None else "groups",
            "left_out": each.interval.left_out,
            "low_of_images": each.images.low,
            "high_of_images": each.images.high,
            "mean": each.mean,
            "deviation": each.deviation,
            "by_fold": list(each.by_fold),
        }
        for each in all_figures(judgement)
    ]


def numbers(judgement: Statistics) -> dict[str, Any]:
    """Every number of a judgement, for programs; valid JSON: NaN and infinity are None."""
    cases, point = judgement.predictions, judgement.operating_point
    return plain(
        {
            "images": len(cases.names),
            "classes": cases.classes,
            "positive": [cases.classes[i] for i in cases.positive],
            "folds": fold_count(judgement),
            "accuracy": judgement.value("accuracy"),
            "confusion": judgement.confusion,
            "figures": figure_rows(judgement),
            "roc": judgement.roc and dataclasses.asdict(judgement.roc),
            "reliability": judgement.reliability
            and [dataclasses.asdict(each) for each in judgement.reliability],
            "calibrated_reliability": judgement.calibrated_reliability
            and [dataclasses.asdict(each) for each in judgement.calibrated_reliability],
            "temperature": judgement.temperature
            and {
                "by_fold": judgement.temperature.by_fold,
                "overall": judgement.temperature.overall,
            },
            "operating": point
            and {
                "wished": point.target_sensitivity,
                "thresholds": point.thresholds,
                "threshold": point.threshold,
            },
        }
    )


def plain(value: Any) -> Any:
    """Arrays as lists, and None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fold_count(judgement: Statistics) -> int:
    """0 where folds are not known."""
    folds = judgement.predictions.folds
    return 0 if folds is None else int(folds.max()) + 1


def resampled(judgement: Statistics) -> str:
    """What the intervals quoted resample, in words."""
    cases = judgement.predictions
    if cases.resampling_groups is None:
        return f"{len(cases.names)} images (no groups are known: images of one patient count as independent)"
    unknown = cases.groups.count("")
    alone = f"; {unknown} images of unknown group count as groups of their own" if unknown else ""
    return f"{len(set(cases.resampling_groups))} whole groups{alone}"


def figure_lines(judgement: Statistics) -> list[str]:
    """Every metric as a line of text."""
    found = all_figures(judgement)
    width = max(len(each.label) for each in found)
    folds = fold_count(judgement) > 1
    lines = [
        f"{'':<{width}}{'value':>10}  {'95 % interval':<18}{'mean ± deviation by fold' if folds else ''}".rstrip()
    ]
    lines += [
        (
            f"{each.label:<{width}}{formats.number(each.name, each.value):>10}  "
            f"{formats.interval(each.name, each.interval):<18}"
            f"{formats.spread(each.name, each.mean, each.deviation) if folds else ''}"
        ).rstrip()
        for each in found
    ]
    return [*lines, f"intervals: bootstrap of {resampled(judgement)}"]


def point_lines(judgement: Statistics) -> list[str]:
    """The nested operating point and the temperature, a line each; none where there are none."""
    lines = []
    if point := judgement.operating_point:
        low, high = min(point.thresholds), max(point.thresholds)
        lines.append(
            f"for a sensitivity of {formats.percent(point.target_sensitivity)} call {judgement.predictions.positive_names} what scores "
            f"at least {point.threshold:.3f} (nested: {low:.3f} to {high:.3f} by fold)"
        )
    if temperature := judgement.temperature:
        low, high = min(temperature.by_fold), max(temperature.by_fold)
        lines.append(
            f"temperature {temperature.overall:.3f} (cross-fitted: {low:.3f} to {high:.3f} by fold)"
        )
    return lines


def summary(judgement: Statistics) -> str:
    """The judgement as text."""
    cases, folds = judgement.predictions, fold_count(judgement)
    right = int(np.sum(cases.predicted == cases.truth))
    lines = [
        f"{len(cases.names)} images of {len(cases.classes)} classes ({', '.join(cases.classes)})"
        + (f", {folds} folds" if folds else ""),
        f"{right} of {len(cases.names)} images right",
        "",
        *figure_lines(judgement),
        *point_lines(judgement),
        "",
        *tables.confusion_lines(judgement.confusion, cases.classes),
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path, judgement: Statistics, note: str = "") -> str:
    """Writes everything below `folder` and returns the summary; `note` stands below each figure."""
    text = summary(judgement)
    files.write_text(folder / "summary.txt", text)
    files.write_json(folder / "metrics.json", numbers(judgement))
    write_table(folder / "tables" / "statistics.csv", judgement)
    for name, figure in figures.of_judgement(judgement).items():
        figures.save(folder / "figures", name, figure, note)
    return text


def write_table(path: Path, judgement: Statistics) -> None:
    """Every metric as CSV; what is not defined is an empty cell."""
    rows = plain(figure_rows(judgement))
    header = [*COLUMNS, *(f"f{fold}" for fold in range(1, fold_count(judgement) + 1))]
    files.write_csv(
        path, ([*(row[name] for name in COLUMNS), *row["by_fold"]] for row in rows), header
    )
