"""Figures, drawn once and written three times: as PNG, as PDF, and as the SVG of a page.

Colours are those of Okabe and Ito, which people tell apart however they see colours. In the SVG they become CSS
variables, so that a page can be dark; its text stays text.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from histojax.evaluation.ablation import ConfigurationAblation, CurvePoint
from histojax.evaluation.calibration import ReliabilityBin
from histojax.evaluation.statistics import ROC_GRID, Statistics
from histojax.report import formats
from histojax.utils import files

INK, MUTED, LINE = "#1c2024", "#5c6670", "#c8ced4"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#00795c", "#9c4f85"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
}
MARKERS = (("o", GREEN), ("s", BLUE), ("D", PURPLE))
STYLE = {
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
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Our style, and no complaint about letters that the font lacks (a PNG shows a box for them)."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="(Glyph .* missing|Matplotlib currently does not support)"
        )
        yield


def save(folder: Path, name: str, figure: Figure, note: str = "") -> None:
    """Writes NAME.png and NAME.pdf, with a note at the foot."""
    with drawing():
        if note:
            figure.supxlabel(
                shortened(note, int(figure.get_figwidth() * 20)), fontsize=7, color=MUTED
            )
        for kind, how in (("png", {"dpi": 160}), ("pdf", {"metadata": {"CreationDate": None}})):
            with files.atomic_write(folder / f"{name}.{kind}") as temporary:
                figure.savefig(temporary, format=kind, **how)


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def svg(figure: Figure, name: str, says: str) -> str:
    """The figure as an <svg> element for a page.

    Args:
      figure: it.
      name: of the figure, unique in its page, in letters, digits, - and _: ids start with it.
      says: in its stead, for those who do not see it.
    """
    out = io.StringIO()
    with drawing():
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    start, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', start)[0]
    says = says.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box} role="img" aria-label="{says}">{rest.strip()}'


def of_judgement(judgement: Statistics) -> dict[str, Figure]:
    """All that a judgement allows, by name: confusion, roc, reliability."""
    with drawing():
        found = {"confusion": confusion(judgement.confusion, judgement.predictions.classes)}
        if judgement.roc is not None:
            found["roc"] = roc(judgement)
        if judgement.reliability is not None:
            found["reliability"] = reliability(
                judgement.reliability, judgement.calibrated_reliability
            )
    return found


def from_0_to_1(axes: Axes) -> None:
    """Both axes from 0 to 1, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=LINE, lw=1, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def roc(judgement: Statistics) -> Figure:
    """The ROC curve of the carcinoma score with its band, the set-points and the nested operating point: Fig. 4 a."""
    curve, cases = judgement.roc, judgement.predictions
    figure = Figure(figsize=(4.8, 5), layout="constrained")
    axes = figure.add_subplot()
    from_0_to_1(axes)
    if not np.isnan(curve.low).all():
        axes.fill_between(
            ROC_GRID, curve.low, curve.high, color=BLUE, alpha=0.18, lw=0, label="95 % band"
        )
    axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=BLUE, lw=1.6)
    points = [of for name, of in judgement.estimates if name == "carcinoma_sensitivity" and of]
    for of, (marker, color) in zip(points, MARKERS, strict=False):
        sensitivity = judgement.value("carcinoma_sensitivity", of)
        specificity = judgement.value("carcinoma_specificity", of)
        name = f"set-point {of}"
        if of == "nested":
            name = f"for sensitivity {judgement.operating_point.target_sensitivity:.2f}"
        label = f"{name}: {100 * sensitivity:.1f} % / {100 * specificity:.1f} %"
        axes.plot(1 - specificity, sensitivity, marker, ms=7, color=color, label=label)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
    area = formats.bare("carcinoma_auc", judgement.value("carcinoma_auc"))
    axes.set_title(f"{shortened(cases.positive_names, 40)} against the rest\nAUC {area}")
    axes.legend(loc="lower right", title="sensitivity / specificity", title_fontsize=8.5)
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts, rows the truth, shaded by the share of the row: Fig. 4 b."""
    side = max(4.2, 0.85 * len(classes) + 1.6)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(classes)):
        for column in range(len(classes)):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color)
    names = [shortened(name, 18) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_title("confusion matrix, images")
    return figure


def reliability(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin] | None) -> Figure:
    """The share of right answers against their confidence, before and after the temperature, and how many they are."""
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    from_0_to_1(axes)
    curves = [("as they are", before, "o", BLUE, -0.006)]
    if after is not None:
        curves.append(("after temperature", after, "s", ORANGE, 0.006))
    for label, bins, marker, color, aside in curves:
        x = np.array([each.confidence for each in bins]) + aside
        y, low, high = (
            np.array([getattr(each, end) for each in bins]) for end in ("right", "low", "high")
        )
        axes.errorbar(
            x,
            y,
            (y - low, high - y),
            fmt=f"{marker}-",
            color=color,
            lw=1.4,
            elinewidth=0.9,
            ms=5,
            label=label,
        )
        below.plot(x, [each.count for each in bins], f"{marker}-", color=color, lw=1, ms=4)
    axes.set(ylabel="share of answers that are right")
    figure.legend(loc="outside upper center", ncols=2)
    below.set(xlabel="confidence of the answer", ylabel="images", ylim=(0, None))
    return figure


def curve(name: str, points: Sequence[CurvePoint]) -> Figure:
    """Accuracy against how many of something are blended, with its band."""
    with drawing():
        figure = Figure(figsize=(3.8, 3), layout="constrained")
        axes = figure.add_subplot()
        count = [point.count for point in points]
        low, high = (
            [100 * getattr(point.interval, end) for point in points] for end in ("low", "high")
        )
        if len(points) > 1:
            axes.fill_between(count, low, high, color=BLUE, alpha=0.18, lw=0)
        else:
            axes.vlines(count, low, high, color=BLUE, lw=1)
        axes.plot(count, [100 * point.accuracy for point in points], "o-", color=BLUE, ms=4, lw=1.6)
        if count[-1] > 12:
            axes.set_xscale("log")
        shown = count if len(count) <= 6 else [*count[:-1:2], count[-1]]
        axes.set_xticks(shown, [str(each) for each in shown])
        axes.set_xticks([], minor=True)
        axes.set(xlabel=f"{name} blended", ylabel="accuracy, %")
        axes.grid(axis="y", color=LINE, lw=0.5)
    return figure


def without(rows: Sequence[ConfigurationAblation]) -> Figure:
    """The change of accuracy without each configuration."""
    with drawing():
        figure = Figure(figsize=(5, 0.38 * len(rows) + 1.1), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            axes.hlines(place, 100 * row.interval.low, 100 * row.interval.high, color=BLUE, lw=1.4)
            axes.plot(100 * row.change, place, "o", color=BLUE, ms=6)
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.set_yticks(range(len(rows)), [shortened(row.configuration, 26) for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="change of accuracy, percentage points")
    return figure


def stain(columns: dict[str, np.ndarray], flagged: np.ndarray) -> Figure:
    """How stain measures are distributed, flagged images on top: float [N] by name, bool [N]."""
    with drawing():
        figure = Figure(figsize=(4.8, 4.4), layout="constrained")
        for axes, (name, values) in zip(figure.subplots(2, 2).flat, columns.items(), strict=True):
            known = ~np.isnan(values)
            axes.hist(
                [values[known & ~flagged], values[known & flagged]],
                bins=20,
                stacked=True,
                color=[BLUE, ORANGE],
                label=["as measured", "fallback"],
            )
            axes.set(xlabel=name)
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        figure.axes[0].set(ylabel="images")
        figure.axes[2].set(ylabel="images")
        if flagged.any():
            figure.axes[0].legend()
    return figure
