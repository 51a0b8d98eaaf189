"""Where labelled and unlabelled images come from: a folder of class folders, BACH as unzipped, or a label table.

load(path) -> Dataset of labelled images        unlabelled(folder) -> paths
"""

from pathlib import Path

from histojax.datasets import bach, folders, tables
from histojax.datasets.dataset import Dataset, images_in, refuse_duplicates
from histojax.errors import InputError
from histojax.images import reader


def unlabelled(path: Path) -> tuple[Path, ...]:
    """The image files directly in a folder, by name, for prediction.

    Raises:
      InputError: no such folder, no image in it, or two of one name.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder of images")
    found = images_in(path)
    if not found:
        raise InputError(f"{path} holds no image: expected files ending in {', '.join(reader.SUFFIXES)}")
    refuse_duplicates(found)
    return tuple(found)


def load(path: Path, classes: tuple[str, ...] | None = None, complete: bool = True) -> Dataset:
    """The labelled images at `path`: a .csv table, BACH's folder, or a folder of class folders.

    Args:
      path: a label table; `ICIAR2018_BACH_Challenge`, its `Photos` or the folder above; or a folder of class folders.
      classes: the classes in the order wished; by default BACH's order where they are BACH's, else alphabetical.

      complete: whether each class must have images, and be one of two at least, as for learning.

    Raises:
      InputError: what is wrong, where, and what to do.
    """
    if path.is_file():
        return tables.load(path, classes, complete)
    if not path.is_dir():
        raise InputError(f"{path} is not there: expected a folder of class folders, BACH's folder, or a label table")
    if photos := bach.find(path):
        return bach.load(photos, classes, complete)
    return folders.load(path, classes, complete)
