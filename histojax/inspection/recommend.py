"""The protocol that suits a set of images: pixel size to resample to, views, number of folds."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from histojax.config import PAPER_VIEWS, Boosting, View
from histojax.datasets import Dataset
from histojax.errors import InputError
from histojax.images import slide
from histojax.images.padding import scaled_size
from histojax.images.resampling import SCALE_OF_TARGET, Resampling, resampled_size

Size = tuple[int, int]  # Height and width, px.

PAPER_MPP = 0.84  # Microns per pixel at scale 0.5, of the paper's images.
_PAPER_FULL_MPP = PAPER_MPP * SCALE_OF_TARGET
# Shorter side of the paper's images at scale 0.5, px: their crops take 52 % and 85 % of it.
_PAPER_SIDE = 768
_SAME = 0.05  # Pixel sizes that differ by less, relatively, count as the same.
_LEAST_CROP = 96  # Below it the last maps of the networks have two cells a side or fewer.
_STEP = 32  # Crop sizes are multiples of it, as the networks' strides are.
# An image whose shorter side is below this share of the median one is not considered.
_OUTLIER = 0.5


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to run.

    Attributes:
      views: none where no view fits.
      target_mpp: microns per pixel at scale 0.5 to resample to; 0 to leave images as they are.
      folds: None where there is no split to make, or none can be made.
      why: the reasons, a sentence each.
    """

    views: tuple[View, ...]
    target_mpp: float
    folds: int | None
    why: tuple[str, ...]


def recommend_for_files(
    paths: Iterable[Path], mpp: float | None, target_mpp: float | None
) -> Recommendation | None:
    """What suits image files, by the size and pixel size that they state; none is decoded.

    Args:
      paths: of the images; those that cannot be read are left to whoever reads them.
      mpp: microns per pixel of all; None to believe each file.
      target_mpp: as for `recommend`.

    Returns:
      Views and pixel size; None where no image can be read.
    """
    as_they_are, sizes, mpps = Resampling(), [], []
    for path in paths:
        try:
            size, pixel_size = as_they_are.size(path), mpp or slide.pixel_size(path)
        except InputError:
            continue
        sizes.append(size)
        mpps.append(pixel_size)
    return recommend(sizes, mpps, target_mpp) if sizes else None


def recommend(
    sizes: Sequence[Size],
    mpps: Sequence[float | None],
    target_mpp: float | None = None,
    dataset: Dataset | None = None,
    folds: int = Boosting.folds,
    fold_seed: int = Boosting.fold_seed,
) -> Recommendation:
    """What suits images of these sizes.

    Args:
      sizes: of each image that can be used; at least one.
      mpps: microns per pixel of each, None where unknown.
      target_mpp: what the user wants them resampled to, 0 for not at all; None where that is to be
        recommended.
      dataset: the same images with their classes and groups; None where they are not labelled.
      folds: the number of folds that the user wants.
      fold_seed: of the split.
    """
    target, why_target = _target(mpps, target_mpp)
    factors = [mpp / (target * SCALE_OF_TARGET) if target else 1.0 for mpp in mpps]
    full = [resampled_size(size, factor) for size, factor in zip(sizes, factors, strict=True)]
    views, why_views = _views(full)
    smaller = sum(
        any(min(scaled_size(size, view.scale)) < view.crop_size for view in views) for size in full
    )
    why = [why_target, why_views]
    if smaller:
        images = f"{smaller} smaller image{'' if smaller == 1 else 's'}"
        why.append(f"Leave out {images}, which these crops do not fit into.")
    count = None
    if dataset:
        count, why_folds = most_folds(dataset, folds, fold_seed)
        why.append(why_folds)
    return Recommendation(views, target, count, tuple(why))


def mixed(mpps: Sequence[float]) -> bool:
    """Whether pixel sizes differ so far that tissue is shown at different magnifications."""
    return max(mpps) > (1 + _SAME) * min(mpps)


def format_size(size: Size) -> str:
    """A size as people write it, width first."""
    return f"{size[1]} x {size[0]}"


