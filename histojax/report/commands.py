"""How to make the same report again: command lines, and the versions of what was at work."""

import dataclasses
import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histojax.config import View
from histojax.evaluation import operating_point
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble

# The script that trains each learner on descriptors.
SCRIPTS = {"trees": "train", "linear": "probe", "hidden": "probe"}
PACKAGES = (
    "histojax",
    "numpy",
    "scipy",
    "scikit-learn",
    "lightgbm",
    "matplotlib",
    "jinja2",
    "pillow",
    "jax",
    "flax",
)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line and what it does."""

    does: str
    line: str


def command_lines(
    ensemble: Ensemble,
    report: Path,
    data: Path | None,
    descriptors: Path | None,
    positive_classes: Sequence[str],
    target_sensitivity: float,
) -> list[Command]:
    """The command lines from images to this report; DATA and DESCRIPTORS stand for folders that were not named."""
    here, made = str(data or "DATA"), str(descriptors or "DESCRIPTORS")
    models, split = (
        str(ensemble.root),
        [ensembles.FOLDS, str(Path(ensembles.FOLDS).with_suffix(".json"))],
    )
    copied = [str(ensemble.root / name) for name in split if (ensemble.root / name).exists()]
    copy = Command("take the same split", f"mkdir -p NEW && {shlex.join(['cp', *copied])} NEW/")
    if ensemble.learner == "finetuned":
        own = {"data": here, "models": "NEW"}
        found = extractions(ensemble)
        lines = [
            copy,
            *(
                Command("fine-tune", script("finetune", own | each | ensemble.parameters))
                for each in found
            ),
        ]
    else:
        own = {"data": here, "descriptors": made}
        lines = [
            Command("describe the images", script("extract", own | each))
            for each in extractions(ensemble)
        ]
        own |= {"models": "NEW", "configurations": ",".join(ensemble.configurations)}
        lines += [
            copy,
            Command("train", script(SCRIPTS[ensemble.learner], own | ensemble.parameters)),
        ]
    judged = {"models": models, "report": str(report)}
    judged |= {"data": str(data)} if data else {}
    judged |= {"descriptors": str(descriptors)} if descriptors else {}
    judged |= {"positive_classes": ",".join(positive_classes)} if positive_classes else {}
    judged |= (
        {"sensitivity": target_sensitivity}
        if target_sensitivity != operating_point.TARGET_SENSITIVITY
        else {}
    )
    lines.append(
        Command("judge (of new models, NEW in place of the folder)", script("evaluate", judged))
    )
    return lines


def extractions(ensemble: Ensemble) -> list[dict[str, Any]]:
    """Flags of one run for all configurations of one protocol; none for descriptors of unknown origin."""
    views: dict[tuple, dict[str, list[str]]] = {}
    for made_with in ensemble.extractions.values():
        if made_with is None:
            continue
        own = dict(made_with["protocol"])
        encoder = own.pop("encoder")
        view = View(own.pop("scale"), own.pop("crop_size")).name
        source = made_with["weights"]["source"]
        seed = source.removeprefix("random, seed ")
        own |= (
            {"weights": "imagenet"}
            if seed == source
            else {"weights": "random", "weights_seed": seed}
        )
        views.setdefault(tuple(own.items()), {}).setdefault(encoder, []).append(view)
    encoders: dict[tuple, list[str]] = {}
    for own, by_encoder in views.items():
        for encoder, names in by_encoder.items():
            encoders.setdefault((own, tuple(names)), []).append(encoder)
    return [
        {"encoders": ",".join(e), "views": ",".join(v)} | dict(own)
        for (own, v), e in encoders.items()
    ]


def script(name: str, flags: dict[str, Any]) -> str:
    """histojax NAME with its flags."""
    return " ".join(
        [f"histojax {name}", *(f"--{key}={shlex.quote(str(v))}" for key, v in flags.items())]
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
