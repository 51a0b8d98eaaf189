"""Which column of a table, or what in names and folders, tells the site, scanner, batch or date.

Headings are recognised literally, as in `columns`. Names that begin with TCGA's barcodes have their
tissue source site after `TCGA-`. A level of folders below the class folders tells sites where all
of its names say so (`center_0`). Dates become periods: as they are where there are few, else the
shortest of days, months, quarters and years that leave few.

sites.csv     image, and a column for each that tells sites; beside folds.csv
"""

import collections
import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from histojax.datasets import columns
from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.words import quantity

FILE = "sites.csv"
TCGA = "TCGA's tissue source site"
_IMAGE = "image"

# Headings as `columns.plain` makes them.
_SITE = "site sites siteid sitename siteno center centers centre centres centerid centreid"
_SITE += " centername centrename hospital hospitals hospitalid hospitalname clinic clinicid"
_SITE += " institution institutions institutionid institutionname institute laboratory lab"
_SITE += " medicalcenter medicalcentre tissuesourcesite tss sourcesite zentrum klinik krankenhaus"
_SITE += " standort hopital centro ospedale scanner scanners scannerid scannername scannermodel"
_SITE += " scannertype scannermanufacturer scannervendor batch batches batchid batchno batchnumber"
_SITE += " batchname cohort"
_DATE = "date dates scandate scanningdate dateofscan dateofscanning scannedon scantime"
_DATE += " acquisitiondate dateofacquisition acquired stainingdate staindate dateofstaining"
_DATE += " imagingdate datum scandatum fecha scanmonth scanyear"
_BARCODE = re.compile(r"TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)
# A folder called so is a site; `patient7` is none.
_FOLDER = re.compile(
    r"(site|cent(er|re)|hospital|clinic|institut(e|ion)|lab(oratory)?|scanner|batch)s?[ _.-]*\w+",
    re.IGNORECASE,
)
_FEW_PERIODS = 12
_ORDERS = {  # Of what the numbers of a date may mean.
    "year": "%Y",
    "year, month": "%Y-%m",
    "year, month, day": "%Y-%m-%d",
    "day, month, year": "%d-%m-%Y",
    "month, day, year": "%m-%d-%Y",
}

# By column, the site of each image, empty where unknown.
Sites = Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Read:
    """A column as it is used: its values, empty where unknown, and sentences on how it was read."""

    values: tuple[str, ...]
    notices: tuple[str, ...]


def find(
    header: Sequence[str], among: Sequence[int], wanted: Sequence[str] | None, where: str
) -> tuple[int, ...]:
    """The columns that tell sites: those that are wanted or, if nothing is said, by their headings.

    Of two columns with one heading, neither is taken.

    Args:
      header: the headings.
      among: columns that may be meant.
      wanted: headings, or `none` alone; None to look for them.
      where: the table, for messages.

    Raises:
      InputError: none, or more than one, is called as wanted.
    """
    if wanted is None:
        known = {*_SITE.split(), *_DATE.split()}
        found = (i for i in among if columns.plain(header[i]) in known)
        return tuple(i for i in found if [*header].count(header[i]) == 1)
    if is_none(wanted):
        return ()
    found = []
    for title in wanted:
        exact = [i for i in among if header[i] == title.strip()]
        named = exact or [i for i in among if columns.plain(header[i]) == columns.plain(title)]
        if len(named) != 1:
            listed = ", ".join(header[i] for i in among if header[i]) or "none"
            raise InputError(
                f"{where} has {len(named) or 'no'} column{'s' * (len(named) > 1)} called {title}: "
                f"name some of {listed} by --site_columns, or pass --site_columns="
                f"{columns.NO_GROUPS}"
            )
        found.append(named[0])
    return tuple(dict.fromkeys(found))


def is_none(wanted: Sequence[str] | None) -> bool:
    """Whether no column is to be taken."""
    return wanted is not None and [columns.plain(title) for title in wanted] == [columns.NO_GROUPS]


def read(title: str, cells: Sequence[str], source: str, wanted: bool) -> Read:
    """The sites in a column, dates as periods.

    Args:
      title: its heading.
      cells: of each image, empty where unknown.
      source: the column in words, for notices.
      wanted: whether the user named it, so that what cannot be used is refused.

    Raises:
      InputError: it was named, and its dates cannot be put into few periods.
    """
    values = tuple(cells)
    distinct = {*values} - {""}
    how = ""
    if columns.plain(title) in _DATE.split() and len(distinct) > _FEW_PERIODS:
        values, how, problem = _periods(values)
        if problem:
            text = (
                f"{source} has {len(distinct)} dates, {problem}: write the batch "
                "that each image is of into a column of its own"
            )
            if wanted:
                raise InputError(f"{text}, or leave {title} out of --site_columns")
            return Read(("",) * len(cells), (f"{text}; it is not used",))
    known = {*values} - {""}
    if len(known) < 2:
        return Read(
            values,
            (f"{source} has {quantity(len(known), 'value')}, so there are no sites to compare",),
        )
    unknown = values.count("")
    spellings = collections.defaultdict(list)
    for value in sorted(known):
        # Hyphens separate the numbers of dates.
        between = r"[\s_-]+" if re.search(r"[^\W\d_]", value) else r"\s+"
        spellings[re.sub(between, "", value.casefold())].append(value)
    alike = next((of for of in spellings.values() if len(of) > 1), None)
    if alike is None and not how and columns.plain(title) in _DATE.split():
        forms = {re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "a", v)): v for v in sorted(known)}
        alike = list(forms.values()) if len(forms) > 1 else None
    notice = (
        f"{source} is taken for the site or batch of images{how}: "
        f"{quantity(len(known), 'value')}"
        + (f", {quantity(unknown)} of unknown {title}" if unknown else "")
        + (f"; {', '.join(alike)} are taken for different ones" if alike else "")
    )
    return Read(values, (notice,))


