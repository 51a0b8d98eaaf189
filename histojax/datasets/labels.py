"""Class names that are probably misspelt: asked about before they become classes of their own."""

import collections
import difflib
import re
from collections.abc import Iterable, Mapping

from histojax.errors import InputError

# A class is taken for a slip of another if it is spelt as nearly as this (difflib's ratio), and
# rarer than this share of the other, or has no more images than that.
_LIKENESS, _RARE, _FEW = 0.8, 0.1, 2


def did_you_mean(names: Iterable[str], known: Iterable[str]) -> str:
    """A question about unknown names that resemble known ones; empty where none does."""
    known = list(known)
    plain = {_plain(name): name for name in known}
    meant = []
    for name in names:
        nearest = difflib.get_close_matches(_plain(name), plain, 1, _LIKENESS)
        if nearest and plain[nearest[0]] not in meant:
            meant.append(plain[nearest[0]])
    return f" Did you mean {', '.join(meant)}?" if meant else ""


def check(labels: Iterable[str]) -> None:
    """Asks about classes that are perhaps one.

    Raises:
      InputError: two differ in case or blanks alone, or a rare one is nearly spelt as another.
    """
    counts = collections.Counter(labels)
    for i, one in enumerate(counts):
        for other in list(counts)[i + 1 :]:
            rare, common = sorted((one, other), key=lambda name: (counts[name], name))
            if _plain(one) == _plain(other):
                raise InputError(
                    f"classes {_counted(counts, rare)} and {_counted(counts, common)} differ in "
                    "case or blanks alone: write both alike, or pass --classes with both if they "
                    "are two"
                )
            if _is_slip(rare, common, counts):
                raise InputError(
                    f"class {_counted(counts, rare)} is nearly spelt as {_counted(counts, common)}:"
                    f" did you mean {common}? Correct it, or pass --classes with both if they are "
                    "two"
                )


def _is_slip(rare: str, common: str, counts: Mapping[str, int]) -> bool:
    """Whether a class looks like a misspelling of another; not if they differ in numbers alone."""
    one, other = _plain(rare), _plain(common)
    if _without_numbers(rare) == _without_numbers(common):
        return False
    if one.endswith(other) or other.endswith(one):
        return False  # abnormal, noninvasive, undifferentiated.
    few = counts[rare] <= max(_FEW, _RARE * counts[common]) and counts[rare] < counts[common]
    return few and difflib.SequenceMatcher(None, one, other).ratio() > _LIKENESS


def _without_numbers(name: str) -> str:
    """A class name without numbers, Roman ones and single letters at its end too (`grade III`)."""
    last = r"[\s_\-]+([ivx]+[a-c]?|[a-d])$"
    return re.sub(r"\d", "", _plain(re.sub(last, "", name.casefold())))


def _plain(name: str) -> str:
    """A class name without case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", name.casefold())


def _counted(counts: Mapping[str, int], name: str) -> str:
    return f"{name!r} ({counts[name]} image{'' if counts[name] == 1 else 's'})"
