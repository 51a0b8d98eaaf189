"""Linear heads on site and batch: what tells the site, and accuracy where whole sites are left out.

The heads are those of `learners.ridge`, on all configurations side by side. They stand in for the
models only in what they show by comparison.

N images, K classes, S sites, P exchanges.
"""

import dataclasses

import numpy as np

from histojax.datasets.folds import TRAIN_ONLY, Folds
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.inspection import site_association
from histojax.learners import ridge
from histojax.utils import exchanges, ties
from histojax.utils.words import quantity

EXCHANGES = 1000  # Of sites, for each of which heads are fitted anew.
_FEW = 5  # Groups of a site, fewer of which have no interval.
_NUMBERS_AT_ONCE = 4_000_000  # Outputs held in memory at a time.


@dataclasses.dataclass(frozen=True)
class Value:
    """A share of images, with its 95 % interval by a bootstrap of groups."""

    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class Telling:
    """How well linear heads tell the site.

    Attributes:
      accuracy: balanced, out of group.
      sites: those with at least two groups, which can be told.
      too_few: the others, which are left out.
      images: how many there are of the former.
      by_chance: the mean of the exchanges.
      p: the share of exchanges that reach it.
      least_p: the lowest p that any of the exchanges would have.
      exchanges: how many were tried.
    """

    accuracy: Value
    sites: tuple[str, ...]
    too_few: tuple[str, ...]
    images: int
    by_chance: float
    p: float
    least_p: float
    exchanges: int

    def is_told(self, columns: int = 1) -> bool:
        """Whether the site is told beyond chance, by Bonferroni for as many columns."""
        return site_association.is_significant(self.p, columns)

    def is_powerless(self, columns: int = 1) -> bool:
        """Whether no exchange would differ from chance, since there are too few."""
        return not site_association.is_significant(self.least_p, columns)


