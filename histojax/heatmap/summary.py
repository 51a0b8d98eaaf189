"""What a run of heat maps did, in lines for a person."""

import dataclasses
from pathlib import Path

PAGE = "overview.html"
FAILURES = "failures.csv"
_MOST_NAMED = 3  # Images that a line names.


@dataclasses.dataclass(frozen=True)
class HeatmapSummary:
    """What a run did.

    Attributes:
      mapped: images that were mapped now.
      done_before: images whose maps were there already.
      failed: the cause, by image, for those that could not be mapped.
      noticed: what speaks against believing maps made now: images by `notices.Notice.kind`.
    """

    mapped: tuple[str, ...]
    done_before: tuple[str, ...]
    failed: dict[str, str]
    noticed: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def text(self, out: Path) -> str:
        """Lines for a person: what was mapped, what to beware of, and where to look."""
        before = f", {len(self.done_before)} were there already" if self.done_before else ""
        failed = f", {len(self.failed)} could not be: {out / FAILURES}" if self.failed else ""
        lines = [f"{_images(len(self.mapped))} mapped{before}{failed}"]
        for kind, names in self.noticed.items():
            listed = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
            lines.append(f"{kind}: {len(names)} of {_images(len(self.mapped))} ({listed})")
        return "\n".join([*lines, str(out / "*" / PAGE)])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
