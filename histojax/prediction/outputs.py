"""Predictions as files: tables for people and programs, and the two forms in which challenges take them.

predictions.csv               image, predicted, p_<class>, carcinoma_score, decision, spreads, set, p-values, abstain;
                              with label and group where they are known
predictions.jsonl             the same with nothing rounded, a JSON object an image
submission.csv                the authors' form: name.tif,Class, without a header
submission_probabilities.csv  case,class,P(Normal),...: classes are numbered from 1
"""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from histojax.errors import InputError
from histojax.prediction.uncertainty import Prediction
from histojax.utils import files

TABLE, LINES = "predictions.csv", "predictions.jsonl"
SUBMISSION, WITH_PROBABILITIES = "submission.csv", "submission_probabilities.csv"
Truth = tuple[str, str]  # An image's label and its group, which may be empty.

DECISIONS = {True: "carcinoma", False: "no carcinoma", None: ""}
SPELLED = {"InSitu": "In Situ"}  # As the challenge spells its classes in P(...).


def header(classes: Sequence[str], labelled: bool = False) -> list[str]:
    """The columns of predictions.csv; `label` is the truth, where it is known."""
    probabilities = [f"p_{name}" for name in classes]
    doubt = [
        "spread_augmentations",
        "spread_models",
        "prediction_set",
        "stain_p",
        "descriptors_p",
        "abstain",
        "causes",
    ]
    truth = ["label", "group"] if labelled else []
    return [
        "image",
        *truth,
        "predicted",
        *probabilities,
        "carcinoma_score",
        "decision",
        *doubt,
        "weights",
    ]


def row(prediction: Prediction, provenance: str, truth: Truth | None = None) -> list[str]:
    """A row of predictions.csv."""
    return [
        prediction.image,
        *(truth or ()),
        prediction.predicted,
        *(decimals(value) for value in prediction.probabilities.values()),
        decimals(prediction.carcinoma_score),
        DECISIONS[prediction.carcinoma],
        decimals(prediction.spread_augmentations),
        decimals(prediction.spread_models),
        ";".join(prediction.prediction_set),
        decimals(prediction.stain_p),
        decimals(prediction.descriptors_p),
        "yes" if prediction.abstain else "no",
        "; ".join(prediction.abstain),
        provenance,
    ]


def decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as they stand in a CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def line(prediction: Prediction, digest: str) -> str:
    """A line of predictions.jsonl; with the SHA-256 of the image's file, by which a later run knows it again."""
    return json.dumps(dataclasses.asdict(prediction) | {"file_sha256": digest}) + "\n"


def read_lines(path: Path) -> list[tuple[Prediction, str]]:
    """The predictions of a run that may have been broken off, which can have left half a line at the end.

    Raises:
      InputError: another line is damaged.
    """
    found = []
    lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    for number, text in enumerate(lines, start=1):
        try:
            value = json.loads(text)
            digest = value.pop("file_sha256")
            value |= {key: tuple(value[key]) for key in ("prediction_set", "abstain")}
            found.append((Prediction(**value), digest))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise InputError(f"{path}, line {number}, is damaged: remove the file") from error
    return found


def compared(
    predictions: Sequence[Prediction], truth: Mapping[str, Truth], coverage: float
) -> list[str]:
    """What known labels say of predictions, in lines."""
    known = [(each, truth[each.image][0]) for each in predictions if each.image in truth]
    used = [(each, label) for each, label in known if not each.abstain]
    lines = [f"labels known: {share([each.predicted == label for each, label in known])} right"]
    if len(used) < len(known):
        lines[0] += (
            f"; of those not abstained from {share([each.predicted == label for each, label in used])}"
        )
    held = share([label in each.prediction_set for each, label in known])
    return [*lines, f"in the prediction set: {held} (wished {coverage:.1%})"]


def share(holds: Sequence[bool]) -> str:
    """12 of 15 (80.0 %)."""
    return f"{sum(holds)} of {len(holds)}" + (f" ({sum(holds) / len(holds):.1%})" if holds else "")


def write_submissions(
    folder: Path, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Both forms, sorted by file name and by case.

    Images called test0, test1 and so on are BACH's test set, whatever they were stored as: their files are test0.tif,
    test1.tif, ..., their cases the numbers. A case of other images is the image's name.
    """
    numbers = {each.image: re.fullmatch(r"test(\d+)", each.image) for each in predictions}
    if all(numbers.values()):
        named = {image: (f"{image}.tif", int(match[1])) for image, match in numbers.items()}
    else:
        named = {each.image: (each.file, each.image) for each in predictions}
    labels = {each.image: each.predicted for each in predictions}
    files.write_csv(
        folder / SUBMISSION, sorted((named[image][0], label) for image, label in labels.items())
    )
    rows = [
        (
            named[each.image][1],
            1 + classes.index(each.predicted),
            *map(decimals, each.probabilities.values()),
        )
        for each in sorted(predictions, key=lambda each: named[each.image][1])
    ]
    spelled = [f"P({SPELLED.get(name, name)})" for name in classes]
    files.write_csv(folder / WITH_PROBABILITIES, rows, ["case", "class", *spelled])
