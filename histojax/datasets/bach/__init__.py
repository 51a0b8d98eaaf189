"""BACH (ICIAR 2018), part A, as unzipped: `Photos` with four class folders and a ground truth.

challenge.py checks the challenge's zips, bach_dataset_builder.py makes them a TFDS data set.
"""

from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.datasets import folders, tables
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError

GROUND_TRUTH = "microscopy_ground_truth.csv"
PREFIXES = ("n", "b", "is", "iv")  # Of the file names of each class.
PER_CLASS = 100


def find_photos(path: Path) -> Path | None:
    """The folder `Photos`: `path` itself, in it, or one folder further down; None if not found."""
    for folder in (path, path / "Photos", path / "ICIAR2018_BACH_Challenge" / "Photos"):
        if (folder / GROUND_TRUTH).is_file():
            return folder
        if folder.name == "Photos" and (folder / "InSitu").is_dir():
            return folder
    return None


def load(
    photos: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The labelled images of `Photos`; its ground truth, if there, must agree with the folders.

    Raises:
      InputError: as for class folders, or the ground truth and the folders differ.
    """
    dataset = folders.load(photos, classes or BACH_CLASSES, require_all_classes, with_groups=False)
    table = photos / GROUND_TRUTH
    if table.is_file():
        images = zip(dataset.paths, dataset.labels, strict=True)
        check_ground_truth(table, {path.name: dataset.classes[label] for path, label in images})
    return dataset


def check_ground_truth(table: Path, folder_of: dict[str, str]) -> None:
    """Raises InputError where a ground truth and the class folder of each file name differ."""
    truth = {row.image: row.label for row in tables.read(table).rows}
    differing = sorted(name for name in truth | folder_of if truth.get(name) != folder_of.get(name))
    if differing:
        lines = "\n".join(
            f"  {name}: table {truth.get(name)}, folder {folder_of.get(name)}"
            for name in differing[:20]
        )
        raise InputError(
            f"{table} and the class folders beside it differ for {len(differing)} images (None: "
            f"not there); unzip again, or correct the table:\n{lines}"
        )


def is_bach(names: tuple[str, ...], classes: tuple[str, ...]) -> bool:
    """Whether these are BACH's 400 photos, n001 to iv100, so that the paper's table applies."""
    expected = [f"{prefix}{i:03d}" for prefix in PREFIXES for i in range(1, PER_CLASS + 1)]
    return classes == BACH_CLASSES and sorted(names) == sorted(expected)
