"""Images without labels: a folder, one image, or a list of images."""

from collections.abc import Sequence
from pathlib import Path

from histojax.datasets.dataset import list_images, refuse_duplicates
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files

LISTS = (".txt", ".csv")


def find_images(sources: Sequence[Path]) -> tuple[Path, ...]:
    """The image files that are meant, in order of their sources.

    Args:
      sources: of each, a folder (the images directly in it), an image, or a list: a .txt with a path a line, or a .csv
        with a column `image`; paths in a list are relative to its folder.

    Raises:
      InputError: a source is not there or holds no image, or two images have one name.
    """
    found = tuple(path for source in sources for path in of_source(source))
    refuse_duplicates(found)
    return found


def of_source(source: Path) -> list[Path]:
    """The images of one source."""
    if source.is_dir():
        found = list_images(source)
        if not found:
            raise InputError(
                f"{source} holds no image: expected files ending in {', '.join(reader.SUFFIXES)}"
            )
        return found
    if not source.exists():
        raise InputError(
            f"{source} is not there: expected a folder of images, an image, or a list of images"
        )
    if source.suffix.lower() in LISTS:
        return listed(source)
    if not reader.is_image_name(source):
        known = ", ".join((*reader.SUFFIXES, *LISTS))
        raise InputError(
            f"{source} is no folder, image or list of images: expected a name ending in {known}"
        )
    return [source]


def listed(path: Path) -> list[Path]:
    """The images of a list; those that are not there are left for their reader to tell of."""
    try:
        if path.suffix.lower() == ".csv":
            names = [row["image"] for row in files.read_csv(path, ["image"])]
        else:
            names = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: {error}") from error
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise InputError(f"{path} names no image: expected a path a line, or a column `image`")
    return [path.parent / name for name in names]
