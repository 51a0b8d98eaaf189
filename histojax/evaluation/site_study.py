"""Site and batch: is the site in the descriptors, does the class go with it, is accuracy lost?

For each column that tells a site, scanner, batch or period:
1. linear heads predict the site of each group (patient) from all other groups' images; groups
   exchange their sites, and the heads are fitted anew, to find what chance does;
2. the association of class and site, by `inspection.site_association`;
3. whole sites are left out: linear heads fitted to the images of all others, beside the same heads
   in the split as it is.

The heads, those of `site_heads`, see the mean descriptors of each image.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import site_heads
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.site_heads import LeftOut, Telling
from histojax.inspection import site_association
from histojax.inspection.site_association import Association
from histojax.learners import ridge

_MOST_IMAGES = 2000  # That heads are fitted to: the time grows as the cube.


@dataclasses.dataclass(frozen=True)
class SiteColumn:
    """A column's answers.

    Attributes:
      association: of the class with it.
      telling, left_out: None where descriptors are not there, each value has one group, or (of
        the latter) all images are in one fold.
      without: why `telling` alone is None.
    """

    association: Association
    telling: Telling | None = None
    left_out: LeftOut | None = None
    without: str = ""


@dataclasses.dataclass(frozen=True)
class SiteStudy:
    """Every column's answers.

    Attributes:
      columns: at least one.
      notices: sentences on what is missing.
    """

    columns: tuple[SiteColumn, ...]
    notices: tuple[str, ...] = ()


def study(
    folds: Folds,
    sites: Mapping[str, Mapping[str, str]],
    descriptors: Path | None,
    configurations: Sequence[str],
    draws: int = DRAWS,
) -> SiteStudy | None:
    """Answers the three questions for each column; None where there is none of two sites.

    Args:
      folds: the images that models were trained on.
      sites: of each column, the site by image name; others are unknown.
      descriptors: their folder; None where it is not known.
      configurations: of the models.
      draws: of the bootstrap.
    """
    labels = [folds.classes[k] for k in folds.labels]
    found, notices = [], []
    for column, of in sites.items():
        site_of = [of.get(name, "") for name in folds.names]
        if len({*site_of} - {""}) > 1:
            found.append(
                (
                    site_of,
                    site_association.associate(
                        column, site_of, labels, folds.groups, folds.classes
                    ),
                )
            )
    if not found:
        return None
    chosen = _subset(folds)
    inner = None
    try:
        if descriptors is None:
            raise InputError("pass --descriptors, the folder of the images' descriptors")
        inner = ridge.kernel_of_images(descriptors, configurations, folds.take(chosen).names)
    except InputError as error:
        notices.append(
            f"Whether descriptors tell the site, and what accuracy becomes without one, was not "
            f"computed: {error}"
        )
    if inner is not None and len(chosen) < len(folds.names):
        notices.append(
            f"Linear heads are fitted to {len(chosen)} of {len(folds.names)} images, drawn at "
            "random, as evenly as possible from all groups."
        )
    columns = []
    for site_of, of_classes in found:
        if inner is None or of_classes.are_groups:
            columns.append(SiteColumn(of_classes))
            continue
        known = np.flatnonzero([bool(site_of[i]) for i in chosen])
        split, names = folds.take(chosen[known]), np.array(site_of)[chosen[known]]
        of_known = inner[np.ix_(known, known)]
        telling = site_heads.tell(of_known, names, split, draws)
        without = "" if telling else "fewer than two of its values have two groups"
        left_out = None
        if len({*split.folds.tolist()}) > 1:
            left_out = site_heads.leave_out(of_known, names, split, draws)
        else:
            notices.append(
                f"What accuracy becomes without a {of_classes.column} was not computed: all images "
                "for which it is known are in one fold."
            )
        columns.append(SiteColumn(of_classes, telling, left_out, without))
    return SiteStudy(tuple(columns), tuple(notices))


def doubt(columns: Sequence[SiteColumn]) -> str:
    """What makes figures doubtful, in sentences; empty where no class goes with a site."""
    sentences = []
    for column in columns:
        of_class = column.association
        told = of_class.is_perfect or of_class.is_confounded(len(columns))
        if not told or of_class.are_groups:
            continue
        sentences.append(site_association.text(of_class, len(columns)))
        if column.telling and column.telling.is_told(len(columns)):
            sentences.append(
                f"Descriptors tell {of_class.column} (balanced accuracy "
                f"{_percent(column.telling.accuracy.value)}, by chance "
                f"{_percent(column.telling.by_chance)})."
            )
        of_sites = column.left_out
        if of_sites and of_sites.change:
            sentences.append(
                f"With whole values of {of_class.column} left out, linear heads have an accuracy "
                f"of {_percent(of_sites.left_out.value)} in place of "
                f"{_percent(of_sites.in_split.value)}."
            )
    return " ".join(sentences)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _subset(folds: Folds) -> np.ndarray:
    """The images that heads are fitted to: all, or as many of each group as there is room for."""
    if len(folds.names) <= _MOST_IMAGES:
        return np.arange(len(folds.names))
    groups = site_association.units_of(folds.groups, len(folds.names))
    before = collections.Counter()  # Images of a group that were drawn.
    rounds = np.zeros(len(groups), int)
    drawn = np.random.default_rng(0).permutation(len(groups))
    for i in drawn:
        rounds[i] = before[groups[i]]
        before[groups[i]] += 1
    return np.sort(drawn[np.argsort(rounds[drawn], kind="stable")][:_MOST_IMAGES])
