"""BACH (ICIAR 2018), part A, as it comes from the zip: `Photos` with four class folders and the ground truth.

The same as a TFDS data set, from the zip: challenge.py, bach_dataset_builder.py.
"""

from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.datasets import folders, tables
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError

GROUND_TRUTH = "microscopy_ground_truth.csv"
COUNT = 400
PREFIXES = ("n", "b", "is", "iv")


def find_photos(path: Path) -> Path | None:
    """The `Photos` folder at `path`, below it, or one folder further down; None where there is none."""
    for candidate in (path, path / "Photos", path / "ICIAR2018_BACH_Challenge" / "Photos"):
        if (candidate / GROUND_TRUTH).is_file() or (
            candidate.name == "Photos" and (candidate / "InSitu").is_dir()
        ):
            return candidate
    return None


def load(
    photos: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The labelled images of `Photos`; its ground-truth table, where it is there, must agree with the folders.

    Raises:
      InputError: as for class folders, or the table and the folders differ.
    """
    labelled = folders.load(photos, classes or BACH_CLASSES, require_all_classes)
    table = photos / GROUND_TRUTH
    if table.is_file():
        found = zip(labelled.paths, labelled.labels, strict=True)
        check_truth(table, {path.name: labelled.classes[label] for path, label in found})
    return labelled


def check_truth(table: Path, found: dict[str, str]) -> None:
    """Raises InputError where a ground-truth table and the class folders, {file name: class}, differ."""
    truth = {row["image"]: row["label"] for row in tables.read_rows(table)}
    differing = sorted(name for name in truth | found if truth.get(name) != found.get(name))
    if differing:
        lines = "\n".join(
            f"  {name}: table {truth.get(name)}, folder {found.get(name)}"
            for name in differing[:20]
        )
        raise InputError(
            f"{table} and the class folders beside it differ for {len(differing)} images (None: not there); "
            f"unzip again, or correct the table:\n{lines}"
        )


def is_bach(names: tuple[str, ...], classes: tuple[str, ...]) -> bool:
    """Whether images are BACH's 400 by count, classes and names (n001 .. iv100), so that the paper's table applies."""
    expected = {f"{prefix}{i:03d}" for prefix in PREFIXES for i in range(1, 101)}
    return classes == BACH_CLASSES and len(names) == COUNT and set(names) == expected
