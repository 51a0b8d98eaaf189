"""Dataset: labelled images as paths, class indices and groups; and the images in a folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.errors import InputError
from histojax.images import names, reader, whole_slide
from histojax.images.names import Images
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N labelled images.

    Attributes:
      images: the image files by name, see `histojax.images.names`.
      labels: the class index of each image.
      classes: K class names, in the order of every array and table.
      groups: the patient or slide of each image, empty where unknown; None if no groups are known.
      notices: sentences on how the data were read, for people.
    """

    images: Images
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images; they name descriptors and seed random numbers."""
        return tuple(self.images)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image files."""
        return tuple(self.images.values())


def build(
    labels: dict[Path, str],
    classes: tuple[str, ...] | None = None,
    groups: dict[Path, str] | None = None,
    require_all_classes: bool = True,
    root: Path | None = None,
    notices: Sequence[str] = (),
) -> Dataset:
    """A data set from the class name of each file, ordered by class and then by name.

    Args:
      labels: class name of each image file.
      classes: the classes in their order.
      groups: patient or slide of each file, empty where unknown.
      require_all_classes: whether each class needs images; not where nothing is learned from them.
      root: the folder that the names of images are relative to where stems are not unique.
      notices: on how the data were read.

    Raises:
      InputError: fewer than two classes, or a class not in `classes`.
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
    images = sorted(
        names.name_images(labels, root).items(),
        key=lambda image: (classes.index(labels[image[1]]), image[1].stem, image[0]),
    )
    return Dataset(
        images=dict(images),
        labels=tuple(classes.index(labels[path]) for _, path in images),
        classes=classes,
        groups=tuple(groups[path] for _, path in images) if groups else None,
        notices=tuple(notices),
    )


def class_order(classes: set[str]) -> tuple[str, ...]:
    """BACH's order where the classes are BACH's, else alphabetical."""
    is_bach = classes <= set(BACH_CLASSES) and classes & {"InSitu", "Invasive"}
    return BACH_CLASSES if is_bach else tuple(sorted(classes))


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; a slide of several files once."""
    images = (path for path in files.list_folder(folder)[1] if reader.is_image_name(path))
    return whole_slide.first_files(images)


def list_images_below(folder: Path) -> list[Path]:
    """The image files anywhere below a folder, sorted by path; a slide of several files once."""
    images = (path for path in files.files_below(folder) if reader.is_image_name(path))
    return whole_slide.first_files(sorted(images))
