"""A folder of class folders: `<root>/<class>/<image>`."""

from pathlib import Path

from absl import logging

from histojax.config import BACH_CLASSES
from histojax.datasets import dataset
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.utils import files


def class_folders(root: Path) -> list[Path]:
    """The folders directly below the root that are not hidden."""
    return [path for path in files.list_folder(root)[0] if not path.name.startswith(".")]


def load(
    root: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The images below `root`, labelled by their folder.

    A folder named InSitu or Invasive makes BACH's four classes the expected ones, unless `classes` says otherwise.

    Raises:
      InputError: no class folders, an empty one, or one of an unknown class.
    """
    folders = class_folders(root)
    if not folders:
        raise InputError(
            f"{root} holds no class folders: expected {root}/<class>/<image>, or a label table"
        )
    names = {folder.name for folder in folders}
    expected = classes or (BACH_CLASSES if names & {"InSitu", "Invasive"} else None)
    if expected and (unknown := sorted(names - set(expected))):
        raise InputError(
            f"{root} holds class folders that are not expected: {', '.join(unknown)}; expected {', '.join(expected)}. "
            "Remove or rename them, or name your classes with --classes"
        )
    labelled = {}
    for folder in folders:
        found = dataset.list_images(folder)
        if not found:
            raise InputError(
                f"class folder {folder} holds no TIFF, PNG or JPEG image: fill or remove it"
            )
        if ignored := sum(1 for _ in folder.iterdir()) - len(found):
            logging.info("%s: %d files that are no images were left out", folder, ignored)
        labelled |= dict.fromkeys(found, folder.name)
    return dataset.build(labelled, expected, require_all_classes=require_all_classes)
