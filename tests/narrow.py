"""VGG-16 with six channels a layer, fast enough for tests of what goes on around a network."""

import contextlib
import dataclasses
from collections.abc import Iterator

from histojax import encoders
from histojax.encoders import vgg16


@contextlib.contextmanager
def vgg() -> Iterator[None]:
    """Makes the VGG of this process narrow until the end of the block."""
    blocks, encoder = vgg16.BLOCKS, encoders.ENCODERS["VGG"]
    taps = tuple(dataclasses.replace(tap, channels=6) for tap in encoder.outputs)
    vgg16.BLOCKS = tuple((block, depth, 6) for block, depth, _ in blocks)
    encoders.ENCODERS["VGG"] = dataclasses.replace(encoder, outputs=taps)
    try:
        yield
    finally:
        vgg16.BLOCKS, encoders.ENCODERS["VGG"] = blocks, encoder
