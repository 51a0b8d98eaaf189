"""What the out-of-fold scores of an ensemble tell of its mistakes: learned once, for new images.

No name of an image or a group is kept. N images, K classes.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from histojax.datasets.positive import PositiveClasses
from histojax.errors import InputError
from histojax.evaluation import calibration, evaluate, metrics, operating_point
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import provenance, store
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble
from histojax.prediction import conformal, out_of_distribution
from histojax.prediction.out_of_distribution import ReferenceDistribution
from histojax.utils import files, ties

_ARRAYS = ("scores", "truth", "folds", "groups")
_SHA256 = 64  # Hexadecimal digits of a file's SHA-256; a pixel size may follow.


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What is known of an ensemble's mistakes.

    Attributes:
      out_of_fold: the held-out images with their mean out-of-fold scores, by number, not by name.
      temperature: of the calibration of the mean scores of all models.
      sets: the calibration of prediction sets.
      target_sensitivity: of the operating point, unless another one is chosen.
      reference: the training images' descriptors and stain; None where unknown.
      training_files: SHA-256 of the image files trained on, or of imported descriptors; None where
        unknown.
    """

    out_of_fold: LabelledPredictions
    temperature: float
    sets: conformal.Calibration
    target_sensitivity: float
    reference: ReferenceDistribution | None
    training_files: frozenset[str] | None = None

    def threshold(self, target_sensitivity: float | None = None) -> float | None:
        """The calibrated positive score that reached a sensitivity out of fold.

        None without positive classes.
        """
        images = self.out_of_fold
        if not images.positive:
            return None
        scores = calibration.apply_temperature(images.scores, self.temperature)
        return operating_point.choose_threshold(
            metrics.positive_score(scores, images.positive),
            images.is_positive,
            target_sensitivity or self.target_sensitivity,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The out-of-fold scores as arrays for an .npz file."""
        images = self.out_of_fold
        columns = (images.scores, images.truth, images.folds, _group_numbers(images))
        return {name: np.asarray(column) for name, column in zip(_ARRAYS, columns, strict=True)}


def learn(
    images: LabelledPredictions,
    target_sensitivity: float,
    reference: ReferenceDistribution | None = None,
    training_files: frozenset[str] | None = None,
) -> Uncertainty:
    """The uncertainty by out-of-fold scores.

    Raises:
      InputError: there are no scores, or fewer than two folds.
    """
    sets = conformal.calibrate(images)
    temperature = calibration.cross_fit(images).applied
    return Uncertainty(
        _anonymous(images), temperature, sets, target_sensitivity, reference, training_files
    )


def _anonymous(images: LabelledPredictions) -> LabelledPredictions:
    """The same, with numbers for names, whose order is that of the names."""
    groups = None
    if images.resampling_groups is not None:
        groups = _in_digits(_group_numbers(images))
    return dataclasses.replace(images, names=_in_digits(range(len(images.names))), groups=groups)


def _in_digits(numbers: Iterable[int]) -> tuple[str, ...]:
    """Numbers as text that sorts like them."""
    return tuple(f"{number:09d}" for number in numbers)


def from_ensemble(
    ensemble: Ensemble,
    positive: PositiveClasses,
    target_sensitivity: float,
    descriptors_root: Path | None = None,
) -> Uncertainty:
    """The uncertainty of an ensemble on disk.

    Args:
      ensemble: with its out-of-fold scores.
      positive: the positive classes.
      target_sensitivity: of the operating point.
      descriptors_root: the folder of the training images' descriptors, with stain_qc.csv or without
        (the authors'); None if new images shall not be compared with them.

    Raises:
      InputError: scores, descriptors or stain_qc.csv are missing or damaged.
    """
    folds = ensemble.folds
    scores = [ensembles.out_of_fold(ensemble, name) for name in ensemble.configurations]
    held_out = evaluate.out_of_fold_predictions(
        folds.held_out(), metrics.mean_scores(scores), positive
    )
    reference = training_files = None
    if descriptors_root is not None:
        means = {
            name: _mean_descriptors(ensemble, name, descriptors_root)
            for name in ensemble.configurations
        }
        stain_rows = store.read_stain_qc(descriptors_root)
        reference = out_of_distribution.fit(folds, means, stain_rows)
        if provenance.are_imported(ensemble.extractions):
            configurations = ensemble.configurations
            training_files = digests_of(descriptors_root, configurations, folds.names).values()
        else:
            training_files = files_of(stain_rows, folds.names)
        training_files = frozenset(training_files) or None
    return learn(held_out, target_sensitivity, reference, training_files)


def _mean_descriptors(ensemble: Ensemble, configuration: str, root: Path) -> np.ndarray:
    """Those of the training images, float32 [N, D]; warns where models were trained on others."""
    descriptors = store.read(root, configuration, ensemble.folds.names)
    recorded = files.read_json(ensemble.root / configuration / ensembles.MANIFEST, ())
    trained_on = recorded.get("descriptors_sha256")
    if trained_on not in (None, ensembles.digest_of(descriptors)):
        logging.warning(
            "%s has other descriptors than the models of %s were trained on, for the same images: "
            "new images are compared with them as they are now. Name the folder that was trained "
            "on, or train again",
            root / configuration,
            ensemble.root,
        )
    return descriptors.mean(axis=1)


def files_of(stain_rows: store.StainQC, names: Iterable[str]) -> frozenset[str]:
    """The SHA-256 of the files of these images, as far as stain_qc.csv knows them."""
    known = {name: [] for name in names}
    for row in stain_rows.values():
        if row.image in known and row.file_sha256:
            known[row.image].append(row.file_sha256[:_SHA256])
    return frozenset(digest for digests in known.values() for digest in digests)


def digests_of(root: Path, configurations: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of imported descriptors by image, by which they are known, since images are not.

    Of one configuration it is that of the file; of several, that of those of all files.
    """
    digests = {}
    for name in names:
        parts = [files.sha256(store.file_of(root, each, name)) for each in configurations]
        joined = hashlib.sha256("".join(parts).encode()).hexdigest()
        digests[name] = parts[0] if len(parts) == 1 else joined
    return digests


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    positive: PositiveClasses,
    target_sensitivity: float,
    reference: ReferenceDistribution | None,
    training_files: Iterable[str] | None = None,
    groups_are_known: bool = True,
) -> Uncertainty:
    """The inverse of `Uncertainty.to_arrays`; InputError where arrays are missing or damaged."""
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise InputError(f"the out-of-fold scores lack {', '.join(missing)}: make the bundle again")
    scores, truth, folds, groups = (np.asarray(arrays[name]) for name in _ARRAYS)
    count = truth.size
    if (
        any(array.dtype.kind not in "iuf" for array in (scores, truth, folds, groups))
        or scores.shape != (count, len(classes))
        or not folds.shape == groups.shape == truth.shape == (count,)
        or not ((scores > -1e-6) & (scores < 1 + 1e-6)).all()
        or not set(np.unique(truth)) <= set(range(len(classes)))
    ):
        raise InputError("the out-of-fold scores do not fit together: make the bundle again")
    images = LabelledPredictions(
        names=_in_digits(range(count)),
        classes=classes,
        truth=truth,
        predicted=ties.argmax(scores),
        scores=scores,
        folds=folds,
        groups=_in_digits(groups) if groups_are_known else None,
    )
    digests = None if training_files is None else frozenset(training_files)
    return learn(images.with_positive(positive), target_sensitivity, reference, digests)


def _group_numbers(images: LabelledPredictions) -> np.ndarray:
    """The group of each image as a number, int [N]; an image of unknown group is its own."""
    return np.unique(images.resampling_groups or images.names, return_inverse=True)[1]
