"""The roofline figure (Williams et al. 2009): programs against the limits of their machine.

It is drawn from profile.json of histojax profile_encoders, since an accelerator machine need not
have a plotting library.
"""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from histojax.report.figures import BLUE, GREEN, LINE, ORANGE, PURPLE, style

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


@style()
def draw_roofline(profile: dict[str, Any]) -> Figure:
    """Operations per second over operations per byte, both logarithmic.

    Each precision has a roof: the bandwidth times the operations per byte, and at most the peak.

    Args:
      profile: the object in profile.json; `machine`, `peaks` and `rows` of it are shown.
    """
    figure = Figure(figsize=(7.5, 4.75), layout="constrained")
    axes = figure.add_subplot()
    peaks, rows = profile["peaks"], profile["rows"]
    intensities = [row["intensity"] for row in rows]
    intensities += [peak["operations"] / peak["bytes"] for peak in peaks.values()]
    low, high = min(intensities) / 2, max(intensities) * 2
    colours = {precision: _COLOURS[i % len(_COLOURS)] for i, precision in enumerate(peaks)}
    for precision, peak in peaks.items():
        operations, bandwidth = peak["operations"], peak["bytes"]
        corners = [(low, low * bandwidth), (operations / bandwidth, operations), (high, operations)]
        label = f"{precision}: {operations / 1e12:.3g} TFLOP/s, {bandwidth / 1e9:.4g} GB/s"
        x, y = zip(*corners, strict=True)
        axes.plot(x, [value / 1e12 for value in y], color=colours[precision], lw=1.8, label=label)
    for number, row in enumerate(rows, 1):
        place = row["intensity"], row["operations_per_second"] / 1e12
        colour = colours[row["precision"]]
        label = f"{number}  {row['encoder']} {'+'.join(row['views'])} {row['mode']}"
        marker = {"marker": "o", "ms": 13, "mfc": "white", "mec": colour, "ls": "none"}
        axes.plot(*place, color=colour, label=label, **marker)
        axes.annotate(str(number), place, color=colour, ha="center", va="center", fontsize=8)
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # Some labels within a decade, too.
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())  # Its default is mathtext, which is not parsed.
    axes.set(xlabel="operations per byte (fewest bytes, layer by layer)", ylabel="TFLOP/s")
    axes.grid(color=LINE, lw=0.5)
    legend = figure.legend(loc="outside right upper", markerscale=0.5)
    for text, line in zip(legend.get_texts(), axes.lines, strict=True):
        text.set_color(line.get_color())
    figure.suptitle(profile["machine"], x=0.01, ha="left", fontsize=10)
    return figure
