"""The image files that a table names: by path, or by name anywhere below the table's folder.

Names may have Windows' backslashes, the whole path on another computer, another ending (or none) or
other capitals than the files; what is not exact is told.
"""

import collections
import dataclasses
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from histojax.datasets import dataset
from histojax.images import reader
from histojax.utils import files

_Parts = tuple[str, ...]
# Endings that the name of a slide may have in a table: of its image, or of its features.
SLIDE_ENDINGS = frozenset({*reader.ALL_SUFFIXES, ".h5", ".hdf5", ".pt", ".npy", ".npz", ".csv"})


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
        paths = [next(filter(files.is_file, _direct(name, folder)), None) for name in names]
    sought = [i for i, path in enumerate(paths) if path is None]
    below = dataset.list_images_below(folder) if sought else []
    problems, inexact = [], {}
    indices = _index(below, folder)
    for i in sought:
        direct = _direct(names[i], folder)
        candidates = [path for path in direct if path in indices.all or files.is_file(path)]
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


class SlideNames:
    """Names of slides whose images need not be there, to be found by what a table calls them."""

    def __init__(self, names: Iterable[str]):
        self._index = _index(
            [PurePosixPath(name) for name in names], PurePosixPath(), SLIDE_ENDINGS
        )
        # A name of TCGA's with its UUID, by the part before it.
        self._by_start = collections.defaultdict(list)
        for path in self._index.all:
            start, _, rest = path.name.partition(".")
            if rest:
                self._by_start[start.casefold()].append(path)

    def find(self, cell: str) -> list[str]:
        """The slides that a cell may mean; several where it is ambiguous.

        Folders before the name, its ending and its case need not be those of the slide; of names
        with dots the part before the first is enough where it is the whole cell.
        """
        found, _ = _search(cell, self._index, anywhere=True, endings=SLIDE_ENDINGS)
        if not found and (parts := _loose(PureWindowsPath(cell).parts, SLIDE_ENDINGS)):
            found = self._by_start.get(parts[-1], [])
        return sorted(map(str, found))


def is_start(cell: str, slide: str) -> bool:
    """Whether `SlideNames` found a slide by the part of its name before the first dot alone."""
    wanted, name = PureWindowsPath(cell).parts, PurePosixPath(slide).parts
    return _loose(wanted, SLIDE_ENDINGS)[-1] != _loose(name, SLIDE_ENDINGS)[-1]


def path_of(name: str, folder: Path) -> Path:
    """The path that a name means from a folder; backslashes are slashes where that is a file."""
    as_it_is, *others = _direct(name, folder)
    return next(filter(files.is_file, (as_it_is, *others)), as_it_is)


@dataclasses.dataclass(frozen=True)
class _Index:
    """The image files below a folder, by the last part of their names.

    Attributes:
      all: of them.
      exact: with the parts of their paths below the folder, by file name.
      loose: with these parts as `_loose` makes them, by the last of them.
      folders: names of the folders that they lie in, without capitals.
    """

    all: frozenset[PurePath]
    exact: dict[str, list[tuple[_Parts, PurePath]]]
    loose: dict[str, list[tuple[_Parts, PurePath]]]
    folders: frozenset[str]


def _index(
    paths: Sequence[PurePath], folder: PurePath, endings: Container[str] = reader.ALL_SUFFIXES
) -> _Index:
    exact, loose = collections.defaultdict(list), collections.defaultdict(list)
    for path in paths:
        parts = path.relative_to(folder).parts
        exact[parts[-1]].append((parts, path))
        loosely = _loose(parts, endings)
        loose[loosely[-1]].append((loosely, path))
    folders = {path.parent.name.casefold() for path in paths}
    return _Index(frozenset(paths), exact, loose, frozenset(folders))


def _search(
    name: str, index: _Index, anywhere: bool = False, endings: Container[str] = reader.ALL_SUFFIXES
) -> tuple[list[PurePath], bool]:
    """The files whose paths end in a name, and whether they do so to the letter.

    Where a name has a root, or `anywhere`, its first folders may be missing from the paths.
    """
    windows = PureWindowsPath(name)
    rooted = anywhere or bool(windows.anchor)
    parts = windows.parts[1:] if windows.anchor else windows.parts
    parts = tuple(part for part in parts if part != ".")
    for among, wanted in ((index.exact, parts), (index.loose, _loose(parts, endings))):
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


def _loose(parts: _Parts, endings: Container[str] = reader.ALL_SUFFIXES) -> _Parts:
    """The parts of a path without capitals, and without the last one's ending if it is of these."""
    if not parts:
        return parts
    last = PurePosixPath(parts[-1])
    stem = last.stem if last.suffix.lower() in endings else last.name
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
