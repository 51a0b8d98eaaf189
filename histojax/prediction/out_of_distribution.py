"""How far a new image is from the training images, in descriptors and in stain: conformal p-values.

The distance of a training image is to images of other folds and groups. The distance of a new image
is compared with it after leaving out the same fold, and all groups weigh the same, as for
prediction sets: see `conformal`. A p-value is the share of training images that are at least as
far, counting the new image's group, so it is never below 1 / (G + 1).

Shapes: descriptors [N, D] by configuration, averaged over augmentations; stain features
[N, 4 x scales]; p-values [N]. How distances are measured: `distance`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.prediction import conformal, distance
from histojax.utils import ties

FAR = 0.01  # A p-value at or below it is far; with fewer than 99 groups, the smallest possible.
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
        except TypeError as error:  # An array without an axis is no list.
            raise InputError(
                f"the record of the training images is damaged ({error}): make it again"
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
        count = self.folds.size
        vectors = (self.masses, self.distances, self.stain_masses, self.stain_distances)
        return (
            bool(self.means)
            and self.folds.dtype.kind == "i"
            and self.folds.shape == (count,)
            and all(vector.dtype.kind == "f" and vector.shape == (count,) for vector in vectors)
            and self.stain.dtype.kind == "f"
            and self.stain.shape == (count, len(distance.STAIN_MEASURES) * len(self.scales))
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
      too_little_tissue, one_colour: bool [N], whether there is nothing in the image to classify.
    """

    stain_p: np.ndarray
    descriptors_p: np.ndarray
    stain_far: np.ndarray
    descriptors_far: np.ndarray
    too_little_tissue: np.ndarray
    one_colour: np.ndarray


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
    scales = tuple(sorted({scale for image, scale in stain_rows if image in names}, key=_order))
    stain = distance.stain_features(stain_rows, folds.names, scales)
    groups = folds.groups or ("",) * len(folds.names)
    units = np.array(
        [group or f"\0{name}" for group, name in zip(groups, folds.names, strict=True)], object
    )
    distances, stain_distances = np.full((2, len(units)), np.nan)
    for fold in range(folds.count):
        held_out, others = folds.folds == fold, folds.folds != fold
        distances[held_out] = distance.to_nearest(
            {name: mean[others] for name, mean in means.items()},
            {name: mean[held_out] for name, mean in means.items()},
            units[held_out, None] != units[None, others],
        )
        stain_distances[held_out] = distance.largest_deviation(stain[others], stain[held_out])
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


def _order(resolution: str) -> tuple[bool, float]:
    """Scales first, then microns per pixel, each by size: `0.5`, `1.0`, `0.5mpp`."""
    number = resolution.removesuffix("mpp")
    return number != resolution, float(number)


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
            features = distance.stain_features(stain_rows, known_names, reference.scales)
            stain_p[known] = stain_p_values(reference, features)
            stain_far = is_far(stain_p, reference.stain_masses)
    too_little, one_colour = (
        np.array([holds(stain_rows, name) for name in names], bool)
        for holds in (distance.too_little_tissue, distance.one_colour)
    )
    return Comparison(stain_p, descriptors_p, stain_far, descriptors_far, too_little, one_colour)


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
        distance.to_nearest(
            {name: mean[folds != fold] for name, mean in reference.means.items()}, means
        )
        for fold in range(folds.max() + 1)
    ]
    return _p_values(reference.distances, folds, reference.masses, np.stack(distances))


def stain_p_values(reference: ReferenceDistribution, features: np.ndarray) -> np.ndarray:
    """Conformal p-values of new images by their stain.

    Args:
      reference: the training images.
      features: float64 [N, 4 x scales], made by `distance.stain_features` at `reference.scales`.

    Returns:
      float64 [N]; NaN for images with too little tissue, and for all where the stain of the
      training images is unknown.

    Raises:
      InputError: the features are at other scales.
    """
    if features.shape[1:] != reference.stain.shape[1:]:
        raise InputError(
            f"stain features have shape {features.shape}, those of the training images "
            f"{reference.stain.shape}: expected {len(distance.STAIN_MEASURES)} measures at each of "
            f"the scales {', '.join(reference.scales)}"
        )
    if not reference.stain_masses.any():
        return np.full(len(features), np.nan)
    folds = reference.folds
    distances = [
        distance.largest_deviation(reference.stain[folds != fold], features)
        for fold in range(folds.max() + 1)
    ]
    p = _p_values(reference.stain_distances, folds, reference.stain_masses, np.stack(distances))
    return np.where(np.isnan(features).any(axis=1), np.nan, p)


def is_far(p: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Whether p-values mean far from training images of these masses: bool [N]; NaN does not.

    By chance at most FAR of new groups' images are far or, with fewer than 99 groups, 1 / (G + 1):
    those further away than every training image.
    """
    return ties.lower(p) <= max(FAR, 1 / (masses.sum() + 1))


def _masses_where(known: np.ndarray, units: np.ndarray) -> np.ndarray:
    """One for each unit, shared by its known images: float64 [N], 0 for the others."""
    masses = np.zeros(len(units))
    masses[known] = conformal.masses(units[known])
    return masses


def _p_values(
    reference: np.ndarray, folds: np.ndarray, masses: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """Conformal p-values of distances [F, N] among those of the training images: float64 [N]."""
    below = conformal.share_below(reference, folds, masses, distances, ties.FLOAT32)
    return 1 - below  # NaN has no mass.
