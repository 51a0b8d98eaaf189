"""The model card of a bundle, Markdown: what it is, its data, results, uncertainty and limits.

After Mitchell et al., Model Cards for Model Reporting, 2019.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from histojax.config import VERSION
from histojax.evaluation import metrics, operating_point, statistics, verdict
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.statistics import Statistics
from histojax.extraction import crop_errors, manifests
from histojax.prediction import card_encoders, conformal, out_of_distribution
from histojax.prediction.bundle import Bundle
from histojax.utils.markdown import literal
from histojax.utils.words import quantity

_SENSITIVITIES = (0.9, 0.95, 0.99)
_COVERAGES = (0.8, 0.9, 0.95)
_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_auc",
    "log_loss",
    "calibration_error",
    "positive_accuracy",
    "positive_auc",
)
_RESAMPLED_GROUPS = "groups, where an image of unknown group is one of its own"
_NOT_FOR_DIAGNOSIS = (
    "**Not for diagnosis.** For research only. Not a medical device; not validated on any patients "
    "but those below."
)


def card(bundle: Bundle, weights_included: Iterable[str] = ()) -> str:
    """The model card of a bundle.

    Args:
      bundle: made by `bundle.from_models`.
      weights_included: encoders whose weights are in the file.
    """
    bundle = _with_literal_names(bundle)
    known = bundle.uncertainty
    results = statistics.compute(known.out_of_fold, known.target_sensitivity)
    sections = [
        [f"# Model card: {', '.join(bundle.classes)} in H&E histology", "", _NOT_FOR_DIAGNOSIS],
        _description(bundle),
        _data(bundle),
        _results(bundle, results),
        _uncertainty(bundle, results),
        _limits(bundle),
        card_encoders.licences(bundle, tuple(weights_included)),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _with_literal_names(bundle: Bundle) -> Bundle:
    """The bundle with its texts as Markdown shows them as they are."""
    images = bundle.uncertainty.out_of_fold
    classes = tuple(map(literal, bundle.classes))
    out_of_fold = dataclasses.replace(
        images, classes=classes, positive_reason=literal(images.positive_reason)
    )
    texts = ("split", "leakage", "data_licence", "created")
    about = bundle.about | {name: literal(str(bundle.about.get(name) or "")) for name in texts}
    about["images"] = {literal(name): count for name, count in bundle.about["images"].items()}
    uncertainty = dataclasses.replace(bundle.uncertainty, out_of_fold=out_of_fold)
    return dataclasses.replace(bundle, classes=classes, about=about, uncertainty=uncertainty)


def _description(bundle: Bundle) -> list[str]:
    ensemble = bundle.ensemble
    configurations = len(ensemble.configurations)
    return [
        "## What it is",
        "",
        f"- {configurations * ensemble.seeds * ensemble.folds} models ({ensemble.learner}): "
        f"{quantity(configurations, 'configuration')} x {quantity(ensemble.seeds, 'seed')} x "
        f"{ensemble.folds} folds, averaged. After Rakhlin, Shvets, Iglovikov and Kalinin, 2018.",
        *card_encoders.description(bundle),
        *_crop_error(bundle),
        f"- {_sentence(bundle.positive_reason)}",
        f"- Made {bundle.about['created']} by histojax {VERSION}.",
    ]


def _crop_error(bundle: Bundle) -> list[str]:
    """How far the training images' descriptors are from exact crops, where they are not exact."""
    text = crop_errors.text(bundle.made_with.values())
    return [f"- {_sentence(text)}"] if text else []


def _data(bundle: Bundle) -> list[str]:
    about = bundle.about
    images = ", ".join(f"{name} {count}" for name, count in about["images"].items())
    return [
        "## Trained on",
        "",
        f"- {sum(about['images'].values())} images: {images}.",
        f"- Groups (patients or slides): {about['groups'] or 'not known'}. "
        f"Split: {about['split']}.",
        "- Source and licence of the images: "
        f"{about.get('data_licence') or 'not stated by whoever made this'}.",
    ]


