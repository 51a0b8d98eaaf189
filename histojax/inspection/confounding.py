"""Properties of files that tell the classes apart by themselves, without a look at the tissue.

Where all images of a class come from another scanner, or at another magnification, models may learn
that; no cross-validation shows it. So it is where the class goes with the site or batch that a
column tells, see `site_association`.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from histojax.inspection import site_association
from histojax.inspection.findings import NOTE, PROBLEM, Finding, ImageSet
from histojax.inspection.image_quality import InspectedImage
from histojax.inspection.recommend import format_size

# What a file has one of: a name, and the value as people write it.
_KINDS: Mapping[str, Callable[[InspectedImage], str]] = {
    "size": lambda image: f"{format_size(image.size)} px",
    "pixel size": lambda image: f"{image.mpp:.3g} µm" if image.mpp else "unknown",
    "file format": lambda image: ", ".join(image.file_format),
}
# What images have more or less of.
_MEASURES: Mapping[str, Callable[[InspectedImage], float]] = {
    "blur": lambda image: image.quality.blur,
    "brightness of the background": lambda image: max(image.quality.white),
}
_PER_KIND = 3  # Images of each kind, at least on average: else kinds are as good as names.
# Orders of the labels by chance, at least, of which one would be as telling.
_BY_CHANCE = 2000


def check(images: ImageSet) -> list[Finding]:
    """A problem for each property whose values no two classes share."""
    kept = [i for i in images.measured() if images.labels[i] and not images.images[i].error]
    labels = [images.labels[i] for i in kept]
    if len({*labels}) < 2 or _arrangements(_of_units(images, kept)) < _BY_CHANCE:
        return []
    findings = []
    for name, value in _KINDS.items():
        by_class = _by_class(labels, [value(images.images[i]) for i in kept])
        if _are_telling(by_class, len(kept)):
            shown = "; ".join(f"{k}: {', '.join(sorted({*of}))}" for k, of in by_class.items())
            findings.append(_finding(name, shown))
    for name, measure in _MEASURES.items():
        by_class = _by_class(labels, [measure(images.images[i]) for i in kept])
        ranges = sorted((min(of), max(of), k) for k, of in by_class.items())
        if all(low[1] < high[0] for low, high in zip(ranges, ranges[1:], strict=False)):
            shown = "; ".join(f"{k}: {low:.3g} to {high:.3g}" for low, high, k in ranges)
            findings.append(_finding(name, shown))
    return findings


def check_sites(images: ImageSet) -> list[Finding]:
    """For each column that tells the site or batch, whether the class goes with it."""
    classes, findings = sorted({*images.labels} - {""}), []
    columns = {column: of for column, of in images.sites.items() if len({*of} - {""}) > 1}
    for column, of in columns.items() if len(classes) > 1 else ():
        found = site_association.associate(column, of, images.labels, images.groups, classes)
        is_problem = found.is_confounded(len(columns)) or (
            found.is_perfect and not found.are_groups
        )
        findings.append(
            Finding(
                *((PROBLEM, "confounded") if is_problem else (NOTE, "site")),
                site_association.text(found, len(columns)),
                site_association.table_lines(found),
            )
        )
    return findings


def _of_units(images: ImageSet, kept: Sequence[int]) -> list[str]:
    """A label for each group and class, since images of a patient are alike by themselves."""
    groups = images.groups or ("",) * len(images.names)
    return [label for label, _ in {(images.labels[i], groups[i] or i) for i in kept}]


def _arrangements(labels: Sequence[str]) -> float:
    """In how many ways the labels can be arranged."""
    counts = [labels.count(label) for label in {*labels}]
    logarithm = math.lgamma(len(labels) + 1) - sum(math.lgamma(count + 1) for count in counts)
    return math.exp(min(logarithm, 700))


def _by_class(labels: Sequence[str], values: Sequence[Any]) -> dict[str, list[Any]]:
    classes = {label: [] for label in sorted({*labels})}
    for label, value in zip(labels, values, strict=True):
        classes[label].append(value)
    return classes


def _are_telling(by_class: Mapping[str, Sequence[Hashable]], number: int) -> bool:
    """Whether no two classes share a value, and values are fewer than images by far."""
    distinct = [{*values} for values in by_class.values()]
    total = sum(map(len, distinct))
    return total == len(set().union(*distinct)) and _PER_KIND * total <= number


def _finding(name: str, shown: str) -> Finding:
    message = (
        f"The {name} alone tells the classes apart ({shown}): models may learn it in place of the "
        "tissue, and figures would not show that. Take all classes from one source, and at one "
        "magnification."
    )
    return Finding(PROBLEM, "confounded", message)
