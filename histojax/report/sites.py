"""What a report says of site and batch: sentences, the rows of its tables, and its numbers."""

import dataclasses
import math
from typing import Any

from histojax.evaluation.site_heads import Value
from histojax.evaluation.site_study import SiteColumn, SiteStudy
from histojax.inspection import site_association
from histojax.report import formats
from histojax.utils.words import quantity

SHOWN = 40  # Sites in a table of the page, at most.


@dataclasses.dataclass(frozen=True)
class Row:
    """A site in the table of a column.

    Attributes:
      site: its name.
      counts: images of each class.
      groups: how many have images of it.
      in_split, left_out: accuracy and its interval as text, empty where there is none.
      note: what makes them rough, or why there is none.
    """

    site: str
    counts: tuple[int, ...]
    groups: int
    in_split: tuple[str, str] = ("", "")
    left_out: tuple[str, str] = ("", "")
    note: str = ""


def rows(column: SiteColumn) -> list[Row]:
    """A row for each site."""
    of_class = column.association
    outs = {row.site: row for row in column.left_out.rows} if column.left_out else {}
    found = []
    for site, counts, groups in zip(
        of_class.sites, of_class.counts.tolist(), of_class.groups.tolist(), strict=True
    ):
        row = Row(site, tuple(counts), groups)
        if out := outs.get(site):
            row = dataclasses.replace(
                row, in_split=_cells(out.in_split), left_out=_cells(out.left_out), note=out.note
            )
        found.append(row)
    return found


def sentences(column: SiteColumn, columns: int) -> list[str]:
    """The answers to the three questions, and what is missing; `columns` is how many there are."""
    return [
        site_association.text(column.association, columns),
        *filter(None, [_unknown(column), telling(column, columns), left_out(column)]),
    ]


def _unknown(column: SiteColumn) -> str:
    of_class = column.association
    if not of_class.unknown:
        return ""
    return f"{quantity(of_class.unknown)} of unknown {of_class.column} left out of all this."


def telling(column: SiteColumn, columns: int) -> str:
    """Whether descriptors tell the site, in sentences; empty where descriptors are not there.

    `columns` is how many there are.
    """
    told, of_class = column.telling, column.association
    if told is None:
        name = of_class.column
        return f"Whether descriptors tell {name} is not said: {column.without}." * bool(
            column.without
        )
    units = "groups" if of_class.grouped else "images"
    test = f"permutation test of {units}, p = {told.p:.2g}"
    text = (
        f"Linear heads fitted to all other {units} tell {of_class.column} with a balanced accuracy "
        f"of {_text(told.accuracy, f'by chance {formats.percent(told.by_chance)}', test)}: "
    )
    if told.is_told(columns):
        text += "descriptors know it."
    elif told.is_powerless(columns):
        text += (
            f"too few {units} can exchange their values for a test to tell this from chance (p "
            f"cannot be below {told.least_p:.2g})."
        )
    else:
        text += "not beyond chance."
    if told.is_told(columns) and of_class.is_confounded(columns):
        text += " As the class goes with it, they may know it through the class."
    if told.too_few:
        text += f" Left out, with one {units[:-1]} each: {_listed(told.too_few)}."
    return text


def left_out(column: SiteColumn) -> str:
    """What accuracy becomes where whole sites are left out, in sentences."""
    outs, name = column.left_out, column.association.column
    if outs is None:
        return ""
    if outs.change is None:
        return (
            f"With whole values of {name} left out, no accuracy can be computed: "
            f"{_reasons(column)}."
        )
    missing = [row.site for row in outs.rows if row.left_out is None]
    without = f" Without {_listed(missing)}: {_reasons(column)}." if missing else ""
    return (
        f"With whole values of {name} left out, linear heads have an accuracy of "
        f"{_text(outs.left_out)}, in place of {_text(outs.in_split)} in the split as it is: "
        f"{formats.points(outs.change.value)} points ({_points(outs.change)}).{without}"
    )


def _reasons(column: SiteColumn) -> str:
    notes = [row.note for row in column.left_out.rows if row.left_out is None]
    return "; ".join(dict.fromkeys(note.removeprefix("cannot be computed: ") for note in notes))


def _listed(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _cells(value: Value | None) -> tuple[str, str]:
    if value is None:
        return "", ""
    return formats.percent(value.value), formats.interval("accuracy", value.interval)


def _text(value: Value, *more: str) -> str:
    """83.1 % (95 % interval 75.0 to 90.1 %; more)."""
    share, interval = _cells(value)
    if interval != formats.NO_INTERVAL:
        interval = f"95 % interval {interval}"
    return f"{share} ({'; '.join((interval, *more))})"


def _points(change: Value) -> str:
    low, high = (formats.points(end) for end in (change.interval.low, change.interval.high))
    if math.isnan(change.interval.low):
        return formats.NO_INTERVAL
    return f"95 % interval {low} to {high}"


def correction(study: SiteStudy) -> str:
    """How several columns are dealt with; empty for one."""
    count = len(study.columns)
    if count == 1:
        return ""
    return (
        f"Each p-value is of its column alone. Of {count} columns, the class is said to go with "
        "one, and descriptors to know one, where p is at most "
        f"{site_association.SIGNIFICANT / count:.3g} (Bonferroni)."
    )


def text_lines(study: SiteStudy) -> list[str]:
    """The section as text."""
    lines = ["site and batch:"]
    for column in study.columns:
        lines += [f"  {line}" for line in sentences(column, len(study.columns))]
        for line, row in zip(
            site_association.table_lines(column.association), rows(column), strict=False
        ):
            accuracy = ""
            if row.in_split[0]:
                accuracy = f"; accuracy {row.in_split[0]}"
                if row.left_out[0]:
                    accuracy += f", left out {row.left_out[0]} ({row.left_out[1]})"
                accuracy += f"; {row.note}" if row.note else ""
            lines.append(f"    {line}{accuracy}")
    return [*lines, *(f"  {line}" for line in (correction(study), *study.notices) if line)]


def as_dict(study: SiteStudy) -> dict[str, Any]:
    """Every number, ready for JSON."""
    columns = []
    for column in study.columns:
        of_class = column.association
        columns.append(
            {
                "column": of_class.column,
                "confounded": of_class.is_confounded(len(study.columns)),
                "each_site_has_one_class": of_class.is_perfect,
                "association": dataclasses.asdict(of_class),
                "telling": column.telling and dataclasses.asdict(column.telling),
                "left_out": column.left_out and dataclasses.asdict(column.left_out),
            }
        )
    return formats.for_json({"columns": columns, "notices": study.notices})
