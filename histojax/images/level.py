"""One resolution of an image, read by windows: uint8 RGB [h, w, 3]."""

import dataclasses
from collections.abc import Callable

import numpy as np

# Top, left, height and width of a window inside the level, to uint8 RGB [height, width, 3].
ReadWindow = Callable[[int, int, int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Attributes:
      size: height and width, px.
      read_window: reads a window of it.
    """

    size: tuple[int, int]
    read_window: ReadWindow = dataclasses.field(repr=False)
