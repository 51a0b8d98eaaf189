"""Whether the class goes with the site (scanner, batch, period): a table, Cramér's V, and a test.

Every group (patient) weighs the same; one with images of several classes, or sites, counts in each
by its share. In the test, groups exchange their sites while their images keep their classes, so
that patients of several classes stay as they are; images of a group of several sites exchange them
among themselves. An image of unknown group is a group of its own.

N images, K classes, S sites, P exchanges.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from histojax.utils import exchanges, ties
from histojax.utils.words import quantity

DRAWS = 2000
SIGNIFICANT = 0.05
_SHOWN = 30  # Sites in a text, at most.


@dataclasses.dataclass(frozen=True)
class Association:
    """How the class goes with the site.

    Attributes:
      column: what tells the site: a heading.
      sites, classes: names.
      counts: images of each site and class, int [S, K].
      groups: how many groups have images of each site, int [S].
      units: how many groups there are; images of unknown group are one each.
      grouped: whether groups are known.
      unknown: images of unknown site, which are left out.
      v: Cramér's V, from 0 to 1; NaN of one site or class.
      v_by_chance: its mean over the exchanges.
      p: the share of exchanges that reach it.
      least_p: the lowest p that any of the exchanges would have.
      exchanges: how many were tried.
      exact: whether these are all.
    """

    column: str
    sites: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray
    groups: np.ndarray
    units: int
    grouped: bool
    unknown: int
    v: float
    v_by_chance: float
    p: float
    least_p: float
    exchanges: int
    exact: bool

    @property
    def is_perfect(self) -> bool:
        """Whether each site has images of one class alone, of at least two."""
        several = len(self.sites) > 1 and (self.counts.sum(axis=0) > 0).sum() > 1
        return bool(several and ((self.counts > 0).sum(axis=1) == 1).all())

    @property
    def are_groups(self) -> bool:
        """Whether each site has one group, so that it cannot be told from the patient."""
        return bool((self.groups == 1).all())

    def is_powerless(self, columns: int = 1) -> bool:
        """Whether no exchange would differ from chance, since too few groups can be told apart."""
        return self.are_groups or not is_significant(self.least_p, columns)

    def is_confounded(self, columns: int = 1) -> bool:
        """Whether the class goes with the site beyond chance."""
        return is_significant(self.p, columns)


def is_significant(p: float, columns: int = 1) -> bool:
    """Whether a p-value differs from chance, by Bonferroni for as many columns."""
    return p <= SIGNIFICANT / columns


def associate(
    column: str,
    site_of: Sequence[str],
    label_of: Sequence[str],
    groups: Sequence[str] | None,
    classes: Sequence[str],
    draws: int = DRAWS,
) -> Association:
    """How the class goes with the site.

    Args:
      column: what tells the site.
      site_of, label_of: of each image, empty where unknown.
      groups: of each image, empty where unknown; None where none is known.
      classes: K, in the order of the table.
      draws: exchanges that are tried, where there are more.
    """
    known = [i for i in range(len(site_of)) if site_of[i] and label_of[i]]
    sites, site = np.unique([site_of[i] for i in known] or [""], return_inverse=True)
    label = np.array([list(classes).index(label_of[i]) for i in known], int)
    if not known:
        sites, site = sites[:0], site[:0]
    group = units_of(groups, len(site_of))
    group = np.unique([group[i] for i in known], return_inverse=True)[1]
    counts = np.zeros((len(sites), len(classes)), int)
    np.add.at(counts, (site, label), 1)
    of_site = [len({*group[site == s].tolist()}) for s in range(len(sites))]
    v = by_chance = np.nan
    p, least_p, tried, exact = 1.0, 1.0, np.ones(1), True
    if len(sites) > 1 and (counts.sum(axis=0) > 0).sum() > 1:
        v = float(cramers_v(site[None], label, group)[0])
        tries = exchanges.exchange(group, site, draws, seed=0)
        tried = np.concatenate([cramers_v(each, label, group) for each in tries.parts])
        tried = exchanges.with_labels_as_they_are(tried, v, tries.exact)
        p, least_p = (exchanges.p_value(tried, value) for value in (v, tried.max()))
        exact, by_chance = tries.exact, float(tried.mean())
    return Association(
        column,
        tuple(sites.tolist()),
        tuple(classes),
        counts=counts,
        groups=np.array(of_site, int),
        units=len({*group.tolist()}),
        grouped=groups is not None and any(groups),
        unknown=len(site_of) - len(known),
        v=v,
        v_by_chance=by_chance,
        p=p,
        least_p=least_p,
        exchanges=len(tried),
        exact=exact,
    )


def units_of(groups: Sequence[str] | None, count: int) -> list[str]:
    """The group of each image; one of unknown group is a group of its own."""
    return [group or f"\0{i}" for i, group in enumerate(groups or [""] * count)]


def cramers_v(site: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Cramér's V of sites int [P, N] and classes int [N], with the same weight for every group.

    sqrt(chi squared / (G min(S - 1, K - 1))) for G groups, of the sites and classes that occur
    (Cramer, Mathematical Methods of Statistics, 1946, chapter 21).
    """
    weight = 1 / np.bincount(group)[group]
    by_class = weight[:, None] * np.eye(label.max() + 1)[label]
    by_class = by_class[:, by_class.any(axis=0)]
    table = np.stack([(site == s) @ by_class for s in range(site.max() + 1)], axis=1)
    rows, columns = table.sum(axis=2, keepdims=True), table.sum(axis=1, keepdims=True)
    total = rows.sum(axis=1, keepdims=True)
    expected = rows * columns / total
    terms = np.divide((table - expected) ** 2, expected, out=np.zeros_like(table), where=rows > 0)
    least = min(table.shape[1], table.shape[2]) - 1
    return np.sqrt(terms.sum(axis=(1, 2)) / (total[:, 0, 0] * least))


