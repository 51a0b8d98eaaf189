"""Labelled images in class folders: `<root>/<class>/<image>`."""

from pathlib import Path

from absl import logging

from histojax.config import BACH_CLASSES
from histojax.datasets import dataset
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.utils import files


def load(
    root: Path, classes: tuple[str, ...] | None = None, require_all_classes: bool = True
) -> Dataset:
    """The images in the folders of `root`, labelled by folder name; hidden folders are ignored.

    A folder named InSitu or Invasive makes BACH's four classes the expected ones, unless `classes`
    says otherwise.

    Raises:
      InputError: no class folders, one without images, or one of an unknown class.
    """
    folders = [path for path in files.list_folder(root)[0] if not path.name.startswith(".")]
    if not folders:
        raise InputError(
            f"{root} holds no class folders: expected {root}/<class>/<image>, or a label table"
        )
    names = {folder.name for folder in folders}
    expected = classes or (BACH_CLASSES if names & {"InSitu", "Invasive"} else None)
    if expected and (unknown := sorted(names - set(expected))):
        raise InputError(
            f"{root} holds class folders that are not expected: {', '.join(unknown)}; expected "
            f"{', '.join(expected)}. Remove or rename them, or name your classes with --classes"
        )
    labels = {}
    for folder in folders:
        images = dataset.list_images(folder)
        if not images:
            raise InputError(
                f"class folder {folder} holds no TIFF, PNG or JPEG image: fill or remove it"
            )
        if ignored := sum(1 for _ in folder.iterdir()) - len(images):
            logging.info("%s: ignored %d files that are not images", folder, ignored)
        labels |= dict.fromkeys(images, folder.name)
    return dataset.build(labels, expected, None, require_all_classes, root)
