"""Where labelled images come from: a folder of class folders, BACH as unzipped, or a label table.

load(path) -> Dataset of labelled images; for images without labels see `unlabelled.find_images`
"""

from pathlib import Path

from histojax.datasets import bach, folders, tables
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError


def load(
    path: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The labelled images at `path`: a .csv table, BACH's folder, or a folder of class folders.

    Args:
      path: a label table; `ICIAR2018_BACH_Challenge`, its `Photos` or the folder above; or a folder of class folders.
      classes: the classes in the order wished; by default BACH's order where they are BACH's, else alphabetical.

      require_all_classes: whether each class must have images, and be one of two at least, as for learning.

    Raises:
      InputError: what is wrong, where, and what to do.
    """
    if path.is_file():
        return tables.load(path, classes, require_all_classes)
    if not path.is_dir():
        raise InputError(
            f"{path} is not there: expected a folder of class folders, BACH's folder, or a label table"
        )
    if photos := bach.find_photos(path):
        return bach.load(photos, classes, require_all_classes)
    return folders.load(path, classes, require_all_classes)