def _target(mpps: Sequence[float | None], target_mpp: float | None) -> tuple[float, str]:
    """The pixel size to resample to, 0 for none, and why."""
    if target_mpp == 0:
        return 0.0, "Images are taken as they are, as asked for."
    if None in mpps:
        known = "of every image" if any(mpps) else "of any image"
        return 0.0, (
            f"The pixel size is not known {known}: images are taken as they are, and the views go "
            "by their size in pixels. Pass --mpp if all have one pixel size that you know."
        )
    if target_mpp:
        return target_mpp, f"Images are resampled to {target_mpp:g} µm at scale 0.5, as asked for."
    low, high, paper = min(mpps), max(mpps), _PAPER_FULL_MPP
    if max(high / paper, paper / low) <= 1 + _SAME:
        return 0.0, f"The pixel size is the paper's, {paper} µm: nothing is resampled."
    sizes = f"{low:.3g} µm" if high / low <= 1 + _SAME else f"{low:.3g} to {high:.3g} µm"
    why = (
        f"The pixel size is {sizes}, the paper's {paper} µm: images are resampled to {PAPER_MPP} "
        "µm at scale 0.5."
    )
    if high > PAPER_MPP * (1 + _SAME):
        why += (
            f" Those above {PAPER_MPP} µm are coarser than what the networks saw in the paper; "
            "that adds no detail."
        )
    return PAPER_MPP, why


def _views(sizes: Sequence[Size]) -> tuple[tuple[View, ...], str]:
    """Scales and crop sizes that fit images of these sizes, and why.

    They are the paper's, or take the same share of smaller images. The smallest image decides,
    unless it is an outlier. Scale 1 is for images too small for scale 0.5.
    """
    median = statistics.median(min(size) for size in sizes)
    smallest = min((size for size in sizes if min(size) >= _OUTLIER * median), key=min)
    shown, at_half = format_size(smallest), scaled_size(smallest, PAPER_VIEWS[0].scale)
    if min(at_half) >= max(view.crop_size for view in PAPER_VIEWS):
        return PAPER_VIEWS, (
            f"The paper's crops fit: the smallest image has {format_size(at_half)} px at scale 0.5."
        )
    for scale in (0.5, 1.0):
        side = min(scaled_size(smallest, scale))
        crops = sorted({_crop_size(view, side) for view in PAPER_VIEWS})
        if crops[0] >= _LEAST_CROP:
            return tuple(View(scale, crop) for crop in crops), (
                f"The paper's crops, 400 and 650 px, do not fit into {format_size(at_half)} px at "
                f"scale 0.5. Crops of {' and '.join(map(str, crops))} px at scale {scale} take "
                f"about the same share of the smallest image, {shown} px."
            )
    if min(smallest) < _LEAST_CROP:
        return (), (
            f"No view fits: the smallest image has {shown} px, a crop at least {_LEAST_CROP} px."
        )
    largest = max(_LEAST_CROP, _crop_size(PAPER_VIEWS[-1], min(smallest)))
    return tuple(View(1.0, crop) for crop in sorted({_LEAST_CROP, largest})), (
        f"The smallest image has {shown} px: the smallest crop, {_LEAST_CROP} px at scale 1, is "
        "most of it."
    )


def _crop_size(view: View, side: int) -> int:
    """The crop that takes the share of a side that the paper's view takes of its images."""
    return int(view.crop_size / _PAPER_SIDE * side) // _STEP * _STEP


def most_folds(
    dataset: Dataset, most: int, seed: int, unknown_groups: str = "own"
) -> tuple[int | None, str]:
    """The largest number of folds, up to `most`, that these images can be split into, and why."""
    # Not above: views are chosen without scikit-learn too.
    from histojax.datasets import copies, folds

    unit = "by image: no groups are known"
    if groups := copies.known(dataset.groups):
        unit = f"by whole groups ({len(groups)} are known)"
    reasons = []
    for count in range(most, 1, -1):
        try:
            folds.make(dataset, count, seed, unknown_groups=unknown_groups)
        except InputError as error:
            reasons.append(str(error))
            continue
        cause = reasons[0].partition(": pass ")[0] if reasons else ""  # What to pass is found.
        return count, f"{count} folds, {unit}." + (f" {_capital(cause)}." if cause else "")
    return None, f"No split can be made: {reasons[-1]}."


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
