"""The pixel sizes that the training images had, which a wrong --mpp of new images is told by.

A bundle has them where its models resample images to one pixel size: nothing else knows them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from histojax.extraction import store

KEY = "training_um_per_pixel"  # In a bundle's `about`: the smallest and the largest.
_FAR = 2.0  # Times beyond these from which a pixel size is doubted.


def of_training(descriptors: Path | None, names: Iterable[str]) -> dict[str, list[float]]:
    """What a bundle records of the images of these names; nothing where nothing is known.

    Args:
      descriptors: folder of the training images' descriptors; None where it is unknown.
      names: of the training images.

    Raises:
      InputError: stain_qc.csv in the folder is damaged.
    """
    known = store.pixel_sizes(descriptors) if descriptors else {}
    sizes = [known[name] for name in names if name in known]
    return {KEY: [min(sizes), max(sizes)]} if sizes else {}


def warn_if_far(mpp: float | None, about: Mapping[str, Any]) -> None:
    """Warns of --mpp more than twice, or less than half, any pixel size of the training images.

    Args:
      mpp: microns per pixel that are taken of all new images; None where each file says it.
      about: a bundle's.
    """
    if not mpp or KEY not in about:
        return
    low, high = about[KEY]
    if low / _FAR <= mpp <= high * _FAR:
        return
    logging.warning(
        "--mpp=%g is far from the pixel size of the training images, %s um: images are resampled "
        "by it, so if it is wrong, so are the answers. Check it",
        mpp,
        f"{low:g}" if low == high else f"{low:g} to {high:g}",
    )
