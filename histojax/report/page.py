"""The page: one HTML file with its style, script, figures and pictures inside, for screens, phones and paper."""

import datetime
from typing import Any

from markupsafe import Markup

from histojax.datasets import leakage
from histojax.evaluation.evaluate import Evaluation
from histojax.inspection import near_duplicates
from histojax.report import TEMPLATES, content, figures, formats, summary, tables
from histojax.report.commands import Command, versions
from histojax.report.content import Stain
from histojax.report.images import MISTAKES, PAIRS, Pictures
from histojax.report.tables import Row
from histojax.utils import templates

CURVES = {
    "augmentations": "augmentations of each image",
    "seeds": "seeds",
    "configurations": "configurations",
    "folds": "folds’ models, on the test set",
}


def render(
    evaluation: Evaluation,
    note: str,
    untrained: str,
    rows: list[Row],
    drawn: dict[str, Any],
    shown: Pictures,
    stain: Stain | None,
    commands: list[Command],
    with_published: bool,
    made: datetime.datetime,
) -> str:
    """The page as text.

    Args:
      evaluation: what is told.
      note: one line on the weights.
      untrained: what the banner says; empty for none.
      rows: of Table 1.
      drawn: matplotlib figures by name, those of the test set starting with `test_`.
      shown: pictures of the images.
      stain: None where it is not known.
      commands: to make it again.
      with_published: whether the data are the paper's.
      made: when.
    """
    svgs = {
        name: Markup(figures.svg(figure, f"figure-{name}", alt(name, evaluation)))
        for name, figure in drawn.items()
        if not name.endswith("confusion")  # It is a table there.
    }
    common, own = content.protocols(evaluation.ensemble)
    return templates.render(
        TEMPLATES,
        "report.html",
        content=content,
        formats=formats,
        statistics=summary,
        evaluation=evaluation,
        ensemble=evaluation.ensemble,
        folds=evaluation.folds,
        judgement=evaluation.out_of_fold,
        note=note,
        untrained=untrained,
        table1=rows,
        svgs=svgs,
        pictures=shown,
        mistakes=content.mistakes(evaluation.out_of_fold.predictions),
        most_mistakes=MISTAKES,
        most_pairs=PAIRS,
        curves=CURVES,
        audit=leakage,
        duplicates=near_duplicates,
        stain=stain,
        common=common,
        own=own,
        commands=commands,
        versions=versions(),
        published=tables if with_published else None,
        made=made.strftime("%Y-%m-%d %H:%M"),
    )


def alt(name: str, evaluation: Evaluation) -> str:
    """What a figure shows, for those who do not see it."""
    judgement = evaluation.test if name.startswith("test_") else evaluation.out_of_fold
    kind = name.removeprefix("test_")
    if kind == "roc":
        area = formats.bare("carcinoma_auc", judgement.value("carcinoma_auc"))
        return f"ROC curve of {judgement.predictions.positive_names} against the rest, area {area}, with set-points and band"
    if kind == "reliability":
        error = formats.bare("calibration_error", judgement.value("calibration_error"))
        return f"Reliability curve of the answers, expected calibration error {error}"
    if kind.startswith("accuracy_by_"):
        points = evaluation.curves[kind.removeprefix("accuracy_by_")]
        first, last = points[0], points[-1]
        return (
            f"Accuracy {formats.percent(first.accuracy)} with {first.count} and {formats.percent(last.accuracy)} with "
            f"{last.count} {kind.removeprefix('accuracy_by_')}"
        )
    return {
        "without_each": "Change of accuracy without each configuration; the table beside it has the numbers",
        "stain": "Distributions of four stain measures",
    }[kind]
