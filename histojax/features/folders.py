"""Which files below a folder are features, and what the names of TRIDENT's folders say of them."""

import collections
import re
from pathlib import Path
from typing import Any

from absl import logging

from histojax.errors import InputError
from histojax.features import arrays
from histojax.utils import files

_OF_ENCODER = re.compile(r"(slide_)?features_(.+)")
_OF_TILES = re.compile(r"([\d.]+)x_(\d+)px_(\d+)px_overlap")
# CLAM writes the same features twice.
_OF_CLAM, _OF_CLAM_AGAIN = "h5_files", "pt_files"


def find(path: Path) -> list[tuple[Path, list[Path]]]:
    """The folders below a path that are sets, and their files; of one file, itself.

    Tables beside files of another kind are left out, with a warning.

    Raises:
      InputError: there are no features, or which files are features cannot be told.
    """
    path = path.absolute() if files.is_local(path) else path
    if path.is_file():
        if path.suffix.lower() not in arrays.SUFFIXES:
            raise InputError(f"{path} is none of {', '.join(arrays.SUFFIXES)}")
        return [(path, [path])]
    if not path.is_dir():
        raise InputError(f"{path} does not exist: name a folder or file of features")
    members = sorted(
        file
        for file in files.files_below(path)
        if file.suffix.lower() in arrays.SUFFIXES and not file.name.startswith(".")
    )
    if not members:
        raise InputError(
            f"{path} has no features: expected {', '.join(arrays.SUFFIXES)} in it or below"
        )
    members = _once(members)
    for wanted in (_OF_ENCODER, re.compile(f"{_OF_CLAM}|{_OF_CLAM_AGAIN}")):
        grouped: dict[Path, list[Path]] = {}
        for file in members:
            if folder := _nearest(file, path, wanted):
                grouped.setdefault(folder, []).append(file)
        if grouped:
            return [(folder, _of_one_kind(folder, group)) for folder, group in grouped.items()]
    return [(path, _of_one_kind(path, members))]


def _once(members: list[Path]) -> list[Path]:
    """The files without those of CLAM's pt_files, where there are h5_files, too."""
    first = {file.stem for file in members if _OF_CLAM in file.parts}
    again = {file for file in members if first and _OF_CLAM_AGAIN in file.parts}
    if alone := sorted({file.stem for file in again} - first):
        logging.warning(
            "left out %d slides that are in %s and not in %s: %s%s. To take them, name the folder "
            "%s",
            len(alone),
            _OF_CLAM_AGAIN,
            _OF_CLAM,
            ", ".join(alone[:5]),
            ", ..." if len(alone) > 5 else "",
            min(again).parent,
        )
    return [file for file in members if file not in again]


def _nearest(file: Path, root: Path, wanted: re.Pattern) -> Path | None:
    """The folder of that name that a file is in, at or below the root."""
    folders = [folder for folder in file.parents if folder.is_relative_to(root)]
    return next((folder for folder in folders if wanted.fullmatch(folder.name)), None)


def _of_one_kind(folder: Path, members: list[Path]) -> list[Path]:
    """The files of one ending; tables beside others are no features."""
    for parent in sorted({file.parent for file in members}):
        if (parent / "manifest.json").exists():
            raise InputError(
                f"{parent} holds descriptors already (manifest.json): features and --descriptors "
                "need folders of their own"
            )
    kinds = collections.Counter(file.suffix.lower() for file in members)
    if len(kinds) > 1 and (count := kinds.pop(".csv", 0)):
        logging.warning("%s: left out %d .csv beside %s", folder, count, ", ".join(sorted(kinds)))
    if len(kinds) > 1:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(f"{folder} holds {listed}: which are the features? Name their folder")
    return [file for file in members if file.suffix.lower() in kinds]


def facts_of(path: Path, folder: Path) -> dict[str, Any]:
    """What TRIDENT's names of folders say of a file in `folder`, or of a file by itself."""
    folder = path.parent if folder == path else folder
    named = _OF_ENCODER.fullmatch(folder.name)
    if not named:
        return {}
    facts: dict[str, Any] = {"encoder": named[2]}
    if path.suffix.lower() in arrays.HDF5 and _OF_CLAM not in path.parts:
        facts["format"] = "TRIDENT"
    if tiles := _OF_TILES.fullmatch(folder.parent.name):
        facts["magnification"] = float(tiles[1])
        facts |= {"patch_px": int(tiles[2]), "overlap_px": int(tiles[3])}
    return facts
