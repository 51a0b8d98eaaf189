"""Microns per pixel: how much an image is resampled when it is read, so that images of any scanner show tissue alike.

A target is microns per pixel at scale 0.5, where the protocol has 0.84: BACH's 0.42 at full size, halved by the view's
scale. An image of another pixel size is first brought to half the target. Without a target images are read as they are.
"""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader, slide

SCALE_OF_TARGET = 0.5  # The scale at which a target is meant.
TOLERANCE = 0.01  # An image whose factor is within it of 1 is left as it is.


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How images are resampled.

    Attributes:
      target_mpp: microns per pixel at scale 0.5 that all images are brought to; 0 to leave them as they are.
      mpp: microns per pixel of the files, where the user says so; None to believe each file.
    """

    target_mpp: float = 0.0
    mpp: float | None = None

    def pixel_size(self, path: Path) -> float:
        """Microns per pixel of an image.

        Raises:
          InputError: neither the file nor the user tells.
        """
        found = self.mpp or slide.pixel_size(path)
        if not found:
            raise InputError(
                f"{path} does not say its pixel size, which --target_mpp needs: pass --mpp, in microns"
            )
        return found

    def factor(self, path: Path) -> float:
        """By how much both sides of an image are multiplied; 1 where it is read as it is."""
        if not self.target_mpp:
            return 1.0
        factor = self.pixel_size(path) / (self.target_mpp * SCALE_OF_TARGET)
        return factor if abs(factor - 1) > TOLERANCE else 1.0

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of the resampled image, without decoding it."""
        return resampled_size(reader.size(path), self.factor(path))

    def read(self, path: Path) -> np.ndarray:
        """The resampled image, uint8 RGB [H, W, 3]: bicubic, with antialiasing where it shrinks."""
        rgb, factor = reader.read(path), self.factor(path)
        if factor == 1:
            return rgb
        height, width = resampled_size(rgb.shape[:2], factor)
        return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))

    def digest_suffix(self, path: Path) -> str:
        """What an image's file was taken to be, beside its checksum: empty without a target."""
        return f"@{self.pixel_size(path):g}um" if self.target_mpp else ""


NO_RESAMPLING = Resampling()


def resampled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width after resampling, at least a pixel each."""
    return tuple(max(1, round(side * factor)) for side in size)
