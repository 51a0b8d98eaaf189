"""Images without labels: from folders, single files, or lists of files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax.datasets import columns, dataset, lookup, sheets
from histojax.errors import InputError
from histojax.images import names, reader, suffixes
from histojax.images.names import Images
from histojax.utils import files

_LIST_SUFFIXES = (".txt", *sheets.SUFFIXES)


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """Images without labels.

    Attributes:
      images: the files by name, in the order of the sources.
      notices: sentences on what was found, for people.
    """

    images: Images
    notices: tuple[str, ...]


def find_images(sources: Sequence[str | Path]) -> Images:
    """The image files that the sources name, by image name; see `find`."""
    return find(sources).images


def find(sources: Sequence[str | Path]) -> FoundImages:
    """The image files that the sources name.

    Args:
      sources: folders (the images in and below them), images, or lists: a .txt with a path per
        line, or a table with a column `image`. Paths in a list are relative to its folder; whether
        they exist is left to whoever reads them. Files of a folder that may be meant as images but
        are of a kind that is not read count as images, so that they are refused by name, not
        ignored.

    Raises:
      InputError: a source is not there or holds no image, or an image is named twice.
    """
    sources = [files.as_path(source) for source in sources]
    paths, notices = [], []
    for source in sources:
        if source.is_dir():
            below, told = _images_below(source)
            paths += below
            notices += told
        else:
            paths += _images_of_file(source)
    root = sources[0] if len(sources) == 1 and sources[0].is_dir() else None
    return FoundImages(names.name_images(paths, root), tuple(notices))


def _images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """The images in and below a folder, and notices on those below and on other files."""
    images, others = dataset.list_images_below(folder), dataset.other_files(folder)
    if not images:
        causes = "".join(f". {path.name} {cause}" for path, cause in others.not_read.items())
        raise InputError(
            f"{folder} holds no image: expected files ending in {reader.SUFFIX_LIST}{causes}"
        )
    notices = []
    if nested := [path for path in images if path.parent != folder]:
        folders = sorted({path.parent.relative_to(folder).as_posix() for path in nested})
        notices.append(
            f"{len(nested)} of {len(images)} images lie in folders below {folder}, such as "
            f"{', '.join(folders[:3])}"
        )
    if others.endings:
        notices.append(f"left out below {folder}, since they are no images: {others.listed}")
    return sorted([*images, *others.not_read]), notices


def _images_of_file(source: Path) -> list[Path]:
    """The image that a file is, or those that it lists."""
    if not source.exists():
        raise InputError(
            f"{source} is not there: expected a folder of images, an image, or a list of images"
        )
    if source.suffix.lower() in _LIST_SUFFIXES:
        return _read_list(source)
    if not reader.is_image_name(source):
        raise InputError(
            f"{source} {suffixes.why_not_read(source) or 'is no folder, image or list of images'}: "
            f"expected a name ending in {reader.SUFFIX_LIST}, {', '.join(_LIST_SUFFIXES)}"
        )
    return [source]


def _read_list(path: Path) -> list[Path]:
    """The files that a list names; a Windows path is taken as one where it is there."""
    if path.suffix.lower() == ".txt":
        try:
            lines = files.decode(path.read_bytes()).splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text: {error}") from error
    else:
        lines = _image_column(path)
    listed = [line.strip() for line in lines if line.strip()]
    if not listed:
        raise InputError(f"{path} names no image: expected a path per line, or a column `image`")
    return [lookup.path_of(name, path.parent) for name in listed]


def _image_column(table: Path) -> list[str]:
    """The cells of a table's column of images, see `columns`."""
    rows = next(iter(sheets.read(table).rows.values()))
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    column = columns.image_column(header, [], str(table))  # By its heading alone.
    if column is None:
        raise InputError(
            f"{table} has columns {', '.join(header)}; expected also image, which names the images"
        )
    return [row[column] for row in body if len(row) > column]
