"""Arrays in a file that are known by shape and dtype before their values are read."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from histojax.errors import InputError

# Beyond these, a file is no weight file of a network here, and is not worth the time or memory.
MOST_ARRAYS = 50_000
MOST_DIMENSIONS = 8
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Refused(ValueError):
    """A file is damaged, claims more than it holds, or asks for something else than arrays."""


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
      shape: of the array.
      dtype: of the file.
      load: reads the values, of that shape and dtype.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray] = dataclasses.field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether its values are real numbers, of 16 to 64 bits."""
        return self.dtype.kind == "f" or self.dtype == BFLOAT16


StoredArrays = dict[str, StoredArray]


def shape_of(name: str, sides: Any) -> tuple[int, ...]:
    """A shape as the file states it; Refused where it is none."""
    whole = isinstance(sides, list | tuple) and len(sides) <= MOST_DIMENSIONS
    if not whole or not all(type(side) is int and 0 <= side < 2**40 for side in sides):
        raise Refused(f"{name} has no shape of at most {MOST_DIMENSIONS} sides")
    return tuple(sides)


def require_few(count: int) -> None:
    """Raises Refused for a file with an absurd number of entries."""
    if count > MOST_ARRAYS:
        raise Refused(f"it has {count} entries, expected at most {MOST_ARRAYS}")


def require_bytes(name: str, claimed: int, held: int) -> None:
    """Raises Refused where an array claims more bytes than the file has for it."""
    if claimed > held:
        raise Refused(f"{name} claims {claimed} bytes, the file holds {held} of it")


def read_float32(name: str, array: StoredArray) -> np.ndarray:
    """The values as float32.

    Raises:
      InputError: they are not finite.
    """
    values = array.load().astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(f"{name} has {count} values that are not finite (of {values.size})")
    return values
