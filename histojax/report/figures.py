"""The figures of a report, each drawn once by matplotlib and written as PNG, PDF and SVG.

Colours are near those of Okabe and Ito, which people tell apart however they see colours. In the
SVG they become CSS variables, so that a page can be dark, and text stays text.
"""

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from histojax.evaluation.ablation import ConfigurationAblation, CurvePoint
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.calibration import ReliabilityBin
from histojax.evaluation.statistics import ROC_GRID, Statistics
from histojax.report import formats
from histojax.utils import files

INK, MUTED, LINE = "#1c2024", "#5c6670", "#c8ced4"
BLUE, ORANGE, GREEN, PURPLE = "#0063a6", "#b84700", "#00966c", "#c674a2"
CSS_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
}
_MARKERS = (("o", GREEN), ("s", BLUE), ("D", PURPLE))
_STYLE = {
    "font.family": ["sans-serif"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # A class may be called $x$.
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "histojax",  # Else ids are drawn anew, and the same report is never the same.
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style of all figures; a letter that the font lacks is a box, and no warning."""
    lacking = "(Glyph .* missing|Matplotlib currently does not support)"
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=lacking)
        yield


def save_all(folder: Path, drawn: dict[str, Figure], note: str = "") -> None:
    """Writes NAME.png and NAME.pdf of each figure, with a note at the foot."""
    formats = (("png", {"dpi": 160}), ("pdf", {"metadata": {"CreationDate": None}}))
    for name, figure in drawn.items():
        with style():
            if note:
                foot = _shortened(note, int(figure.get_figwidth() * 20))
                figure.supxlabel(foot, fontsize=7, color=MUTED)
            for kind, options in formats:
                # In memory first: matplotlib's PDF hides a full disk behind an error of its own.
                drawing = io.BytesIO()
                figure.savefig(drawing, format=kind, **options)
                files.write_bytes(folder / f"{name}.{kind}", drawing.getvalue())


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element for a page.

    Args:
      figure: what to draw.
      name: unique in its page, in letters, digits, - and _; the element's ids begin with it.
      description: for those who do not see the figure.
    """
    out = io.StringIO()
    with style():
        metadata = {"Date": None, "Creator": None}
        figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for color, variable in CSS_VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    start, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', start)[0]
    return (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box} role="img" '
        f'aria-label="{html.escape(description)}">{rest.strip()}'
    )


def draw_statistics(statistics: Statistics) -> dict[str, Figure]:
    """The figures that a set of statistics allows, of confusion, roc and reliability, by name."""
    classes = statistics.predictions.classes
    drawn = {"confusion": draw_confusion(statistics.confusion, classes)}
    if statistics.roc is not None:
        drawn["roc"] = draw_roc(statistics)
    if statistics.reliability is not None:
        drawn["reliability"] = draw_reliability(
            statistics.reliability, statistics.calibrated_reliability
        )
    return drawn


def _unit_square(axes: Axes) -> None:
    """Both axes from 0 to 1, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=LINE, lw=1, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


@style()
def draw_roc(statistics: Statistics) -> Figure:
    """The ROC curve of the positive score with its band and operating points, as in Fig. 4 a."""
    curve, predictions = statistics.roc, statistics.predictions
    figure = Figure(figsize=(4.8, 5), layout="constrained")
    axes = figure.add_subplot()
    _unit_square(axes)
    if curve.has_band:
        band = {"color": BLUE, "alpha": 0.18, "lw": 0, "label": "95 % band"}
        axes.fill_between(ROC_GRID, curve.low, curve.high, **band)
    axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=BLUE, lw=1.6)
    keys = [key for key in statistics.estimates if key[0] == "positive_sensitivity" and key[1]]
    for (_, point), (marker, color) in zip(keys, _MARKERS, strict=False):
        sensitivity = statistics.value("positive_sensitivity", point)
        specificity = statistics.value("positive_specificity", point)
        name = f"set-point {point}"
        if point == "nested":
            name = f"for sensitivity {statistics.operating_point.target_sensitivity:.2f}"
        label = f"{name}: {100 * sensitivity:.1f} % / {100 * specificity:.1f} %"
        axes.plot(1 - specificity, sensitivity, marker, ms=7, color=color, label=label)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
    area = formats.bare("positive_auc", statistics.value("positive_auc"))
    axes.set_title(f"{_shortened(predictions.positive_names, 40)} against the rest\nAUC {area}")
    axes.legend(loc="lower right", title="sensitivity / specificity", title_fontsize=8.5)
    return figure


@style()
def draw_confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Images by true and predicted class, shaded by the share of the true class, as in Fig. 4 b."""
    side = max(4.2, 0.85 * len(classes) + 1.6)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    names = [_shortened(name, 18) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_title("confusion matrix, images")
    return figure


class _ReliabilityCurve(NamedTuple):
    label: str
    bins: Sequence[ReliabilityBin]
    format: str
    color: str
    shift: float  # To the right, so that the error bars of two curves stand side by side.


@style()
def draw_reliability(
    before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin] | None
) -> Figure:
    """The share of correct answers against their confidence, before and after the temperature.

    Below stands how many answers there are of each confidence.
    """
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    _unit_square(axes)
    curves = [_ReliabilityCurve("before temperature", before, "o-", BLUE, -0.006)]
    if after is not None:
        curves.append(_ReliabilityCurve("after temperature", after, "s-", ORANGE, 0.006))
    for curve in curves:
        x, y, low, high = np.array(
            [(point.confidence, point.right, point.low, point.high) for point in curve.bins]
        ).T
        x = x + curve.shift
        color, marks = curve.color, {"fmt": curve.format, "ms": 5, "lw": 1.4, "elinewidth": 0.9}
        axes.errorbar(x, y, (y - low, high - y), color=color, label=curve.label, **marks)
        counts = [point.count for point in curve.bins]
        below.plot(x, counts, curve.format, color=color, lw=1, ms=4)
    axes.set(ylabel="share of correct answers")
    figure.legend(loc="outside upper center", ncols=2)
    below.set(xlabel="confidence of the answer", ylabel="images", ylim=(0, None))
    return figure


@style()
def draw_curve(what: str, points: Sequence[CurvePoint]) -> Figure:
    """Accuracy with its band against how many of something are averaged."""
    figure = Figure(figsize=(3.8, 3), layout="constrained")
    axes = figure.add_subplot()
    counts = [point.count for point in points]
    low = [100 * point.interval.low for point in points]
    high = [100 * point.interval.high for point in points]
    if len(points) > 1:
        axes.fill_between(counts, low, high, color=BLUE, alpha=0.18, lw=0)
    else:
        axes.vlines(counts, low, high, color=BLUE, lw=1)
    axes.plot(counts, [100 * point.accuracy for point in points], "o-", color=BLUE, ms=4, lw=1.6)
    if counts[-1] > 12:
        axes.set_xscale("log")
    ticks = counts if len(counts) <= 6 else [*counts[:-1:2], counts[-1]]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel=f"{what} averaged", ylabel="accuracy, %")
    axes.grid(axis="y", color=LINE, lw=0.5)
    return figure


