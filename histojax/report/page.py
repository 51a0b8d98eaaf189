"""The page of a report: one HTML file with its style, script, figures and images inside."""

from pathlib import Path

from markupsafe import Markup

from histojax.evaluation import metrics, verdict
from histojax.extraction import provenance
from histojax.inspection import split_pairs
from histojax.report import (
    TEMPLATES,
    answers,
    content,
    copies,
    figures,
    formats,
    images,
    sites,
    summary,
    tables,
)
from histojax.report.commands import versions
from histojax.report.content import Report
from histojax.utils import templates

# The sections of the page in order: what they are called in the contents.
_SECTIONS = {
    "statistics": "Statistics",
    "table1": "By fold",
    "roc": "ROC",
    "confusion": "Confusion",
    "mistakes": "Mistakes",
    "calibration": "Calibration",
    "ablation": "Ablation",
    "test": "Test set",
    "leakage": "Leakage",
    "sites": "Site and batch",
    "pipeline": "Pipeline",
    "stain": "Stain",
    "protocol": "Protocol",
    "again": "Run again",
}
_CURVES = {
    "augmentations": "Against the number of augmentations of each image.",
    "seeds": "Against the number of seeds.",
    "configurations": "Against the number of configurations.",
    "folds": "Against the number of folds whose models are averaged, on the test set.",
}
# Of imported features, where these take the place of augmentations.
_DRAWS = "Against the number of augmentations of each slide, which are random draws of its tiles."


def render(report: Report) -> str:
    """The page as text."""
    evaluation = report.evaluation
    svgs = {
        name: Markup(figures.svg(figure, f"figure-{name}", _description(name, report)))
        for name, figure in report.figures.items()
        if not name.endswith("confusion")  # The page has it as a table.
    }
    shared, rest = content.protocols(evaluation.ensemble)
    mistakes = answers.mistakes(evaluation.out_of_fold.predictions)
    imported = provenance.are_imported(evaluation.ensemble.extractions)
    captions = _CURVES | ({"augmentations": _DRAWS} if imported else {})
    curves = {
        name: caption
        for name, caption in captions.items()
        if len(evaluation.curves.get(name, ())) > 1
    }
    empty = {
        "roc": "roc" not in svgs,
        "mistakes": not mistakes,
        "calibration": "reliability" not in svgs,
        "ablation": not (curves or evaluation.configuration_ablations),
        "test": evaluation.test is None,
        "pipeline": not report.images.pipelines,
        "stain": report.stain is None,
        "sites": report.sites is None,
    }
    return templates.render(
        TEMPLATES,
        "report.html",
        answers=answers,
        content=content,
        copies=copies,
        formats=formats,
        images=images,
        metrics=metrics,
        split_pairs=split_pairs,
        sites=sites,
        summary=summary,
        tables=tables,
        report=report,
        imported=imported,
        evaluation=evaluation,
        ensemble=evaluation.ensemble,
        name=_name(evaluation.ensemble.root),
        folds=evaluation.folds,
        statistics=evaluation.out_of_fold,
        mistakes=mistakes,
        svgs=svgs,
        curves=curves,
        sections={name: title for name, title in _SECTIONS.items() if not empty.get(name)},
        told_by_banner=verdict.UNTRAINED,
        shared_protocol=shared,
        other_protocol=rest,
        versions=versions(),
    )


def _name(models: Path) -> str:
    """What the models are called: by their folder or, below that of a run, as in runs/mine."""
    is_of_run = models.name == "models" and models.parent.name
    return str(Path(*models.parent.parts[-2:])) if is_of_run else models.name


def _description(name: str, report: Report) -> str:
    """What a figure shows, for those who do not see it."""
    evaluation, kind = report.evaluation, name.removeprefix("test_")
    statistics = evaluation.test if name.startswith("test_") else evaluation.out_of_fold
    if kind == "roc":
        area = formats.bare("positive_auc", statistics.value("positive_auc"))
        return (
            f"ROC curve of {statistics.predictions.positive_names} against the rest, with "
            f"{'its band and ' if statistics.roc.has_band else ''}set-points; the area under it is "
            f"{area}"
        )
    if kind == "reliability":
        error = formats.bare("calibration_error", statistics.value("calibration_error"))
        return f"Reliability curve; the expected calibration error is {error}"
    if kind.startswith("accuracy_by_"):
        what = kind.removeprefix("accuracy_by_")
        first, last = evaluation.curves[what][0], evaluation.curves[what][-1]
        return (
            f"Accuracy is {formats.percent(first.accuracy)} with {first.count} and "
            f"{formats.percent(last.accuracy)} with {last.count} {what}"
        )
    return {
        "without_each": "Change of accuracy without each configuration, as in the table beside it",
        "stain": "Distributions of four stain measures",
    }[kind]
