"""What accuracy becomes where no image is predicted by models that were trained on a copy of it.

Two figures say so. The models' own accuracy on the images without a copy in training, which are
other images than all of them; and linear heads (ridge regression on the mean descriptors of each
image) fitted anew, in the folds as they are and in folds that keep copies together, whose change is
that of one learner on the same images. Fields that overlap count as copies here. Intervals resample
what is tied together by groups or copies. N images.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.datasets import Dataset, copies, folds
from histojax.datasets.folds import TRAIN_ONLY, Folds
from histojax.errors import InputError
from histojax.evaluation import bootstrap
from histojax.evaluation.bootstrap import DRAWS, Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import FEW_GROUPS
from histojax.inspection import split_pairs
from histojax.inspection.split_pairs import SplitPair
from histojax.learners import ridge

SPLITS = 5  # Splits that keep copies together, over which their heads' accuracy is a mean.
MOST_IMAGES = 5000  # That heads are fitted to: the time grows as the cube.


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of images, or a difference of shares, with its 95 % interval.

    Attributes:
      value: it.
      interval: by a bootstrap of what is tied together.
      images: how many it is of.
    """

    value: float
    interval: Interval
    images: int


@dataclasses.dataclass(frozen=True)
class OfModels:
    """The models' accuracy.

    Attributes:
      all: over all images that were held out.
      without: over those without a copy in training; None where these are too few.
      crossing: over those with a copy in training; None where these are too few.
      images: how many have a copy in training.
    """

    all: Share
    without: Share | None
    crossing: Share | None
    images: int


@dataclasses.dataclass(frozen=True)
class OfHeads:
    """The accuracy of linear heads that were fitted anew; None each where `why_not` says why.

    Attributes:
      as_is: in the folds as they are.
      grouped: in folds that keep copies together, mean over `SPLITS` of them.
      change: the second less the first.
      why_not: why there are none.
    """

    as_is: Share | None = None
    grouped: Share | None = None
    change: Share | None = None
    why_not: str = ""


@dataclasses.dataclass(frozen=True)
class CopiesStudy:
    """What accuracy becomes; `models` is None where the models' scores are not known."""

    models: OfModels | None
    heads: OfHeads


def study(
    predictions: LabelledPredictions | None,
    pairs: Sequence[SplitPair],
    split: Folds,
    descriptors: Path | None,
    configurations: Sequence[str] = (),
    draws: int = DRAWS,
) -> CopiesStudy | None:
    """What accuracy becomes without copies in training; None where no copy crosses folds.

    Args:
      predictions: of the models, of held-out images, at least those of the split; or None.
      pairs: of copies and overlaps.
      split: whose images the pairs index.
      descriptors: their folder, or None where it is not known.
      configurations: of descriptors; all are taken side by side.
      draws: of the bootstrap.
    """
    crossing = split_pairs.crossing(pairs, split)
    if not crossing.any():
        return None
    indices = [(in_split.pair.first, in_split.pair.second) for in_split in pairs]
    sets = copies.sets_of(split.names, indices)
    models = None
    if predictions is not None:
        place = {name: i for i, name in enumerate(split.names)}
        kept = np.array([name in place for name in predictions.names])
        at = [place[name] for name in predictions.names if name in place]
        units = units_of(split, sets)
        right = (predictions.predicted == predictions.truth)[kept]
        models = of_models(right, crossing[at], [units[i] for i in at], draws)
    return CopiesStudy(models, _heads(split, sets, descriptors, configurations, draws))


def _heads(
    split: Folds,
    sets: Sequence[str],
    descriptors: Path | None,
    configurations: Sequence[str],
    draws: int,
) -> OfHeads:
    """Linear heads where they can be fitted, or why not."""
    if descriptors is None:
        return OfHeads(why_not="the folder of descriptors is not known: pass --descriptors")
    if len(split.names) > MOST_IMAGES:
        return OfHeads(why_not=f"{len(split.names)} images are more than {MOST_IMAGES}")
    try:
        inner = ridge.kernel_of_images(descriptors, configurations, split.names)
    except InputError as error:
        return OfHeads(why_not=str(error))
    return of_heads(inner, split, sets, draws)


