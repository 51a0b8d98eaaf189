"""Several methods side by side: a row each, with paired differences to the first."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from histojax.evaluation import comparison, metrics
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.comparison import Comparison, Difference
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.metrics import MetricKey
from histojax.utils import files

SHOWN: tuple[MetricKey, ...] = (("accuracy", ""), ("carcinoma_auc", ""), ("log_loss", ""))


def write(
    folder: Path,
    runs: dict[str, LabelledPredictions],
    seconds: dict[str, float | None],
    judged: dict[str, int] | None = None,
    draws: int = DRAWS,
) -> str:
    """Compares the runs with the first, writes comparison.csv and comparison.json, and returns a table as text.

    Args:
      folder: where to.
      runs: cases by name, at least two, of the same images.
      seconds: what training took, where it is known.
      judged: how many images each run has by itself, where that is more.
      draws: of the bootstrap.
    """
    first, *others = runs
    found = {name: comparison.compare(runs[first], runs[name], draws) for name in others}
    files.write_csv(folder / "comparison.csv", rows(first, found, seconds), HEADER)
    files.write_json(folder / "comparison.json", numbers(first, found, seconds))
    return text(first, runs, found, seconds) + "".join(
        f"{line}\n" for line in notes(runs, judged or {})
    )


HEADER = (
    "run",
    "compared_with",
    "metric",
    "of",
    "value",
    "value_of_first",
    "difference",
    "low_images",
    "high_images",
    "low_groups",
    "high_groups",
    "mcnemar_p",
    "seconds",
)


def rows(
    first: str, found: dict[str, Comparison], seconds: dict[str, float | None]
) -> list[list[Any]]:
    """A row for each run and metric."""
    return [
        [
            name,
            first,
            each.name,
            each.of,
            each.other,
            each.one,
            each.value,
            each.images.low,
            each.images.high,
            each.groups.low if each.groups else "",
            each.groups.high if each.groups else "",
            compared.p_value,
            "" if seconds.get(name) is None else seconds[name],
        ]
        for name, compared in found.items()
        for each in compared.differences.values()
    ]


def numbers(
    first: str, found: dict[str, Comparison], seconds: dict[str, float | None]
) -> dict[str, Any]:
    """Every number, for programs; NaN as null."""
    return {
        "compared_with": first,
        "seconds": seconds,
        "runs": {
            name: {
                "only_first_right": compared.only_one,
                "only_this_right": compared.only_other,
                "mcnemar_p": compared.p_value,
                "differences": [plain(each) for each in compared.differences.values()],
            }
            for name, compared in found.items()
        },
    }


def plain(difference: Difference) -> dict[str, Any]:
    """A difference as JSON has it."""

    def without_nan(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_nan(item) for name, item in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return without_nan(dataclasses.asdict(difference))


def text(
    first: str,
    runs: dict[str, LabelledPredictions],
    found: dict[str, Comparison],
    seconds: dict[str, float | None],
) -> str:
    """The table a person reads."""
    cases = runs[first]
    keys = [key for key in SHOWN if all(key in compared.differences for compared in found.values())]
    width = max(len(name) for name in runs) + 2
    units = (
        f"{len(set(cases.resampling_groups))} groups"
        if cases.resampling_groups
        else f"{len(cases.truth)} images"
    )
    lines = [
        f"{len(cases.truth)} images; differences to {first}, 95 % intervals of the paired bootstrap of {units}"
    ]
    lines.append(
        f"{'':{width}}"
        + "".join(f"{metrics.label(name):<44}" for name, _ in keys)
        + f"{'McNemar':>8}{'seconds':>10}"
    )
    value = metrics.compute(cases, np.ones((1, len(cases.truth))))
    cells = "".join(f"{value[key][0]:<44.4f}" for key in keys)
    lines.append(f"{first:{width}}{cells}{'':>8}{shown(seconds.get(first)):>10}")
    for name, compared in found.items():
        cells = "".join(f"{cell(compared.differences[key]):<44}" for key in keys)
        lines.append(f"{name:{width}}{cells}{compared.p_value:>8.3f}{shown(seconds.get(name)):>10}")
    return "\n".join(lines) + "\n"


def notes(runs: dict[str, LabelledPredictions], judged: dict[str, int]) -> list[str]:
    """What a reader of the table must know."""
    first, *others = runs
    shared = len(runs[first].names)
    more = [f"{name} {count}" for name, count in judged.items() if count > shared]
    said = (
        [f"note: only the {shared} images that all runs judged are compared ({', '.join(more)})"]
        if more
        else []
    )
    apart = [name for name in others if not comparison.same_folds(runs[first], runs[name])]
    return said + (
        [f"note: {', '.join(apart)} and {first} were judged in different folds"] if apart else []
    )


def cell(difference: Difference) -> str:
    """0.8621 (+0.0172, -0.0302 to +0.0646)."""
    sure = difference.interval
    if math.isnan(difference.value):
        return "-"
    return f"{difference.other:.4f} ({difference.value:+.4f}, {sure.low:+.4f} to {sure.high:+.4f})"


def shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
