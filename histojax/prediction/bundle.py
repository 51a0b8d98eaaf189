"""A trained ensemble in one file, with everything that predictions need: models, protocol, calibration, encoders.

contents.json       every part's size and SHA-256 (`sealed`)
bundle.json         classes, learner, protocol, what it was trained on, results out of fold, versions
MODEL_CARD.md       the same for people
out_of_fold.npz     scores, truth, fold and group of the judged images, by number: all doubt is learned from them
typical.npz       the training images' mean descriptors and stain, by number
models/<configuration>/seed0-fold01.txt    LightGBM's text of trees, or .npz of a head
weights/<encoder>.npz    the encoder's variables, unless they are drawn from a seed or left out by wish

Needs no jax. Nothing in it can run code.
"""

import dataclasses
import datetime
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from histojax import __version__
from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.evaluation import calibration, metrics, operating_point
from histojax.extraction import store
from histojax.learners import ensembles, scoring
from histojax.learners.ensembles import Ensemble
from histojax.learners.scoring import LoadedEnsemble
from histojax.prediction import uncertainty
from histojax.prediction.out_of_distribution import ReferenceDistribution
from histojax.prediction.uncertainty import Uncertainty
from histojax.utils import archive, files

KIND = "histojax bundle"
VERSION = 1
ABOUT, CARD, OUT_OF_FOLD, TYPICAL = "bundle.json", "MODEL_CARD.md", "out_of_fold.npz", "typical.npz"
KEYS = ("classes", "positive", "learner", "seeds", "folds", "sensitivity", "made_with", "about")

# Values that all configurations must have in common for one run to describe new images.
# Values that a manifest records only where they are not the default.
DEFAULTS = {
    name: getattr(Extraction, name)
    for name in ("precision", "target_mpp", "stain_normalizer", "stain_augmentation")
}
COMMON = ("augmentations", "crops", "gain_low", "gain_high", "p", "seed", "crop_mode", *DEFAULTS)

Flat = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An ensemble that can predict.

    Attributes:
      name: where it came from, for messages.
      classes: K names.
      positive: indices of the classes that count as carcinoma; empty for none.
      made_with: the manifest of each configuration's descriptors; None where that is not known.
      ensemble: the models.
      uncertainty: what is known of its mistakes.
      about: what a reader wants to know: data, results, licences, versions.
      weights: variables of encoders by flat name; of those that are in the file.
      identity: SHA-256 of the file, or of what decides the predictions of an ensemble that is none.
    """

    name: str
    classes: tuple[str, ...]
    positive: tuple[int, ...]
    made_with: dict[str, store.Manifest | None]
    ensemble: LoadedEnsemble
    uncertainty: Uncertainty
    about: dict[str, Any]
    weights: dict[str, Flat]
    identity: str

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names such as ResNet-0.5-400."""
        return self.ensemble.configurations

    @property
    def extraction(self) -> Extraction:
        """The protocol that new images are described with; InputError where it is not known."""
        return extraction_of(self.made_with, self.name)

    @property
    def temperature(self) -> float:
        """That calibrates the mean scores of all models."""
        return self.uncertainty.temperature

    @property
    def threshold(self) -> float | None:
        """The operating point of the calibrated carcinoma score; None without classes that count as carcinoma."""
        return self.uncertainty.threshold()

    def score(self, configuration: str, descriptors: np.ndarray) -> np.ndarray:
        """Mean scores by a configuration's models, not calibrated: float32 [N, A, D] -> float64 [N, K]."""
        return np.mean(
            [
                each.mean(axis=1)
                for _, _, each in self.ensemble.scores_by_model({configuration: descriptors})
            ],
            axis=0,
        )


