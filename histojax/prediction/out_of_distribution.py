"""How far a new image is from the training images, in its descriptors and in its stain, as a conformal p-value.

Distance in descriptors is the mean distance to the nearest training images, each channel in its standard deviations:
it needs no covariance, which N = 20 images of D = 2048 channels do not have, and it follows classes wherever they lie.
Deviations are cut at LIMIT: channels are silent in most images, and one that speaks in a single image would otherwise
outweigh the two thousand others. Squares are averaged over channels and then over configurations, so that each
configuration counts alike. Distance in stain is the largest deviation from the median, in robust standard deviations,
of tissue fraction, stain angle and both maxima (on a log scale) at any scale.

A training image's own distance is to those of other folds and groups; a new image's is compared with it by leaving out
the same fold, and groups weigh alike, as for prediction sets: see `conformal`. A p-value is the share of training
images that are at least as far, the new one's group included, so it is never below 1 / (G + 1).

Shapes: descriptors [N, D] by configuration, averaged over augmentations; stain features [N, 4 x scales]; p-values [N].
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from histojax.config import STAIN_TOO_LITTLE_TISSUE
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.prediction import conformal

FAR = 0.01  # A p-value at or below it is far; with fewer than 99 groups the least one there is.
NEIGHBOURS = 5
LIMIT = 5.0  # Standard deviations at which a channel's deviation is cut.
FLOOR = (
    0.01  # A standard deviation's least value, of a channel's mean or, for stain, on the log scale.
)
MEASURES = ("tissue_fraction", "stain_angle_degrees", "max_hematoxylin", "max_eosin")
LEAST = 1e-2  # Below it a measure's logarithm says nothing.
PLAIN = ("folds", "masses", "own", "stain", "stain_masses", "stain_own")


@dataclasses.dataclass(frozen=True)
class ReferenceDistribution:
    """N training images.

    Attributes:
      means: float32 [N, D] by configuration, descriptors averaged over augmentations.
      folds: int [N], 0 .. F - 1, or -1 for an image that is never held out.
      masses: float64 [N], of each image within its group; 0 where it is never held out.
      own: float64 [N], the distance of each from those of other folds and groups; NaN where it is never held out.
      scales: of the stain features; none where the stain of the training images is unknown.
      stain: float64 [N, 4 x scales], NaN for an image with too little tissue.
      stain_masses, stain_own: float64 [N], as `masses` and `own`, among images whose stain is known.
    """

    means: dict[str, np.ndarray]
    folds: np.ndarray
    masses: np.ndarray
    own: np.ndarray
    scales: tuple[str, ...]
    stain: np.ndarray
    stain_masses: np.ndarray
    stain_own: np.ndarray

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names such as ResNet-0.5-400."""
        return tuple(self.means)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As arrays for .npz, none of which needs pickle."""
        arrays = {name: getattr(self, name) for name in PLAIN}
        arrays["configurations"] = np.array(self.configurations, str)
        arrays["scales"] = np.array(self.scales, str)
        return arrays | {f"means.{i}": mean for i, mean in enumerate(self.means.values())}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ReferenceDistribution":
        """What `to_arrays` gave; InputError where it is no such thing."""
        try:
            names = [str(name) for name in arrays["configurations"]]
            means = {name: np.asarray(arrays[f"means.{i}"]) for i, name in enumerate(names)}
            plain = {name: np.asarray(arrays[name]) for name in PLAIN}
            scales = tuple(str(scale) for scale in arrays["scales"])
        except KeyError as error:
            raise InputError(
                f"the record of the training images lacks {error}: make it anew"
            ) from error
        count = len(plain["folds"])
        forms = {
            (plain[name].dtype.kind, plain[name].shape)
            for name in PLAIN
            if name not in ("folds", "stain")
        }
        sound = (
            means
            and plain["folds"].dtype.kind == "i"
            and forms == {("f", (count,))}
            and plain["stain"].shape == (count, len(MEASURES) * len(scales))
            and plain["stain"].dtype.kind == "f"
            and all(
                mean.ndim == 2 and len(mean) == count and mean.dtype == np.float32
                for mean in means.values()
            )
            and all(np.isfinite(mean).all() for mean in means.values())
        )
        if not sound:
            found = ", ".join(
                f"{name} {np.asarray(each).dtype}{np.shape(each)}" for name, each in arrays.items()
            )
            raise InputError(
                f"the record of the training images is damaged ({found}): make it anew"
            )
        return cls(means, scales=scales, **plain)


def learn(
    folds: Folds, configurations: Sequence[str], descriptors_root: Path
) -> ReferenceDistribution:
    """What is typical, from the descriptors and the stain of the training images.

    Args:
      folds: the training images, their folds and, where known, groups.
      configurations: those that the ensemble uses.
      descriptors_root: where the training images' descriptors are, with stain_qc.csv or, as of the authors, without.

    Raises:
      InputError: descriptors are missing or damaged, or stain_qc.csv is, or does not know an image.
    """
    means = {
        name: store.read(descriptors_root, name, folds.names).mean(axis=1)
        for name in configurations
    }
    return measured(folds, means, store.read_stain_qc(descriptors_root))


def measured(
    folds: Folds, means: dict[str, np.ndarray], rows: store.StainQC
) -> ReferenceDistribution:
    """What is typical of images with these descriptors, {configuration: float32 [N, D]}, and rows of stain_qc.csv."""
    trained_on = set(folds.names)
    scales = tuple(sorted({scale for image, scale in rows if image in trained_on}, key=float))
    stain = stain_features(rows, folds.names, scales)
    groups = folds.groups or ("",) * len(folds.names)
    units = np.array(
        [group or f"\0{name}" for group, name in zip(groups, folds.names, strict=True)], object
    )
    own, stain_own = np.full((2, len(units)), np.nan)
    for fold in range(folds.count):
        here, others = folds.folds == fold, folds.folds != fold
        known = {name: mean[others] for name, mean in means.items()}
        new = {name: mean[here] for name, mean in means.items()}
        own[here] = nearest(known, new, units[here, None] != units[None, others])
        stain_own[here] = deviation(stain[others], stain[here])
    masses, stain_masses = (masses_among(units, ~np.isnan(each)) for each in (own, stain_own))
    return ReferenceDistribution(
        means, folds.folds, masses, own, scales, stain, stain_masses, stain_own
    )


def masses_among(units: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """One a group, shared by those of its images that are judged: float64 [N], 0 for the others."""
    masses = np.zeros(len(units))
    masses[judged] = conformal.masses(units[judged])
    return masses


def nearest(
    known: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], among: np.ndarray | None = None
) -> np.ndarray:
    """Mean distance to the nearest known images: {configuration: [N, D]}, {configuration: [M, D]} -> float64 [M].

    Args:
      known: descriptors that distances are measured to and in whose standard deviations.
      new: of the images in question.
      among: bool [M, N], which known images count for each; all by default. NaN comes of none.
    """
    squares = np.mean([channel_squares(known[name], new[name]) for name in known], axis=0)
    distances = np.sqrt(squares if among is None else np.where(among, squares, np.inf))
    ordered = np.sort(distances, axis=1)[:, :NEIGHBOURS]
    there = np.isfinite(ordered)
    return np.where(
        there.any(axis=1),
        np.where(there, ordered, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1),
        np.nan,
    )


def channel_squares(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mean over channels of squared distances, in the known images' deviations: [N, D], [M, D] -> float64 [M, N]."""
    known, new = known.astype(np.float64), new.astype(np.float64)
    mean = known.mean(axis=0)
    scale = known.std(axis=0) + FLOOR * np.abs(mean) + np.finfo(np.float32).tiny
    a, b = (np.clip((each - mean) / scale, -LIMIT, LIMIT) for each in (new, known))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return (
        np.maximum(squares, 0) / known.shape[1]
    )  # Rounding may leave an image at less than nothing from itself.