def _periods(values: Sequence[str]) -> tuple[tuple[str, ...], str, str]:
    """Dates as periods, how they became these, or why they cannot; one of the two is empty."""
    known = [value for value in values if value]
    dates, problem = _parse(known)
    if problem:
        return (), "", problem
    lengths = {
        "days": lambda date: date.isoformat(),
        "months": lambda date: f"{date:%Y-%m}",
        "quarters": lambda date: f"{date.year} Q{(date.month + 2) // 3}",
        "years": lambda date: str(date.year),
    }
    for length, period in lengths.items():
        of = {value: period(date) for value, date in zip(known, dates, strict=True)}
        if 1 < len({*of.values()}) <= _FEW_PERIODS:
            return tuple(of.get(value, "") for value in values), f", by {length}", ""
    return (), "", f"and neither days, months, quarters nor years are 2 to {_FEW_PERIODS}"


def _parse(values: Sequence[str]) -> tuple[list[datetime.date], str]:
    """Dates, or why they are not clear: day and month may be meant in either order."""
    parts = [re.split(r"[T ]", value.strip())[0] for value in values]
    compact = all(re.fullmatch(r"(19|20)\d{6}", part) for part in parts)
    if compact:
        parts = [f"{part[:4]}-{part[4:6]}-{part[6:]}" for part in parts]
    with_dots = all("." in part for part in parts)  # Then the day comes first.
    parts = [re.sub(r"[./]", "-", part) for part in parts]
    fitting, furthest = {}, 0
    for order, form in _ORDERS.items():
        dates = []
        try:
            for part in parts:
                dates.append(datetime.datetime.strptime(part, form).date())
        except ValueError:
            furthest = max(furthest, len(dates))
        else:
            fitting[order] = dates
    if with_dots and "day, month, year" in fitting:
        fitting.pop("month, day, year", None)
    if not fitting:
        beside = f" beside {values[0]}" if furthest else ""
        return [], f"such as {values[furthest]}, of which year, month and day are not clear{beside}"
    readings = {tuple(dates) for dates in fitting.values()}
    if len(readings) > 1:
        return [], f"such as {values[0]}, which may be read as {' or '.join(fitting)}"
    return next(iter(fitting.values())), ""


def of_names(names: Iterable[str]) -> tuple[str, ...]:
    """TCGA's tissue source site of each image, by the barcode its file's name begins with."""
    codes = (_BARCODE.match(PurePosixPath(name).name) for name in names)
    return tuple(code[1].upper() if code else "" for code in codes)


def is_site_folder(name: str) -> bool:
    """Whether a folder is called as a site is: `center_0`, `scanner B`."""
    return _FOLDER.fullmatch(name) is not None


def with_barcodes(
    names: Sequence[str], sites: Sites, wanted: Sequence[str] | None
) -> tuple[Sites, tuple[str, ...]]:
    """Sites, with those of TCGA's barcodes where at least two occur, and notices."""
    of = of_names(names)
    if wanted is not None or len({*of} - {""}) < 2:
        return sites, ()
    notice = (
        f"names are TCGA's barcodes, whose two characters after TCGA- are taken for the site: "
        f"{quantity(len({*of} - {''}), 'site')}"
        + (f", {quantity(of.count(''))} without" if "" in of else "")
    )
    return {**sites, TCGA: of}, (notice,)


def save(names: Sequence[str], sites: Sites, folder: Path, refused: bool = False) -> None:
    """Writes sites.csv into the folder of models; where there are none, a former one is removed.

    Where the user refused all columns, sites.csv has none: they are not looked for afterwards.
    """
    path = folder / FILE
    if sites or refused:
        rows = zip(names, *sites.values(), strict=True)
        files.write_csv(path, rows, (_IMAGE, *sites))
    elif path.exists():
        path.unlink()


def load(folder: Path) -> dict[str, dict[str, str]] | None:
    """The site of each image by its name, of each column; None where there is no sites.csv.

    Raises:
      InputError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    rows = files.read_csv(path, (_IMAGE,))
    titles = [title for title in (rows[0] if rows else ()) if title != _IMAGE]
    return {title: {row[_IMAGE]: row[title] for row in rows} for title in titles}


def by_name(names: Sequence[str], sites: Sites) -> dict[str, dict[str, str]]:
    """The same form of sites in the order of names."""
    return {title: dict(zip(names, of, strict=True)) for title, of in sites.items()}
