"""What crop mode shared costs: how near its descriptors are to the exact ones, and what they are worth to the ensemble.

descriptors of both modes [N, A, D] -> Agreement a tap        blended scores of both -> Difference a figure
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from histojax.evaluation.bootstrap import DRAWS, SEED
from histojax.evaluation.comparison import Difference, compare
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.utils import files

FIGURES = (("accuracy", ""), ("carcinoma_auc", ""))
WHOLE = "all"  # Stands for the whole descriptor, where it has several taps.


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Shared descriptors against exact ones, in the channels of one tap.

    Attributes:
      configuration: name in crop mode exact, such as VGG-0.5-400.
      tap: layer, or `all`.
      channels: its width.
      constant: of these, channels that are the same everywhere in either mode, and have no correlation.
      relative_error: |shared - exact| / |exact|, Euclidean, over all images, augmentations and channels; None where the
        exact ones are all zero.
      correlation: Pearson's over images x augmentations, mean over channels; None where all are constant.
      correlation_of_images: the same of the images' means over augmentations, from which stain augmentation, alike in
        both modes, is averaged out.
    """

    configuration: str
    tap: str
    channels: int
    constant: int
    relative_error: float | None
    correlation: float | None
    correlation_of_images: float | None


def agreement(
    configuration: str, exact: np.ndarray, shared: np.ndarray, taps: dict[str, int]
) -> list[Agreement]:
    """Agreement in the whole descriptor, where it has several taps, and in each tap.

    Args:
      configuration: its name.
      exact, shared: descriptors of the same images, [N, A, D].
      taps: channels by layer, in the order of the descriptor; D in all.

    Raises:
      ValueError: shapes do not fit.
    """
    width = sum(taps.values())
    if exact.shape != shared.shape or exact.shape[-1] != width:
        raise ValueError(
            f"descriptors {exact.shape} and {shared.shape}, expected both (N, A, {width})"
        )
    ends = np.cumsum(list(taps.values()))
    parts = {
        layer: slice(end - channels, end)
        for (layer, channels), end in zip(taps.items(), ends, strict=True)
    }
    if len(taps) > 1:
        parts = {WHOLE: slice(None)} | parts
    return [
        of_tap(configuration, tap, exact[..., part], shared[..., part])
        for tap, part in parts.items()
    ]


def of_tap(configuration: str, tap: str, exact: np.ndarray, shared: np.ndarray) -> Agreement:
    """Agreement in the channels of one tap: [N, A, C] each."""
    exact, shared = exact.astype(np.float64), shared.astype(np.float64)
    each = correlations(*(mode.reshape(-1, mode.shape[-1]) for mode in (exact, shared)))
    length = np.linalg.norm(exact)
    of_images = correlations(exact.mean(axis=1), shared.mean(axis=1))
    return Agreement(
        configuration=configuration,
        tap=tap,
        channels=exact.shape[-1],
        constant=exact.shape[-1] - len(each),
        relative_error=float(np.linalg.norm(shared - exact) / length) if length else None,
        correlation=float(each.mean()) if len(each) else None,
        correlation_of_images=float(of_images.mean()) if len(of_images) else None,
    )


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each channel that varies in both: float64 [M, C] each -> float64 [at most C]."""
    varies = (np.ptp(one, axis=0) > 0) & (np.ptp(other, axis=0) > 0)
    one, other = (each[:, varies] - each[:, varies].mean(axis=0) for each in (one, other))
    return (one * other).sum(axis=0) / (np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0))


def effects(
    exact: LabelledPredictions, shared: LabelledPredictions, draws: int = DRAWS
) -> list[Difference]:
    """Accuracy over all classes and, where classes count as positive, ROC AUC."""
    differences = compare(exact, shared, draws).differences
    return [differences[key] for key in FIGURES if key in differences]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that is told of a data set.

    Attributes:
      data: one line on the images.
      weights: one line on the weights.
      resampled: what the bootstrap draws, such as `22 whole groups`.
      positive: names of the positive classes.
    """

    data: str
    weights: str
    resampled: str
    positive: tuple[str, ...]
    agreements: list[Agreement]
    effects: list[Difference]


def summary(comparison: Comparison) -> str:
    """The comparison as text."""
    width = max(len(row.configuration) for row in comparison.agreements)
    lines = [comparison.data, comparison.weights, "", "shared descriptors against exact ones:"]
    lines.append(
        f"{'configuration':<{width}}  {'tap':<14}{'channels':>9}{'constant':>9}{'rel. error':>12}{'correlation':>13}"
        f"{'of images':>11}"
    )
    lines += [
        f"{row.configuration:<{width}}  {row.tap:<14}{row.channels:9d}{row.constant:9d}{number(row.relative_error):>12}"
        f"{number(row.correlation):>13}{number(row.correlation_of_images):>11}"
        for row in comparison.agreements
    ]
    lines += [
        "",
        "out-of-fold figures of the blend:",
        f"{'':<18}{'exact':>8}{'shared':>8}{'change':>9}  95 % interval",
    ]
    lines += [
        f"{each.label:<18}{each.one:8.4f}{each.other:8.4f}{each.value:+9.4f}  "
        f"{each.interval.low:+.4f} to {each.interval.high:+.4f}"
        for each in comparison.effects
    ]
    lines.append(
        f"paired bootstrap of {comparison.resampled}, {DRAWS} draws, the same for both modes"
    )
    if comparison.positive:
        left_out = comparison.effects[-1].interval.left_out
        lines.append(f"ROC AUC of {' + '.join(comparison.positive)} against the rest")
        lines.append(
            f"{left_out} draws of one class only have no ROC AUC and are left out of its interval"
        )
    else:
        lines.append("no ROC AUC: no class counts as positive, name them with --positive_classes")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def write(folder: Path, comparison: Comparison) -> str:
    """Writes crop_modes.json and crop_modes.csv, the agreement a row a tap, and returns the summary."""
    files.write_json(folder / "crop_modes.json", numbers(comparison))
    header = [field.name for field in dataclasses.fields(Agreement)]
    files.write_csv(
        folder / "crop_modes.csv", map(dataclasses.astuple, comparison.agreements), header
    )
    return summary(comparison)


def numbers(comparison: Comparison) -> dict[str, Any]:
    """Every number of the comparison, for programs."""
    return dataclasses.asdict(comparison) | {"draws": DRAWS, "bootstrap_seed": SEED}