def deviation(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Largest deviation from the median in robust standard deviations: [N, Q], [M, Q] -> float64 [M], NaN where new is.

    A standard deviation is 1.4826 times the median absolute deviation, as of a normal distribution.
    """
    known = known[~np.isnan(known).any(axis=1)]
    if not known.size:
        return np.full(len(new), np.nan)
    median = np.median(known, axis=0)
    scale = 1.4826 * np.median(np.abs(known - median), axis=0) + FLOOR
    return np.abs((new - median) / scale).max(axis=1)


def stain_features(rows: store.StainQC, names: Sequence[str], scales: Sequence[str]) -> np.ndarray:
    """Logarithms of the measures of stain_qc.csv, scale by scale: float64 [N, 4 x scales].

    NaN for an image with too little tissue, whose stain was not measured.

    Raises:
      InputError: an image has no row at one of the scales.
    """
    features = np.empty((len(names), len(scales), len(MEASURES)))
    for i, name in enumerate(names):
        for j, scale in enumerate(scales):
            row = rows.get((name, scale))
            if row is None:
                raise InputError(
                    f"{store.STAIN_QC} has no row of {name} at scale {scale}: extract that image again, or remove the "
                    "file to do without"
                )
            features[i, j] = [getattr(row, measure) for measure in MEASURES]
        if too_little_tissue(rows, name):
            features[i] = np.nan
    return np.log(np.maximum(features, LEAST)).reshape(len(names), -1)


def too_little_tissue(rows: store.StainQC, name: str) -> bool:
    """Whether an image had less tissue at any scale than a stain can be found in (`stain.LEAST_TISSUE`)."""
    return any(row.status == STAIN_TOO_LITTLE_TISSUE for row in rows.values() if row.image == name)


def descriptor_p(reference: ReferenceDistribution, means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Conformal p-values of new images by their descriptors.

    Args:
      reference: of `learn`.
      means: {configuration: float [N, D]}, descriptors averaged over augmentations.

    Returns:
      float64 [N], 1 / (G + 1) for an image further than all training images are.

    Raises:
      InputError: configurations or channels are others than the training images'.
    """
    there = {name: mean.shape[1] for name, mean in reference.means.items()}
    here = {name: np.shape(mean)[-1] for name, mean in means.items()}
    if there != here:
        raise InputError(
            f"descriptors are {here}, those of the training images {there} (channels by configuration)"
        )
    distances = [
        nearest(
            {name: mean[reference.folds != fold] for name, mean in reference.means.items()}, means
        )
        for fold in range(reference.folds.max() + 1)
    ]
    return p_values(reference.own, reference.folds, reference.masses, np.stack(distances))


def stain_p(reference: ReferenceDistribution, features: np.ndarray) -> np.ndarray | None:
    """Conformal p-values of new images by their stain; None where the training images' stain is unknown.

    Args:
      reference: of `learn`.
      features: float64 [N, 4 x scales], of `stain_features` at `reference.scales`.

    Returns:
      float64 [N], NaN for images with too little tissue.

    Raises:
      InputError: the features are of other scales.
    """
    if not reference.stain_masses.any():
        return None
    if features.shape[1:] != reference.stain.shape[1:]:
        raise InputError(
            f"stain features have shape {features.shape}, those of the training images {reference.stain.shape}: expected "
            f"{len(MEASURES)} measures at each of the scales {', '.join(reference.scales)}"
        )
    distances = [
        deviation(reference.stain[reference.folds != fold], features)
        for fold in range(reference.folds.max() + 1)
    ]
    p = p_values(reference.stain_own, reference.folds, reference.stain_masses, np.stack(distances))
    return np.where(np.isnan(features).any(axis=1), np.nan, p)


def p_values(
    own: np.ndarray, folds: np.ndarray, masses: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """The conformal p-value of distances [F, N] among the training images' own: float64 [N]."""
    return 1 - conformal.share_below(own, folds, masses, distances)  # NaN has no mass.


def far(p: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Whether p-values mean far from the training images of these masses: bool [N]; NaN is not.

    At most FAR of new groups' images are far by chance or, with fewer than 99 groups, 1 / (G + 1): those further than
    every training image.
    """
    return p <= max(FAR, 1 / (masses.sum() + 1)) + conformal.ROUNDING