def _results(bundle: Bundle, results: Statistics) -> list[str]:
    uncertainty = bundle.uncertainty
    estimates = results.estimates
    names = set(_METRICS)
    if bundle.positive and len(bundle.classes) == 2:
        names.remove("macro_auc")  # The area again, with an interval of all images.
    shown = [estimate for key, estimate in estimates.items() if key[0] in names and not key[1]]
    shown += [estimate for key, estimate in estimates.items() if key[0] == "sensitivity"]
    rows = [
        [
            metrics.label(estimate.name, estimate.of, uncertainty.out_of_fold),
            f"{estimate.value:.3f}",
            _interval(estimate.interval),
        ]
        for estimate in shown
    ]
    lines = [
        "## Results out of fold",
        "",
        " ".join(_what_they_show(bundle, results)),
        "",
        "Each image scored by the models that never saw it; 95 % intervals of resampled "
        f"{_RESAMPLED_GROUPS if bundle.about['groups'] else 'images'}.",
        "",
        *_table(["", "", "95 %"], rows),
    ]
    if bundle.positive and operating_point.is_possible(uncertainty.out_of_fold):
        lines += ["", *_operating_points(bundle)]
    return lines


def _what_they_show(bundle: Bundle, results: Statistics) -> list[str]:
    """What the results allow one to say, but for what the card says elsewhere."""
    findings = verdict.judge(results).findings
    told = [finding.text for finding in findings if finding.about != verdict.CALIBRATION]
    return told + ([leaks] if (leaks := bundle.about.get("leakage")) else [])


def _interval(ends: Interval) -> str:
    return f"{ends.low:.3f} to {ends.high:.3f}" if np.isfinite(ends.low) else "no interval"


def _operating_points(bundle: Bundle) -> list[str]:
    uncertainty = bundle.uncertainty
    every_image = np.ones((1, len(uncertainty.out_of_fold.truth)))
    rows = []
    for target in sorted({*_SENSITIVITIES, uncertainty.target_sensitivity}):
        point = operating_point.choose(uncertainty.out_of_fold, target, bundle.temperature)
        reached = operating_point.compute_metrics(point, uncertainty.out_of_fold, every_image)
        figures = [f"{float(value[0]):.3f}" for value in reached.values()]
        rows.append([f"{target:g}", f"{point.threshold:.4f}", *figures])
    return [
        f"Operating points for {uncertainty.out_of_fold.positive_names}, on the calibrated score; "
        "each image is decided by a threshold chosen on the other folds. By default, decisions aim "
        f"at a sensitivity of {uncertainty.target_sensitivity:g}.",
        "",
        *_table(
            ["target sensitivity", "threshold", "sensitivity reached", "specificity reached"], rows
        ),
    ]


def _uncertainty(bundle: Bundle, results: Statistics) -> list[str]:
    images, reference = bundle.uncertainty.out_of_fold, bundle.uncertainty.reference
    attainable = conformal.attainable_coverage(bundle.uncertainty.sets)
    rows = []
    for coverage in _COVERAGES:
        sets = conformal.out_of_fold(images, coverage)
        reached = sets[np.arange(len(images.truth)), images.truth].mean()
        rows.append([f"{coverage:g}", f"{reached:.3f}", f"{sets.sum(axis=1).mean():.2f}"])
    compared = []
    if reference is not None:
        compared = ["descriptors", "stain"] if reference.stain_masses.any() else ["descriptors"]
    reasons = "its prediction set is too large"
    if not bundle.imported:
        reasons = f"an image has too little tissue or {reasons}"
    if compared:
        reasons += (
            f", or where its {' or '.join(compared)} are far from those of the training images (p "
            f"at most {out_of_distribution.FAR}, or further than all)"
        )
    return [
        "## Uncertainty",
        "",
        f"- {results.temperature.text}",
        f"- Prediction sets are conformal; above a coverage of {attainable:.3f} they hold all "
        "classes, as there are too few groups. Out of fold, each fold calibrated on the others:",
        "",
        *_table(["stated coverage", "reached", "classes in a set"], rows),
        "",
        f"- It abstains where {reasons}.",
    ]


def _limits(bundle: Bundle) -> list[str]:
    lines = [
        "## Limits",
        "",
        "- No figure above covers other scanners, stains, organs or pixel sizes than those of the "
        "training images.",
        "- Images without tissue of these classes are given one of them all the same, unless it "
        "abstains.",
        "- Coverage is an average over new groups like those trained on; it holds neither for a "
        "single patient nor for a single class.",
    ]
    if manifests.UNTRAINED in card_encoders.weights_text(bundle):
        lines.append(
            "- **The encoders are untrained** (random weights): good for trying out the pipeline, "
            "and for nothing else."
        )
    return lines


def _sentence(text: str) -> str:
    """With a capital, and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
