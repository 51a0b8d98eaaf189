"""Research-grade classification of H&E histology images in JAX."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from histojax.config import VERSION as __version__
from histojax.config import Runtime

if TYPE_CHECKING:
    from histojax.encoders import Encoder
    from histojax.model import Model

__all__ = ["Runtime", "__version__", "load_bundle"]


def load_bundle(
    path: str | Path,
    runtime: Runtime = Runtime(),
    encoders: "str | Encoder | Iterable[str | Encoder]" = (),
) -> "Model":
    """Loads a bundle: `histojax.load_bundle("breast.histojax").predict("new")`.

    Args:
      path: the file that histojax bundle wrote.
      runtime: devices, crops a step, and where weights are; see `histojax.config.Runtime`.
      encoders: modules of encoders that are not histojax's, such as `net.py:ENCODER`, which are
        run; or rows. A bundle says which it needs.

    Raises:
      histojax.errors.InputError: the file is no bundle, is of another version, was altered or cut
        short, or lacks a part.
    """
    from histojax import model  # Not above: most of the library needs neither models nor images.

    return model.load(path, runtime, encoders)