@style()
def draw_ablation(rows: Sequence[ConfigurationAblation]) -> Figure:
    """The change of accuracy without each configuration."""
    changes = [(row.configuration, row.change, (row.interval,)) for row in rows]
    return draw_changes(changes, "change of accuracy, percentage points", 100)


@style()
def draw_changes(
    changes: Sequence[tuple[str, float, tuple[Interval, ...]]], label: str, factor: float
) -> Figure:
    """A row for each name, change and its intervals, the widest first, times a factor."""
    figure = Figure(figsize=(5, 0.38 * len(changes) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, change, intervals) in enumerate(changes):
        for width, interval in zip((1.4, 4), intervals, strict=False):
            axes.hlines(place, factor * interval.low, factor * interval.high, color=BLUE, lw=width)
        axes.plot(factor * change, place, "o", color=BLUE, ms=6)
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set_yticks(range(len(changes)), [_shortened(name, 36) for name, *_ in changes])
    axes.set(ylim=(len(changes) - 0.5, -0.5), xlabel=label)
    return figure


@style()
def draw_stain(measures: dict[str, np.ndarray], is_fallback: np.ndarray) -> Figure:
    """Histograms of four stain measures, fallbacks on top: float [N] by label, bool [N]."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    for axes, (label, values) in zip(figure.subplots(2, 2).flat, measures.items(), strict=True):
        known = ~np.isnan(values)
        axes.hist(
            [values[known & ~is_fallback], values[known & is_fallback]],
            bins=20,
            stacked=True,
            color=[BLUE, ORANGE],
            label=["as measured", "fallback"],
        )
        axes.set(xlabel=label)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    figure.axes[0].set(ylabel="images")
    figure.axes[2].set(ylabel="images")
    if is_fallback.any():
        figure.axes[0].legend()
    return figure
