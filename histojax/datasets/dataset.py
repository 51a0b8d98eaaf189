"""Dataset: labelled images as paths, class indices and groups; and the images in a folder."""

import collections
import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from histojax.config import BACH_CLASSES
from histojax.datasets import labels, sheets
from histojax.errors import InputError
from histojax.images import names, reader, suffixes, whole_slide
from histojax.images.names import Images
from histojax.utils import files

# What systems leave in folders.
_OF_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini"})


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N labelled images.

    Attributes:
      images: the image files by name, see `histojax.images.names`.
      labels: the class index of each image.
      classes: K class names, in the order of every array and table.
      groups: the patient or slide of each image, empty where unknown; None if no groups are known.
      notices: sentences on how the data were read, for people.
      copies: the set of copies that each image is in (see `datasets.copies`), which `groups` are
        joined by; None where copies are not kept together.
      sites: the site (scanner, batch, period) of each image, empty where unknown, by column.
    """

    images: Images
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
    copies: tuple[str, ...] | None = None
    sites: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images; they name descriptors and seed random numbers."""
        return tuple(self.images)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image files."""
        return tuple(self.images.values())


def build(
    class_of: dict[Path, str],
    classes: tuple[str, ...] | None = None,
    groups: dict[Path, str] | None = None,
    require_all_classes: bool = True,
    root: Path | None = None,
    notices: Sequence[str] = (),
    known: Images | None = None,
    sites: Mapping[str, Mapping[Path, str]] | None = None,
) -> Dataset:
    """A data set from the class name of each file, ordered by class and then by name.

    Args:
      class_of: class name of each image file.
      classes: the classes in their order.
      groups: patient or slide of each file, empty where unknown.
      require_all_classes: whether each class needs images; not where nothing is learned from them.
      root: the folder that the names of images are relative to where stems are not unique.
      notices: on how the data were read.
      known: the files by name, where they have names already.
      sites: site of each file, empty where unknown, by column.

    Raises:
      InputError: fewer than two classes, or a class not in `classes`.
    """
    if classes is None and require_all_classes:
        labels.check(class_of.values())
    classes = classes or class_order(set(class_of.values()))
    if len(set(classes)) < len(classes):
        raise InputError(f"--classes names a class twice: {', '.join(classes)}")
    if unknown := sorted(set(class_of.values()) - set(classes)):
        raise InputError(
            f"unknown class {', '.join(unknown)}; expected {', '.join(classes)}: correct it or "
            f"pass --classes.{labels.did_you_mean(unknown, classes)}"
        )
    if require_all_classes:
        if empty := [name for name in classes if name not in class_of.values()]:
            raise InputError(
                f"no image of class {', '.join(empty)}; expected images of each of "
                f"{', '.join(classes)}"
            )
        if len(classes) < 2:
            raise InputError(f"only one class, {classes[0]}: training needs at least two")
    images = sorted(
        (known or names.name_images(class_of, root)).items(),
        key=lambda image: (classes.index(class_of[image[1]]), image[1].stem, image[0]),
    )
    return Dataset(
        images=dict(images),
        labels=tuple(classes.index(class_of[path]) for _, path in images),
        classes=classes,
        groups=tuple(groups[path] for _, path in images) if groups else None,
        notices=tuple(notices),
        sites={title: tuple(of[path] for _, path in images) for title, of in (sites or {}).items()},
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
    """The image files below a folder and not in hidden ones, by path; a slide of several once."""
    images = (
        path
        for path in files.files_below(folder)
        if reader.is_image_name(path) and not _is_hidden(path.relative_to(folder))
    )
    return whole_slide.first_files(sorted(images))


@dataclasses.dataclass(frozen=True)
class OtherFiles:
    """The files below a folder that are no images, but for hidden ones, tables and slides' parts.

    Attributes:
      not_read: those that may be meant as images, and why they are not read.
      endings: how many of the others there are of each ending.
    """

    not_read: dict[Path, str]
    endings: collections.Counter

    @property
    def listed(self) -> str:
        """The most frequent endings with their numbers: `3 .txt, 1 .db`; empty for none."""
        return ", ".join(f"{count} {ending}" for ending, count in self.endings.most_common(8))


def other_files(folder: Path) -> OtherFiles:
    """What else is below a folder on this machine; nothing of a remote one, which takes long."""
    if not files.is_local(folder):
        return OtherFiles({}, collections.Counter())
    others = [
        path
        for path in files.files_below(folder)
        if not reader.is_image_name(path)
        and not _is_hidden(path.relative_to(folder))
        and path.name not in _OF_SYSTEMS
        and path.suffix.lower() not in sheets.SUFFIXES
        and not whole_slide.belongs_to_slide(path)
    ]
    not_read = suffixes.not_read(sorted(others))
    endings = (path.suffix.lower() or "no ending" for path in others if path not in not_read)
    return OtherFiles(not_read, collections.Counter(endings))


def images_beside(paths: Iterable[Path]) -> list[Path]:
    """The images in the folders of some images that are not among them, sorted by folder."""
    known = set(paths)
    folders = sorted({path.parent for path in known})
    return [path for folder in folders for path in list_images(folder) if path not in known]


def left_out(folder: Path, taken: Container[Path]) -> tuple[str, ...]:
    """Notices that count the files below a folder which are not among the images taken."""
    notices, others = [], other_files(folder)
    if images := [path for path in list_images_below(folder) if path not in taken]:
        notices.append(
            f"left out, since they are in no class folder: {len(images)} images, such as "
            f"{images[0]}"
        )
    if others.not_read:
        path, cause = next(iter(others.not_read.items()))
        notices.append(
            f"left out, though they may be meant as images: {len(others.not_read)} files, such as "
            f"{path}, which {cause}"
        )
    if others.endings:
        notices.append(f"left out, since they are no images: {others.listed}")
    return tuple(notices)


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)
