"""Figures as PNG: the ROC curve and the confusion matrix of the paper's Fig. 4."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from histojax import files
from histojax.metrics import TwoClass

COLORS = ("tab:green", "tab:blue")


def save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def roc(path: Path, two_class: TwoClass, provenance: str) -> None:
    """The ROC curve with its set-points."""
    figure = Figure(figsize=(5, 5.3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(two_class.false_positive_rate, two_class.true_positive_rate, color="black", lw=1.5)
    axes.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls="--")
    for point, color in zip(two_class.set_points, COLORS, strict=True):
        label = (
            f"{point.threshold:.2f}: sensitivity {100 * point.sensitivity:.1f} %, "
            f"specificity {100 * point.specificity:.1f} %"
        )
        axes.plot(1 - point.specificity, point.sensitivity, "o", color=color, label=label)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_title(f"{' + '.join(two_class.positive)} against the rest, AUC {two_class.auc:.3f}", fontsize=10)
    axes.legend(loc="lower right", fontsize=8, title="set-points", title_fontsize=8)
    figure.supxlabel(provenance, fontsize=7, color="0.35")
    save(figure, path)


def confusion(path: Path, matrix: np.ndarray, classes: Sequence[str], provenance: str) -> None:
    """Counts, rows the truth, shaded by the share of the row."""
    side = max(4.2, 0.9 * len(classes) + 1.4)
    figure = Figure(figsize=(side, side + 0.2), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(classes)):
        for column in range(len(classes)):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_title("confusion matrix, images", fontsize=10)
    figure.supxlabel(provenance, fontsize=7, color="0.35")
    save(figure, path)
