"""Where the published file of weights of an encoder is on this machine. Nothing is downloaded.

For UNI2-h, whose file is pytorch_model.bin of MahmoodLab/UNI2-h, these are looked for, whatever the
case of letters:

FOLDER/UNI2-h/pytorch_model.bin                FOLDER is --weights_dir
FOLDER/MahmoodLab/UNI2-h/pytorch_model.bin
FOLDER/UNI2-h.bin
CACHE/models--MahmoodLab--UNI2-h/snapshots/COMMIT/pytorch_model.bin

CACHE is Hugging Face's, or FOLDER; COMMIT is the one that refs/main names or, where that does not
have the file, the only one that does.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import logging

from histojax.encoders import Encoder, foundation
from histojax.errors import InputError

# Variables of Hugging Face's libraries that say where their cache is, and what follows there.
_CACHES = (
    ("HF_HUB_CACHE", ""),
    ("HUGGINGFACE_HUB_CACHE", ""),
    ("HF_HOME", "hub"),
    ("XDG_CACHE_HOME", "huggingface/hub"),
)


@dataclasses.dataclass(frozen=True)
class FoundFile:
    """A file of weights.

    Attributes:
      path: of it.
      name: what manifests call it: its path from the folder on, or its repository and name.
    """

    path: Path
    name: str


def hub_cache() -> Path:
    """The folder in which Hugging Face's libraries keep what they downloaded."""
    for variable, rest in _CACHES:
        if folder := os.environ.get(variable):
            return Path(folder).expanduser() / rest
    return Path.home() / ".cache" / "huggingface" / "hub"


def find(encoder: Encoder, weights_dir: Path | None = None) -> FoundFile | None:
    """The published file of an encoder, in `weights_dir` or else in Hugging Face's cache.

    Raises:
      InputError: there are several, or a folder cannot be searched.
    """
    if weights_dir is not None and (found := _in_folder(encoder, weights_dir, _PLACES)):
        return found
    return _in_folder(encoder, hub_cache(), (_cached,))


def require(encoder: Encoder, weights_dir: Path | None = None) -> FoundFile:
    """As `find`; InputError with what was looked for, and how to get the file, where none is."""
    if found := find(encoder, weights_dir):
        return found
    files = " or ".join(encoder.published.files)
    places = [f"{hub_cache()} (Hugging Face's cache)"]
    if weights_dir is not None:
        organisation, name = encoder.published.repository.split("/")
        folders = dict.fromkeys((f"{encoder.name}/", f"{name}/", f"{organisation}/{name}/"))
        places.insert(0, f"{weights_dir} (in {', '.join(folders)}, or as {encoder.name}.*)")
    raise InputError(
        f"there is no file of weights of {encoder.name} here: looked for {files} in "
        f"{' and in '.join(places)}. {advice(encoder)}. Or pass --weights={encoder.name}=FILE; "
        "--weights=random takes untrained ones"
    )


def advice(encoder: Encoder) -> str:
    """Where to get the file of weights, on which terms, and where to put it."""
    published = encoder.published
    gate = f"; {published.gate}" if published.gate else ""
    return (
        f"Get {published.files[0]} from {published.address} and put it at FOLDER/{encoder.name}/"
        f"{published.files[0]}, with --weights_dir=FOLDER; its licence is "
        f"{published.licence_text}{gate}"
    )


