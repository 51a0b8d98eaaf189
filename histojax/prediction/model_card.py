"""The model card of a bundle: what it is, what it was trained on, how good and how sure it was out of fold, what it is
not for. Markdown, after Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from histojax import __version__
from histojax.evaluation import operating_point, statistics
from histojax.evaluation.statistics import Statistics
from histojax.extraction import provenance
from histojax.prediction import conformal, out_of_distribution
from histojax.prediction.bundle import Bundle

DRAWS = 1000  # Of the bootstrap behind each interval.
SENSITIVITIES = (0.9, 0.95, 0.99)
COVERAGES = (0.8, 0.9, 0.95)
SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_auc",
    "log_loss",
    "calibration_error",
    "carcinoma_accuracy",
    "carcinoma_auc",
)
NOT_FOR_DIAGNOSIS = "**Not for diagnosis.** For research only. Not a medical device; not validated on any patients but those below."
# Of the files that ImageNet weights come from; third_party/README.md has more.
WEIGHTS_LICENCES = {
    "ResNet": "ResNet-50: ported from Kaiming He's release, MIT",
    "Inception": "InceptionV3: ported from TensorFlow's models, Apache-2.0",
    "VGG": "VGG-16: ported from the Visual Geometry Group, Oxford, CC BY 4.0",
}


def card(bundle: Bundle, weights_included: Iterable[str] = ()) -> str:
    """The model card of a bundle.

    Args:
      bundle: it.
      weights_included: encoders whose weights are in the file.
    """
    judged = statistics.compute(bundle.uncertainty.cases, bundle.uncertainty.sensitivity, DRAWS)
    parts = [
        [f"# Model card: {', '.join(bundle.classes)} in H&E histology", "", NOT_FOR_DIAGNOSIS],
        what(bundle),
        trained_on(bundle),
        results(bundle, judged),
        doubt_of(bundle),
        limits(bundle),
        licences(bundle, tuple(weights_included)),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def what(bundle: Bundle) -> list[str]:
    """What it is."""
    ensemble, extraction = bundle.ensemble, bundle.extraction
    views = ", ".join(view.name for view in extraction.views)
    count = len(ensemble.configurations) * ensemble.seeds * ensemble.folds
    mpp = (
        f", images resampled to {extraction.target_mpp} um/px at scale 0.5"
        if extraction.target_mpp
        else ""
    )
    return [
        "## What it is",
        "",
        f"- {count} models ({ensemble.learner}): {len(ensemble.configurations)} configurations x {ensemble.seeds} "
        f"seeds x {ensemble.folds} folds, averaged. After Rakhlin, Shvets, Iglovikov and Kalinin, 2018.",
        f"- Encoders: {', '.join(extraction.encoders)}, frozen; {provenance.weights(bundle.made_with.values())}",
        f"- Views (scale, crop size): {views}; {extraction.augmentations} stain augmentations x {extraction.crops} "
        f"crops, crop mode {extraction.crop_mode}, {extraction.precision}{mpp}.",
        f"- Made {bundle.about['created']} by histojax {__version__}.",
    ]


def trained_on(bundle: Bundle) -> list[str]:
    """The data."""
    about = bundle.about
    images = ", ".join(f"{name} {count}" for name, count in about["images"].items())
    groups = about["groups"]
    return [
        "## Trained on",
        "",
        f"- {sum(about['images'].values())} images: {images}.",
        f"- Groups (patients or slides): {groups if groups else 'not known'}. Split: {about['split']}.",
        f"- Source and licence of the images: {about.get('data_licence') or 'not stated by whoever made this'}.",
    ]


def results(bundle: Bundle, judged: Statistics) -> list[str]:
    """How good it was on images that its models had not seen."""
    whole = "groups" if bundle.about["groups"] else "images"
    rows = [
        [
            figure.label,
            f"{figure.value:.3f}",
            f"{figure.interval.low:.3f} to {figure.interval.high:.3f}",
        ]
        for (name, of), figure in judged.estimates.items()
        if name in SHOWN and not of
    ]
    rows += [
        [
            figure.label,
            f"{figure.value:.3f}",
            f"{figure.interval.low:.3f} to {figure.interval.high:.3f}",
        ]
        for (name, _), figure in judged.estimates.items()
        if name == "sensitivity"
    ]
    lines = [
        "## Results out of fold",
        "",
        f"Each image scored by the models that never saw it; 95 % intervals of resampled {whole}.",
        "",
        *table(["", "", "95 %"], rows),
    ]
    if bundle.positive and operating_point.is_possible(bundle.uncertainty.cases):
        named = " + ".join(bundle.classes[k] for k in bundle.positive)
        rows = []
        for wished in sorted({*SENSITIVITIES, bundle.uncertainty.sensitivity}):
            point = operating_point.choose(bundle.uncertainty.cases, wished)
            figures = operating_point.compute_metrics(
                point, bundle.uncertainty.cases, np.ones((1, len(bundle.uncertainty.cases.truth)))
            )
            reached = [f"{float(value[0]):.3f}" for value in figures.values()]
            rows.append([f"{wished:g}", f"{bundle.uncertainty.threshold(wished):.4f}", *reached])
        lines += [
            "",
            f"Operating points for {named}, on the calibrated score; reached: chosen on other folds than judged on. "
            f"Decisions are made for {bundle.uncertainty.sensitivity:g} unless wished otherwise.",
            "",
            *table(
                ["sensitivity wished", "threshold", "sensitivity reached", "specificity reached"],
                rows,
            ),
        ]
    return lines


def doubt_of(bundle: Bundle) -> list[str]:
    """How it tells its doubt."""
    cases, attainable = bundle.uncertainty.cases, conformal.attainable(bundle.uncertainty.sets)
    rows = []
    for coverage in COVERAGES:
        sets = conformal.out_of_fold(cases, coverage)
        reached = sets[np.arange(len(cases.truth)), cases.truth].mean()
        rows.append([f"{coverage:g}", f"{reached:.3f}", f"{sets.sum(axis=1).mean():.2f}"])
    reference = bundle.uncertainty.reference
    known = (
        []
        if reference is None
        else ["descriptors", *(["stain"] if reference.stain_masses.any() else [])]
    )
    compared = (
        f"{' and '.join(known)} with the training images'"
        if known
        else "nothing with the training images'"
    )
    return [
        "## Uncertainty",
        "",
        f"- Probabilities are calibrated by a temperature of {bundle.temperature:.3f}.",
        f"- Prediction sets are conformal; above a coverage of {attainable:.3f} they hold all classes, for want of "
        "groups. Out of fold, each fold calibrated on the others:",
        "",
        *table(["coverage wished", "reached", "classes in a set"], rows),
        "",
        f"- It abstains from images with too little tissue, from too large sets, and compares {compared} "
        f"(far: p at most {out_of_distribution.FAR}, or further than all).",
    ]


def limits(bundle: Bundle) -> list[str]:
    """What it must not be used for."""
    lines = [
        "## Limits",
        "",
        "- Scanners, stains, organs and pixel sizes other than the training images' are covered by no figure above.",
        "- Images without tissue of these classes are given one of them all the same, unless it abstains.",
        "- Coverage is of new groups like those trained on, on average; not of one patient, nor of one class.",
    ]
    if provenance.UNTRAINED in provenance.weights(bundle.made_with.values()):
        lines.append(
            "- **The encoders are untrained** (random weights): a trial of the pipeline, of no other use."
        )
    return lines


def licences(bundle: Bundle, included: Sequence[str]) -> list[str]:
    """Licences, and what the encoders' weights are."""
    lines = ["## Licences and weights", ""]
    if bundle.extraction.weights == "imagenet":
        lines += [f"- {WEIGHTS_LICENCES[name]}." for name in bundle.extraction.encoders]
        lines.append("- ImageNet itself is for non-commercial research; judge for your use.")
    for name in bundle.extraction.encoders:
        where = "in the file" if name in included else "not in the file"
        sha256 = next(
            made["weights"]["sha256"]
            for made in bundle.made_with.values()
            if made["protocol"]["encoder"] == name
        )
        lines.append(f"- {name}: {where}, SHA-256 of its arrays `{sha256}`.")
    lines.append(
        "- The bundle keeps no image and no name, but out-of-fold scores and mean descriptors, by number."
    )
    return lines


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
