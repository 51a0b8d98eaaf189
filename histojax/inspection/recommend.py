"""Which protocol suits a folder of images: pixel size to resample to, scale and crop sizes, number of folds.

sizes [N], pixel sizes [N] -> Recommendation
"""

import dataclasses
import statistics
from collections.abc import Sequence

from histojax.config import PAPER_VIEWS, View
from histojax.datasets import Dataset, folds
from histojax.errors import InputError
from histojax.images.padding import scaled_size
from histojax.images.resampling import SCALE_OF_TARGET, resampled_size

Size = tuple[int, int]

PAPER_MPP = 0.84  # Microns per pixel at scale 0.5, of the paper's images.
PAPER_SIDE = 768  # Shorter side of the paper's images at scale 0.5, px: their crops take 52 % and 85 % of it.
SAME = 0.05  # Pixel sizes that differ by less, relative, are taken for the same.
LEAST_CROP = 96  # Below it the last maps of the networks have two cells a side or fewer.
STEP = 32  # Crop sizes are multiples of it, as the networks' strides are.
ODD = 0.5  # An image whose shorter side is below this share of the median one decides nothing.


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


def recommend(
    sizes: Sequence[Size],
    mpps: Sequence[float | None],
    target_mpp: float,
    dataset: Dataset | None,
    most_folds: int,
    fold_seed: int,
) -> Recommendation:
    """What suits images of these sizes.

    Args:
      sizes: height and width of each image that can be used, px; at least one.
      mpps: microns per pixel of each, None where unknown.
      target_mpp: what the user wants them resampled to; 0 where that is to be suggested.
      dataset: the same images with their classes and groups; None where they are not labelled.
      most_folds: the number of folds wished.
      fold_seed: of the split.
    """
    target, why_target = resampling(mpps, target_mpp)
    factors = [mpp / (target * SCALE_OF_TARGET) if target else 1.0 for mpp in mpps]
    full = [resampled_size(size, factor) for size, factor in zip(sizes, factors, strict=True)]
    views, why_views = views_for(full)
    small = sum(
        any(min(scaled_size(size, view.scale)) < view.crop_size for view in views) for size in full
    )
    if small:
        why_views += (
            f"Leave out {small} smaller image{'' if small == 1 else 's'}, which these crops do not fit into.",
        )
    count, why_folds = folds_for(dataset, most_folds, fold_seed) if dataset else (None, ())
    return Recommendation(views, target, count, (*why_target, *why_views, *why_folds))


def mixed(mpps: Sequence[float]) -> bool:
    """Whether pixel sizes differ so far that tissue is shown at different magnifications."""
    return max(mpps) > (1 + SAME) * min(mpps)


def resampling(mpps: Sequence[float | None], wished: float = 0.0) -> tuple[float, tuple[str, ...]]:
    """The target to resample to, 0 for none, and why."""
    if None in mpps:
        known = "of every image" if any(mpps) else "of any image"
        return 0.0, (
            f"The pixel size is not known {known}: images are taken as they are, and the views go by their size in "
            "pixels. Pass --mpp if all have one pixel size that you know.",
        )
    if wished:
        return wished, (f"Images are resampled to {wished:g} µm at scale 0.5, as asked for.",)
    low, high, own = min(mpps), max(mpps), PAPER_MPP * SCALE_OF_TARGET
    if max(high / own, own / low) <= 1 + SAME:
        return 0.0, (f"The pixel size is the paper's, {own} µm: nothing is resampled.",)
    between = f"{low:.3g} µm" if high / low <= 1 + SAME else f"{low:.3g} to {high:.3g} µm"
    why = f"The pixel size is {between}, the paper's {own} µm: images are resampled to {PAPER_MPP} µm at scale 0.5."
    if high > PAPER_MPP * (1 + SAME):
        why += f" Those above {PAPER_MPP} µm are coarser than what the networks saw in the paper; that adds no detail."
    return PAPER_MPP, (why,)


def views_for(sizes: Sequence[Size]) -> tuple[tuple[View, ...], tuple[str, ...]]:
    """Scale and crop sizes that fit images of these sizes, and why: the paper's, or their share of smaller images.

    The smallest image decides, unless it is an odd one. Scale 1 is for images too small for scale 0.5.
    """
    middle = statistics.median(min(size) for size in sizes)
    smallest = min((size for size in sizes if min(size) >= ODD * middle), key=min)
    at_half = scaled_size(smallest, PAPER_VIEWS[0].scale)
    if min(at_half) >= max(view.crop_size for view in PAPER_VIEWS):
        return PAPER_VIEWS, (
            f"The paper's crops fit: the smallest image has {format_size(at_half)} px at scale 0.5.",
        )
    for scale in (0.5, 1.0):
        side = min(scaled_size(smallest, scale))
        shares = [view.crop_size / PAPER_SIDE for view in PAPER_VIEWS]
        crops = sorted({int(share * side) // STEP * STEP for share in shares})
        if crops[0] >= LEAST_CROP:
            told = " and ".join(map(str, crops))
            return tuple(View(scale, crop) for crop in crops), (
                f"The paper's crops, 400 and 650 px, do not fit into {format_size(at_half)} px at scale 0.5. Crops of {told} "
                f"px at scale {scale} take about the same share of the smallest image, {format_size(smallest)} px.",
            )
    if min(smallest) < LEAST_CROP:
        return (), (
            f"No view fits: the smallest image has {format_size(smallest)} px, a crop at least {LEAST_CROP} px.",
        )
    largest = max(
        LEAST_CROP, int(PAPER_VIEWS[-1].crop_size / PAPER_SIDE * min(smallest)) // STEP * STEP
    )
    return tuple(View(1.0, crop) for crop in sorted({LEAST_CROP, largest})), (
        f"The smallest image has {format_size(smallest)} px: the least crop, {LEAST_CROP} px at scale 1, is most of it.",
    )


def folds_for(dataset: Dataset, most: int, seed: int) -> tuple[int | None, tuple[str, ...]]:
    """The largest number of folds, up to `most`, that these images can be split into, and what stands in the way."""
    grouped = dataset.groups is not None
    groups = len(set(dataset.groups) - {""}) if grouped else 0
    how = f"by whole groups ({groups} are known)" if grouped else "by image: no groups are known"
    reason = ""
    for count in range(most, 1, -1):
        try:
            folds.make(dataset, count, seed)
        except InputError as error:
            reason = reason or f" {most} are too many: {error}."
            continue
        return count, (f"{count} folds, {how}.{reason}",)
    return None, (f"No split can be made.{reason}",)


def format_size(size: Size) -> str:
    """A size as people write it, width first."""
    return f"{size[1]} x {size[0]}"
