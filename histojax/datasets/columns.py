"""Which columns of a table hold images, labels and groups, by their headings.

Case, blanks, underscores, hyphens and dots of a heading do not matter. Where several columns would
do, nothing is guessed: the caller is asked.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PureWindowsPath

from histojax.datasets.sheets import Rows
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils.words import quantity

NO_GROUPS = "none"  # What --group_column says where no column is to be taken.

# Headings as `plain` makes them. The first one goes before the others.
_IMAGE = "image images imagename imageid imagefile imagepath file filename filepath path name photo"
_IMAGE += " picture tile patch bild datei dateiname fichier imagen archivo immagine"
# Of tables whose rows are slides, which are images there.
_SLIDE = "slideid slide slides slidename wsi wsiid wsiname " + _IMAGE
_LABEL = "label labels class classname classlabel diagnosis category groundtruth target"
_LABEL += " klasse diagnose classe diagnostic clase diagnostico diagnosi"
# Groups, and what one of them is called.
_GROUP = {
    "group": "group groups groupid",
    "patient": "patient patients patientid patientno patientnumber patientname patientcode pid mrn "
    "patientnr patientuid patientin patientennr patientennummer patnr paciente paziente",
    "case": "case cases caseid caseno casenumber casecode fall fallnr fallnummer cas caso",
    "subject": "subject subjects subjectid subjectno participant participantid",
    "donor": "donor donors donorid",
    "slide": "slide slides slideid slideno slidename slidenumber wsi wsiid wsiname",
    "specimen": "specimen specimenid biopsy biopsyid block blockid",
}
IsSlide = Callable[[str], bool]  # Whether a cell names a slide that is known.
_GROUP_NOUNS = {heading: noun for noun, listed in _GROUP.items() for heading in listed.split()}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a label table, as indices into its header.

    Attributes:
      image, label: always there.
      group: None where no column holds groups.
      others: columns with a heading that are not used.
    """

    image: int
    label: int
    group: int | None
    others: tuple[int, ...]


def find(
    header: Sequence[str],
    body: Rows,
    group_column: str | None,
    where: str,
    is_slide: IsSlide | None = None,
) -> Columns | None:
    """The columns of a label table; None where images or labels have no heading.

    Args:
      header: the headings.
      body: the rows below.
      group_column: the heading of the group column, NO_GROUPS for none, None to look for it.
      where: the table, for messages.
      is_slide: where the images are slides that are known by name; None for image files.

    Raises:
      InputError: several columns could be what is sought, or no column is called `group_column`.
    """
    if is_slide is None:
        image = image_column(header, body, where)
    else:
        image = _slide_column(header, body, where, is_slide)
    label = _only(header, _LABEL, where, "label")
    if image is None or label is None:
        return None
    rest = [i for i, title in enumerate(header) if title and i not in (image, label)]
    among = rest
    if is_slide and group_column is None:
        among = [i for i in rest if plain(header[i]) not in _SLIDE.split()]
    group = find_group(header, among, group_column, where)
    return Columns(image, label, group, tuple(i for i in rest if i != group))


def find_group(
    header: Sequence[str], among: Sequence[int], group_column: str | None, where: str
) -> int | None:
    """The group column among some; None where there is none.

    Raises:
      InputError: several could be it, or none is called `group_column`.
    """
    if group_column is not None and plain(group_column) == NO_GROUPS:
        return None
    if group_column is not None:
        exact = [i for i in among if header[i] == group_column.strip()]
        named = exact or [i for i in among if plain(header[i]) == plain(group_column)]
        if len(named) != 1:
            raise InputError(
                f"{where} has {len(named) or 'no'} column{'s' * (len(named) > 1)} called "
                f"{group_column}: name one of {_listed(header, among)} by --group_column"
            )
        return named[0]
    candidates = [i for i in among if plain(header[i]) in _GROUP_NOUNS]
    if len(candidates) > 1:
        titles = _listed(header, candidates)
        raise InputError(
            f"{where} has several columns that may say which images belong together: {titles}. "
            f"Name the one of patients by --group_column={header[candidates[0]]} or the like; "
            f"--group_column={NO_GROUPS} uses none"
        )
    return next(iter(candidates), None)


def is_named(header: Sequence[str], column: str) -> bool:
    """Whether a column is called so; NO_GROUPS is no column."""
    return plain(column) == NO_GROUPS or plain(column) in map(plain, header)