def in_place_of(encoder: Encoder, path: Path) -> FoundFile:
    """The file that --weights=ENCODER=PATH names: a file, or a folder that holds the published one.

    Raises:
      InputError: there is nothing at the path, or the folder holds none, or several.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: name the file of weights of {encoder.name}")
    if encoder.published is not None:
        _warn_of_others(encoder, path.absolute())
    if encoder.published is None or not path.is_dir():
        return FoundFile(path, path.name)
    if found := _in_folder(encoder, path, (_itself, *_PLACES)):
        return found
    raise InputError(
        f"{path} holds neither {' nor '.join(encoder.published.files)}: name the file of weights "
        f"of {encoder.name}, or the folder that holds it"
    )


def _warn_of_others(encoder: Encoder, path: Path) -> None:
    """Warns where a path is called as another encoder, whose arrays may have the same shapes."""
    parts = {part.lower() for part in (*path.parts, path.stem)}
    others = [row.name for row in foundation.ROWS if parts & _called(row)]
    if others and not parts & _called(encoder):
        logging.warning(
            "%s is called as the weights of %s, and is taken for %s, as --weights says: where "
            "shapes agree, nothing else shows a mistake, and the input would be scaled wrongly",
            path,
            " or ".join(others),
            encoder.name,
        )


def _called(encoder: Encoder) -> set[str]:
    """The encoder and its repository, as folders and files are called, in lower case."""
    repository = encoder.published.repository
    cached = f"models--{repository.replace('/', '--')}"
    return {name.lower() for name in (encoder.name, repository.split("/")[1], cached)}


def _in_folder(encoder: Encoder, folder: Path, places: Iterable) -> FoundFile | None:
    """The one file in a folder; InputError where there are several, or it cannot be searched."""
    try:
        found = {hit.path.resolve(): hit for place in places for hit in place(encoder, folder)}
    except OSError as error:
        raise InputError(
            f"{folder} cannot be searched for files of weights: {error.strerror}. Name the file of "
            f"{encoder.name}: --weights={encoder.name}=FILE"
        ) from error
    if len(found) > 1:
        listed = ", ".join(str(hit.path) for hit in found.values())
        raise InputError(
            f"there are {len(found)} files of weights of {encoder.name}: {listed}. Name the one "
            f"that you want: --weights={encoder.name}=FILE"
        )
    return next(iter(found.values()), None)


def _itself(encoder: Encoder, folder: Path) -> Iterable[FoundFile]:
    return _first_of(encoder, folder, [folder])


def _by_name(encoder: Encoder, folder: Path) -> Iterable[FoundFile]:
    """In a folder that is called as the encoder or its repository."""
    organisation, name = encoder.published.repository.split("/")
    for parts in dict.fromkeys([(encoder.name,), (name,), (organisation, name)]):
        yield from _first_of(encoder, folder, _matching(folder, parts))


def _alone(encoder: Encoder, folder: Path) -> Iterable[FoundFile]:
    """A file that is called as the encoder."""
    endings = {Path(name).suffix for name in encoder.published.files}
    for ending in sorted(endings):
        for path in _matching(folder, (f"{encoder.name}{ending}",)):
            yield FoundFile(path, path.name)


def _cached(encoder: Encoder, folder: Path) -> Iterable[FoundFile]:
    """In the folder of the repository in a cache of Hugging Face."""
    repository = encoder.published.repository
    for of_repository in _matching(folder, (f"models--{repository.replace('/', '--')}",)):
        main, snapshots = of_repository / "refs" / "main", of_repository / "snapshots"
        commits = _matching(snapshots, ("*",))
        if main.is_file():
            current = [snapshots / main.read_text(errors="replace").strip()]
            commits = current if list(_first_of(encoder, folder, current)) else commits
        for hit in _first_of(encoder, folder, commits):
            yield FoundFile(hit.path, f"{repository}/{hit.path.name}")


_PLACES = (_by_name, _alone, _cached)


def _first_of(encoder: Encoder, root: Path, folders: Iterable[Path]) -> Iterable[FoundFile]:
    """In each folder the first of the names that the file may have."""
    for folder in folders:
        paths = (folder / name for name in encoder.published.files)
        if path := next((path for path in paths if path.is_file()), None):
            yield FoundFile(path, path.relative_to(root).as_posix())


def _matching(folder: Path, parts: Sequence[str]) -> list[Path]:
    """The paths below a folder of these names in any case; `*` is any name."""
    if not parts:
        return [folder]
    if not folder.is_dir():
        return []
    return [
        path
        for child in sorted(folder.iterdir())
        if parts[0] in ("*", child.name) or child.name.lower() == parts[0].lower()
        for path in _matching(child, parts[1:])
    ]
