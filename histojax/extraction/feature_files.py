"""Features of tiles or slides in the files of TRIDENT, CLAM and STAMP, and plain arrays."""

import dataclasses

FORMATS = ("TRIDENT", "CLAM", "STAMP", "arrays")
LEVELS = ("tile", "slide")


@dataclasses.dataclass(frozen=True)
class Source:
    """What a set of feature files holds; None where neither files nor their path say.

    Attributes:
      encoder: its name.
      format: one of `FORMATS`.
      level: `tile`, features [N, D] of a slide's tiles; or `slide`, one vector [D].
      channels: D.
      magnification: that tiles were cut at.
      patch_px, overlap_px: side of a tile and overlap of two, in pixels at that magnification.
      mpp: microns per pixel of the tiles.
    """

    encoder: str
    format: str
    level: str
    channels: int
    magnification: float | None = None
    patch_px: int | None = None
    overlap_px: int | None = None
    mpp: float | None = None

    @property
    def configuration(self) -> str:
        """The folder of its descriptors, such as uni_v1-20x-256px."""
        parts = [self.encoder]
        if self.magnification is not None:
            parts.append(f"{self.magnification:g}x")
        if self.patch_px is not None:
            parts.append(f"{self.patch_px}px")
        if self.overlap_px:
            parts.append(f"{self.overlap_px}px_overlap")
        if self.mpp is not None:
            parts.append(f"{self.mpp:g}mpp")
        if self.level == "slide":
            parts.append("slide")
        return "-".join(parts)
