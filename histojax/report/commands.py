"""The command lines that make a report again, and the versions of the packages behind it."""

import dataclasses
import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histojax.config import View
from histojax.evaluation.operating_point import TARGET_SENSITIVITY
from histojax.extraction import manifests, provenance
from histojax.learners import ensembles
from histojax.learners.ensembles import LEARNERS, Ensemble

_PACKAGES = (
    *("histojax", "numpy", "scipy", "scikit-learn", "lightgbm", "matplotlib", "jinja2"),
    *("pillow", "jax", "flax"),
)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line and what it is for."""

    purpose: str
    line: str


def command_lines(
    ensemble: Ensemble,
    report: Path,
    data: Path | None,
    descriptors: Path | None,
    positive_classes: Sequence[str],
    target_sensitivity: float,
) -> list[Command]:
    """The command lines from the images to this report.

    DATA, DESCRIPTORS and FEATURES stand for what is not known, NEW for a folder to train into.
    """
    splits = [Path(ensembles.FOLDS), Path(ensembles.FOLDS).with_suffix(".json")]
    splits = [str(ensemble.root / name) for name in splits if (ensemble.root / name).exists()]
    copy = f"mkdir -p NEW && {shlex.join(['cp', *splits])} NEW/"
    commands = [Command("Take the same split.", copy)]
    flags = {"data": data or "DATA"}
    if ensemble.learner == "finetuned":
        flags |= {"models": "NEW"}
        commands += [
            Command("Fine-tune.", _line("finetune", flags | extraction | ensemble.parameters))
            for extraction in _extractions(ensemble)
        ]
    else:
        flags |= {"descriptors": descriptors or "DESCRIPTORS"}
        if provenance.are_imported(ensemble.extractions):
            extracts = _imports(ensemble, flags["descriptors"])
        else:
            extracts = [
                Command("Extract the descriptors.", _line("extract", flags | extraction))
                for extraction in _extractions(ensemble)
            ]
        flags |= {"models": "NEW", "configurations": ",".join(ensemble.configurations)}
        train = _line(LEARNERS[ensemble.learner].command, flags | ensemble.parameters)
        commands = [*extracts, *commands, Command("Train.", train)]
    flags = {"models": ensemble.root, "report": report}
    flags |= {"data": data} if data else {}
    flags |= {"descriptors": descriptors} if descriptors else {}
    flags |= {"positive_classes": ",".join(positive_classes)} if positive_classes else {}
    if target_sensitivity != TARGET_SENSITIVITY:
        flags["sensitivity"] = target_sensitivity
    purpose = "Evaluate (for the new models, pass NEW as --models)."
    return [*commands, Command(purpose, _line("evaluate", flags))]


def _imports(ensemble: Ensemble, descriptors: Path | str) -> list[Command]:
    """The imports of features: one serves all configurations that are made alike."""
    features: dict[str, list[str]] = {}
    for manifest in ensemble.extractions.values():
        line = _line("import_descriptors", _import(manifest, descriptors))
        features.setdefault(line, []).append(provenance.features_text(manifest))
    return [
        Command(f"Import the features of {' and '.join(names)}.", line)
        for line, names in features.items()
    ]


def _import(manifest: manifests.Manifest, descriptors: Path | str) -> dict[str, Any]:
    """The flags that import features as they were."""
    protocol = manifest["protocol"]
    wanted = ["p"] if protocol["pooling"] == "p-norm" else []
    wanted += ["draws", "tiles", "seed"] if protocol["tiles"] else []
    flags = {"features": "FEATURES", "descriptors": descriptors, "pooling": protocol["pooling"]}
    if protocol["format"] in ("CLAM", "arrays"):  # They do not say what computed them.
        flags["name"] = protocol["encoder"]
    return flags | {name: protocol[name] for name in wanted}


def _extractions(ensemble: Ensemble) -> list[dict[str, Any]]:
    """The flags of each run of extraction: one run serves all configurations of one protocol.

    Descriptors of unknown origin have none.
    """
    views: dict[tuple, dict[str, list[str]]] = {}
    references: dict[str, str] = {}  # What --encoders takes: the name, or the module of a user.
    for manifest in ensemble.extractions.values():
        if manifest is None:
            continue
        protocol = dict(manifest["protocol"])
        encoder = protocol.pop("encoder")
        place = (protocol.pop("scale"), protocol.pop("crop_size"), protocol.pop("mpp", None))
        view = View(*place).name
        for decided_elsewhere in ("recipe", "hybrid"):  # By the encoder, by the crop mode.
            protocol.pop(decided_elsewhere, None)
        references[encoder] = manifest.get("module", {}).get("reference", encoder)
        weights = manifest["weights"]
        seed = weights["source"].removeprefix("random, seed ")
        if seed != weights["source"]:
            protocol |= {"weights": "random", "weights_seed": seed}
        else:
            file = weights.get("file")
            protocol["weights"] = f"{encoder}={file}" if file else weights["source"]
        views.setdefault(tuple(protocol.items()), {}).setdefault(encoder, []).append(view)
    encoders: dict[tuple, list[str]] = {}
    for protocol, by_encoder in views.items():
        for encoder, names in by_encoder.items():
            encoders.setdefault((protocol, tuple(names)), []).append(references[encoder])
    return [
        {"encoders": ",".join(encoder_names), "views": ",".join(view_names)} | dict(protocol)
        for (protocol, view_names), encoder_names in encoders.items()
    ]


def _line(command: str, flags: dict[str, Any]) -> str:
    """`histojax COMMAND` with its flags."""
    arguments = [f"--{name}={shlex.quote(str(value))}" for name, value in flags.items()]
    return " ".join(["histojax", command, *arguments])


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
