"""What inspection finds: problems and notes, about a set of inspected images."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from histojax.inspection import near_duplicates
from histojax.inspection.image_quality import InspectedImage
from histojax.inspection.near_duplicates import Pair
from histojax.utils.words import quantity

PROBLEM, NOTE = "problem", "note"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something a user should know.

    Attributes:
      severity: PROBLEM, what must be dealt with before a run, or NOTE.
      kind: a word for tables and marks.
      message: what was found and what to do, in one sentence or two.
      details: a line each.
      indices: of the images it is about, in the order of the details where each has one.
    """

    severity: str
    kind: str
    message: str
    details: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """N images and what is known of them.

    Attributes:
      names: as the user knows them, relative to the folder.
      images: what was read and measured.
      labels: class names, empty where unknown.
      groups: patients or slides, empty where unknown; None where no group is known.
      sites: site, scanner, batch or period of each, empty where unknown, by column.
    """

    names: tuple[str, ...]
    images: tuple[InspectedImage, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    sites: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Images that are copies of each other, or overlap; of those that could be decoded."""
        measured = self.measured()
        found = near_duplicates.find_pairs([self.images[i].quality.fingerprint for i in measured])
        return tuple(
            dataclasses.replace(pair, first=measured[pair.first], second=measured[pair.second])
            for pair in found
        )

    def of_one_group(self, one: int, other: int) -> bool:
        """Whether two images are known to be of one patient or slide."""
        return bool(self.groups and self.groups[one] and self.groups[one] == self.groups[other])

    def usable(self) -> list[int]:
        """Indices of the images that can be used."""
        return [i for i, image in enumerate(self.images) if not image.error]

    def measured(self) -> list[int]:
        """Indices of the images that could be decoded."""
        return [i for i, image in enumerate(self.images) if image.quality]

    def finding(
        self, severity: str, kind: str, message: str, reasons: dict[int, str]
    ) -> list[Finding]:
        """A finding about some images, or none where there are none.

        Args:
          severity, kind: of the finding.
          message: with `{}` for how many images they are.
          reasons: by index of the image.
        """
        if not reasons:
            return []
        details = tuple(f"{self.names[i]}: {reason}" for i, reason in reasons.items())
        message = message.format(quantity(len(reasons)))
        return [Finding(severity, kind, message, details, tuple(reasons))]


def problems_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Problems before notes, else in the same order."""
    return tuple(sorted(findings, key=lambda finding: finding.severity != PROBLEM))


def sentence(notice: str) -> str:
    """A notice with a capital letter at its start and a full stop at its end."""
    return f"{notice[0].upper()}{notice[1:]}."
