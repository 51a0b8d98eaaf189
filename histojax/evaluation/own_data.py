"""Whether images and descriptors are those that models were trained on, by name, label and file."""

from collections.abc import Collection
from pathlib import Path

from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import manifests, provenance, store
from histojax.images import slide
from histojax.learners import scoring
from histojax.learners.ensembles import Ensemble

_COMPARED = 16  # Files whose SHA-256 is compared, for all of them may take minutes.
_SHA256 = 64  # Hexadecimal digits; a pixel size may follow.
_NAMED = 5  # Images that a message names.


def check(
    ensemble: Ensemble, data: tuple[Path, Dataset] | None, descriptors: Path | None
) -> tuple[str, ...]:
    """Compares images and descriptors with those that an ensemble was trained on.

    Args:
      ensemble: the models.
      data: where labelled images are, and these, or None.
      descriptors: a folder of descriptors, with its stain_qc.csv unless imported, or None.

    Returns:
      Sentences on what is missing, or differs.

    Raises:
      InputError: none of the images, or of the descriptors, are those trained on; labels contradict
        the models'; or the descriptors are of another protocol.
    """
    notices, stain_rows = [], {}
    if descriptors is not None:
        scoring.check_same_extraction(ensemble.extractions, descriptors)
        stain_rows = store.read_stain_qc(descriptors)
        where, there = descriptors / store.STAIN_QC, {row.image for row in stain_rows.values()}
        if provenance.are_imported(ensemble.extractions):
            where = descriptors
            there = {*(manifests.imported_slides(descriptors, ensemble.configurations) or ())}
        notices += check_descriptors(ensemble.folds, there, where)
    if data is not None:
        path, dataset = data
        notices += check_images(ensemble.folds, dataset, path)
        notices += check_files(dataset, stain_rows, descriptors)
    return tuple(notices)


def check_images(folds: Folds, dataset: Dataset, data: Path) -> list[str]:
    """Compares labelled images with those of a split.

    Args:
      folds: the images that models were trained on.
      dataset: the images at `data`.
      data: where they are, for messages.

    Returns:
      Sentences on images that are missing from either.

    Raises:
      InputError: they have no image in common, or a label contradicts that of the models.
    """
    trained = dict(zip(folds.names, (folds.classes[label] for label in folds.labels), strict=True))
    labels = (dataset.classes[label] for label in dataset.labels)
    given = dict(zip(dataset.names, labels, strict=True))
    if not trained.keys() & given.keys():
        raise InputError(
            f"{data} holds none of the {len(trained)} images that the models were trained on "
            f"(theirs: {_some(folds.names)}; there: {_some(dataset.names)}): pass the labelled "
            "images that were trained on, or leave them out"
        )
    if others := [name for name, label in given.items() if trained.get(name, label) != label]:
        listed = ", ".join(
            f"{name} is {given[name]}, the models say {trained[name]}" for name in others[:_NAMED]
        )
        raise InputError(
            f"the labels of {data} contradict those that the models were trained with for "
            f"{len(others)} of {len(trained)} images ({listed}{_and_more(others)}): pass the "
            "labels that were trained with or, if these are right, train again with them"
        )
    notices = []
    if absent := [name for name in trained if name not in given]:
        notices.append(f"Missing from --data ({len(absent)}): {_some(absent)}.")
    if more := [name for name in given if name not in trained]:
        notices.append(f"In --data, but not trained on ({len(more)}): {_some(more)}.")
    return notices


def check_files(dataset: Dataset, stain_rows: store.StainQC, descriptors: Path | None) -> list[str]:
    """A sentence on images that are not the files descriptors were computed from, if there are any.

    Of a large data set only some files are compared, evenly spread.
    """
    digests = {row.image: row.file_sha256[:_SHA256] for row in stain_rows.values()}
    paths = {
        name: path
        for name, path in dataset.images.items()
        if len(digests.get(name, "")) == _SHA256 and path.exists()
    }
    step = -(-len(paths) // _COMPARED) or 1
    compared = list(paths)[::step]
    if other := [name for name in compared if slide.digest(paths[name]) != digests[name]]:
        return [
            f"Not the files that {descriptors} were computed from ({len(other)} of "
            f"{len(compared)} compared, by SHA-256): {_some(other)}."
        ]
    return []


def require_same_files(dataset: Dataset, descriptors: Path) -> None:
    """Raises InputError where descriptors were computed from other files of the same names.

    Nothing is compared where the folder has no stain_qc.csv, as the authors' has none.
    """
    if differing := check_files(dataset, store.read_stain_qc(descriptors), descriptors):
        raise InputError(
            f"{differing[0]} Extract descriptors from these images into another folder, or pass "
            "the images that were extracted"
        )


def check_descriptors(folds: Folds, there: Collection[str], where: Path) -> list[str]:
    """A sentence on images whose descriptors are missing, if there are any.

    Args:
      folds: the images that models were trained on.
      there: the images that have descriptors.
      where: what says so, for messages.

    Raises:
      InputError: these are none of the models' images.
    """
    absent = [name for name in folds.names if name not in there]
    if len(absent) == len(folds.names):
        raise InputError(
            f"{where} has none of the {len(folds.names)} images that the "
            f"models were trained on (theirs: {_some(folds.names)}; there: "
            f"{_some(sorted(there))}): pass the descriptors that were trained on, or leave them out"
        )
    return [f"Missing from --descriptors ({len(absent)}): {_some(absent)}."] if absent else []


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + _and_more(names)


def _and_more(names: list[str] | tuple[str, ...]) -> str:
    return ", ..." if len(names) > _NAMED else ""
