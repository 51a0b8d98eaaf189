"""Predictions on disk, each written as it is made, so that an interrupted run can be continued.

OUT/predictions.csv               image, predicted, p_<class>, positive_classes, positive_score,
                                  decision, spreads, set, p-values, abstain, trained_on; label and
                                  group where they are known
OUT/predictions.jsonl             the same with nothing rounded, one JSON object per image
OUT/submission.csv                the authors' form: name.tif,Class, without a header
OUT/submission_probabilities.csv  case,class,P(Normal),...: classes are numbered from 1
OUT/failures.csv                  images that could not be predicted, and why
OUT/run.json                      the models and options that the predictions were made with
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from absl import logging

from histojax.errors import InputError
from histojax.extraction import manifests
from histojax.prediction import summary
from histojax.prediction.bundle import Bundle
from histojax.prediction.summary import FAILURES, KnownLabel, PredictionSummary
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files

TABLE, LINES = "predictions.csv", "predictions.jsonl"
SUBMISSION, WITH_PROBABILITIES = "submission.csv", "submission_probabilities.csv"
RUN = "run.json"

_FORMAT = 2  # Of the files; predictions of an earlier one are made again.
_DECISIONS = {True: "positive", False: "negative", None: ""}
_YES_OR_NO = {True: "yes", False: "no", None: ""}
_SPELLING = {"InSitu": "In Situ"}  # How BACH spells its classes in P(...).


@dataclasses.dataclass(frozen=True)
class PredictionWriter:
    """Adds predictions to the files of a folder; made by `open_writer`.

    Attributes:
      bundle, out, options, labels: as for `open_writer`.
      stored: prediction, and SHA-256 of the image's file, by image.
      lines, table: the open files.
    """

    bundle: Bundle
    out: Path
    options: PredictionOptions
    labels: Mapping[str, KnownLabel]
    stored: dict[str, tuple[Prediction, str]]
    lines: TextIO
    table: TextIO

    def has(self, image: str, digest: str) -> bool:
        """Whether an image was predicted already, from a file of this SHA-256."""
        return image in self.stored and self.stored[image][1] == digest

    def add(self, prediction: Prediction, digest: str) -> None:
        """Writes a prediction at once, in place of one of another file of that name."""
        self.stored[prediction.image] = prediction, digest
        self.lines.write(_line(prediction, digest))
        self.lines.flush()
        self.table.write(files.to_csv(_rows([prediction], self.bundle, self.labels)))
        self.table.flush()

    def finish(self, images: set[str], failed: dict[str, str]) -> PredictionSummary:
        """Sorts the predictions of these images, and writes submissions and failures, at the end.

        Raises:
          InputError: no image could be predicted.
        """
        files.write_csv(self.out / FAILURES, sorted(failed.items()), ("image", "cause"))
        stored = [self.stored[image] for image in sorted(images & self.stored.keys())]
        if not stored:
            first = next(iter(failed.values()))
            raise InputError(f"none of {len(failed)} images could be predicted; the first: {first}")
        if others := len(self.stored) - len(stored):
            logging.warning(
                "%s held predictions of %d other images, which are left out now", self.out, others
            )
        _rewrite(self.out, stored, self.bundle, self.labels)
        predictions = tuple(prediction for prediction, _ in stored)
        write_submissions(self.out, predictions, self.bundle.classes)
        return summary.summarise(predictions, failed, self.bundle, self.options, self.labels)


@contextlib.contextmanager
def open_writer(
    bundle: Bundle,
    out: Path,
    options: PredictionOptions,
    labels: Mapping[str, KnownLabel] | None = None,
) -> Iterator[PredictionWriter]:
    """Opens the files of a folder for predictions.

    Predictions that are there are kept if the same bundle made them with the same options, and are
    removed otherwise.

    Args:
      bundle: the models.
      out: the folder.
      options: of the predictions.
      labels: known label and group, by image, which are written beside the predictions.

    Raises:
      InputError: the predictions in the folder are damaged.
    """
    labels = labels or {}
    run = {"format": _FORMAT, "models": bundle.identity, "wishes": dataclasses.asdict(options)}
    is_same = (out / RUN).exists() and files.read_json(out / RUN, ()) == run
    stored = read_lines(out / LINES) if is_same else []
    if not all(_is_sound(prediction, bundle.classes) for prediction, _ in stored):
        raise InputError(f"{out / LINES} is damaged: remove the file")
    _rewrite(out, stored, bundle, labels)
    files.write_json(out / RUN, run)
    by_image = {prediction.image: (prediction, digest) for prediction, digest in stored}
    with (
        (out / LINES).open("a", encoding="utf-8") as lines,
        (out / TABLE).open("a", encoding="utf-8", newline="") as table,
    ):
        yield PredictionWriter(bundle, out, options, labels, by_image, lines, table)


def read_lines(path: Path) -> list[tuple[Prediction, str]]:
    """The predictions in a predictions.jsonl, each with the SHA-256 of the image's file.

    An interrupted run may have left half a line at the end, which is left out.

    Raises:
      InputError: another line is damaged.
    """
    predictions = []
    lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    for number, text in enumerate(lines, start=1):
        try:
            record = json.loads(text)
            digest = record.pop("file_sha256")
            record |= {key: tuple(record[key]) for key in ("prediction_set", "abstain")}
            predictions.append((Prediction(**record), digest))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number < len(lines):
                raise InputError(f"{path}, line {number}, is damaged: remove the file") from error
    return predictions


def _is_sound(prediction: Prediction, classes: Sequence[str]) -> bool:
    """Whether a prediction that was read can be one of these classes."""
    texts = (prediction.image, prediction.file, *prediction.abstain)
    numbers = [*prediction.probabilities.values(), prediction.positive_score]
    numbers += [prediction.spread_augmentations, prediction.spread_models]
    numbers += [prediction.stain_p, prediction.descriptors_p]
    return (
        all(isinstance(text, str) for text in texts)
        and prediction.predicted in ("", *classes)
        and tuple(prediction.probabilities) == tuple(classes)
        and {*prediction.prediction_set} <= {*classes}
        and all(value is None or type(value) in (int, float) for value in numbers)
        and {prediction.positive, prediction.trained_on} <= {True, False, None}
    )


def header(classes: Sequence[str], labelled: bool = False) -> list[str]:
    """The columns of predictions.csv; `label` and `group` where labels are known."""
    return [
        "image",
        *(["label", "group"] if labelled else []),
        "predicted",
        *(f"p_{name}" for name in classes),
        "positive_classes",
        "positive_score",
        "decision",
        "spread_augmentations",
        "spread_models",
        "prediction_set",
        "stain_p",
        "descriptors_p",
        "abstain",
        "causes",
        "trained_on",
        "weights",
    ]


def row(
    prediction: Prediction,
    positive_classes: Sequence[str],
    weights: str,
    label: KnownLabel | None = None,
) -> list[str]:
    """A row of predictions.csv; `weights` says where the encoders' weights come from."""
    return [
        prediction.image,
        *(label or ()),
        prediction.predicted,
        *(decimals(value) for value in prediction.probabilities.values()),
        ";".join(positive_classes),
        decimals(prediction.positive_score),
        _DECISIONS[prediction.positive],
        decimals(prediction.spread_augmentations),
        decimals(prediction.spread_models),
        ";".join(prediction.prediction_set),
        decimals(prediction.stain_p),
        decimals(prediction.descriptors_p),
        _YES_OR_NO[bool(prediction.abstain)],
        "; ".join(prediction.abstain),
        _YES_OR_NO[prediction.trained_on],
        weights,
    ]


