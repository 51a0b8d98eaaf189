"""The middle of an image whose shorter side was resized: how benchmarks show an image at once."""

import dataclasses

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """How it is taken.

    Attributes:
      resized: the shorter side of the resized image, px.
      size: side of the square in its middle, px; at most `resized`.
      resize_filter: a key of FILTERS, with antialiasing.
    """

    resized: int = 224
    size: int = 224
    resize_filter: str = "bilinear"

    @property
    def name(self) -> str:
        """centre-224-of-224-bilinear."""
        return f"centre-{self.size}-of-{self.resized}-{self.resize_filter}"

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 RGB [H, W, 3] -> uint8 [size, size, 3], by Pillow.

        The longer side is rounded down and the square's corner to the nearest pixel, halves to the
        even one, as by torchvision's `Resize` and `CenterCrop`.
        """
        height, width = rgb.shape[:2]
        shorter = min(height, width)
        height, width = (self.resized * side // shorter for side in (height, width))
        resized = Image.fromarray(rgb).resize((width, height), FILTERS[self.resize_filter])
        top, left = (round((side - self.size) / 2) for side in (height, width))
        return np.array(resized)[top : top + self.size, left : left + self.size]
