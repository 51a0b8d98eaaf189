"""Dataset: labelled images as paths, class indices and groups; and the images in a folder."""

import collections
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N labelled images.

    Attributes:
      paths: the image files.
      labels: the class index of each image.
      classes: K class names, in the order of every array and table.
      groups: the patient or slide of each image, empty where unknown; None if no groups are known.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """File names without folder and ending; they name descriptors and seed random numbers."""
        return tuple(path.stem for path in self.paths)


def build(
    labels: dict[Path, str],
    classes: tuple[str, ...] | None = None,
    groups: dict[Path, str] | None = None,
    require_all_classes: bool = True,
) -> Dataset:
    """A data set from the class name of each file, ordered by class and then by name.

    Without `require_all_classes`, for images that nothing is learned from, classes may be empty.

    Raises:
      InputError: fewer than two classes, a class not in `classes`, or two files of one name.
    """
    classes = classes or class_order(set(labels.values()))
    if len(set(classes)) < len(classes):
        raise InputError(f"--classes names a class twice: {', '.join(classes)}")
    if unknown := sorted(set(labels.values()) - set(classes)):
        raise InputError(
            f"unknown class {', '.join(unknown)}; expected {', '.join(classes)}: correct it or "
            "pass --classes"
        )
    if require_all_classes:
        if empty := [name for name in classes if name not in labels.values()]:
            raise InputError(
                f"no image of class {', '.join(empty)}; expected images of each of "
                f"{', '.join(classes)}"
            )
        if len(classes) < 2:
            raise InputError(f"only one class, {classes[0]}: training needs at least two")
    require_unique_names(labels)
    paths = sorted(labels, key=lambda path: (classes.index(labels[path]), path.stem))
    return Dataset(
        paths=tuple(paths),
        labels=tuple(classes.index(labels[path]) for path in paths),
        classes=classes,
        groups=tuple(groups[path] for path in paths) if groups else None,
    )


def class_order(names: set[str]) -> tuple[str, ...]:
    """BACH's order where the classes are BACH's, else alphabetical."""
    is_bach = names <= set(BACH_CLASSES) and names & {"InSitu", "Invasive"}
    return BACH_CLASSES if is_bach else tuple(sorted(names))


def require_unique_names(paths: Iterable[Path]) -> None:
    """Raises InputError where files differ only in folder or ending: descriptors would collide."""
    by_name = collections.defaultdict(list)
    for path in paths:
        by_name[path.stem].append(str(path))
    if shared := {name: same for name, same in by_name.items() if len(same) > 1}:
        lines = "\n".join(
            f"  {name}: {', '.join(sorted(same))}" for name, same in sorted(shared.items())
        )
        raise InputError(
            f"image names must be unique, whatever their folder and ending; rename these:\n{lines}"
        )


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    return [path for path in files.list_folder(folder)[1] if reader.is_image_name(path)]


def list_images_below(folder: Path) -> list[Path]:
    """The image files anywhere below a folder, sorted by path."""
    if files.is_local(folder):
        return sorted(
            path for path in folder.rglob("*") if reader.is_image_name(path) and path.is_file()
        )
    images = list_images(folder)
    for subfolder in files.list_folder(folder)[0]:
        images += list_images_below(subfolder)
    return sorted(images)
