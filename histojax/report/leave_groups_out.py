"""What leaving groups out in turn gave, for people and programs.

OUT/predictions.csv         a row for each coverage and image, as `predict` writes it
OUT/summary.txt .md .json   the figures, with 95 % intervals
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import Boosting
from histojax.evaluation.bootstrap import DRAWS
from histojax.extraction import provenance
from histojax.prediction import leave_groups_out, outputs
from histojax.prediction.leave_groups_out import Estimate, Key, LeftOut
from histojax.prediction.uncertainty import Prediction
from histojax.utils import files

PREDICTIONS, SUMMARY = "predictions.csv", "summary"
OVERALL = {
    "accuracy": "accuracy",
    "calibration_error": "expected calibration error",
    "calibration_error_calibrated": "expected calibration error, calibrated",
    "log_loss": "log-loss",
    "log_loss_calibrated": "log-loss, calibrated",
}
AT_A_COVERAGE = {
    "coverage": "true class in the set",
    "set_size": "classes in a set, mean",
    "abstained": "abstained from",
    "accuracy_used": "accuracy of the others",
    "accuracy_abstained": "accuracy of those abstained from",
}
SHARES = (
    "accuracy",
    "coverage",
    "abstained",
    "accuracy_used",
    "accuracy_abstained",
)  # The others have no unit.


def write(folder: Path, transferred: LeftOut, boosting: Boosting, draws: int = DRAWS) -> str:
    """Writes the predictions and the figures; returns the figures as text.

    Args:
      folder: where to.
      transferred: of `transfer.run`.
      boosting: that its ensembles were trained by.
      draws: of the bootstrap.
    """
    found = leave_groups_out.estimate(transferred, draws)
    files.write_csv(folder / PREDICTIONS, rows(transferred), header(transferred))
    files.write_json(folder / f"{SUMMARY}.json", numbers(transferred, found, boosting))
    heading, note, lines = (
        heading_of(transferred, boosting),
        note_of(transferred),
        table(transferred, found),
    )
    marked = [f"| {what} | {value} | {interval} |" for what, value, interval in lines]
    markdown = [
        f"{heading} {note}",
        "",
        "| | value | 95 % interval |",
        "|---|---|---|",
        *marked,
        "",
    ]
    files.write_text(folder / f"{SUMMARY}.md", "\n".join(markdown))
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(2)]
    plain = [
        f"{what:{widths[0]}}{value:{widths[1]}}{interval}".rstrip()
        for what, value, interval in lines
    ]
    text = "\n".join([heading, note, "", *plain, ""])
    files.write_text(folder / f"{SUMMARY}.txt", text)
    return text


def heading_of(transferred: LeftOut, boosting: Boosting) -> str:
    """What was done."""
    cases = transferred.images
    return (
        f"{len(cases.names)} images of {len(set(cases.groups))} groups, left out in {cases.folds.max() + 1} parts; "
        f"each predicted by {len(transferred.made_with)} configurations x {boosting.seeds} seeds x {boosting.folds} "
        "folds of the others."
    )


def note_of(transferred: LeftOut) -> str:
    """What a reader of the figures must know."""
    note = (
        f"95 % intervals by bootstrap of {len(set(transferred.images.groups))} groups; "
        f"{provenance.weights(transferred.made_with.values())}."
    )
    if (most := max(transferred.predictions)) > transferred.attainable:
        least = percent(transferred.attainable)
        note += f" So few groups promise a coverage of {least} at most; sets hold all classes at {percent(most)}."
    return note


def table(transferred: LeftOut, found: dict[Key, Estimate]) -> list[tuple[str, str, str]]:
    """What, value and interval, line by line."""
    lines = [(text, *cells(found[name, None])) for name, text in OVERALL.items()]
    for coverage, predictions in transferred.predictions.items():
        lines.append((f"sets at a stated coverage of {percent(coverage)}", "", ""))
        lines += [
            (f"- {text}", *cells(found[name, coverage])) for name, text in AT_A_COVERAGE.items()
        ]
        lines += [
            (f"- abstained: {cause}", f"{count} image" + "s" * (count > 1), "")
            for cause, count in causes(predictions).items()
        ]
    return lines


def cells(figure: Estimate) -> tuple[str, str]:
    """Value and interval as people read them; a dash where there is none."""
    form = percent if figure.name in SHARES else "{:.3f}".format
    ends = figure.interval.low, figure.interval.high
    value = "-" if np.isnan(figure.value) else form(figure.value)
    return value, "" if np.isnan(ends).any() else f"{form(ends[0])} to {form(ends[1])}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def causes(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many images have each cause to abstain, the commonest first; an image may have several."""
    return dict(
        collections.Counter(cause for each in predictions for cause in each.abstain).most_common()
    )


def header(transferred: LeftOut) -> list[str]:
    """The columns of predictions.csv: those of `predict`, and the scores before calibration."""
    classes = transferred.images.classes
    return [
        "coverage",
        "part",
        *outputs.header(classes, labelled=True),
        *(f"score_{name}" for name in classes),
    ]


def rows(transferred: LeftOut) -> list[list[Any]]:
    """A row for each coverage and image."""
    cases, weights = transferred.images, provenance.weights(transferred.made_with.values())
    truth = [(cases.classes[k], group) for k, group in zip(cases.truth, cases.groups, strict=True)]
    return [
        [
            coverage,
            cases.folds[i] + 1,
            *outputs.row(each, weights, truth[i]),
            *map(outputs.decimals, cases.scores[i]),
        ]
        for coverage, predictions in transferred.predictions.items()
        for i, each in enumerate(predictions)
    ]


def numbers(transferred: LeftOut, found: dict[Key, Estimate], boosting: Boosting) -> dict[str, Any]:
    """Every number, for programs; NaN as null."""

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    cases = transferred.images
    return {
        "images": len(cases.names),
        "groups": len(set(cases.groups)),
        "parts": int(cases.folds.max()) + 1,
        "configurations": list(transferred.made_with),
        "boosting": dataclasses.asdict(boosting),
        "weights": provenance.weights(transferred.made_with.values()),
        "attainable_coverage": transferred.attainable,
        "figures": [
            {
                "figure": each.name,
                "stated_coverage": each.coverage,
                "value": plain(each.value),
                "low": plain(each.interval.low),
                "high": plain(each.interval.high),
            }
            for each in found.values()
        ],
        "counts": [
            {
                "stated_coverage": coverage,
                "covered": int(leave_groups_out.true_class_in_set(cases, predictions).sum()),
                "abstained": sum(bool(each.abstain) for each in predictions),
                "causes": causes(predictions),
            }
            for coverage, predictions in transferred.predictions.items()
        ],
    }
