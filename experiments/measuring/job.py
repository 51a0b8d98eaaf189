"""What all items share: sizes and encoders, their random weights, an image, the keys of rows."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.datasets import synthetic
from histojax.encoders.weights import Weights
from histojax.extraction import loaded_encoders
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images.padding import PaddedImage

from .results import Results
from .sizes import SIZES, Sizes


@dataclasses.dataclass(frozen=True)
class Job:
    """What all items are given.

    Attributes:
      sizes_name: of what is measured, in `SIZES`.
      encoders: to measure, by name.
      results: so far.
      trace: folder of a trace; None for none.
      runtime: of this machine.
    """

    sizes_name: str
    encoders: tuple[str, ...]
    results: Results
    trace: Path | None = None
    runtime: Runtime = Runtime()

    @property
    def sizes(self) -> Sizes:
        """Of what is measured."""
        return SIZES[self.sizes_name]

    @property
    def decides(self) -> bool:
        """Whether the figures are those that the default of --pooling hangs on."""
        return self.sizes_name == "paper" and {*self.encoders} >= {*Extraction().encoders}


@functools.cache
def tissue(size: tuple[int, int]) -> PaddedImage:
    """Synthetic tissue of a height and width."""
    return PaddedImage(Path("tissue"), synthetic.render("Benign", 0, *size), size, digest="")


@functools.cache
def _weights(name: str) -> Weights:
    return loaded_encoders.weights_of(encoders.get(name), Extraction(weights="random"))


def weights(extraction: Extraction) -> dict[str, Weights]:
    """Random weights of a protocol's encoders, made once: figures do not depend on their values."""
    return {name: _weights(name) for name in extraction.encoders}


def folded(extraction: Extraction) -> dict[str, LoadedEncoder]:
    """A protocol's encoders with these weights."""
    return loaded_encoders.fold_encoders(extraction, weights=weights(extraction))


def rate_key(encoder: str, views: Iterable[View], mode: str, precision: str = "") -> str:
    """The key of a rate: `VGG 0.5-400 exact bfloat16`."""
    text = f"{encoder} {'+'.join(view.name for view in views)} {mode} {precision}"
    return text.strip()
