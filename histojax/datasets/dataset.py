"""Labelled images, however they were found."""

import collections
import dataclasses
from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N labelled images.

    Attributes:
      paths: the files.
      labels: class index of each.
      classes: K class names, in the order of every array and table.
      groups: the patient or slide of each, empty where it is unknown; None where groups are not known at all.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """File names without folder and ending, which name descriptors and seed random numbers."""
        return tuple(path.stem for path in self.paths)


def build(
    labelled: dict[Path, str],
    classes: tuple[str, ...] | None = None,
    groups: dict[Path, str] | None = None,
    require_all_classes: bool = True,
) -> Dataset:
    """A dataset from {file: class name}, in the order of the classes and then of the names.

    With `require_all_classes` off, as for images that nothing is to be learned from, classes may be without images.

    Raises:
      InputError: fewer than two classes, a class that `classes` does not have, or two files of one name.
    """
    classes = classes or class_order(set(labelled.values()))
    if len(set(classes)) < len(classes):
        raise InputError(f"--classes names a class twice: {', '.join(classes)}")
    if unknown := sorted(set(labelled.values()) - set(classes)):
        raise InputError(
            f"unknown class {', '.join(unknown)}; expected {', '.join(classes)}: correct it or pass --classes"
        )
    absent = [name for name in classes if name not in labelled.values()]
    if require_all_classes and absent:
        raise InputError(
            f"no image of class {', '.join(absent)}; expected images of each of {', '.join(classes)}"
        )
    if require_all_classes and len(classes) < 2:
        raise InputError(f"only one class, {classes[0]}: at least two are needed to learn anything")
    refuse_duplicates(labelled)
    paths = sorted(labelled, key=lambda path: (classes.index(labelled[path]), path.stem))
    return Dataset(
        paths=tuple(paths),
        labels=tuple(classes.index(labelled[path]) for path in paths),
        classes=classes,
        groups=tuple(groups[path] for path in paths) if groups else None,
    )


def class_order(names: set[str]) -> tuple[str, ...]:
    """BACH's order where the classes are BACH's, else alphabetical."""
    return (
        BACH_CLASSES
        if names <= set(BACH_CLASSES) and names & {"InSitu", "Invasive"}
        else tuple(sorted(names))
    )


def refuse_duplicates(paths: collections.abc.Iterable[Path]) -> None:
    """Raises InputError where two files have one name but for folder and ending: their descriptors would collide."""
    by_name = collections.defaultdict(list)
    for path in paths:
        by_name[path.stem].append(str(path))
    if twice := {name: found for name, found in by_name.items() if len(found) > 1}:
        lists = "\n".join(
            f"  {name}: {', '.join(sorted(found))}" for name, found in sorted(twice.items())
        )
        raise InputError(
            f"image names must be unique, whatever their folder and ending; rename these:\n{lists}"
        )


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, by name."""
    return [path for path in files.list_folder(folder)[1] if reader.is_image_name(path)]


def list_images_below(folder: Path) -> list[Path]:
    """The image files anywhere below a folder, in the order of their paths."""
    if files.is_local(folder):
        return sorted(
            path for path in folder.rglob("*") if reader.is_image_name(path) and path.is_file()
        )
    folders, _ = files.list_folder(folder)
    return sorted(
        list_images(folder) + [path for each in folders for path in list_images_below(each)]
    )
