"""Images that are copies of one image, or overlap, as sets that no fold divides.

A set is named by its first image, in the order of the alphabet; the name is empty for an image that
is in none. Sets are joined with groups (patients or slides): what shares a set or a group, directly
or through others, is of one group. N images.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.words import quantity

_NAMELESS = "copies of "  # And the name of a set: its group, where no patient or slide is known.
_NAMED = 5  # Joined groups that a notice names.
_PAIR = ("first", "second")  # Columns of a table of pairs, such as the audit's duplicates.csv.


def sets_of(names: Sequence[str], pairs: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """The set of each image, empty where it is in no pair.

    Args:
      names: of N images.
      pairs: indices of images that are copies of each other, or overlap.
    """
    pairs = list(pairs)
    component = _components(len(names), pairs)
    paired = {i for pair in pairs for i in pair}
    first = {}
    for i in sorted(paired, key=lambda i: names[i]):
        first.setdefault(component[i], names[i])
    return tuple(first[component[i]] if i in paired else "" for i in range(len(names)))


def join(groups: tuple[str, ...] | None, sets: Sequence[str] | None) -> tuple[str, ...] | None:
    """Groups joined where they share a set: the group of each image, empty where unknown.

    A joined group is called after its groups, `A + B` or `A + 3 others`; a set without a known
    group, after its first image. The result joined with the same sets is itself.

    Args:
      groups: of N images, empty where unknown; None where no group is known.
      sets: of the images; None for no set.
    """
    if not any(sets or ()):
        return groups
    count = len(sets)
    groups = groups or ("",) * count
    first_of, pairs = {}, []
    for i in range(count):
        for kind, name in (("group", groups[i]), ("set", sets[i])):
            if name:
                pairs.append((first_of.setdefault((kind, name), i), i))
    component = _components(count, pairs)
    known = collections.defaultdict(set)
    for i in range(count):
        known[component[i]].add(groups[i])
    taken = {*groups}
    name_of = {number: _joined_name(sorted(of - {""}), taken) for number, of in known.items()}
    return tuple(
        name_of[component[i]] or (_NAMELESS + sets[i] if sets[i] else "") for i in range(count)
    )


def _joined_name(groups: list[str], taken: set[str]) -> str:
    """What groups together are called; no other group has the name."""
    if len(groups) < 2:
        return groups[0] if groups else ""
    name = f"{groups[0]} + " + (groups[1] if len(groups) == 2 else f"{len(groups) - 1} others")
    while name in taken:
        name += " (joined)"
    return name


def is_unknown(group: str) -> bool:
    """Whether the patient or slide of a group is not known, nor that of any copy in it."""
    return not group or group.startswith(_NAMELESS)


def known(groups: Iterable[str] | None) -> set[str]:
    """The groups whose patients or slides are known."""
    return {group for group in groups or () if not is_unknown(group)}


def _components(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The number of the connected component of each of `count` images, int [N]."""
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), (count, count))
    return connected_components(graph, directed=False)[1]


def with_sets(dataset: Dataset, sets: Sequence[str]) -> Dataset:
    """The data set with these sets, and its groups joined by them."""
    return dataclasses.replace(dataset, groups=join(dataset.groups, sets), copies=tuple(sets))


def joined_groups(groups: tuple[str, ...] | None, sets: Sequence[str]) -> list[str]:
    """The groups that sets join, as people read them: `A and B`; sorted."""
    of_group, groups = collections.defaultdict(set), groups or ("",) * len(sets)
    for group, joined in zip(groups, join(groups, sets), strict=True):
        of_group[joined] |= {group} - {""}
    return sorted(" and ".join(sorted(of)) for of in of_group.values() if len(of) > 1)


def notice(groups: tuple[str, ...] | None, sets: Sequence[str]) -> str:
    """What sets keep together, and which groups they join, in a sentence."""
    images, number = quantities(sets)
    if not number:
        return "copies: none, so that nothing more is kept together"
    text = (
        f"copies: {quantity(images)} in {quantity(number, 'set')} of copies or overlaps, each kept "
        "in one fold"
    )
    if joined := joined_groups(groups, sets):
        others = f" and {len(joined) - _NAMED} more" if len(joined) > _NAMED else ""
        text += f". They join groups: {'; '.join(joined[:_NAMED])}{others}"
    return text


def quantities(sets: Sequence[str]) -> tuple[int, int]:
    """How many images are in sets, and how many sets there are."""
    return sum(map(bool, sets)), len({*sets} - {""})


def read_pairs(table: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of images from a CSV with the columns first and second, such as duplicates.csv.

    Args:
      table: the file.
      names: of the images of the data.

    Raises:
      InputError: the table cannot be read, or names an image that the data lack.
    """
    index = {name: i for i, name in enumerate(names)}
    rows = files.read_csv(table, _PAIR)
    pairs = [(row["first"], row["second"]) for row in rows]
    if unknown := sorted({name for pair in pairs for name in pair} - {*index}):
        raise InputError(
            f"{table} names {quantity(len(unknown))} not in the data "
            f"({', '.join(unknown[:5])}), expected names as in duplicates.csv of histojax audit, "
            f"such as {names[0]}: pass a table that was made of these data"
        )
    return [(index[first], index[second]) for first, second in pairs]
