"""Resampling of images to one pixel size as they are read, whatever scanner they are from.

A target is in microns per pixel at scale 0.5, where the protocol has 0.84: BACH's 0.42 at full
size, halved by the view's scale. An image is first brought to half the target. Without a target,
images are read as they are.
"""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader, slide

SCALE_OF_TARGET = 0.5  # The scale at which images have the target's pixel size.
_TOLERANCE = 0.01  # An image whose factor differs from 1 by less is left as it is.


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How images are resampled.

    Attributes:
      target_mpp: microns per pixel at scale 0.5 that images are brought to; 0 for no resampling.
      mpp: microns per pixel of all files; None to take what each file says.
    """

    target_mpp: float = 0.0
    mpp: float | None = None

    def pixel_size(self, path: Path) -> float:
        """Microns per pixel of an image; InputError if neither user nor file says."""
        if mpp := self.mpp or slide.pixel_size(path):
            return mpp
        raise InputError(
            f"{path} does not say its pixel size, which --target_mpp needs: pass --mpp, in microns"
        )

    def factor(self, path: Path) -> float:
        """What both sides of an image are multiplied by; 1 if it is read as it is."""
        if not self.target_mpp:
            return 1.0
        factor = self.pixel_size(path) / (self.target_mpp * SCALE_OF_TARGET)
        return factor if abs(factor - 1) > _TOLERANCE else 1.0

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of the resampled image, which is not decoded."""
        return resampled_size(reader.size(path), self.factor(path))

    def read(self, path: Path) -> np.ndarray:
        """The resampled image, uint8 RGB [H, W, 3]: bicubic, with antialiasing where it shrinks."""
        rgb, factor = reader.read(path), self.factor(path)
        if factor == 1:
            return rgb
        height, width = resampled_size(rgb.shape[:2], factor)
        return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))

    def digest_suffix(self, path: Path) -> str:
        """What identifies an image besides its file's checksum: the pixel size, given a target."""
        return f"@{self.pixel_size(path):g}um" if self.target_mpp else ""


NO_RESAMPLING = Resampling()


def resampled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width after resampling, at least one pixel each."""
    return tuple(max(1, round(side * factor)) for side in size)