def group_noun(title: str) -> str:
    """What one group of a column is called: patient, slide, ..."""
    return _GROUP_NOUNS.get(plain(title), "group")


def group_notice(source: str, noun: str, groups: Iterable[str]) -> str:
    """What groups keep together, in a sentence; an empty group is unknown."""
    groups = list(groups)
    known = [group for group in groups if group]
    number, unknown = len(set(known)), len(groups) - len(known)
    text = (
        f"{source} keeps images of one {noun} together: {quantity(number, noun)}, "
        f"{quantity(len(known), 'image')}"
    )
    if number == len(known) > 0:
        text += f". Each has one image, so nothing is kept together: is {noun} what it says?"
    if unknown:
        text += f"; {quantity(unknown, 'image')} of unknown {noun}"
    return text


def require_one_spelling(where: str, groups: Iterable[str]) -> None:
    """Raises InputError where two groups differ in case, blanks or leading zeros alone."""
    by_letters = collections.defaultdict(set)
    for group in filter(None, groups):
        # A blank between two digits tells numbers apart.
        letters = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", group.casefold())
        by_letters[letters.lstrip("0") if letters.isdecimal() else letters].add(group)
    if several := [sorted(names) for names in by_letters.values() if len(names) > 1]:
        listed = ", ".join(" and ".join(map(repr, names)) for names in several[:5])
        raise InputError(
            f"{where}: patients or slides that differ in case, blanks or leading zeros alone would "
            f"be kept apart as if they were two: {listed}. Write them alike, or differently"
        )


def image_column(header: Sequence[str], body: Rows, where: str) -> int | None:
    """The column of images: by its heading or, between several or none, by its cells.

    Raises:
      InputError: several could be it.
    """
    exact, candidates = _candidates(header, _IMAGE)
    if len(exact or candidates) == 1:
        return (exact or candidates)[0]
    named = [i for i in candidates or range(len(header)) if _mostly(body, i, _is_image_name)]
    if len(named) == 1:
        return named[0]
    if len(candidates) > 1:
        titles = _listed(header, candidates)
        raise InputError(
            f"{where} has several columns that may name the images: {titles}. Rename the one that "
            "does to image"
        )
    return None


def _slide_column(header: Sequence[str], body: Rows, where: str, is_slide: IsSlide) -> int | None:
    """The column of slides: by its heading or, between several or none, by its cells.

    Raises:
      InputError: several could be it.
    """
    exact, candidates = _candidates(header, _SLIDE)
    if len(candidates) == 1:
        return candidates[0]
    named = [i for i in candidates or range(len(header)) if _mostly(body, i, is_slide)]
    if len(named) > 1 or not named:
        named = [i for i in exact if not named or i in named] or named
    if len(named) == 1:
        return named[0]
    if named or candidates:
        raise InputError(
            f"{where} has several columns that may name the slides: "
            f"{_listed(header, named or candidates)}. Rename the one that does to slide_id"
        )
    return None


def _only(header: Sequence[str], names: str, where: str, wanted: str) -> int | None:
    """The only column with one of the names; that of the first name goes before the others."""
    exact, candidates = _candidates(header, names)
    chosen = exact or candidates
    if len(chosen) > 1:
        raise InputError(
            f"{where} has several columns that may be the {wanted}: {_listed(header, chosen)}. "
            f"Rename the one that is to {wanted}"
        )
    return chosen[0] if chosen else None


def _candidates(header: Sequence[str], names: str) -> tuple[list[int], list[int]]:
    """Columns with the first of the names, and with any of them."""
    wanted = names.split()
    candidates = [i for i, title in enumerate(header) if plain(title) in wanted]
    return [i for i in candidates if plain(header[i]) == wanted[0]], candidates


def _is_image_name(cell: str) -> bool:
    """Whether a cell ends as image files do; a Windows path may have either slash."""
    return reader.is_image_name(PureWindowsPath(cell))


def _mostly(body: Rows, column: int, holds: Callable[[str], bool]) -> bool:
    """Whether something holds for most cells of a column, and at least one."""
    cells = [row[column] for row in body if len(row) > column and row[column]]
    return 2 * sum(map(holds, cells)) > len(cells)


def plain(title: str) -> str:
    """A heading without case, blanks, underscores, hyphens, dots, number signs and brackets."""
    return re.sub(r"\(.*?\)|[\s_.\-#]+", "", title.casefold())


def _listed(header: Sequence[str], columns: Iterable[int]) -> str:
    return ", ".join(header[i] for i in columns if header[i]) or "none"
