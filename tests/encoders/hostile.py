"""What every refusal of a hostile file must be: one message, within bounded memory."""

import tracemalloc

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils import array_files

MOST_MEMORY = 48 * 2**20


def read_all(path) -> dict[str, np.ndarray]:
    with array_files.open_arrays(path) as (_, arrays):
        return {name: array.load() for name, array in arrays.items()}


def refusal(path) -> str:
    """The message of the one error, which is in a line; its peak of memory is bounded."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refused:
            read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    message = str(refused.value)
    assert message.startswith(f"{path} cannot be read as a file of weights")
    assert "\n" not in message
    return message
