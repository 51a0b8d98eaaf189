"""Resampling of images to one pixel size as they are read, whatever scanner they are from.

A target is in microns per pixel at scale 0.5, where the protocol has 0.84: BACH's 0.42 at full
size, halved by the view's scale. An image is first brought to half the target. Without a target,
images are read as they are. A view in microns has a target of its own, at scale 1.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.images import reader, slide, whole_slide
from histojax.images.slide import Slide

SCALE_OF_TARGET = 0.5  # The scale at which images have the target's pixel size.
LARGEST_FIELD = 50_000_000  # Pixels of a slide that is read whole, which then takes 2 GiB.
_STRIP = 512  # Rows of a slide that are read at a time.
_TOLERANCE = 0.01  # An image whose factor differs from 1 by less is left as it is.


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How images are resampled.

    Attributes:
      target_mpp: microns per pixel at scale 0.5 that images are brought to; 0 for no resampling.
      mpp: microns per pixel of all files; None to take what each file says.
      most_enlarged: how many times images may be enlarged at most.
      asked_by: what states the pixel size, for messages.
    """

    target_mpp: float = 0.0
    mpp: float | None = None
    most_enlarged: float = math.inf
    asked_by: str = "--target_mpp"

    @classmethod
    def of(cls, extraction: Extraction, mpp: float | None, view: View) -> "Resampling":
        """How images are read for a view.

        Args:
          extraction: the protocol, whose target_mpp views by scale take.
          mpp: as the attribute.
          view: one in microns states its own pixel size, and may not enlarge images much.
        """
        if view.mpp is None:
            return cls(extraction.target_mpp, mpp)
        target = view.mpp / SCALE_OF_TARGET
        return cls(target, mpp, extraction.most_enlarged, f"a view of {view.mpp:g}mpp")

    def pixel_size(self, path: Path) -> float:
        """Microns per pixel of an image; InputError if neither user nor file says."""
        if mpp := self.mpp or slide.pixel_size(path):
            return mpp
        raise InputError(
            f"{path} does not say its pixel size, which {self.asked_by} needs: pass --mpp, in "
            "microns"
        )

    def factor(self, path: Path) -> float:
        """What both sides of an image are multiplied by; 1 if it is read as it is.

        Raises:
          InputError: as for `pixel_size`, or the image would be enlarged too much.
        """
        if not self.target_mpp:
            return 1.0
        mpp = self.pixel_size(path)
        factor = self.factor_of(mpp)
        if factor > self.most_enlarged:
            raise InputError(
                f"{path} has {mpp:g} um per pixel and would be enlarged {factor:.3g} x for "
                f"{self.asked_by}, expected at most {self.most_enlarged:g} x, since enlarging adds "
                f"no detail: {self.advice(mpp, factor)}"
            )
        return factor

    def factor_of(self, mpp: float) -> float:
        """The same of an image of that many microns per pixel, however much it is enlarged."""
        factor = mpp / (self.target_mpp * SCALE_OF_TARGET)
        return factor if abs(factor - 1) > _TOLERANCE else 1.0

    @staticmethod
    def advice(mpp: float, factor: float) -> str:
        """What to do about an image of that pixel size that would be enlarged too much."""
        return (
            f"take views of {mpp:g}mpp or coarser, leave the image out, or extract and train with "
            f"{most_enlarged(factor)}"
        )

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of the resampled image, which is not decoded.

        Raises:
          InputError: as for `pixel_size`; the image cannot be opened; or it is a slide, and too
            large to be one field.
        """
        size = resampled_size(slide.size(path), self.factor(path))
        if math.prod(size) > LARGEST_FIELD and whole_slide.is_slide(path):
            pixels = f"{self.target_mpp * SCALE_OF_TARGET:g} um" if self.target_mpp else "full size"
            raise InputError(
                f"{path} is a slide of {size[1]} x {size[0]} px at {pixels}, expected at most "
                f"{LARGEST_FIELD:,} px in all to take it as one field: cut fields from it, or map "
                "it with histojax heatmap, which takes any size"
            )
        return size

    def read(self, path: Path) -> np.ndarray:
        """The resampled image, uint8 RGB [H, W, 3]: bicubic, with antialiasing where it shrinks.

        Raises:
          InputError: as for `size`, or the image is damaged.
        """
        if whole_slide.is_slide(path):
            height, width = self.size(path)
            rgb = np.empty((height, width, 3), np.uint8)
            with slide.open_slide(path) as opened:
                if not self.target_mpp:
                    logging.warning(
                        "%s is a slide, read at its full resolution (%s um per pixel), since the "
                        "protocol has no --target_mpp: right only where the training images had "
                        "the same",
                        path,
                        f"{opened.mpp:g}" if opened.mpp else "unknown",
                    )
                field = resample(opened, self.factor(path))
                for top in range(0, height, _STRIP):  # The level may be larger than the result.
                    rows = min(_STRIP, height - top)
                    rgb[top : top + rows] = field.read(top, 0, rows, width)
            return rgb
        rgb, factor = reader.read(path), self.factor(path)
        if factor == 1:
            return rgb
        height, width = resampled_size(rgb.shape[:2], factor)
        return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))

    def digest_suffix(self, path: Path) -> str:
        """What identifies an image besides its file's checksum: the pixel size, given a target."""
        return f"@{self.pixel_size(path):g}um" if self.target_mpp else ""


NO_RESAMPLING = Resampling()


def most_enlarged(factor: float) -> str:
    """The flag that allows images to be enlarged so many times, rounded up."""
    return f"--most_enlarged={math.ceil(factor * 100) / 100:g}"


def recorded_pixel_size(digest: str) -> float | None:
    """The microns per pixel that `digest_suffix` wrote behind a checksum; None where it did not."""
    _, _, size = digest.partition("@")
    return float(size.removesuffix("um")) if size else None


def resampled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width after resampling, at least one pixel each."""
    return tuple(max(1, round(side * factor)) for side in size)


def resample(field: Slide, factor: float) -> Slide:
    """A field whose sides are multiplied by a factor, window by window, as `Resampling.read` would.

    Of a pyramid, the coarsest level is read that is at least as fine as the result.
    """
    if factor == 1:
        return field
    level, size = field.level_for(factor), resampled_size(field.size, factor)
    steps = [old / new for old, new in zip(level.size, size, strict=True)]

    def read_window(top: int, left: int, height: int, width: int) -> np.ndarray:
        spans = []
        for first, length, step, end in zip(
            (top, left), (height, width), steps, level.size, strict=True
        ):
            margin = 2 * max(1.0, step) + 1  # The support of a bicubic filter.
            start = max(0, math.floor(first * step - margin))
            stop = min(end, math.ceil((first + length) * step + margin))
            box = first * step - start, (first + length) * step - start
            spans.append((start, stop - start, *box))
        (y, rows, above, below), (x, columns, before, after) = spans
        rgb = Image.fromarray(level.read_window(y, x, rows, columns))
        box = (before, above, after, below)
        return np.array(rgb.resize((width, height), Image.Resampling.BICUBIC, box=box))

    return Slide(field.name, size, None, read_window)
