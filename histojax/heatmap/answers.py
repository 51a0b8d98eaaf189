"""What `predict` says of the fields that are to be mapped, so that a map can say it too.

The same function predicts them, with all augmentations and crops of the protocol, so that a map and
predictions.csv cannot contradict each other.
"""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

from absl import logging

from histojax.errors import InputError
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.images.names import file_label
from histojax.images.padding import read_sizes
from histojax.prediction import outputs, predict
from histojax.prediction.bundle import Bundle
from histojax.prediction.predict import ImageFiles
from histojax.prediction.summary import PredictionSummary
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files

FOLDER = "predictions"  # In the folder of maps.
MOST_PIXELS = 2**27  # Of a field that is predicted: it is read whole.


class Answer(NamedTuple):
    """What `predict` says of a field; or why it says nothing."""

    prediction: Prediction | None
    unpredicted: str = "no prediction was made"


def answer(predicted: PredictionSummary | None, name: str, label: str) -> Answer:
    """What a run of `predict` says of one image.

    Args:
      predicted: the run; None where there was none.
      name, label: of the image, and of its file in the run's failures.
    """
    if predicted is None:
        return Answer(None)
    found = next((one for one in predicted.predictions if one.image == name), None)
    return Answer(found, predicted.failed.get(label, Answer(None).unpredicted))


def predict_fields(
    bundle: Bundle,
    images: ImageFiles,
    out: Path,
    encoder_set: EncoderSet,
    predictions: Path | None = None,
) -> PredictionSummary:
    """Predicts the fields; one that cannot be predicted is among the failed, even if all are.

    Args:
      bundle: the models.
      images: image files by name.
      out: the folder of maps, in which predictions are kept.
      encoder_set: the bundle's encoders.
      predictions: a folder that `predict` wrote: descriptors that are there are not computed again,
        and its options are used.
    """
    too_large = _too_large(bundle, images)
    kept = {name: path for name, path in images.images.items() if name not in too_large}
    summary = PredictionSummary((), {})
    if kept:
        fitting = dataclasses.replace(images, images=kept)
        summary = _predict(bundle, fitting, out, encoder_set, predictions)
    labelled = {file_label(name, images.images[name]): text for name, text in too_large.items()}
    return dataclasses.replace(summary, failed=summary.failed | labelled)


def _too_large(bundle: Bundle, images: ImageFiles) -> dict[str, str]:
    """Why fields are not predicted that a map reads in tiles, but `predict` whole, by image."""
    causes = {}
    for name, path in images.images.items():
        try:
            sizes = read_sizes([path], bundle.extraction, images.mpp).values()
        except InputError:
            continue  # `predict` says what is wrong with it.
        most = max(math.prod(size) for (size,) in sizes)
        if most > MOST_PIXELS:
            causes[name] = (
                f"it has {most / 1e6:.0f} Mpx, and predict reads a field whole, of at "
                f"most {MOST_PIXELS / 1e6:.0f} Mpx"
            )
    return causes


def _predict(
    bundle: Bundle, images: ImageFiles, out: Path, encoder_set: EncoderSet, predictions: Path | None
) -> PredictionSummary:
    """`predict_fields` of fields that are not too large."""
    made = out / FOLDER
    if predictions and not predictions.exists():
        logging.warning("%s is not there: the fields are predicted into %s", predictions, made)
        predictions = None
    try:
        return predict.predict_images(
            bundle,
            images,
            made,
            descriptors=(predictions or made) / "descriptors",
            options=options_of(predictions, bundle) if predictions else PredictionOptions(),
            encoder_set=encoder_set,
        )
    except InputError as error:
        causes = {file_label(name, path): str(error) for name, path in images.images.items()}
        return PredictionSummary((), causes)


def options_of(predictions: Path, bundle: Bundle) -> PredictionOptions:
    """The options that a folder of predictions was made with; the default ones by other models."""
    run = predictions / outputs.RUN
    recorded = files.read_json(run, ()) if run.exists() else {}
    if recorded.get("models") != bundle.identity:
        return PredictionOptions()
    return PredictionOptions(**recorded["wishes"])
