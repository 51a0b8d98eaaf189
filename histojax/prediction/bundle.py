"""A trained ensemble in one file, with everything that predictions need.

contents.json       the size and SHA-256 of every other part (see `histojax.utils.archive`)
bundle.json         classes, learner, protocol, training data, versions
MODEL_CARD.md       what people should know
out_of_fold.npz     scores, truth, fold and group of the training images, by number
typical.npz         mean descriptors and stain of the training images, by number
places.npz          the same of places in them, which positions of a heat map are compared with
models/<configuration>/seed0-fold01.txt    LightGBM's text, XGBoost's .json, a head's .npz
weights/<encoder>.npz    an encoder's variables, unless random, left out, or of imported features

Reading a bundle needs no JAX, and nothing in it can run code.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from histojax.config import VERSION, Extraction
from histojax.datasets import copies, leakage, positive
from histojax.evaluation import calibration, operating_point
from histojax.extraction import manifests, provenance
from histojax.learners import ensembles, scoring
from histojax.learners.ensembles import Ensemble
from histojax.learners.scoring import LoadedEnsemble
from histojax.prediction import bundle_form, learned, pixel_sizes
from histojax.prediction.learned import Uncertainty
from histojax.prediction.out_of_distribution import ReferenceDistribution
from histojax.utils import archive, files

KIND = "histojax bundle"
FORMAT_VERSION = 1
DESCRIPTION, CARD = "bundle.json", "MODEL_CARD.md"
OUT_OF_FOLD, REFERENCE, PLACES = "out_of_fold.npz", "typical.npz", "places.npz"
_KEYS = ("classes", "positive", "learner", "seeds", "folds", "sensitivity", "made_with", "about")

Flat = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An ensemble that can predict.

    Attributes:
      name: where it was read from, for messages.
      classes: K names.
      positive: indices of the positive classes; empty for none.
      made_with: the manifest of each configuration's descriptors; None where it is unknown.
      ensemble: the models.
      uncertainty: what is known of their mistakes.
      about: what a reader wants to know: data, licences, versions.
      weights: variables, by flat name, of the encoders that are in the file.
      identity: SHA-256 of the contents table of the file or, for a folder of models, of the parts
        that decide its predictions.
      places: places in the training images, which positions of a heat map are compared with; None
        where unknown.
    """

    name: str
    classes: tuple[str, ...]
    positive: tuple[int, ...]
    made_with: dict[str, manifests.Manifest | None]
    ensemble: LoadedEnsemble
    uncertainty: Uncertainty
    about: dict[str, Any]
    weights: dict[str, Flat]
    identity: str
    places: ReferenceDistribution | None = None

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names such as ResNet-0.5-400."""
        return self.ensemble.configurations

    @property
    def imported(self) -> bool:
        """Whether descriptors are made of features that others computed, so no encoder is here."""
        return provenance.are_imported(self.made_with)

    @property
    def extraction(self) -> Extraction:
        """The protocol for new images; InputError where it is unknown, or features are imported."""
        return manifests.extraction_of(self.made_with, self.name)

    @property
    def positive_reason(self) -> str:
        """A sentence on which classes are positive, and why."""
        return self.uncertainty.out_of_fold.positive_reason

    @property
    def temperature(self) -> float:
        """The temperature that calibrates the mean scores of all models."""
        return self.uncertainty.temperature

    @property
    def threshold(self) -> float | None:
        """The operating point of the calibrated positive score; None without positive classes."""
        return self.uncertainty.threshold()

    def score(self, configuration: str, descriptors: np.ndarray) -> np.ndarray:
        """Mean scores of a configuration's models, not calibrated.

        Args:
          configuration: its name.
          descriptors: float32 [N, A, D].

        Returns:
          float64 [N, K].
        """
        by_model = self.ensemble.scores_by_model({configuration: descriptors})
        return np.mean([scores.mean(axis=1) for _, _, scores in by_model], axis=0)

    def encoder_weights(self, encoder: str) -> dict[str, str]:
        """What is recorded of an encoder's weights; the protocol must be known."""
        return self._manifest_of(encoder)["weights"]

    def encoder_module(self, encoder: str) -> dict[str, str] | None:
        """What is recorded of a user's encoder (see `modules`); None for one of histojax."""
        return self._manifest_of(encoder).get("module")

    def _manifest_of(self, encoder: str) -> manifests.Manifest:
        of_encoder = (m for m in self.made_with.values() if m["protocol"]["encoder"] == encoder)
        return next(of_encoder)


