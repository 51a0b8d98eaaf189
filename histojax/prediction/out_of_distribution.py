"""How far a new image is from the training images, in descriptors and in stain: conformal p-values.

Distance in descriptors is the mean distance to the nearest training images, each channel in its
standard deviations: it needs no covariance, which N = 20 images of D = 2048 channels cannot give,
and it follows the classes wherever they lie. Deviations are clipped at CLIP: most channels are
silent in most images, and one that responds in a single image would outweigh the two thousand
others. Squares are averaged over channels and then over configurations, so that every configuration
counts the same. Distance in stain is the largest deviation from the median, in robust standard
deviations, of tissue fraction, stain angle and both maxima (their logarithms) at any scale.

The distance of a training image is to images of other folds and groups. The distance of a new image
is compared with it after leaving out the same fold, and all groups weigh the same, as for
prediction sets: see `conformal`. A p-value is the share of training images that are at least as
far, counting the new image's group, so it is never below 1 / (G + 1).

Shapes: descriptors [N, D] by configuration, averaged over augmentations; stain features
[N, 4 x scales]; p-values [N].
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from histojax.config import STAIN_TOO_LITTLE_TISSUE
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.prediction import conformal

FAR = 0.01  # A p-value at or below it is far; with fewer than 99 groups, the smallest possible.
_NEIGHBOURS = 5
_CLIP = 5.0  # Standard deviations at which the deviation of a channel is clipped.
# The smallest standard deviation: of a channel relative to its mean, of stain on the log scale.
_LEAST_DEVIATION = 0.01
_MEASURES = ("tissue_fraction", "stain_angle_degrees", "max_hematoxylin", "max_eosin")
_LEAST_MEASURE = 1e-2  # Smaller values are noise, and their logarithms would be far apart.
_ARRAYS = {  # The names of the arrays in a file, and their fields.
    "folds": "folds",
    "masses": "masses",
    "own": "distances",
    "stain": "stain",
    "stain_masses": "stain_masses",
    "stain_own": "stain_distances",
}


@dataclasses.dataclass(frozen=True)
class ReferenceDistribution:
    """N training images, which new ones are compared with.

    Attributes:
      means: float32 [N, D] by configuration, descriptors averaged over augmentations.
      folds: int [N], 0 .. F - 1, or -1 for an image that is never held out.
      masses: float64 [N], of each image within its group; 0 where it is never held out.
      distances: float64 [N], from images of other folds and groups; NaN where never held out.
      scales: of the stain features; empty where the stain of the training images is unknown.
      stain: float64 [N, 4 x scales], NaN for an image with too little tissue.
      stain_masses, stain_distances: float64 [N], like `masses` and `distances`, among the images
        whose stain is known.
    """

    means: dict[str, np.ndarray]
    folds: np.ndarray
    masses: np.ndarray
    distances: np.ndarray
    scales: tuple[str, ...]
    stain: np.ndarray
    stain_masses: np.ndarray
    stain_distances: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays for an .npz file, none of which needs pickle."""
        arrays = {name: getattr(self, field) for name, field in _ARRAYS.items()}
        arrays["configurations"] = np.array(tuple(self.means), str)
        arrays["scales"] = np.array(self.scales, str)
        return arrays | {f"means.{i}": mean for i, mean in enumerate(self.means.values())}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ReferenceDistribution":
        """The inverse of `to_arrays`; InputError where arrays are missing or damaged."""
        try:
            names = [str(name) for name in arrays["configurations"]]
            means = {name: np.asarray(arrays[f"means.{i}"]) for i, name in enumerate(names)}
            fields = {field: np.asarray(arrays[name]) for name, field in _ARRAYS.items()}
            scales = tuple(str(scale) for scale in arrays["scales"])
        except KeyError as error:
            raise InputError(
                f"the record of the training images lacks {error}: make it again"
            ) from error
        reference = cls(means, scales=scales, **fields)
        if not reference._is_sound():
            shapes = ", ".join(
                f"{name} {np.asarray(array).dtype}{np.shape(array)}"
                for name, array in arrays.items()
            )
            raise InputError(
                f"the record of the training images is damaged ({shapes}): make it again"
            )
        return reference

    def _is_sound(self) -> bool:
        count = len(self.folds)
        vectors = (self.masses, self.distances, self.stain_masses, self.stain_distances)
        return (
            bool(self.means)
            and self.folds.dtype.kind == "i"
            and all(vector.dtype.kind == "f" and vector.shape == (count,) for vector in vectors)
            and self.stain.dtype.kind == "f"
            and self.stain.shape == (count, len(_MEASURES) * len(self.scales))
            and all(
                mean.dtype == np.float32
                and mean.ndim == 2
                and len(mean) == count
                and np.isfinite(mean).all()
                for mean in self.means.values()
            )
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """N new images compared with the training images.

    Attributes:
      stain_p, descriptors_p: float64 [N], p-values; NaN where unknown.
      stain_far, descriptors_far: bool [N], whether these are far; never where unknown.
      too_little_tissue: bool [N].
    """

    stain_p: np.ndarray
    descriptors_p: np.ndarray
    stain_far: np.ndarray
    descriptors_far: np.ndarray
    too_little_tissue: np.ndarray


def fit(
    folds: Folds, means: dict[str, np.ndarray], stain_rows: store.StainQC
) -> ReferenceDistribution:
    """The reference distribution of training images.

    Args:
      folds: the training images, their folds and, where known, groups.
      means: {configuration: float32 [N, D]}, descriptors averaged over augmentations.
      stain_rows: rows of stain_qc.csv.

    Raises:
      InputError: `stain_rows` lack an image.
    """
    names = set(folds.names)
    scales = tuple(sorted({scale for image, scale in stain_rows if image in names}, key=float))
    stain = stain_features(stain_rows, folds.names, scales)
    groups = folds.groups or ("",) * len(folds.names)
    units = np.array(
        [group or f"\0{name}" for group, name in zip(groups, folds.names, strict=True)], object
    )
    distances, stain_distances = np.full((2, len(units)), np.nan)
    for fold in range(folds.count):
        held_out, others = folds.folds == fold, folds.folds != fold
        distances[held_out] = _nearest_distance(
            {name: mean[others] for name, mean in means.items()},
            {name: mean[held_out] for name, mean in means.items()},
            units[held_out, None] != units[None, others],
        )
        stain_distances[held_out] = _largest_deviation(stain[others], stain[held_out])
    return ReferenceDistribution(
        means,
        folds.folds,
        _masses_where(~np.isnan(distances), units),
        distances,
        scales,
        stain,
        _masses_where(~np.isnan(stain_distances), units),
        stain_distances,
    )


def compare(
    reference: ReferenceDistribution | None,
    names: Sequence[str],
    means: Mapping[str, np.ndarray],
    stain_rows: store.StainQC,
) -> Comparison:
    """Compares new images with the training images.

    Args:
      reference: the training images; None where they are unknown.
      names: N names of images.
      means: {configuration: float32 [N, D]}, descriptors averaged over augmentations.
      stain_rows: rows of stain_qc.csv; the stain of an image without rows stays unknown.

    Raises:
      InputError: configurations or channels are not those of the training images.
    """
    stain_p, descriptors_p = np.full((2, len(names)), np.nan)
    stain_far, descriptors_far = np.zeros((2, len(names)), bool)
    if reference is not None:
        descriptors_p = descriptors_p_values(reference, means)
        descriptors_far = is_far(descriptors_p, reference.masses)
        known = [
            i
            for i, name in enumerate(names)
            if all((name, scale) in stain_rows for scale in reference.scales)
        ]
        if known and reference.stain_masses.any():
            known_names = [names[i] for i in known]
            features = stain_features(stain_rows, known_names, reference.scales)
            stain_p[known] = stain_p_values(reference, features)
            stain_far = is_far(stain_p, reference.stain_masses)
    too_little = np.array([too_little_tissue(stain_rows, name) for name in names], bool)
    return Comparison(stain_p, descriptors_p, stain_far, descriptors_far, too_little)


def descriptors_p_values(
    reference: ReferenceDistribution, means: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Conformal p-values of new images by their descriptors.

    Args:
      reference: the training images.
      means: {configuration: float [N, D]}, descriptors averaged over augmentations.

    Returns:
      float64 [N], 1 / (G + 1) for an image that is further than all training images.

    Raises:
      InputError: configurations or channels are not those of the training images.
    """
    expected = {name: mean.shape[1] for name, mean in reference.means.items()}
    channels = {name: np.shape(mean)[-1] for name, mean in means.items()}
    if channels != expected:
        raise InputError(
            f"descriptors are {channels}, those of the training images {expected} (channels by "
            "configuration)"
        )
    folds = reference.folds
    distances = [
        _nearest_distance(
            {name: mean[folds != fold] for name, mean in reference.means.items()}, means
        )
        for fold in range(folds.max() + 1)
    ]
    return _p_values(reference.distances, folds, reference.masses, np.stack(distances))


def stain_p_values(reference: ReferenceDistribution, features: np.ndarray) -> np.ndarray:
    """Conformal p-values of new images by their stain.

    Args:
      reference: the training images.
      features: float64 [N, 4 x scales], made by `stain_features` at `reference.scales`.

    Returns:
      float64 [N]; NaN for images with too little tissue, and for all where the stain of the
      training images is unknown.

    Raises:
      InputError: the features are at other scales.
    """
    if features.shape[1:] != reference.stain.shape[1:]:
        raise InputError(
            f"stain features have shape {features.shape}, those of the training images "
            f"{reference.stain.shape}: expected {len(_MEASURES)} measures at each of the scales "
            f"{', '.join(reference.scales)}"
        )
    if not reference.stain_masses.any():
        return np.full(len(features), np.nan)
    folds = reference.folds
    distances = [
        _largest_deviation(reference.stain[folds != fold], features)
        for fold in range(folds.max() + 1)
    ]
    p = _p_values(reference.stain_distances, folds, reference.stain_masses, np.stack(distances))
    return np.where(np.isnan(features).any(axis=1), np.nan, p)


def is_far(p: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Whether p-values mean far from training images of these masses: bool [N]; NaN does not.

    By chance at most FAR of new groups' images are far or, with fewer than 99 groups, 1 / (G + 1):
    those further away than every training image.
    """
    return p <= max(FAR, 1 / (masses.sum() + 1)) + conformal.ROUNDING


def stain_features(
    stain_rows: store.StainQC, names: Sequence[str], scales: Sequence[str]
) -> np.ndarray:
    """Logarithms of the measures in stain_qc.csv, scale by scale: float64 [N, 4 x scales].

    NaN for an image with too little tissue, whose stain could not be measured.

    Raises:
      InputError: an image has no row at one of the scales.
    """
    features = np.empty((len(names), len(scales), len(_MEASURES)))
    for i, name in enumerate(names):
        for j, scale in enumerate(scales):
            row = stain_rows.get((name, scale))
            if row is None:
                raise InputError(
                    f"{store.STAIN_QC} has no row of {name} at scale {scale}: extract from that "
                    "image again, or remove the file to do without"
                )
            features[i, j] = [getattr(row, measure) for measure in _MEASURES]
        if too_little_tissue(stain_rows, name):
            features[i] = np.nan
    return np.log(np.maximum(features, _LEAST_MEASURE)).reshape(len(names), -1)


def too_little_tissue(stain_rows: store.StainQC, name: str) -> bool:
    """Whether an image had too little tissue to find its stain at any scale."""
    rows = (row for row in stain_rows.values() if row.image == name)
    return any(row.status == STAIN_TOO_LITTLE_TISSUE for row in rows)


def _masses_where(known: np.ndarray, units: np.ndarray) -> np.ndarray:
    """One for each unit, shared by its known images: float64 [N], 0 for the others."""
    masses = np.zeros(len(units))
    masses[known] = conformal.masses(units[known])
    return masses


def _nearest_distance(
    known: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], among: np.ndarray | None = None
) -> np.ndarray:
    """Mean distance to the nearest known images.

    Args:
      known: {configuration: [N, D]}, to which distances are measured, and in whose standard
        deviations.
      new: {configuration: [M, D]}.
      among: bool [M, N], which known images count for each new one; all by default.

    Returns:
      float64 [M], NaN where no known image counts.
    """
    squares = np.mean([_squared_distances(known[name], new[name]) for name in known], axis=0)
    distances = np.sqrt(squares if among is None else np.where(among, squares, np.inf))
    nearest = np.sort(distances, axis=1)[:, :_NEIGHBOURS]
    counts = np.isfinite(nearest)
    total = np.where(counts, nearest, 0).sum(axis=1)
    mean = total / np.maximum(counts.sum(axis=1), 1)
    return np.where(counts.any(axis=1), mean, np.nan)


def _squared_distances(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mean over channels of squared distances in the known images' standard deviations.

    [N, D] and [M, D] to float64 [M, N].
    """
    known, new = known.astype(np.float64), new.astype(np.float64)
    mean = known.mean(axis=0)
    scale = known.std(axis=0) + _LEAST_DEVIATION * np.abs(mean) + np.finfo(np.float32).tiny
    a, b = (np.clip((values - mean) / scale, -_CLIP, _CLIP) for values in (new, known))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    # Rounding may make the square of an image's distance from itself negative.
    return np.maximum(squares, 0) / known.shape[1]


def _largest_deviation(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Largest deviation from the median in robust standard deviations.

    [N, Q] and [M, Q] to float64 [M], NaN where the new features are. A robust standard deviation is
    1.4826 times the median absolute deviation, as of a normal distribution.
    """
    known = known[~np.isnan(known).any(axis=1)]
    if not known.size:
        return np.full(len(new), np.nan)
    median = np.median(known, axis=0)
    scale = 1.4826 * np.median(np.abs(known - median), axis=0) + _LEAST_DEVIATION
    return np.abs((new - median) / scale).max(axis=1)


def _p_values(
    reference: np.ndarray, folds: np.ndarray, masses: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """Conformal p-values of distances [F, N] among those of the training images: float64 [N]."""
    return 1 - conformal.share_below(reference, folds, masses, distances)  # NaN has no mass.