def extraction_of(made_with: Mapping[str, store.Manifest | None], name: str) -> Extraction:
    """The protocol that descriptors were made with, so that new images are described alike.

    Raises:
      InputError: it was not recorded (descriptors not made here), or differs between configurations.
    """
    if unknown := [configuration for configuration, made in made_with.items() if made is None]:
        raise InputError(
            f"{name} was trained on descriptors of unknown protocol ({', '.join(unknown)}): describe the images with "
            "histojax extract yourself, and pass --descriptors without --images"
        )
    protocols = [DEFAULTS | made["protocol"] for made in made_with.values()]
    sources = {made["weights"]["source"] for made in made_with.values()}
    common = {key: {each[key] for each in protocols} for key in COMMON}
    if mixed := [key for key, values in (common | {"weights": sources}).items() if len(values) > 1]:
        raise InputError(
            f"the configurations of {name} differ in {', '.join(mixed)}: predict with each alone"
        )
    source = sources.pop()
    random = source.removeprefix("random, seed ")
    return Extraction(
        encoders=tuple(dict.fromkeys(each["encoder"] for each in protocols)),
        views=tuple(dict.fromkeys(View(each["scale"], each["crop_size"]) for each in protocols)),
        weights="imagenet" if random == source else "random",
        weights_seed=0 if random == source else int(random),
        resnet_variant=next(
            (each["resnet_variant"] for each in protocols if "resnet_variant" in each), "keras"
        ),
        **{key: values.pop() for key, values in common.items()},
    )


