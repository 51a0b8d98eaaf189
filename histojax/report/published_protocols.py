"""Encoders judged by a published protocol, beside the published figures: page, CSV, JSON, text.

OUT/published.html, published.csv, published.json     a row an encoder
OUT/predictions.csv                                   encoder, seed, image, label, predicted
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset
from histojax.datasets.bach.published_protocols import PublishedProtocol, Split
from histojax.evaluation import published_protocols as evaluation
from histojax.evaluation.metrics import METRICS
from histojax.evaluation.published_protocols import Figure, Judged
from histojax.report import TEMPLATES, formats
from histojax.report.tables import PUBLISHED_MEAN_AND_DEVIATION
from histojax.utils import files, templates

_HEADER = (
    *("protocol", "encoder", "weights", "descriptor", "metric", "mean", "deviation", "low", "high"),
    *("published", "difference", "source", "last_epoch", "other_metric", "other_mean"),
    *("other_low", "other_high", "by_seed", "fitted"),
)
_PREDICTED = ("encoder", "seed", "image", "label", "predicted")
_PARTS = {"fitted": "fitted to", "chosen": "chosen by", "reported": "reported"}


def write(
    folder: Path | str,
    protocol: PublishedProtocol,
    judged: Sequence[Judged],
    dataset: Dataset,
    split: Split,
    notices: Sequence[str] = (),
) -> str:
    """Writes the four files, and returns the table and its notes as text.

    Args:
      folder: where the files go.
      protocol: by which the encoders were judged.
      judged: the encoders.
      dataset, split: the images, and which were fitted to, chosen by and reported.
      notices: sentences on these data, for people.
    """
    folder = files.as_path(folder)
    rows = [_row(protocol, each) for each in judged]
    said = [*notes(protocol, judged), *notices]
    files.write_csv(folder / "published.csv", [row.values() for row in rows], _HEADER)
    files.write_json(
        folder / "published.json",
        formats.for_json({"encoders": rows, "parts": _parts(dataset, split), "notes": said}),
    )
    files.write_csv(folder / "predictions.csv", _predictions(judged), _PREDICTED)
    page = templates.render(
        TEMPLATES,
        "published.html",
        protocol=protocol,
        head=_head(protocol),
        rows=[_cells(protocol, each) for each in judged],
        judged=judged,
        parts=_parts(dataset, split),
        classes=BACH_CLASSES,
        notes=said,
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    files.write_text(folder / "published.html", page)
    return "\n".join([*_table(protocol, judged), "", *(f"- {note}" for note in said)])


def notes(protocol: PublishedProtocol, judged: Sequence[Judged]) -> list[str]:
    """What a reader of the table must know."""
    predictions = judged[0].predictions[0]
    images, groups = len(predictions.names), predictions.resampling_groups
    metric = METRICS[protocol.metric].label.lower().replace("f1", "F1")
    if protocol.chosen_on_reported:
        chosen = (
            f"As {protocol.publisher} does, the epoch is chosen by the {metric} of the very "
            f"{images} images that are reported, which flatters every encoder; the column of the "
            "last epoch has the heads that fitting ended with."
        )
    else:
        chosen = (
            f"Learning rate, weight decay and epoch are chosen by the {metric} of other images; "
            f"nothing is chosen by the {images} that are reported."
        )
    count = protocol.published_seeds
    runs = "of one run each" if count == 1 else f"means of {count} runs"
    sample = f"the {len(set(groups))} patients of the" if groups else "the"
    published, deviation = PUBLISHED_MEAN_AND_DEVIATION["Model fusion"]
    made = [
        chosen,
        f"Mean and standard deviation are of {protocol.seeds} seeds, of the first weights and the "
        f"order of the images; intervals are of that mean and resample {sample} {images} images"
        + ("." if groups else ": with few patients they are too narrow (--groups names them)."),
        f"Published figures are {runs}: {protocol.source}. Two versions of one benchmark differ by "
        "up to 3 points for the same encoder.",
        f"Neither eva's figures nor THUNDER's compare with the paper's {published} ± {deviation} "
        "%: that is accuracy in ten folds of all 400 images, these are another metric of another "
        "split.",
        "A whole photo becomes 224 pixels high, of 2.9 um each, where most of these encoders were "
        "trained at 0.5; eva leaves BACH out of its ranking for that reason.",
    ]
    if protocol.own_resizing:
        made.append(
            "THUNDER resizes photos as each model's own files say; here the shorter side is "
            "brought to the side, and by the filter, that the encoder's row names, else to 224 px "
            "bilinearly."
        )
    return made


def _row(protocol: PublishedProtocol, judged: Judged) -> dict[str, Any]:
    """The cells below `_HEADER`; shares, and empty where there is nothing."""
    (name, figure), (other_name, other) = _ordered(protocol, judged)
    published = judged.published
    values = (
        *(protocol.name, judged.encoder, judged.weights, judged.described, name),
        *(figure.mean, figure.deviation, figure.interval.low, figure.interval.high),
        *((published, figure.mean - published, protocol.source) if published else ("", "", "")),
        *(judged.last, other_name, other.mean, other.interval.low, other.interval.high),
        *(" ".join(f"{value:.6f}" for value in figure.by_seed), "; ".join(judged.fitted)),
    )
    return dict(zip(_HEADER, values, strict=True))


def _ordered(protocol: PublishedProtocol, judged: Judged) -> list[tuple[str, Figure]]:
    """The protocol's metric and the other, each with its figure."""
    return [(name, judged.figures[name]) for name in _metrics(protocol)]


def _metrics(protocol: PublishedProtocol) -> list[str]:
    """The protocol's metric and the other."""
    return sorted(evaluation.METRICS, key=protocol.metric.__ne__)


def _head(protocol: PublishedProtocol) -> list[str]:
    """The headings of the table."""
    label, other = (METRICS[name].label for name in _metrics(protocol))
    last = ["last epoch"] if protocol.chosen_on_reported else []
    return ["encoder", label.lower(), "95 % interval", "published", "difference", *last, other]


def _cells(protocol: PublishedProtocol, judged: Judged) -> list[str]:
    """A row of the table, as people read it."""
    (name, figure), (other_name, other) = _ordered(protocol, judged)
    published = judged.published
    last = [formats.number(name, judged.last)] if protocol.chosen_on_reported else []
    return [
        judged.encoder,
        formats.spread(name, figure.mean, figure.deviation),
        formats.interval(name, figure.interval),
        formats.number(name, published) if published else "–",
        f"{formats.points(figure.mean - published)} points" if published else "–",
        *last,
        formats.number(other_name, other.mean),
    ]


def _table(protocol: PublishedProtocol, judged: Sequence[Judged]) -> list[str]:
    """The lines of the table, in columns."""
    rows = [_head(protocol), *(_cells(protocol, each) for each in judged)]
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return [
        "".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _parts(dataset: Dataset, split: Split) -> dict[str, dict[str, int]]:
    """How many images of each class are in each part."""
    labels = np.array(dataset.labels)
    return {
        _PARTS[part]: {
            name: int((labels[places] == dataset.classes.index(name)).sum())
            for name in BACH_CLASSES
        }
        for part, places in split._asdict().items()
    }


def _predictions(judged: Sequence[Judged]) -> list[tuple]:
    return [
        (each.encoder, seed, name, of_seed.classes[truth], of_seed.classes[predicted])
        for each in judged
        for seed, of_seed in enumerate(each.predictions)
        for name, truth, predicted in zip(
            of_seed.names, of_seed.truth, of_seed.predicted, strict=True
        )
    ]
