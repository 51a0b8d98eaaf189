"""VGG-16 with six channels a layer, fast enough for tests of what goes on around a network."""

import contextlib
import dataclasses
from collections.abc import Iterator

from histojax import encoders
from histojax.encoders import vgg16


@contextlib.contextmanager
def vgg() -> Iterator[None]:
    """Makes the VGG of this process narrow, Keras's and PyTorch's, until the end of the block."""
    blocks, rows = vgg16.BLOCKS, {name: encoders.ENCODERS[name] for name in ("VGG", "TorchVGG")}
    vgg16.BLOCKS = tuple((block, depth, 6) for block, depth, _ in blocks)
    for name, row in rows.items():
        taps = tuple(dataclasses.replace(tap, channels=6) for tap in row.outputs)
        encoders.ENCODERS[name] = dataclasses.replace(row, outputs=taps)
    try:
        yield
    finally:
        vgg16.BLOCKS = blocks
        encoders.ENCODERS.update(rows)
