"""The image files that a table names: by path, or by name anywhere below the table's folder.

Names may have Windows' backslashes, the whole path on another computer, another ending (or none) or
other capitals than the files; what is not exact is told.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from histojax.datasets import dataset
from histojax.images import reader
from histojax.utils import files

_Parts = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class FoundFiles:
    """Files of names.

    Attributes:
      paths: the file of each name, None where there is not exactly one.
      problems: a line for each name without exactly one file.
      notices: sentences on names that are not exact.
    """

    paths: tuple[Path | None, ...]
    problems: tuple[str, ...]
    notices: tuple[str, ...]


def find_files(names: Sequence[str], folder: Path) -> FoundFiles:
    """The files of names, in their order; the folder is searched only if one is not found by path.

    A name that is a path is found at it, from the folder, else at any path below the folder that
    ends in it; one with a root (`C:\\`, `/`) at the one that ends in most of it.
    """
    paths: list[Path | None] = [None] * len(names)
    if files.is_local(folder):
        paths = [next(filter(Path.is_file, _direct(name, folder)), None) for name in names]
    sought = [i for i, path in enumerate(paths) if path is None]
    below = dataset.list_images_below(folder) if sought else []
    problems, inexact = [], {}
    indices = _index(below, folder)
    for i in sought:
        direct = _direct(names[i], folder)
        candidates = [path for path in direct if path in indices.all or path.is_file()]
        if not candidates:
            candidates, exact = _search(names[i], indices)
            if len(candidates) == 1 and not exact:
                inexact[names[i]] = candidates[0]
        if len(candidates[:2]) != 1:
            found = ", ".join(map(str, candidates)) or "not found"
            problems.append(f"{names[i]} ({found})")
            continue
        paths[i] = candidates[0]
    return FoundFiles(tuple(paths), tuple(problems), _inexact_notice(inexact))


def path_of(name: str, folder: Path) -> Path:
    """The path that a name means from a folder; backslashes are slashes where that is a file."""
    as_it_is, *others = _direct(name, folder)
    if as_it_is.is_file():
        return as_it_is
    return next(filter(lambda path: path.is_file(), others), as_it_is)


@dataclasses.dataclass(frozen=True)
class _Index:
    """The image files below a folder, by the last part of their names.

    Attributes:
      all: of them.
      exact: with the parts of their paths below the folder, by file name.
      loose: with these parts as `_loose` makes them, by the last of them.
      folders: names of the folders that they lie in, without capitals.
    """

    all: frozenset[Path]
    exact: dict[str, list[tuple[_Parts, Path]]]
    loose: dict[str, list[tuple[_Parts, Path]]]
    folders: frozenset[str]


def _index(paths: Sequence[Path], folder: Path) -> _Index:
    exact, loose = collections.defaultdict(list), collections.defaultdict(list)
    for path in paths:
        parts = path.relative_to(folder).parts
        exact[parts[-1]].append((parts, path))
        loose[_loose(parts)[-1]].append((_loose(parts), path))
    folders = {path.parent.name.casefold() for path in paths}
    return _Index(frozenset(paths), exact, loose, frozenset(folders))


def _search(name: str, index: _Index) -> tuple[list[Path], bool]:
    """The files whose paths end in a name, and whether they do so to the letter."""
    windows = PureWindowsPath(name)
    rooted = bool(windows.anchor)
    parts = windows.parts[1:] if rooted else windows.parts
    parts = tuple(part for part in parts if part != ".")
    for among, wanted in ((index.exact, parts), (index.loose, _loose(parts))):
        for start in range(len(wanted) if rooted else min(1, len(wanted))):
            tail = wanted[start:]
            if start and len(tail) == 1 and wanted[-2].casefold() in index.folders:
                break  # It was expected in that folder: one of its name elsewhere is another.
            fitting = [path for of, path in among[tail[-1]] if of[-len(tail) :] == tail]
            if fitting:
                return fitting, among is index.exact and not start
    return [], False


def _direct(name: str, folder: Path) -> list[Path]:
    """Where a name may lead as a path from the folder, as it is and with slashes."""
    spellings = dict.fromkeys((name, str(PurePosixPath(*PureWindowsPath(name).parts))))
    return [_normalized(folder / spelling) for spelling in spellings if spelling]


def _loose(parts: _Parts) -> _Parts:
    """The parts of a path without capitals, and without the ending of an image file."""
    if not parts:
        return parts
    last = PurePosixPath(parts[-1])
    stem = last.stem if last.suffix.lower() in reader.ALL_SUFFIXES else last.name
    return tuple(part.casefold() for part in (*parts[:-1], stem))


def _inexact_notice(inexact: dict[str, Path]) -> tuple[str, ...]:
    if not inexact:
        return ()
    name, path = next(iter(inexact.items()))
    return (
        f"found under another folder, ending or case than the table says: {len(inexact)} of the "
        f"images, such as {path} for {name}",
    )


def _normalized(path: Path) -> Path:
    """A path without `..`; put together from its parts, since text would lose a slash of a URI."""
    return type(path)(os.path.normpath(os.path.join("", *path.parts)))  # noqa: PTH118
