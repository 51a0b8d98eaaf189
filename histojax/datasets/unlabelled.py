"""Images without labels: from folders, single files, or lists of files."""

from collections.abc import Sequence
from pathlib import Path

from histojax.datasets import dataset
from histojax.errors import InputError
from histojax.images import names, reader, suffixes
from histojax.utils import files

_LIST_SUFFIXES = (".txt", ".csv")


def find_images(sources: Sequence[str | Path]) -> dict[str, Path]:
    """The image files that the sources name, by image name, in the order of the sources.

    Args:
      sources: folders (the images directly in them), images, or lists: a .txt with a path per line,
        or a .csv with a column `image`. Paths in a list are relative to its folder; whether they
        exist is left to whoever reads them. Files of a folder that may be meant as images but are
        of a kind that is not read count as images, so that they are refused by name, not ignored.

    Raises:
      InputError: a source is not there or holds no image, or an image is named twice.
    """
    sources = [files.as_path(source) for source in sources]
    images = [path for source in sources for path in _images_of(source)]
    root = sources[0] if len(sources) == 1 and sources[0].is_dir() else None
    return names.name_images(images, root)


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        images, not_read = (
            dataset.list_images(source),
            suffixes.not_read(files.list_folder(source)[1]),
        )
        if not images:
            others = "".join(f". {path.name} {cause}" for path, cause in sorted(not_read.items()))
            raise InputError(
                f"{source} holds no image: expected files ending in {reader.SUFFIX_LIST}{others}"
            )
        return sorted([*images, *not_read])
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
    if path.suffix.lower() == ".csv":
        lines = [row["image"] for row in files.read_csv(path, ["image"])]
    else:
        try:
            lines = files.decode(path.read_bytes()).splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text: {error}") from error
    listed = [line.strip() for line in lines if line.strip()]
    if not listed:
        raise InputError(f"{path} names no image: expected a path per line, or a column `image`")
    return [path.parent / name for name in listed]
