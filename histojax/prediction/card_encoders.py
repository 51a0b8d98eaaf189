"""What a model card says of encoders: how they are shown images, their weights and licences."""

from collections.abc import Mapping, Sequence

from histojax.config import Extraction
from histojax.extraction import manifests, provenance
from histojax.prediction.bundle import Bundle
from histojax.utils.markdown import literal
from histojax.utils.words import quantity

# Of the files that ImageNet weights come from; third_party/README.md says more.
_WEIGHTS_LICENCES = {
    "ResNet": "ResNet-50: ported from Kaiming He's release, MIT",
    "Inception": "InceptionV3: ported from TensorFlow's models, Apache-2.0",
    "VGG": "VGG-16: ported from the Visual Geometry Group, Oxford, CC BY 4.0",
}


def description(bundle: Bundle) -> list[str]:
    """The encoders, how they are shown images, and what is made of their output."""
    if bundle.imported:
        return _features(bundle)
    extraction, mpp = bundle.extraction, ""
    if extraction.target_mpp:
        mpp = f", images resampled to {extraction.target_mpp} um/px at scale 0.5"
    return [
        f"- Encoders: {', '.join(extraction.encoders)}, frozen; {weights_text(bundle)}",
        *_recipes(bundle),
        f"- Views (scale or microns per pixel, crop size): "
        f"{', '.join(view.name for view in extraction.views)}; "
        f"{_stain(extraction)} x {extraction.crops_text}, crop mode "
        f"{extraction.crop_mode}, {extraction.precision}{mpp}.",
    ]


def _features(bundle: Bundle) -> list[str]:
    """The imported features, and what is needed of new ones."""
    pooled = {provenance.pooling_text(manifest) for manifest in bundle.made_with.values()}
    features = weights_text(bundle).removeprefix("imported features: ")
    return [
        f"- Features: {features}; computed outside of histojax and imported. The name of the "
        "encoder is the one recorded with them.",
        f"- A slide's descriptor: {'; '.join(sorted(pooled))}.",
        "- New slides need features computed in the same way: "
        "`histojax predict --bundle=FILE --features=FOLDER --out=OUT`.",
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
    """How many augmentations of what kind, with the stain steps that are not the paper's."""
    paper = Extraction()
    kind = "augmentation" if extraction.stain_augmentation == "none" else "stain augmentation"
    kind = quantity(extraction.augmentations, kind)
    steps = {"normaliser": "stain_normalizer", "augmentation": "stain_augmentation"}
    others = [
        f"{step} {getattr(extraction, name)}"
        for step, name in steps.items()
        if getattr(extraction, name) != getattr(paper, name)
    ]
    return f"{kind} (stain {', '.join(others)})" if others else kind


def licences(bundle: Bundle, included: Sequence[str]) -> list[str]:
    """The section on weights, where they are, and on which terms.

    Args:
      bundle: it.
      included: encoders whose weights are in the file.
    """
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
        f"- {literal(', '.join(names))}: neither the weights nor their licence are known here. Ask "
        "whoever computed the features: the licence may extend to models trained on them."
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
                f"- {name}: its weights came from the file {literal(recorded['file'])} (SHA-256 "
                f"`{recorded['file_sha256']}`); {_licence_of_file(recorded)}."
            )
        if module := bundle.encoder_module(name):
            sha256 = module["file_sha256"] or module["code_sha256"]
            lines.append(
                f"- {name}: an encoder of {literal(module['reference'])} (SHA-256 `{sha256}`), "
                "which is no part of histojax or of the bundle: predicting needs this module, by "
                "--encoders."
            )
    return lines


def _licence_of_file(recorded: Mapping[str, str]) -> str:
    """What is known of the licence of a file of weights."""
    if "licence" not in recorded:
        return "their licence is not known here, ask whoever made them"
    return (
        f"as published they are under {recorded['licence']}, whose terms may extend to models "
        "trained on their descriptors"
    )


def weights_text(bundle: Bundle) -> str:
    """One line on the weights."""
    return literal(manifests.weights_text(bundle.made_with.values()))
