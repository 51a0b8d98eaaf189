"""What a run of extraction warns of: in its protocol, in the image files, in their stains."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from absl import logging

from histojax.config import Extraction
from histojax.extraction import encoding, store
from histojax.images import slide
from histojax.images.names import Images
from histojax.images.resampling import Resampling
from histojax.ops import stain

_LISTED = 3  # Images that a warning names.
_SAVES_LITTLE = 0.5  # The share of exact's operations above which crop mode hybrid is not worth it.
_SAME_SIZE = 0.02  # By which the pixel size that a file states may differ from --mpp.


def of_protocol(extraction: Extraction, canvas: Mapping[str, tuple[int, int]]) -> None:
    """Warns of what a protocol leaves unused, given heights and widths of images by resolution."""
    _crops_alone_differ(extraction)
    if extraction.crop_mode == "hybrid":
        _nothing_is_saved(extraction, canvas)


def _nothing_is_saved(extraction: Extraction, canvas: Mapping[str, tuple[int, int]]) -> None:
    """Warns where exact crops would take no longer than crop mode hybrid does."""
    exact = dataclasses.replace(extraction, crop_mode="exact")
    share = encoding.pixels(extraction, canvas) / encoding.pixels(exact, canvas)
    if share > _SAVES_LITTLE:
        logging.warning(
            "--crop_mode=hybrid takes %.3g times the operations of exact crops here, "
            "%d augmentations of %d: pass --crop_mode=exact, or fewer --pool_crops",
            share,
            extraction.augmentations,
            extraction.crops,
        )


def _crops_alone_differ(extraction: Extraction) -> None:
    """Says so where several augmentations leave colours as they are."""
    gains = stain.AUGMENTATIONS[extraction.stain_augmentation].gains
    varied = gains and extraction.gain_low < extraction.gain_high
    if extraction.augmentations > 1 and not varied:
        logging.warning(
            "no colour is augmented, so the %d augmentations of an image differ in their crops "
            "alone: --augmentations=1 with more --crops takes as many, pooled into one descriptor",
            extraction.augmentations,
        )


def contradicted_pixel_sizes(images: Images, extraction: Extraction, mpp: float) -> None:
    """Warns of files that state another pixel size than --mpp, which is taken of all of them."""
    if not any(Resampling.of(extraction, mpp, view).target_mpp for view in extraction.views):
        return
    stated = {name: slide.pixel_sides(path) for name, path in images.items()}
    others = [
        f"{name}: {_sides(sides)}"
        for name, sides in stated.items()
        if sides and any(abs(side / mpp - 1) > _SAME_SIZE for side in sides)
    ]
    if others:
        logging.warning(
            "--mpp=%g is taken of all images, but %s another pixel size, in microns (%s): right "
            "only where these files are wrong",
            mpp,
            "1 file states" if len(others) == 1 else f"{len(others)} files state",
            _named(others),
        )


def _sides(sides: tuple[float, float]) -> str:
    """A pixel's sides in microns: one figure if it is square."""
    if slide.are_square(sides):
        return f"{sum(sides) / 2:g}"
    return f"{sides[0]:g} x {sides[1]:g}, not square"


def duplicates(rows: Sequence[store.StainQCRow]) -> None:
    """Warns of files that stand under several names."""
    names_of_file = collections.defaultdict(set)
    for row in rows:
        names_of_file[row.file_sha256].add(row.image)
    for names in names_of_file.values():
        if len(names) > 1:
            logging.warning(
                "%s are one file under several names: in a cross-validation folds may leak",
                ", ".join(sorted(names)),
            )


def fallbacks(names: Sequence[str]) -> None:
    """Warns of images that were normalised by the reference stains."""
    if names:
        logging.warning(
            "stain normalisation of %d image%s fell back on the reference stains (%s): %s, "
            "beside the descriptors, says why",
            len(names),
            "" if len(names) == 1 else "s",
            _named(names),
            store.STAIN_QC,
        )


def _named(images: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(images) - _LISTED} more" if len(images) > _LISTED else ""
    return ", ".join(images[:_LISTED]) + more
