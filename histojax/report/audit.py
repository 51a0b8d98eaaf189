"""The audit of a split as files: audit.json, audit.csv, duplicates.csv and duplicates.html."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histojax.datasets import Dataset, leakage
from histojax.datasets.folds import Folds
from histojax.evaluation.copies import CopiesStudy
from histojax.images.names import file_label
from histojax.inspection import split_pairs
from histojax.inspection.split_pairs import SplitPair
from histojax.report import TEMPLATES, copies, formats, images
from histojax.utils import files, templates

_SHOWN = 200  # Pairs in duplicates.html, at most.
_SIDE = 320  # Longest side of their images, px.
_COLUMNS = (
    *("first", "second", "first_fold", "second_fold", "first_class", "second_class"),
    *("leaks", "label_conflict", "kind", "inliers", "correlation"),
    *("shared_of_first", "shared_of_second"),
    # What takes points of the second image onto the first.
    *("mirrored", "degrees", "scale", "shift_x", "shift_y"),
)


def write(
    folder: Path | str,
    audit: leakage.LeakageAudit,
    pairs: Sequence[SplitPair] | None,
    split: Folds,
    dataset: Dataset,
    study: CopiesStudy | None = None,
) -> tuple[str, ...]:
    """Writes the four files, or those of groups alone, and returns their names.

    Args:
      folder: where they go.
      audit: of the split.
      pairs: near-duplicates, the surest first; None where there are no images to compare.
      split: whose images the pairs index.
      dataset: the same images, in the same order.
      study: what accuracy becomes without copies in training, where any crosses folds.
    """
    folder = files.as_path(folder)
    numbers = leakage.as_dict(audit)
    if pairs is not None:
        numbers |= {"duplicates": split_pairs.counts(pairs)}
    numbers |= {"copies_kept_together": copies.kept_together(split)}
    numbers |= formats.for_json({"without_copies": study and copies.as_dict(study)})
    files.write_json(folder / "audit.json", numbers)
    files.write_csv(folder / "audit.csv", *leakage.as_table(audit))
    if pairs is None:
        return "audit.json", "audit.csv"
    files.write_csv(folder / "duplicates.csv", [_row(pair, split) for pair in pairs], _COLUMNS)
    page = templates.render(
        TEMPLATES,
        "duplicates.html",
        pairs=[_shown(pair, split, dataset) for pair in pairs[:_SHOWN]],
        summary=split_pairs.summary_lines(pairs, split, 0),
        count=len(pairs),
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    files.write_text(folder / "duplicates.html", page)
    return "audit.json", "audit.csv", "duplicates.csv", "duplicates.html"


def _row(split_pair: SplitPair, split: Folds) -> tuple:
    """The cells below _COLUMNS."""
    pair = split_pair.pair
    indices, transform = (pair.first, pair.second), pair.transform
    return (
        *(split.names[i] for i in indices),
        *(int(split.folds[i]) + 1 for i in indices),
        *(split.classes[split.labels[i]] for i in indices),
        *(int(split_pair.leaks), int(split_pair.conflict), pair.kind, pair.inliers),
        *(f"{value:.3f}" for value in (pair.correlation, *pair.shared)),
        *(int(transform.mirrored), f"{transform.degrees:.1f}", f"{transform.scale:.4f}"),
        *(f"{value:.1f}" for value in transform.shift),
    )


def _shown(split_pair: SplitPair, split: Folds, dataset: Dataset) -> dict[str, Any]:
    """What the page shows of a pair, the second image laid on the first."""
    pair = split_pair.pair
    indices = pair.first, pair.second
    names = [file_label(dataset.names[i], dataset.paths[i]) for i in indices]
    uris = images.pair_pictures(pair, *(dataset.paths[i] for i in indices), _SIDE)
    return {
        "images": [{"name": n, "uri": uri} for n, uri in zip(names, uris, strict=True)],
        "text": split_pairs.pair_line(split_pair, split),
        "is_problem": split_pair.leaks or split_pair.conflict,
    }