@dataclasses.dataclass(frozen=True)
class LeftOutSite:
    """A site whose images are predicted by heads that saw none of it.

    Attributes:
      site: its name.
      images, groups: how many.
      in_split: accuracy of the same heads in the split as it is.
      left_out: accuracy without the site; None where it cannot be computed.
      note: why not, or what makes it rough.
    """

    site: str
    images: int
    groups: int
    in_split: Value
    left_out: Value | None
    note: str


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Whole sites left out.

    Attributes:
      rows: of the sites.
      in_split, left_out, change: accuracy of the images of all sites that could be computed, and
        the paired difference; None where there is none.
    """

    rows: tuple[LeftOutSite, ...]
    in_split: Value | None
    left_out: Value | None
    change: Value | None


def tell(
    inner: np.ndarray, site_of: np.ndarray, split: Folds, draws: int = DRAWS, tries: int = EXCHANGES
) -> Telling | None:
    """How well linear heads tell the site of each group from all other groups.

    Each group is left out by itself, so that no division of groups has a part in the result.

    Args:
      inner: inner products of the images, [N, N].
      site_of: str [N], all known.
      split: the images, for their groups.
      draws: of the bootstrap.
      tries: exchanges of sites, where there are more.

    Returns:
      None where fewer than two sites have two groups.
    """
    groups = np.array(site_association.units_of(split.groups, len(site_of)))
    counts = {site: len({*groups[site_of == site]}) for site in sorted({*site_of.tolist()})}
    enough = tuple(site for site, count in counts.items() if count > 1)
    if len(enough) < 2:
        return None
    kept = np.flatnonzero(np.isin(site_of, enough))
    groups, site = groups[kept], np.searchsorted(enough, site_of[kept])
    # The others' outputs, divided by the others' shares of each site: its likelihood ratio.
    hat = ridge.hat_matrix(inner[np.ix_(kept, kept)])
    outputs, shares = np.zeros_like(hat), np.zeros_like(hat)
    for group in np.unique(groups):
        block = groups == group
        outputs[block] = ridge.held_out_matrix(hat, block)
        shares[block] = ~block / (~block).sum()

    def predict(labels: np.ndarray) -> np.ndarray:
        of_sites = np.moveaxis(ridge.indicators(labels, len(enough)), 0, 1).reshape(len(kept), -1)
        shape = len(kept), len(labels), len(enough)
        said, share = (each @ of_sites for each in (outputs, shares))
        ratios = np.divide(said, share, out=np.full_like(said, -np.inf), where=share > 0)
        return ties.argmax(ratios.reshape(shape)).T

    def balanced(labels: np.ndarray) -> np.ndarray:
        right = predict(labels) == labels
        return np.mean(
            [
                (right & (labels == s)).sum(axis=1) / (labels == s).sum(axis=1)
                for s in range(len(enough))
            ],
            axis=0,
        )

    predicted, value = predict(site[None])[0], float(balanced(site[None])[0])
    exchanged = exchanges.exchange(groups, site, tries, seed=0)
    step = max(1, _NUMBERS_AT_ONCE // (len(kept) * len(enough)))
    tried = np.concatenate(
        [
            balanced(part[start : start + step])
            for part in exchanged.parts
            for start in range(0, len(part), step)
        ]
    )
    tried = exchanges.with_labels_as_they_are(tried, value, exchanged.exact)
    images = LabelledPredictions(
        tuple(split.names[i] for i in kept), enough, site, predicted, groups=tuple(groups.tolist())
    )
    drawn = bootstrap.resample(
        lambda weights: metrics.compute(images, weights, ("balanced_accuracy",)),
        images.groups,
        draws,
    )
    interval = bootstrap.confidence_interval(
        value, drawn["balanced_accuracy", ""], bootstrap.effective_size(images.groups), (0.0, 1.0)
    )
    return Telling(
        Value(value, interval),
        enough,
        tuple(name for name, count in counts.items() if count < 2),
        len(kept),
        float(tried.mean()),
        exchanges.p_value(tried, value),
        exchanges.p_value(tried, tried.max()),
        len(tried),
    )


def leave_out(inner: np.ndarray, site_of: np.ndarray, split: Folds, draws: int = DRAWS) -> LeftOut:
    """Accuracy of linear heads where whole sites are left out, and in the split as it is.

    A group's images are predicted without those that it has elsewhere, too. A site is not computed
    where a class of its images has none elsewhere. Arguments are those of `tell`.
    """
    groups = tuple(site_association.units_of(split.groups, len(site_of)))
    group = np.array(groups)
    classes = ridge.indicators(split.labels, len(split.classes))
    hat = ridge.hat_matrix(inner)
    held_out = split.folds != TRAIN_ONLY
    in_split = np.zeros(len(site_of), bool)
    for fold in np.unique(split.folds[held_out]):
        block = split.folds == fold
        in_split[block] = ridge.predict_held_out(hat, block, classes) == split.labels[block]
    left_out, computed, notes = np.zeros(len(site_of), bool), np.zeros(len(site_of), bool), {}
    for site in np.unique(site_of):
        of_site = site_of == site
        elsewhere = np.unique(group[of_site & np.isin(group, group[~of_site])])
        # The groups that are at this site alone, then each of the others.
        parts = [of_site & ~np.isin(group, elsewhere), *(of_site & (group == g) for g in elsewhere)]
        blocks = [of_site, *(of_site | (group == g) for g in elsewhere)]
        pairs = [pair for pair in zip(parts, blocks, strict=True) if pair[0].any()]
        reasons = (_impossible(split, part, ~block) for part, block in pairs)
        notes[site] = next(filter(None, reasons), "")
        if not notes[site]:
            for part, block in pairs:
                said = ridge.predict_held_out(hat, block, classes)[part[block]]
                left_out[part] = said == split.labels[part]
            computed |= of_site & held_out
    rows = []
    for site, note in notes.items():
        mask = (site_of == site) & held_out
        before, after, _ = _values(mask, in_split, left_out, groups, draws)
        count = len({group for group, inside in zip(groups, mask, strict=True) if inside})
        if before is not None:
            roughness = note or _rough(split, mask, count)
            rows.append(
                LeftOutSite(
                    str(site), int(mask.sum()), count, before, None if note else after, roughness
                )
            )
    return LeftOut(tuple(rows), *_values(computed, in_split, left_out, groups, draws))


def _impossible(split: Folds, part: np.ndarray, others: np.ndarray) -> str:
    """Why images of a site cannot be predicted from others; empty where they can."""
    there, elsewhere = ({*split.labels[mask].tolist()} for mask in (part, others))
    if absent := [split.classes[k] for k in sorted(there - elsewhere)]:
        return f"cannot be computed: no other site has images of {' or '.join(absent)}"
    if len(elsewhere) < 2:
        return "cannot be computed: all other sites have images of one class alone"
    return ""


def _rough(split: Folds, mask: np.ndarray, groups: int) -> str:
    """What makes the figures of a site rough."""
    notes = []
    present = {*split.labels[mask].tolist()}
    if len(present) == 1:
        notes.append(f"{split.classes[present.pop()]} alone, so not comparable with other sites")
    if groups < _FEW:
        units = quantity(groups, "group" if split.groups else "image")
        notes.append(f"only {units}, too few for an interval")
    return "; ".join(notes)


def _values(
    mask: np.ndarray, before: np.ndarray, after: np.ndarray, groups: tuple[str, ...], draws: int
) -> tuple[Value | None, Value | None, Value | None]:
    """Two shares of the images of a mask, and the paired difference; None of no images.

    They have no interval where there are few groups.
    """
    if not mask.any():
        return None, None, None
    kept = tuple(group for group, inside in zip(groups, mask, strict=True) if inside)
    size = bootstrap.effective_size(kept) if len({*kept}) >= _FEW else 0
    columns = np.stack([before, after])[:, mask].astype(float)
    columns = np.concatenate([columns, columns[1:] - columns[:1]])
    drawn = bootstrap.resample(
        lambda weights: dict(enumerate(columns @ weights.T / weights.sum(axis=1))), kept, draws
    )
    return tuple(
        Value(mean, bootstrap.confidence_interval(mean, drawn[i], size, bounds))
        for i, (mean, bounds) in enumerate(
            zip(columns.mean(axis=1).tolist(), ((0.0, 1.0), (0.0, 1.0), None), strict=True)
        )
    )