def from_models(
    models: Path,
    positive_classes: Sequence[str] = (),
    sensitivity: float = operating_point.TARGET_SENSITIVITY,
    descriptors: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Bundle:
    """The ensemble in a folder, ready to predict.

    Args:
      models: the folder, as training writes it.
      positive_classes: names of the classes that count as carcinoma, if not the default ones.
      sensitivity: that the operating point is chosen for.
      descriptors: of the training images; without them it is not known how typical a new image is.
      about: what a reader wants to know, beside what the folder tells.

    Raises:
      InputError: the ensemble is not complete or cannot predict, or the descriptors are missing or others.
    """
    ensemble = ensembles.load(models)
    loaded = scoring.load_models(ensemble)
    positive = metrics.positive_classes(ensemble.folds.classes, positive_classes)
    if descriptors is not None:
        scoring.check_same_extraction(ensemble.extractions, descriptors)
    learned = uncertainty.of_ensemble(ensemble, positive, sensitivity, descriptors)
    if learned.temperature > 0.9 * calibration.TEMPERATURE_RANGE[1]:
        logging.warning(
            "out of fold, the scores of %s say nothing of the class: its answers are of no use",
            models,
        )
    return Bundle(
        name=str(models),
        classes=ensemble.folds.classes,
        positive=positive,
        made_with=ensemble.extractions,
        ensemble=loaded,
        uncertainty=learned,
        about=facts(ensemble) | dict(about or {}),
        weights={},
        identity=identity_of(ensemble, learned),
    )


def identity_of(ensemble: Ensemble, learned: Uncertainty) -> str:
    """SHA-256 of all that decides what an ensemble says of an image."""
    reference = (
        ()
        if learned.reference is None
        else (learned.reference.own.tobytes(), learned.reference.stain_own.tobytes())
    )
    decisive = (
        ensemble.folds.sha256,
        ensemble.learner,
        ensemble.parameters,
        ensemble.seeds,
        ensemble.extractions,
        learned.cases.scores.tobytes(),
        learned.cases.positive,
        learned.sensitivity,
        *reference,
    )
    return hashlib.sha256(repr(decisive).encode()).hexdigest()


def facts(ensemble: Ensemble) -> dict[str, Any]:
    """What an ensemble's folder tells of its data and making."""
    folds = ensemble.folds
    groups = set(folds.groups or ()) - {""}
    return {
        "created": datetime.date.today().isoformat(),
        "images": {name: int((folds.labels == i).sum()) for i, name in enumerate(folds.classes)},
        "groups": len(groups),
        "split": folds.origin,
        "parameters": ensemble.parameters,
        "versions": {
            name: each["versions"]
            for name, each in ensemble.extractions.items()
            if each and "versions" in each
        },
    }


def write(path: Path, bundle: Bundle, models: Path, card: str, weights: Mapping[str, Flat]) -> str:
    """Writes a bundle, whole or not at all; returns its seal.

    Args:
      path: the file.
      bundle: of `from_models`.
      models: the folder it came from, whose model files go in as they are.
      card: the model card, Markdown.
      weights: variables of encoders by flat name, to go in; none for those that are left out.

    Raises:
      InputError: the protocol of its descriptors is not known, so that nobody could describe images for it.
    """
    extraction = bundle.extraction
    description = {
        "classes": bundle.classes,
        "positive": bundle.positive,
        "learner": bundle.ensemble.learner,
        "seeds": bundle.ensemble.seeds,
        "folds": bundle.ensemble.folds,
        "sensitivity": bundle.uncertainty.sensitivity,
        "made_with": bundle.made_with,
        "about": bundle.about | {"histojax": __version__},
        "weights": {name: encoder_sha256(bundle, name) for name in extraction.encoders},
        "weights_in_file": sorted(weights),
        "temperature": bundle.temperature,
        "operating_point": bundle.threshold,
    }
    parts: dict[str, bytes | Path] = {
        ABOUT: files.to_json(description).encode(),
        CARD: card.encode(),
        OUT_OF_FOLD: npz(bundle.uncertainty.arrays()),
    }
    if bundle.uncertainty.reference is not None:
        parts[TYPICAL] = npz(bundle.uncertainty.reference.to_arrays())
    for configuration in bundle.configurations:
        for name in ensembles.model_names(
            configuration, bundle.ensemble.seeds, bundle.ensemble.folds, bundle.ensemble.learner
        ):
            parts[f"models/{name}"] = models / name
    parts |= {f"weights/{name}.npz": npz(flat) for name, flat in weights.items()}
    return archive.write(path, KIND, VERSION, parts)


def encoder_sha256(bundle: Bundle, encoder: str) -> str:
    """The checksum of an encoder's weights."""
    return next(
        made["weights"]["sha256"]
        for made in bundle.made_with.values()
        if made["protocol"]["encoder"] == encoder
    )


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of an .npz, without pickle."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def load(path: Path) -> Bundle:
    """Opens a bundle, all of it checked.

    Raises:
      InputError: it is no bundle, of another version, altered, cut short, or lacks a part.
    """
    with archive.open_verified(path, KIND, VERSION) as part:
        found = files.parse_json(part(ABOUT), f"{ABOUT} of {path}", KEYS)
        classes, positive = tuple(found["classes"]), tuple(found["positive"])
        made_with = found["made_with"]
        names = archive.names(path)
        reference = (
            ReferenceDistribution.from_arrays(arrays(part(TYPICAL), path, TYPICAL))
            if TYPICAL in names
            else None
        )
        kept = arrays(part(OUT_OF_FOLD), path, OUT_OF_FOLD)
        weights = {
            match[1]: arrays(part(name), path, name)
            for name in names
            if (match := re.fullmatch(r"weights/(\w+)\.npz", name))
        }
        loaded = scoring.parse_models(
            found["learner"],
            found["seeds"],
            found["folds"],
            tuple(made_with),
            lambda name: part(f"models/{name}"),
        )
    return Bundle(
        name=str(path),
        classes=classes,
        positive=positive,
        made_with=made_with,
        ensemble=loaded,
        uncertainty=uncertainty.of_arrays(kept, classes, positive, found["sensitivity"], reference),
        about=found["about"],
        weights=weights,
        identity=archive.sealed_with(path),
    )


def arrays(content: bytes, path: Path, name: str) -> Flat:
    """The arrays of an .npz in a bundle."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except Exception as error:  # NumPy's reader raises whatever a damaged archive throws up.
        raise InputError(f"{name} of {path} cannot be read: make the bundle anew") from error
