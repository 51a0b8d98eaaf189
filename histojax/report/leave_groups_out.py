"""What leaving groups out in turn showed, as text, Markdown, JSON and CSV.

OUT/predictions.csv         a row for each coverage and image, with the columns of `predict`
OUT/summary.txt .md .json   the metrics with their 95 % intervals
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import Boosting
from histojax.evaluation.bootstrap import DRAWS
from histojax.extraction import manifests
from histojax.prediction import leave_groups_out, outputs
from histojax.prediction.leave_groups_out import Estimate, Key, LeftOut
from histojax.prediction.uncertainty import Prediction
from histojax.report import formats
from histojax.utils import files
from histojax.utils.markdown import literal
from histojax.utils.words import quantity

_OVERALL = {
    "accuracy": "accuracy",
    "calibration_error": "expected calibration error",
    "calibration_error_calibrated": "expected calibration error, calibrated",
    "log_loss": "log-loss",
    "log_loss_calibrated": "log-loss, calibrated",
}
_AT_COVERAGE = {
    "coverage": "true class in the set",
    "set_size": "classes in a set, mean",
    "abstained": "abstained from",
    "accuracy_used": "accuracy of the others",
    "accuracy_abstained": "accuracy of those abstained from",
}
_SHARES = ("accuracy", "coverage", "abstained", "accuracy_used", "accuracy_abstained")


def write(folder: Path | str, left_out: LeftOut, boosting: Boosting, draws: int = DRAWS) -> str:
    """Writes the predictions and the metrics; returns the metrics as text.

    Args:
      folder: where the files go.
      left_out: the predictions, from `leave_groups_out.run`.
      boosting: what the ensembles were trained with.
      draws: of the bootstrap.
    """
    folder = files.as_path(folder)
    estimates = leave_groups_out.estimate(left_out, draws)
    classes = left_out.images.classes
    header = ["coverage", "part", *outputs.header(classes, labelled=True)]
    header += [f"score_{name}" for name in classes]  # Before calibration.
    files.write_csv(folder / "predictions.csv", _rows(left_out), header)
    files.write_json(folder / "summary.json", _numbers(left_out, estimates, boosting))
    heading, note = _heading(left_out, boosting), _note(left_out)
    lines = _lines(left_out, estimates)
    markdown = [f"{heading} {literal(note)}", "", "| | value | 95 % interval |", "|---|---|---|"]
    markdown += [f"| {' | '.join(line)} |" for line in lines]
    files.write_text(folder / "summary.md", "\n".join([*markdown, ""]))
    first, second = (max(len(line[column]) for line in lines) + 2 for column in range(2))
    plain = [f"{name:{first}}{value:{second}}{ends}".rstrip() for name, value, ends in lines]
    text = "\n".join([heading, note, "", *plain, ""])
    files.write_text(folder / "summary.txt", text)
    return text


def _heading(left_out: LeftOut, boosting: Boosting) -> str:
    """What was done."""
    images = left_out.images
    return (
        f"{len(images.names)} images of {len(set(images.groups))} groups, left out in "
        f"{images.folds.max() + 1} parts; each predicted by "
        f"{quantity(len(left_out.made_with), 'configuration')} x {boosting.seeds} seeds x "
        f"{boosting.folds} folds of the others."
    )


def _note(left_out: LeftOut) -> str:
    """What a reader of the metrics must know."""
    note = (
        f"95 % intervals by bootstrap of {len(set(left_out.images.groups))} groups; "
        f"{manifests.weights_text(left_out.made_with.values())}."
    )
    if (most := max(left_out.predictions)) > left_out.attainable:
        note += (
            f" So few groups allow a coverage of {_percent(left_out.attainable)} at most; sets "
            f"hold all classes at {_percent(most)}."
        )
    if left_out.images.positive_reason:
        reason = left_out.images.positive_reason
        note += f" {reason[0].upper()}{reason[1:]}."
    return note


def _lines(left_out: LeftOut, estimates: dict[Key, Estimate]) -> list[tuple[str, str, str]]:
    """Name, value and interval of each metric."""
    lines = [(label, *_cells(estimates[name, None])) for name, label in _OVERALL.items()]
    for coverage, predictions in left_out.predictions.items():
        lines.append((f"sets at a stated coverage of {_percent(coverage)}", "", ""))
        for name, label in _AT_COVERAGE.items():
            lines.append((f"- {label}", *_cells(estimates[name, coverage])))
        for cause, count in _causes(predictions).items():
            lines.append((f"- abstained: {cause}", f"{count} image" + "s" * (count > 1), ""))
    return lines


def _cells(estimate: Estimate) -> tuple[str, str]:
    """Value and interval; a dash where the value is not defined."""
    as_text = _percent if estimate.name in _SHARES else "{:.3f}".format
    low, high = estimate.interval.low, estimate.interval.high
    value = "-" if np.isnan(estimate.value) else as_text(estimate.value)
    return value, "" if np.isnan([low, high]).any() else f"{as_text(low)} to {as_text(high)}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _causes(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many images have each cause to abstain, of which an image may have several."""
    causes = [cause for prediction in predictions for cause in prediction.abstain]
    return dict(collections.Counter(causes).most_common())


def _rows(left_out: LeftOut) -> list[list[Any]]:
    """A row for each coverage and image."""
    images, weights = left_out.images, manifests.weights_text(left_out.made_with.values())
    labels = [images.classes[truth] for truth in images.truth]
    positive = [images.classes[i] for i in images.positive]
    return [
        [
            coverage,
            images.folds[i] + 1,
            *outputs.row(prediction, positive, weights, (labels[i], images.groups[i])),
            *map(outputs.decimals, images.scores[i]),
        ]
        for coverage, predictions in left_out.predictions.items()
        for i, prediction in enumerate(predictions)
    ]


def _numbers(
    left_out: LeftOut, estimates: dict[Key, Estimate], boosting: Boosting
) -> dict[str, Any]:
    """Every number, for programs."""
    images = left_out.images
    figures = [
        {
            "figure": estimate.name,
            "stated_coverage": estimate.coverage,
            "value": estimate.value,
            "low": estimate.interval.low,
            "high": estimate.interval.high,
        }
        for estimate in estimates.values()
    ]
    counts = [
        {
            "stated_coverage": coverage,
            "covered": leave_groups_out.true_class_in_set(images, predictions).sum(),
            "abstained": sum(bool(prediction.abstain) for prediction in predictions),
            "causes": _causes(predictions),
        }
        for coverage, predictions in left_out.predictions.items()
    ]
    return formats.for_json(
        {
            "images": len(images.names),
            "groups": len(set(images.groups)),
            "parts": images.folds.max() + 1,
            "configurations": list(left_out.made_with),
            "boosting": dataclasses.asdict(boosting),
            "weights": manifests.weights_text(left_out.made_with.values()),
            "attainable_coverage": left_out.attainable,
            "figures": figures,
            "counts": counts,
        }
    )
