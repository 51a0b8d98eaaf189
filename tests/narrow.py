"""VGG-16 with six channels a layer, and one layer a block, for tests of what goes on around it."""

import contextlib
import dataclasses
from collections.abc import Iterator

from histojax import encoders
from histojax.encoders import vgg16


@contextlib.contextmanager
def vgg(deep: bool = False) -> Iterator[None]:
    """Makes the VGG of this process narrow, Keras's and PyTorch's, until the end of the block.

    Each block has one layer, which compiles in a third of the time; with `deep`, as many as
    VGG-16, which PyTorch's files must have.
    """
    blocks, rows = vgg16.BLOCKS, {name: encoders.ENCODERS[name] for name in ("VGG", "TorchVGG")}
    vgg16.BLOCKS = tuple((block, depth if deep else 1, 6) for block, depth, _ in blocks)
    last = {
        f"block{block}_conv{depth}": f"block{block}_conv{ours}"
        for (block, depth, _), (_, ours, _) in zip(blocks, vgg16.BLOCKS, strict=True)
    }
    for name, row in rows.items():
        taps = tuple(
            dataclasses.replace(tap, layer=last[tap.layer], channels=6) for tap in row.outputs
        )
        encoders.ENCODERS[name] = dataclasses.replace(row, outputs=taps)
    try:
        yield
    finally:
        vgg16.BLOCKS = blocks
        encoders.ENCODERS.update(rows)
