"""What crop mode hybrid costs, against crop mode exact: agreement of descriptors, and accuracy.

descriptors of both modes [N, A, D] -> an Agreement for each tap
blended scores of both modes -> a Difference for each metric
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from histojax.evaluation.bootstrap import DRAWS, SEED
from histojax.evaluation.comparison import Difference, compare
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.report import formats
from histojax.utils import files

_METRICS = (("accuracy", ""), ("positive_auc", ""))
_WHOLE = "all"  # Names the whole descriptor beside its taps.


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well hybrid descriptors agree with exact ones in the channels of one tap.

    Attributes:
      configuration: its name in crop mode exact, such as VGG-0.5-400.
      tap: a layer, or `all`.
      channels: of the tap.
      constant: channels whose mean over augmentations is the same for all images in either mode,
        and so has no correlation.
      error: |hybrid - exact| / |exact|, Euclidean, of the same crops in the same colours: of the
        worst image that was checked; None for `all`, and where none was.
      error_of_images: the same of the images' means over augmentations, of which each mode drew its
        own; None where the exact descriptors are all zero.
      spread: standard deviation between augmentations of an image, hybrid's over exact's; None with
        one augmentation, or where exact's do not vary.
      correlation: Pearson's of the images' means over augmentations, mean over channels; None where
        all channels are constant.
    """

    configuration: str
    tap: str
    channels: int
    constant: int
    error: float | None
    error_of_images: float | None
    spread: float | None
    correlation: float | None


@dataclasses.dataclass(frozen=True)
class CropModeComparison:
    """The crop modes compared on a data set.

    Attributes:
      data: a line on the images.
      weights: a line on the encoders' weights.
      resampled: what the bootstrap resamples, such as `22 whole groups`.
      positive: names of the positive classes.
      agreements: of each configuration and tap.
      effects: how metrics of the ensemble change from exact to hybrid crops.
    """

    data: str
    weights: str
    resampled: str
    positive: tuple[str, ...]
    agreements: list[Agreement]
    effects: list[Difference]


def agreement(
    configuration: str,
    exact: np.ndarray,
    hybrid: np.ndarray,
    taps: Mapping[str, int],
    errors: Mapping[str, float],
) -> list[Agreement]:
    """Agreement in the whole descriptor, where it has several taps, and then in each tap.

    Args:
      configuration: its name.
      exact, hybrid: descriptors of the same images, [N, A, D].
      taps: channels by layer, in the order of the descriptor; D in all.
      errors: `Agreement.error` by layer, where they are known.

    Raises:
      ValueError: the shapes do not fit.
    """
    width = sum(taps.values())
    if exact.shape != hybrid.shape or exact.shape[-1] != width:
        raise ValueError(
            f"descriptors {exact.shape} and {hybrid.shape}, expected both (N, A, {width})"
        )
    parts = {_WHOLE: slice(None)} if len(taps) > 1 else {}
    start = 0
    for layer, channels in taps.items():
        parts[layer] = slice(start, start + channels)
        start += channels
    return [
        _agreement_of_tap(configuration, tap, exact[..., part], hybrid[..., part], errors.get(tap))
        for tap, part in parts.items()
    ]


def _agreement_of_tap(
    configuration: str, tap: str, exact: np.ndarray, hybrid: np.ndarray, error: float | None
) -> Agreement:
    """Agreement in the channels of one tap, [N, A, C]."""
    exact, hybrid = exact.astype(np.float64), hybrid.astype(np.float64)
    of_images, of_images_hybrid = exact.mean(axis=1), hybrid.mean(axis=1)
    by_channel = _correlations(of_images, of_images_hybrid)
    norm = np.linalg.norm(of_images)
    spread = np.linalg.norm(exact - of_images[:, None])
    spread_hybrid = np.linalg.norm(hybrid - of_images_hybrid[:, None])
    return Agreement(
        configuration=configuration,
        tap=tap,
        channels=exact.shape[-1],
        constant=exact.shape[-1] - len(by_channel),
        error=error,
        error_of_images=_ratio(np.linalg.norm(of_images_hybrid - of_images), norm),
        spread=_ratio(spread_hybrid, spread),
        correlation=float(by_channel.mean()) if len(by_channel) else None,
    )


def _ratio(value: float, of: float) -> float | None:
    return float(value / of) if of else None


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each channel that varies in both: float64 [M, C] -> [at most C]."""
    varies = (np.ptp(one, axis=0) > 0) & (np.ptp(other, axis=0) > 0)
    one, other = one[:, varies], other[:, varies]
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return (one * other).sum(axis=0) / (np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0))


def effects(
    exact: LabelledPredictions, hybrid: LabelledPredictions, draws: int = DRAWS
) -> list[Difference]:
    """How accuracy and, where a class is positive, ROC AUC change from exact to hybrid crops."""
    differences = compare(exact, hybrid, draws).differences
    return [differences[key] for key in _METRICS if key in differences]


def write(folder: Path | str, comparison: CropModeComparison) -> str:
    """Writes crop_modes.json, and crop_modes.csv with a row for each tap; returns the text."""
    folder = files.as_path(folder)
    numbers = dataclasses.asdict(comparison) | {"draws": DRAWS, "bootstrap_seed": SEED}
    files.write_json(folder / "crop_modes.json", numbers)
    header = [field.name for field in dataclasses.fields(Agreement)]
    rows = map(dataclasses.astuple, comparison.agreements)
    files.write_csv(folder / "crop_modes.csv", rows, header)
    return text(comparison)


def text(comparison: CropModeComparison) -> str:
    """The comparison as text."""
    width = max(len(row.configuration) for row in comparison.agreements)
    lines = [
        comparison.data,
        comparison.weights,
        "",
        "hybrid descriptors against exact ones (error of the same crops; the images' means over",
        "augmentations, of which each mode draws its own: error and correlation; standard",
        "deviation between augmentations, hybrid's over exact's):",
        f"{'configuration':<{width}}  {'tap':<14}{'channels':>9}{'constant':>9}{'error':>9}"
        f"{'of images':>11}{'correlation':>13}{'deviation':>11}",
    ]
    lines += [
        f"{row.configuration:<{width}}  {row.tap:<14}{row.channels:9d}{row.constant:9d}"
        f"{_number(row.error):>9}{_number(row.error_of_images):>11}"
        f"{_number(row.correlation):>13}{_number(row.spread):>11}"
        for row in comparison.agreements
    ]
    lines += ["", "out-of-fold metrics of the blend:"]
    lines.append(f"{'':<24}{'exact':>8}{'hybrid':>8}{'change':>9}  95 % interval")
    lines += [
        f"{metric.label:<24}{metric.one:8.4f}{metric.other:8.4f}{metric.value:+9.4f}  "
        + formats.signed_interval(metric.interval)
        for metric in comparison.effects
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
        lines.append("no ROC AUC: no class counts as positive, name one with --positive_classes")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