def of_models(
    right: np.ndarray, crossing: np.ndarray, units: Sequence[str], draws: int = DRAWS
) -> OfModels:
    """The accuracy of out-of-fold predictions, with and without copies in training.

    Args:
      right: whether the prediction of each image is, bool [N].
      crossing: whether a copy of the image was trained on, bool [N].
      units: what is tied together, by `units_of`.
      draws: of the bootstrap.
    """
    right = right.astype(float)

    def share(mask: np.ndarray) -> Share | None:
        if len({unit for unit, inside in zip(units, mask, strict=True) if inside}) < FEW_GROUPS:
            return None
        return _share(right, mask, units, draws)

    everything = _share(right, np.ones(len(right), bool), units, draws)
    return OfModels(everything, share(~crossing), share(crossing), int(crossing.sum()))


def of_heads(
    inner: np.ndarray, split: Folds, sets: Sequence[str], draws: int = DRAWS, splits: int = SPLITS
) -> OfHeads:
    """The accuracy of linear heads in the folds as they are, and with copies kept together.

    Groups are kept together in the new folds where the folds as they are keep them; otherwise
    the change would be theirs, too. Of images that are only trained on, none is that has a copy
    among those predicted.

    Args:
      inner: inner products of the images' descriptors, by `ridge.kernel`: [N, N].
      split: the folds as they are.
      sets: of copies and overlaps, of each image.
      draws: of the bootstrap.
      splits: how many new splits there are.
    """
    groups = None if folds.divided_groups(split) else split.groups
    held_out = np.flatnonzero(split.folds != TRAIN_ONLY)
    of_held_out = split.take(held_out)
    dataset = copies.with_sets(
        Dataset(
            {name: Path(name) for name in of_held_out.names},
            tuple(of_held_out.labels.tolist()),
            split.classes,
            groups and tuple(groups[i] for i in held_out),
        ),
        [sets[i] for i in held_out],
    )
    units = units_of(of_held_out, dataset.copies)
    if (number := len(set(units))) < FEW_GROUPS:
        return OfHeads(
            why_not=f"patients, sets of copies and single images are {number} in all, fewer than "
            f"{FEW_GROUPS}"
        )
    hat, truth = ridge.hat_matrix(inner), ridge.indicators(split.labels, len(split.classes))

    def right(fold_of: np.ndarray, apart: bool) -> np.ndarray:
        """Whether each held-out image is told right, float64 [held out]; fold_of int [N]."""
        correct = np.zeros(len(fold_of))
        for fold in range(fold_of.max() + 1):
            predicted = fold_of == fold
            left_out = predicted.copy()
            if apart:
                own = {sets[i] for i in np.flatnonzero(predicted)} - {""}
                left_out |= np.array([name in own for name in sets])
            said = ridge.predict_held_out(hat, left_out, truth)[predicted[left_out]]
            correct[predicted] = said == split.labels[predicted]
        return correct[held_out]

    as_is, grouped = right(split.folds, apart=False), []
    for seed in range(splits):
        try:
            made = folds.make(dataset, split.count, seed)
        except InputError as error:
            return OfHeads(why_not=f"no folds keep copies together here: {error}")
        fold_of = np.full(len(split.names), TRAIN_ONLY)
        fold_of[held_out] = made.folds
        grouped.append(right(fold_of, apart=True))
    mean = np.mean(grouped, axis=0)
    everything = np.ones(len(mean), bool)
    change = _share(mean - as_is, everything, units, draws, bounds=None)
    return OfHeads(*(_share(of, everything, units, draws) for of in (as_is, mean)), change)


def units_of(split: Folds, sets: Sequence[str]) -> tuple[str, ...]:
    """What groups and copies tie together: the unit of each image, an image alone by itself."""
    joined = copies.join(split.groups, sets) or ("",) * len(split.names)
    return tuple(unit or f"\0{name}" for unit, name in zip(joined, split.names, strict=True))


def _share(
    values: np.ndarray,
    mask: np.ndarray,
    units: Sequence[str],
    draws: int,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Share:
    """The mean of values, float64 [N], over the images of a mask, bool [N]."""
    own, kept = values[mask], [unit for unit, inside in zip(units, mask, strict=True) if inside]
    mean = float(own.mean())
    drawn = bootstrap.resample(lambda w: {"": w @ own / w.sum(axis=1)}, kept, draws)[""]
    size = bootstrap.effective_size(kept)
    return Share(mean, bootstrap.confidence_interval(mean, drawn, size, bounds), len(own))