def from_models(
    models: str | Path,
    positive_classes: Sequence[str] = (),
    target_sensitivity: float = operating_point.TARGET_SENSITIVITY,
    descriptors: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Bundle:
    """The ensemble in a folder, ready to predict.

    Args:
      models: the folder, as training writes it.
      positive_classes: names of the positive classes, as `positive.choose` takes them.
      target_sensitivity: that the operating point is chosen for.
      descriptors: folder of the training images' descriptors; without it, how far a new image is
        from the training images stays unknown.
      about: what a reader wants to know beyond what the folder tells.

    Raises:
      InputError: the ensemble is incomplete or cannot predict, or the descriptors are missing or
        not those it was trained on.
    """
    models = files.as_path(models)
    ensemble = ensembles.load(models)
    chosen = positive.choose(ensemble.folds.classes, positive_classes)
    if descriptors is not None:
        descriptors = files.as_path(descriptors)
        scoring.check_same_extraction(ensemble.extractions, descriptors)
    known = learned.from_ensemble(ensemble, chosen, target_sensitivity, descriptors)
    if known.temperature > 0.9 * calibration.TEMPERATURE_RANGE[1]:
        logging.warning(
            "the out-of-fold scores of %s do not tell the classes apart: its predictions are of no "
            "use",
            models,
        )
    bundle = Bundle(
        name=str(models),
        classes=ensemble.folds.classes,
        positive=chosen.indices,
        made_with=ensemble.extractions,
        ensemble=scoring.load_models(ensemble),
        uncertainty=known,
        about=_facts(ensemble)
        | pixel_sizes.of_training(descriptors, ensemble.folds.names)
        | dict(about or {}),
        weights={},
        identity="",
    )
    contents = archive.contents_table(KIND, FORMAT_VERSION, _decisive_parts(bundle, models))
    return dataclasses.replace(bundle, identity=archive.identity(contents))


def write(
    path: str | Path, bundle: Bundle, models: str | Path, card: str, weights: Mapping[str, Flat]
) -> str:
    """Writes a bundle, whole or not at all; returns its identity.

    Args:
      path: the file.
      bundle: made by `from_models`.
      models: the folder it was made from, whose model files go in unchanged.
      card: the model card, Markdown.
      weights: variables, by flat name, of the encoders that go in.

    Raises:
      InputError: the path is a folder, or the protocol of the descriptors is unknown, so nobody
        could extract from images for this bundle.
    """
    encoders = () if bundle.imported else bundle.extraction.encoders
    description = _decisive_values(bundle) | {
        "about": bundle.about | {"histojax": VERSION},
        "weights": {name: bundle.encoder_weights(name)["sha256"] for name in encoders},
        "weights_in_file": sorted(weights),
        "positive_reason": bundle.positive_reason,
        "temperature": bundle.temperature,
        "operating_point": bundle.threshold,
    }
    parts: dict[str, bytes | Path] = {DESCRIPTION: b"", CARD: card.encode()}
    parts |= _decisive_parts(bundle, files.as_path(models))
    parts[DESCRIPTION] = files.to_json(description).encode()
    if bundle.places is not None:
        parts[PLACES] = archive.to_npz(bundle.places.to_arrays())
    parts |= {f"weights/{name}.npz": archive.to_npz(flat) for name, flat in weights.items()}
    return archive.write(files.as_path(path), KIND, FORMAT_VERSION, parts)


def load(path: str | Path) -> Bundle:
    """Reads a bundle and verifies all of it.

    Raises:
      InputError: it is no bundle, of another version, altered, cut short, or lacks a part.
    """
    path = files.as_path(path)
    with archive.open_verified(path, KIND, FORMAT_VERSION) as opened:
        description = files.parse_json(opened.read(DESCRIPTION), f"{DESCRIPTION} of {path}", _KEYS)
        bundle_form.check(description, f"{DESCRIPTION} of {path}")
        classes, made_with = tuple(description["classes"]), description["made_with"]
        chosen = positive.stored(
            classes, description["positive"], description.get("positive_reason", "")
        )
        reference, places = (
            ReferenceDistribution.from_arrays(archive.read_npz(opened, name))
            if name in opened.names
            else None
            for name in (REFERENCE, PLACES)
        )
        known = learned.from_arrays(
            archive.read_npz(opened, OUT_OF_FOLD),
            classes,
            chosen,
            description["sensitivity"],
            reference,
            training_files=description.get("training_files"),
            groups_are_known=description["about"].get("groups") != 0,
        )
        matches = [re.fullmatch(r"weights/([\w-]+)\.npz", name) for name in opened.names]
        weights = {match[1]: archive.read_npz(opened, match[0]) for match in matches if match}
        loaded = scoring.parse_models(
            description["learner"],
            description["seeds"],
            description["folds"],
            tuple(made_with),
            lambda name: opened.read(f"models/{name}"),
        )
        return Bundle(
            name=str(path),
            classes=classes,
            positive=chosen.indices,
            made_with=made_with,
            ensemble=loaded,
            uncertainty=known,
            about=description["about"],
            weights=weights,
            identity=opened.identity,
            places=places,
        )


def _decisive_values(bundle: Bundle) -> dict[str, Any]:
    """The values of bundle.json that decide predictions."""
    training_files = bundle.uncertainty.training_files
    return {
        "classes": bundle.classes,
        "positive": bundle.positive,
        "learner": bundle.ensemble.learner,
        "seeds": bundle.ensemble.seeds,
        "folds": bundle.ensemble.folds,
        "sensitivity": bundle.uncertainty.target_sensitivity,
        "made_with": bundle.made_with,
        "training_files": None if training_files is None else sorted(training_files),
    }


def _decisive_parts(bundle: Bundle, models: Path) -> dict[str, bytes | Path]:
    """The parts that decide predictions."""
    parts: dict[str, bytes | Path] = {
        DESCRIPTION: files.to_json(_decisive_values(bundle)).encode(),
        OUT_OF_FOLD: archive.to_npz(bundle.uncertainty.to_arrays()),
    }
    if bundle.uncertainty.reference is not None:
        parts[REFERENCE] = archive.to_npz(bundle.uncertainty.reference.to_arrays())
    ensemble = bundle.ensemble
    for configuration in bundle.configurations:
        names = ensembles.model_names(
            configuration, ensemble.seeds, ensemble.folds, ensemble.learner
        )
        parts |= {f"models/{name}": models / name for name in names}
    return parts


def _facts(ensemble: Ensemble) -> dict[str, Any]:
    """What an ensemble's folder tells about its data and how it was trained."""
    folds, audit = ensemble.folds, leakage.audit(ensemble.folds)
    return {
        "created": datetime.date.today().isoformat(),
        "images": {name: int((folds.labels == i).sum()) for i, name in enumerate(folds.classes)},
        "groups": len(copies.known(folds.groups)),
        "split": folds.origin,
        "leakage": audit.verdict if audit.leaks else "",
        "parameters": ensemble.parameters,
        "versions": {
            name: manifest["versions"]
            for name, manifest in ensemble.extractions.items()
            if manifest and "versions" in manifest
        },
    }
