"""A page of sections with text, tables and figures; and the tables that several methods fill.

of_values        a row for each method, a column for each quantity
of_differences   a row for each pair
csv_rows         the same numbers, a row for each
"""

import dataclasses
import datetime
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from histojax.evaluation import bootstrap
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.several import Contrast, Pair, Quantity
from histojax.report import TEMPLATES, figures, formats
from histojax.utils import files, templates

WITH = {"trees": "trees", "linear": "linear heads", "hidden": "heads with a hidden layer"}
TOGETHER = (
    "An interval of one difference is for one that you meant to look at beforehand. Where you pick "
    "what stands out, take the intervals that hold together: of those of one column it is 95 % "
    "sure that none misses. What is said in words, and differences in bold, go by them. Where no "
    "difference can be told there may still be one: the interval says how large."
)
CALIBRATED_LOSSES = (
    "Calibrated losses are those after the temperature that the other folds ask for, as the "
    "probabilities of a bundle have it."
)
CSV_HEADER = (
    *("part", "quantity", "method", "compared_with", "value", "low", "high"),
    *("low_together", "high_together"),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, in bold or not, and small lines below it."""

    text: str
    below: tuple[str, ...] = ()
    strong: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its caption, the heads of all columns, and rows: a name and the other cells."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure as an <svg> element, and its caption."""

    svg: Markup
    caption: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Chart, ...] = ()


def write_page(
    path: Path, title: str, lead: Sequence[str], sections: Sequence[Section], banner: str = ""
) -> None:
    """Writes the page; `lead` says first what was found, `banner` what makes it void."""
    page = templates.render(
        TEMPLATES,
        "sections.html",
        title=title,
        lead=lead,
        sections=sections,
        banner=banner,
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    files.write_text(path, page)


def contrasts_chart(
    name: str, quantity: Quantity, pairs: Sequence[Pair], names: Mapping[Pair, str] | None = None
) -> Chart:
    """The differences of pairs with both of their intervals; `name` is unique on the page."""
    caption = (
        f"Differences of {quantity.label}: thick, the 95 % interval of each alone; thin, those "
        "that hold together."
    )
    rows = [
        ((names or _minus(pairs))[pair], contrast.value, (contrast.together, contrast.interval))
        for pair, contrast in zip(pairs, quantity.contrasts(pairs), strict=True)
    ]
    unit, factor = (", percentage points", 100) if quantity.percent else ("", 1)
    figure = figures.draw_changes(rows, f"difference of {quantity.label}{unit}", factor)
    element = re.sub(r"[^\w-]+", "-", name)
    return Chart(Markup(figures.svg(figure, f"differences-{element}", caption)), caption)


def _minus(pairs: Sequence[Pair]) -> dict[Pair, str]:
    return {(first, second): f"{second} − {first}" for first, second in pairs}


def number(quantity: Quantity, value: float) -> str:
    """A value of a quantity: 87.2 %, or 0.973."""
    return formats.percent(value) if quantity.percent else formats.number("kappa", value)


def interval(quantity: Quantity, ends: Interval) -> str:
    """83.1 to 90.4 %; `no interval` where there is none."""
    return formats.interval("accuracy" if quantity.percent else "kappa", ends)


def change(quantity: Quantity, value: float) -> str:
    """A difference with its sign: +1.7 points, or −0.012."""
    if quantity.percent:
        return f"{formats.points(value)} points"
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−") if math.isfinite(value) else "–"


def changes(quantity: Quantity, ends: Interval) -> str:
    """The interval of a difference: −3.0 to +6.4 points."""
    if math.isnan(ends.low) or math.isnan(ends.high):
        return formats.NO_INTERVAL
    low = change(quantity, ends.low).removesuffix(" points")
    return f"{low} to {change(quantity, ends.high)}"


def of_values(
    caption: str, what: str, quantities: Sequence[Quantity], methods: Sequence[Hashable]
) -> Table:
    """Each method's quantities with their 95 % intervals."""
    rows = [
        (
            str(method),
            [
                Cell(
                    number(each, each.values[method]),
                    (interval(each, each.interval(method)),),
                    True,
                )
                for each in quantities
            ],
        )
        for method in methods
    ]
    return Table(caption, (what, *(quantity.label for quantity in quantities)), rows)


def of_differences(
    caption: str, quantities: Sequence[Quantity], pairs: Mapping[Pair, str] | Sequence[Pair]
) -> Table:
    """Each pair's differences, in bold where one can be told; a pair has a name of its own, or
    `second − first`.
    """
    names = pairs if isinstance(pairs, Mapping) else _minus(pairs)
    columns = [quantity.contrasts(list(names)) for quantity in quantities]
    rows = [
        (
            name,
            [
                _difference_cell(quantity, column[place])
                for quantity, column in zip(quantities, columns, strict=True)
            ],
        )
        for place, name in enumerate(names.values())
    ]
    return Table(caption, ("difference", *(quantity.label for quantity in quantities)), rows)


def _difference_cell(quantity: Quantity, contrast: Contrast) -> Cell:
    alone, together = (changes(quantity, ends) for ends in (contrast.interval, contrast.together))
    below = (alone,) if alone == together else (alone, f"together {together}")
    return Cell(change(quantity, contrast.value), below, contrast.is_told)


def csv_rows(
    part: str, quantities: Sequence[Quantity], methods: Sequence[Hashable], pairs: Sequence[Pair]
) -> Iterator[tuple]:
    """The rows below CSV_HEADER: each method's values, then each pair's differences."""
    for quantity in quantities:
        for method in methods:
            ends = quantity.interval(method)
            value = quantity.values[method]
            yield part, quantity.name, method, "", value, ends.low, ends.high, "", ""
        for contrast in quantity.contrasts(pairs):
            alone, together = contrast.interval, contrast.together
            yield (
                *(part, quantity.name, contrast.second, contrast.first, contrast.value),
                *(alone.low, alone.high, together.low, together.high),
            )


def resampling_text(predictions: LabelledPredictions) -> str:
    """What intervals resample, and what they do not contain."""
    groups, images = predictions.resampling_groups, len(predictions.names)
    of = f"{len(set(groups))} whole groups" if groups else f"{images} images"
    doubt = "" if groups else ", since no groups (patients or slides) are known"
    return (
        f"Intervals come from {bootstrap.DRAWS:,} draws of {of}{doubt}, the same draws for all. "
        "They say how much other images of this kind would change; training again with other "
        "folds, seeds or crops is not in them."
    )