def text(association: Association, columns: int = 1) -> str:
    """Whether the class is confounded with the site, in sentences."""
    column, units = association.column, _units(association)
    found = f"Cramér's V {association.v:.2f}, by chance {association.v_by_chance:.2f}"
    if association.are_groups:
        return (
            f"Each value of {column} has one {units[:-1]}, so it cannot be told from the "
            f"{'patient' if association.grouped else 'image'}."
        )
    test = f"permutation test of {quantity(association.units, units[:-1])}, p = {association.p:.2g}"
    if association.is_perfect:
        lead = (
            f"Each value of {column} has images of one class alone: nothing in these images can "
            f"separate the class from {column}"
        )
        at_one = (association.counts > 0).sum(axis=0) == 1
        if names := [name for name, one in zip(association.classes, at_one, strict=True) if one]:
            lead += (
                f", and how models would do without it cannot be computed for {', '.join(names)}, "
                "found at one value alone"
            )
        if not association.is_confounded(columns):
            few = "though so few may be arranged so by chance"
            return f"{lead} ({found}; {test}, {few})."
        return f"{lead} ({found}; {test})."
    if association.is_powerless(columns) and association.v > ties.FLOAT64:
        return (
            f"Too few {units} differ in {column} and class for a test to tell these from chance: "
            f"p cannot be below {association.least_p:.2g} ({found})."
        )
    if association.is_confounded(columns):
        return (
            f"The class goes with {column} ({found}; {test}): models may learn {column} in place "
            "of the tissue, and figures would not show that."
        )
    return f"The class does not go with {column} beyond chance ({found}; {test})."


def table_lines(association: Association) -> tuple[str, ...]:
    """A line for each site: its images by class, and its groups."""
    lines = []
    for site, counts, groups in zip(
        association.sites, association.counts, association.groups, strict=True
    ):
        by_class = ", ".join(
            f"{name} {count}" for name, count in zip(association.classes, counts, strict=True)
        )
        of_groups = f" ({quantity(int(groups), 'group')})" if association.grouped else ""
        lines.append(f"{association.column} {site}: {by_class}{of_groups}")
    if association.unknown:
        lines.append(f"{quantity(association.unknown)} of unknown {association.column} left out")
    more = len(lines) - _SHOWN
    return (*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else []))


def _units(association: Association) -> str:
    return "groups" if association.grouped else "images"
