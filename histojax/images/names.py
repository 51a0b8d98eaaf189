"""Names of images: what descriptors, rows of tables and random numbers of an image go by.

An image's name is its file's without folder and ending. Where several images would share that name,
each of them has its path below the folder of the data instead, without ending (`benign/p1/x`), or
with it where that is still shared. What is written of an image goes below a folder under its name,
so no name leads out of one.
"""

import collections
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from histojax.errors import InputError
from histojax.utils import files

# Image files by their names.
Images = Mapping[str, Path]


def name_images(paths: Iterable[Path], root: Path | None = None) -> dict[str, Path]:
    """The files by their names, in their order.

    Args:
      paths: image files.
      root: the folder that names are relative to; by default the deepest that all files are below.

    Raises:
      InputError: a file is named twice.
    """
    paths = list(paths)
    counts = collections.Counter(map(_absolute, paths))
    if repeated := [path for path, count in counts.items() if count > 1]:
        listed = ", ".join(map(str, repeated[:5]))
        raise InputError(f"images are named more than once: {listed}. Name each file once")
    root = root or common_folder(paths)
    below = [PurePosixPath(*_parts_below(path, root)) for path in paths]
    forms = [
        [path.name if path.stem in (".", "..") else path.stem for path in paths],
        [str(path if path.stem in (".", "..") else path.with_suffix("")) for path in below],
        [str(path) for path in below],
    ]
    names = forms[0]
    for more in forms[1:]:
        counts = collections.Counter(names)
        names = [
            longer if counts[name] > 1 else name for name, longer in zip(names, more, strict=True)
        ]
    if len(set(names)) < len(names):  # A file a.png beside one named a.png.tif, and the like.
        names = forms[-1]
    if len(set(names)) < len(names):  # One outside the folder, with the path of one in it.
        names = [str(PurePosixPath(*_absolute(path).parts[1:])) for path in paths]
    return dict(zip(names, paths, strict=True))


def by_name(images: Images | Iterable[str | Path]) -> dict[str, Path]:
    """Images by their names: as they are, or files named as by `name_images`.

    Raises:
      InputError: a name leads out of the folder that is written to, or a file is named twice.
    """
    if isinstance(images, Mapping):
        return {require_inside(name): files.as_path(path) for name, path in images.items()}
    return name_images(map(files.as_path, images))


def require_inside(name: str) -> str:
    """The name; InputError where a file of this name may lie outside of the folder it is put in."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise InputError(
            f"an image is named {name!r}, which leads out of the folder that its files are put in: "
            "expected a name, or a path below a folder"
        )
    return name


def file_label(name: str, path: Path) -> str:
    """What a person knows an image's file by: its file name, below a folder if its name has one."""
    return str(PurePosixPath(name).with_name(path.name))


def common_folder(paths: Iterable[Path]) -> Path | None:
    """The deepest folder that all files are below; None where there is none."""
    folders = [path.parent for path in paths]
    if not folders:
        return None
    for folder in (folders[0], *folders[0].parents):
        if all(other.is_relative_to(folder) for other in folders):
            return folder
    return None


def _parts_below(path: Path, root: Path | None) -> tuple[str, ...]:
    """The parts of a path below the root; of one that lies elsewhere, all but the file system."""
    if ".." in path.parts or root is not None and ".." in root.parts:
        path, root = _absolute(path), root and _absolute(root)
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).parts
    return path.parts[1:] if path.is_absolute() else path.parts


def _absolute(path: Path) -> Path:
    """The path without `..`, from the root of the file system; links are not followed."""
    return Path(os.path.abspath(path)) if files.is_local(path) else path
