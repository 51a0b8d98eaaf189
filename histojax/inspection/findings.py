"""What inspection finds: problems and notes, about a set of inspected images."""

import dataclasses
from collections.abc import Iterable

from histojax.inspection.image_quality import InspectedImage
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
    """

    names: tuple[str, ...]
    images: tuple[InspectedImage, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None

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
