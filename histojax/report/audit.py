"""The audit of a split as files: audit.json, audit.csv, duplicates.csv and duplicates.html."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histojax.datasets import Dataset, leakage
from histojax.datasets.folds import Folds
from histojax.images import slide
from histojax.images.names import file_label
from histojax.images.thumbnails import thumbnail
from histojax.inspection import near_duplicates
from histojax.inspection.near_duplicates import SplitPair
from histojax.report import TEMPLATES
from histojax.utils import files, templates

_SHOWN = 200  # Pairs in duplicates.html, at most.
_SIDE = 320  # Longest side of their images, px.
_COLUMNS = (
    *("first", "second", "first_fold", "second_fold", "first_class", "second_class"),
    *("leaks", "label_conflict", "same_file", "distance", "correlation"),
    *("second_mirrored", "second_quarter_turns"),
)


def write(
    folder: Path | str,
    audit: leakage.LeakageAudit,
    pairs: Sequence[SplitPair] | None,
    split: Folds,
    dataset: Dataset,
) -> tuple[str, ...]:
    """Writes the four files, or those of groups alone, and returns their names.

    Args:
      folder: where they go.
      audit: of the split.
      pairs: near-duplicates, the surest first; None where there are no images to compare.
      split: whose images the pairs index.
      dataset: the same images, in the same order.
    """
    folder = files.as_path(folder)
    numbers = leakage.as_dict(audit)
    if pairs is not None:
        numbers |= {"duplicates": near_duplicates.counts(pairs)}
    files.write_json(folder / "audit.json", numbers)
    files.write_csv(folder / "audit.csv", *leakage.as_table(audit))
    if pairs is None:
        return "audit.json", "audit.csv"
    files.write_csv(folder / "duplicates.csv", [_row(pair, split) for pair in pairs], _COLUMNS)
    page = templates.render(
        TEMPLATES,
        "duplicates.html",
        pairs=[_shown(pair, split, dataset) for pair in pairs[:_SHOWN]],
        summary=near_duplicates.summary_lines(pairs, split, 0),
        count=len(pairs),
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    files.write_text(folder / "duplicates.html", page)
    return "audit.json", "audit.csv", "duplicates.csv", "duplicates.html"


def _row(split_pair: SplitPair, split: Folds) -> tuple:
    """The cells below _COLUMNS."""
    pair = split_pair.pair
    indices = pair.first, pair.second
    return (
        *(split.names[i] for i in indices),
        *(int(split.folds[i]) + 1 for i in indices),
        *(split.classes[split.labels[i]] for i in indices),
        *map(int, (split_pair.leaks, split_pair.conflict, pair.exact)),
        *(pair.distance, f"{pair.correlation:.3f}"),
        *map(int, pair.turn),
    )


def _shown(split_pair: SplitPair, split: Folds, dataset: Dataset) -> dict[str, Any]:
    """What the page shows of a pair, the second image turned to match the first."""
    pair = split_pair.pair
    images = []
    for i, turn in ((pair.first, (False, 0)), (pair.second, pair.turn)):
        planes = np.moveaxis(slide.read_small(dataset.paths[i]), -1, 0)
        rgb = np.moveaxis(near_duplicates.apply_turn(planes, turn), 0, -1)
        uri = thumbnail(np.ascontiguousarray(rgb), side=_SIDE)
        images.append({"name": file_label(dataset.names[i], dataset.paths[i]), "uri": uri})
    return {
        "images": images,
        "text": near_duplicates.pair_line(split_pair, split),
        "is_problem": split_pair.leaks or split_pair.conflict,
    }