def decimals(value: float | None) -> str:
    """Six decimals; empty for None."""
    return "" if value is None else f"{value:.6f}"


def write_submissions(
    folder: Path, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Writes both forms of submission, sorted by file name and by case; images without a class are
    left out.

    Images called test0, test1 and so on are BACH's test set, in whatever format they are stored:
    their files are test0.tif, test1.tif, ..., their cases the numbers. The case of any other image
    is its name.
    """
    predictions = [prediction for prediction in predictions if prediction.predicted]
    matches = {one.image: re.fullmatch(r"test(\d+)", one.image) for one in predictions}
    is_bach = all(matches.values())
    labels, cases = [], []
    for prediction in predictions:
        image = prediction.image
        file, case = (
            (f"{image}.tif", int(matches[image][1])) if is_bach else (prediction.file, image)
        )
        labels.append((file, prediction.predicted))
        probabilities = [decimals(value) for value in prediction.probabilities.values()]
        cases.append((case, 1 + classes.index(prediction.predicted), *probabilities))
    files.write_csv(folder / SUBMISSION, sorted(labels))
    columns = [f"P({_SPELLING.get(name, name)})" for name in classes]
    files.write_csv(folder / WITH_PROBABILITIES, sorted(cases), ["case", "class", *columns])


def _rewrite(
    out: Path,
    stored: Sequence[tuple[Prediction, str]],
    bundle: Bundle,
    labels: Mapping[str, KnownLabel],
) -> None:
    """Replaces predictions.jsonl and predictions.csv."""
    files.write_text(out / LINES, "".join(_line(*pair) for pair in stored))
    rows = _rows([prediction for prediction, _ in stored], bundle, labels)
    files.write_csv(out / TABLE, rows, header(bundle.classes, bool(labels)))


def _rows(
    predictions: Iterable[Prediction], bundle: Bundle, labels: Mapping[str, KnownLabel]
) -> list[list[str]]:
    """Rows of predictions.csv."""
    weights = manifests.weights_text(bundle.made_with.values())
    positive = [bundle.classes[i] for i in bundle.positive]
    unknown = ("", "") if labels else None
    return [
        row(prediction, positive, weights, labels.get(prediction.image, unknown))
        for prediction in predictions
    ]


def _line(prediction: Prediction, digest: str) -> str:
    """A line of predictions.jsonl, with the SHA-256 of the image's file, to recognise it by."""
    values = dataclasses.asdict(prediction) | {"file_sha256": digest}
    return json.dumps(values) + "\n"
