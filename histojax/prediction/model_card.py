"""The model card of a bundle, Markdown: what it is, its data, results, uncertainty and limits.

After Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from histojax.config import VERSION, Extraction
from histojax.evaluation import metrics, operating_point, statistics, verdict
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.statistics import Statistics
from histojax.extraction import crop_errors, manifests, provenance
from histojax.prediction import conformal, out_of_distribution
from histojax.prediction.bundle import Bundle
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
# Of the files that ImageNet weights come from; third_party/README.md says more.
_WEIGHTS_LICENCES = {
    "ResNet": "ResNet-50: ported from Kaiming He's release, MIT",
    "Inception": "InceptionV3: ported from TensorFlow's models, Apache-2.0",
    "VGG": "VGG-16: ported from the Visual Geometry Group, Oxford, CC BY 4.0",
}


def card(bundle: Bundle, weights_included: Iterable[str] = ()) -> str:
    """The model card of a bundle.

    Args:
      bundle: made by `bundle.from_models`.
      weights_included: encoders whose weights are in the file.
    """
    known = bundle.uncertainty
    results = statistics.compute(known.out_of_fold, known.target_sensitivity)
    sections = [
        [f"# Model card: {', '.join(bundle.classes)} in H&E histology", "", _NOT_FOR_DIAGNOSIS],
        _description(bundle),
        _data(bundle),
        _results(bundle, results),
        _uncertainty(bundle, results),
        _limits(bundle),
        _licences(bundle, tuple(weights_included)),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _description(bundle: Bundle) -> list[str]:
    ensemble = bundle.ensemble
    configurations = len(ensemble.configurations)
    return [
        "## What it is",
        "",
        f"- {configurations * ensemble.seeds * ensemble.folds} models ({ensemble.learner}): "
        f"{quantity(configurations, 'configuration')} x {ensemble.seeds} seeds x "
        f"{ensemble.folds} folds, averaged. After Rakhlin, Shvets, Iglovikov and Kalinin, 2018.",
        *(_features(bundle) if bundle.imported else _encoders(bundle)),
        f"- {_sentence(bundle.positive_reason)}",
        f"- Made {bundle.about['created']} by histojax {VERSION}.",
    ]


def _encoders(bundle: Bundle) -> list[str]:
    extraction, mpp = bundle.extraction, ""
    if extraction.target_mpp:
        mpp = f", images resampled to {extraction.target_mpp} um/px at scale 0.5"
    return [
        f"- Encoders: {', '.join(extraction.encoders)}, frozen; {_weights(bundle)}",
        *_recipes(bundle),
        f"- Views (scale or microns per pixel, crop size): "
        f"{', '.join(view.name for view in extraction.views)}; "
        f"{extraction.augmentations} {_stain(extraction)} x {extraction.crops_text}, crop mode "
        f"{extraction.crop_mode}, {extraction.precision}{mpp}.",
        *_crop_error(bundle),
    ]


def _recipes(bundle: Bundle) -> list[str]:
    """How encoders of one input size were shown crops, and what was made of their output."""
    protocols = [made["protocol"] for made in bundle.made_with.values()]
    recipes = {of["encoder"]: of["recipe"] for of in protocols if "recipe" in of}
    lines = []
    for name, recipe in recipes.items():
        shown = f"{recipe['resized']} px ({recipe['resize_filter']})"
        if recipe["resized"] != recipe["input_size"]:
            shown += f", of which it sees the middle {recipe['input_size']} px"
        taps = " and ".join(tap.replace("_", " ") for tap in recipe["taps"])
        lines.append(
            f"- {name}: {taps} of each crop, resized to {shown}; pooled over crops by their "
            f"{recipe['pooling']}."
        )
    return lines


def _stain(extraction: Extraction) -> str:
    """What the augmentations are, with the stain steps that are not the paper's."""
    paper = Extraction()
    kind = "augmentations" if extraction.stain_augmentation == "none" else "stain augmentations"
    steps = {"normaliser": "stain_normalizer", "augmentation": "stain_augmentation"}
    others = [
        f"{step} {getattr(extraction, name)}"
        for step, name in steps.items()
        if getattr(extraction, name) != getattr(paper, name)
    ]
    return f"{kind} (stain {', '.join(others)})" if others else kind


