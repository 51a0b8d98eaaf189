"""New images to classes and probabilities, by every model of an ensemble."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax import datasets, ensembles, files, metrics, report, scoring, store
from histojax.config import Extraction, View
from histojax.ensembles import Ensemble
from histojax.errors import InputError
from histojax.progress import Progress
from histojax.report import tables

# Values that all configurations of an ensemble must have in common for one run to describe new images.
SHARED = ("augmentations", "crops", "gain_low", "gain_high", "p", "seed", "crop_mode", "precision")


def run(
    models: Path,
    images: Path | None,
    descriptors: Path,
    out: Path,
    positive_classes: Sequence[str] = (),
    **computing: Any,
) -> str:
    """Describes the images of a folder and predicts them; returns the counts by class.

    Args:
      models: a trained ensemble.
      images: the folder; None to predict every image that has descriptors already.
      descriptors: where descriptors of the images are, or go.
      out: where predictions.csv and submission.csv go.
      positive_classes: names of the classes that count as carcinoma, if not the default ones.
      computing: as for `extract.run`: cache, weights_dir, crops_per_step and so on.

    Raises:
      InputError: unusable models, images, descriptors or folders.
    """
    ensemble = ensembles.load(models)
    if ensemble.learner not in scoring.LEARNERS:
        raise InputError(f"{models} holds models that are {ensemble.learner}: they cannot predict from descriptors")
    positive = metrics.positive_classes(ensemble.folds.classes, positive_classes)
    files.require_writable(out)
    if images is None:
        file_names = store.image_names(descriptors, ensemble.configurations[0])
        if not file_names:
            raise InputError(f"{descriptors} holds no descriptors of {ensemble.configurations[0]}: pass --images")
    else:
        from histojax import extract  # Here alone, so that descriptors are scored without an accelerator's libraries.

        paths = datasets.unlabelled(images)
        file_names = [path.name for path in paths]
        extraction = extraction_of(ensemble)
        extract.run(paths, extraction, descriptors, **computing)
    scores = score(ensemble, descriptors, [Path(name).stem for name in file_names])
    write(out, ensemble, file_names, scores, positive)
    return counts(ensemble, scores)


def extraction_of(ensemble: Ensemble) -> Extraction:
    """The protocol that the ensemble's descriptors were made with, so that new images are described alike.

    Raises:
      InputError: it was not recorded (descriptors not made here), or differs between configurations.
    """
    if unknown := [name for name, made_with in ensemble.made_with.items() if made_with is None]:
        raise InputError(
            f"{ensemble.root} was trained on descriptors of unknown protocol ({', '.join(unknown)}): describe the "
            "images with experiments.extract yourself, and pass --descriptors without --images"
        )
    protocols = {name: {"precision": "float32"} | made["protocol"] for name, made in ensemble.made_with.items()}
    sources = {made_with["weights"]["source"] for made_with in ensemble.made_with.values()}
    shared = {key: {each[key] for each in protocols.values()} for key in SHARED}
    if mixed := [key for key, values in (shared | {"weights": sources}).items() if len(values) > 1]:
        raise InputError(f"the configurations of {ensemble.root} differ in {', '.join(mixed)}: predict with each alone")
    source = sources.pop()
    random = source.removeprefix("random, seed ")
    return Extraction(
        encoders=tuple(dict.fromkeys(p["encoder"] for p in protocols.values())),
        views=tuple(dict.fromkeys(View(p["scale"], p["crop_size"]) for p in protocols.values())),
        weights="imagenet" if random == source else "random",
        weights_seed=0 if random == source else int(random),
        resnet_variant=next((p["resnet_variant"] for p in protocols.values() if "resnet_variant" in p), "keras"),
        **{key: values.pop() for key, values in shared.items()},
    )


def score(ensemble: Ensemble, descriptors_root: Path, names: Sequence[str]) -> np.ndarray:
    """Mean scores over augmentations, configurations, seeds and folds' models: float64 [N, K].

    Raises:
      InputError: descriptors are missing, damaged, or not of the protocol and weights the models were trained on.
    """
    scoring.check_made_with(ensemble, descriptors_root)
    with Progress("predict", len(ensemble.models), "models") as bar:
        scores = [
            scoring.mean(ensemble, configuration, store.read(descriptors_root, configuration, names), bar)
            for configuration in ensemble.configurations
        ]
    return np.mean(scores, axis=0)


def write(
    folder: Path, ensemble: Ensemble, file_names: Sequence[str], scores: np.ndarray, positive: Sequence[int]
) -> None:
    """Writes predictions.csv (label, probabilities) and submission.csv (the authors' form: name,label, no header)."""
    names = [Path(name).stem for name in file_names]
    weights = report.provenance(ensemble.made_with.values())
    carcinoma = metrics.positive_score(scores, positive) if positive else None
    tables.write_predictions(folder / "predictions.csv", names, scores, ensemble.folds.classes, weights, carcinoma)
    labels = [ensemble.folds.classes[i] for i in scores.argmax(axis=1)]
    files.write_csv(folder / "submission.csv", sorted(zip(file_names, labels, strict=True)))


def counts(ensemble: Ensemble, scores: np.ndarray) -> str:
    """How many images were given each class, in words."""
    found = collections.Counter(scores.argmax(axis=1).tolist())
    return ", ".join(f"{name} {found[i]}" for i, name in enumerate(ensemble.folds.classes))
