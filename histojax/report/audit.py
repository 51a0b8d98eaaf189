"""The audit of a split as files: numbers, a row a fold, and near-duplicate images side by side."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.datasets import Dataset, leakage
from histojax.datasets.folds import Folds
from histojax.images import reader
from histojax.images.thumbnails import thumbnail
from histojax.inspection import near_duplicates
from histojax.inspection.near_duplicates import SplitPair
from histojax.utils import files

SHOWN = 200  # Most pairs in duplicates.html.

COLUMNS = (
    "first",
    "second",
    "first_fold",
    "second_fold",
    "first_class",
    "second_class",
    "leaks",
    "label_conflict",
    "same_file",
    "distance",
    "correlation",
    "second_mirrored",
    "second_quarter_turns",
)
_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:60em}"
    "figure{margin:0 0 1.5em;page-break-inside:avoid}"
    "img{margin-right:.5em;vertical-align:top}.bad{color:#a00;font-weight:bold}"
)


def write(
    out: Path,
    audit: leakage.LeakageAudit,
    pairs: Sequence[SplitPair],
    split: Folds,
    dataset: Dataset,
) -> None:
    """Writes audit.json, audit.csv, duplicates.csv and duplicates.html."""
    numbers = leakage.as_dict(audit) | {"duplicates": near_duplicates.counts(pairs)}
    files.write_json(out / "audit.json", numbers)
    files.write_csv(out / "audit.csv", *leakage.as_table(audit))
    files.write_csv(out / "duplicates.csv", [_row(pair, split) for pair in pairs], COLUMNS)
    files.write_text(out / "duplicates.html", _page(pairs, split, dataset))


def _row(found: SplitPair, split: Folds) -> tuple:
    """The cells below COLUMNS."""
    pair, both = found.pair, (found.pair.first, found.pair.second)
    return (
        *(split.names[i] for i in both),
        *(int(split.folds[i]) + 1 for i in both),
        *(split.classes[split.labels[i]] for i in both),
        *(int(value) for value in (found.leaks, found.conflict, pair.exact)),
        pair.distance,
        f"{pair.correlation:.3f}",
        *map(int, pair.turn),
    )


def _page(pairs: Sequence[SplitPair], split: Folds, dataset: Dataset) -> str:
    """The pairs side by side in one file, the second image of each turned to match the first."""
    figures = [
        f"<figure>{_picture(dataset.paths[found.pair.first])}"
        f"{_picture(dataset.paths[found.pair.second], found.pair.turn)}"
        f"<figcaption{' class=bad' if found.leaks or found.conflict else ''}>"
        f"{html.escape(near_duplicates.pair_line(found, split))}</figcaption></figure>"
        for found in pairs[:SHOWN]
    ]
    lines = [html.escape(line) for line in near_duplicates.summary_lines(pairs, split, 0)]
    if pairs[SHOWN:]:
        lines.append(f"The {SHOWN} surest of {len(pairs)} pairs; duplicates.csv has all.")
    text = "".join(f"<p>{line}</p>" for line in lines)
    head = f'<meta charset="utf-8"><title>Near-duplicate images</title><style>{_STYLE}</style>'
    body = f"<h1>Near-duplicate images</h1>{text}{''.join(figures)}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _picture(path: Path, turn: tuple[bool, int] = (False, 0)) -> str:
    """An image, turned, as HTML."""
    planes = near_duplicates.apply_turn(np.moveaxis(reader.read(path), -1, 0), turn)
    uri = thumbnail(np.ascontiguousarray(np.moveaxis(planes, 0, -1)), side=320)
    return f'<img src="{uri}" alt="{html.escape(path.name)}" title="{html.escape(path.name)}">'