def _features(bundle: Bundle) -> list[str]:
    pooled = {provenance.pooling_text(manifest) for manifest in bundle.made_with.values()}
    return [
        f"- Features: {_weights(bundle).removeprefix('imported features: ')}; computed outside of "
        "histojax and imported. The name of the encoder is the one recorded with them.",
        f"- A slide's descriptor: {'; '.join(sorted(pooled))}.",
        "- New slides need features computed in the same way: "
        "`histojax predict --bundle=FILE --features=FOLDER --out=OUT`.",
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
    if manifests.UNTRAINED in _weights(bundle):
        lines.append(
            "- **The encoders are untrained** (random weights): good for trying out the pipeline, "
            "and for nothing else."
        )
    return lines


def _licences(bundle: Bundle, included: Sequence[str]) -> list[str]:
    lines = ["## Licences and weights", ""]
    lines += _unknown_licences(bundle) if bundle.imported else _of_encoders(bundle, included)
    return [
        *lines,
        "- The bundle holds no image and no name, but out-of-fold scores and mean descriptors, by "
        f"number, and the SHA-256 of the {'descriptors' if bundle.imported else 'files'} trained "
        "on.",
    ]


def _unknown_licences(bundle: Bundle) -> list[str]:
    names = dict.fromkeys(made["protocol"]["encoder"] for made in bundle.made_with.values())
    return [
        f"- {', '.join(names)}: neither the weights nor their licence are known here. Ask whoever "
        "computed the features: the licence may extend to models trained on them."
    ]


def _of_encoders(bundle: Bundle, included: Sequence[str]) -> list[str]:
    extraction, lines = bundle.extraction, []
    of_imagenet = [e for e in extraction.encoders if extraction.weights_of(e) == "imagenet"]
    for name in of_imagenet:
        licence = _WEIGHTS_LICENCES.get(name, f"{name}: under the licence of its publisher")
        lines.append(f"- {licence}.")
    if of_imagenet:
        lines.append("- ImageNet itself is for non-commercial research; judge for your use.")
    for name in extraction.encoders:
        recorded = bundle.encoder_weights(name)
        place = "weights in the bundle" if name in included else "weights not in the bundle"
        lines.append(f"- {name}: {place}, SHA-256 of its arrays `{recorded['sha256']}`.")
        if "file" in recorded:
            lines.append(
                f"- {name}: its weights came from the file {recorded['file']} (SHA-256 "
                f"`{recorded['file_sha256']}`); {_licence_of_file(name)}."
            )
        if module := bundle.encoder_module(name):
            sha256 = module["file_sha256"] or module["code_sha256"]
            lines.append(
                f"- {name}: an encoder of {module['reference']} (SHA-256 `{sha256}`), which is no "
                "part of histojax or of the bundle: predicting needs this module, by --encoders."
            )
    return lines


def _licence_of_file(name: str) -> str:
    """What is known of the licence of an encoder's file of weights."""
    from histojax.encoders import ENCODERS  # Not above: bundles of imported features need no JAX.

    published = ENCODERS[name].published if name in ENCODERS else None
    if published is None:
        return "their licence is not known here, ask whoever made them"
    gate = f", {published.gate}" if published.gate else ""
    return (
        f"those of {published.address} are under {published.licence_text}{gate}; terms may extend "
        "to models trained on their descriptors"
    )


def _weights(bundle: Bundle) -> str:
    return manifests.weights_text(bundle.made_with.values())


def _sentence(text: str) -> str:
    """With a capital, and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
