"""Several methods on the same images: text, CSV and JSON, with paired differences to the first."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from histojax.evaluation import comparison, metrics
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.comparison import Comparison, Difference
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.report import formats
from histojax.utils import files

_SHOWN = (("accuracy", ""), ("positive_auc", ""), ("log_loss", ""))
_HEADER = (
    *("run", "compared_with", "metric", "of", "value", "value_of_first", "difference"),
    *("low_images", "high_images", "low_groups", "high_groups", "mcnemar_p", "seconds"),
)


def write(
    folder: Path | str,
    runs: dict[str, LabelledPredictions],
    seconds: dict[str, float | None],
    image_counts: dict[str, int] | None = None,
    draws: int = DRAWS,
) -> str:
    """Writes comparison.csv and comparison.json, and returns the table as text.

    Args:
      folder: where the files go.
      runs: at least two sets of predictions for the same images, by name; the first is what the
        others are compared with.
      seconds: the time that training took, where it is known.
      image_counts: how many images each run predicts by itself, where that may be more.
      draws: of the bootstrap.
    """
    folder = files.as_path(folder)
    first, *others = runs
    comparisons = {name: comparison.compare(runs[first], runs[name], draws) for name in others}
    rows = [
        _row(name, first, compared, difference, seconds.get(name))
        for name, compared in comparisons.items()
        for difference in compared.differences.values()
    ]
    files.write_csv(folder / "comparison.csv", rows, _HEADER)
    files.write_json(folder / "comparison.json", _numbers(first, comparisons, seconds))
    lines = _table(runs, comparisons, seconds) + _notes(runs, image_counts or {}, comparisons)
    return "\n".join(lines) + "\n"


def _row(
    name: str, first: str, compared: Comparison, difference: Difference, seconds: float | None
) -> list[Any]:
    """The cells below `_HEADER`."""
    images, groups = difference.images, difference.groups
    return [
        *(name, first, difference.name, difference.of),
        *(difference.other, difference.one, difference.value),
        *(images.low, images.high),
        *((groups.low, groups.high) if groups else ("", "")),
        *(compared.p_value, "" if seconds is None else seconds),
    ]


def _numbers(
    first: str, comparisons: dict[str, Comparison], seconds: dict[str, float | None]
) -> dict[str, Any]:
    """Every number, for programs."""
    runs = {
        name: {
            "only_first_right": compared.only_one,
            "only_this_right": compared.only_other,
            "mcnemar_p": compared.p_value,
            "differences": list(map(dataclasses.asdict, compared.differences.values())),
        }
        for name, compared in comparisons.items()
    }
    return formats.for_json({"compared_with": first, "seconds": seconds, "runs": runs})


def _table(
    runs: dict[str, LabelledPredictions],
    comparisons: dict[str, Comparison],
    seconds: dict[str, float | None],
) -> list[str]:
    """The lines of the table."""
    first = next(iter(runs))
    predictions = runs[first]
    images, groups = len(predictions.truth), predictions.resampling_groups
    resampled = f"{len(set(groups))} groups" if groups else f"{images} images"
    all_differences = [compared.differences for compared in comparisons.values()]
    keys = [key for key in _SHOWN if all(key in differences for differences in all_differences)]
    labels = [formats.label(all_differences[0][key], predictions) for key in keys]
    width = max(map(len, runs)) + 2
    lines = [
        f"{images} images; differences to {first}, with 95 % intervals from the paired "
        f"bootstrap of {resampled}",
        *([predictions.positive_reason] if predictions.positive_reason else []),
        f"{'':{width}}{''.join(f'{label:<44}' for label in labels)}{'McNemar':>8}{'seconds':>10}",
    ]
    values = metrics.compute(predictions, np.ones((1, images)))
    cells = "".join(f"{values[key][0]:<44.4f}" for key in keys)
    lines.append(f"{first:{width}}{cells}{'':>8}{_seconds(seconds.get(first)):>10}")
    for name, compared in comparisons.items():
        cells = "".join(f"{difference_text(compared.differences[key]):<44}" for key in keys)
        took = _seconds(seconds.get(name))
        lines.append(f"{name:{width}}{cells}{compared.p_value:>8.3f}{took:>10}")
    return lines


def _notes(
    runs: dict[str, LabelledPredictions],
    image_counts: dict[str, int],
    comparisons: dict[str, Comparison],
) -> list[str]:
    """What a reader of the table must know."""
    first, *others = runs
    notes, shared = [], len(runs[first].names)
    if more := [f"{name} {count}" for name, count in image_counts.items() if count > shared]:
        notes.append(
            f"note: only the {shared} images in all runs are compared (of {', '.join(more)})"
        )
    if apart := [name for name in others if not comparison.same_folds(runs[first], runs[name])]:
        notes.append(f"note: the folds of {', '.join(apart)} are not those of {first}")
    differences = [
        one for compared in comparisons.values() for one in compared.differences.values()
    ]
    if any(math.isnan(one.interval.low) for one in differences if (one.name, one.of) in _SHOWN):
        notes.append(f"note: {formats.no_interval(runs[first])}")
    return notes


def difference_text(difference: Difference) -> str:
    """0.8621 (+0.0172, -0.0302 to +0.0646); `no interval` where there is none."""
    if math.isnan(difference.value):
        return "-"
    ends = formats.signed_interval(difference.interval)
    return f"{difference.other:.4f} ({difference.value:+.4f}, {ends})"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
