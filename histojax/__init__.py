"""Research-grade classification of H&E histology images in JAX."""

from pathlib import Path
from typing import TYPE_CHECKING

from histojax.config import VERSION as __version__
from histojax.config import Runtime

if TYPE_CHECKING:
    from histojax.model import Model

__all__ = ["Runtime", "__version__", "load_bundle"]


def load_bundle(path: str | Path, runtime: Runtime = Runtime()) -> "Model":
    """Loads a bundle: `histojax.load_bundle("breast.histojax").predict("new")`.

    Args:
      path: the file that histojax bundle wrote.
      runtime: devices, crops a step, and where weights are; see `histojax.config.Runtime`.

    Raises:
      histojax.errors.InputError: the file is no bundle, is of another version, was altered or cut
        short, or lacks a part.
    """
    from histojax import model  # Not above: most of the library needs neither models nor images.

    return model.load(path, runtime)
