"""Sets of feature files: TRIDENT's jobs, CLAM's and STAMP's folders, folders and files of arrays.

A set holds features of one encoder and one kind of tile, and becomes one configuration of
descriptors. What is in it is read off the files (`arrays`) and off TRIDENT's paths:

<job>/<mag>x_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5          tiles
<job>/<mag>x_<px>px_<overlap>px_overlap/slide_features_<encoder>/<slide>.h5    whole slides

A slide's name is its file's, as images are named (`images.names`), or the one in a table.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from histojax.errors import InputError
from histojax.features import arrays, folders
from histojax.features.arrays import Contents
from histojax.images.names import name_images

_NAME = re.compile(r"[^\W.][\w.+=-]*")
_LONGEST = 200  # Bytes of a slide's name, to which a file's ending and more are added.


@dataclasses.dataclass(frozen=True)
class Source:
    """What a set of feature files holds; None where neither files nor their path say.

    Attributes:
      encoder: its name.
      format: TRIDENT, CLAM, STAMP or arrays.
      level: `tile`, features [N, D] of a slide's tiles; or `slide`, one vector [D].
      channels: D.
      magnification: that tiles were cut at.
      patch_px, overlap_px: side of a tile and overlap of two, in pixels at that magnification.
      mpp: microns per pixel of the tiles.
    """

    encoder: str
    format: str
    level: str
    channels: int
    magnification: float | None = None
    patch_px: int | None = None
    overlap_px: int | None = None
    mpp: float | None = None

    @property
    def configuration(self) -> str:
        """The folder of its descriptors, such as uni_v1-20x-256px."""
        parts = [self.encoder]
        if self.magnification is not None:
            parts.append(f"{self.magnification:g}x")
        if self.patch_px is not None:
            parts.append(f"{self.patch_px}px")
        if self.overlap_px:
            parts.append(f"{self.overlap_px}px_overlap")
        if self.mpp is not None:
            parts.append(f"{self.mpp:g}mpp")
        if self.level == "slide":
            parts.append("slide")
        return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class SlideFeatures:
    """The features of a slide, and the file that they are in."""

    path: Path
    contents: Contents


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Feature files of one encoder and one kind of tile.

    Attributes:
      source: what they hold.
      slides: by name.
      empty: slides without tiles, by name; they are in no other field.
      failures: why a file cannot be used, by the name that it would give its slide.
      notices: what else a person should know.
    """

    source: Source
    slides: Mapping[str, SlideFeatures]
    empty: tuple[str, ...]
    failures: Mapping[str, str]
    notices: tuple[str, ...]


def find(
    paths: Sequence[Path], encoder: str | None = None, expected: Source | None = None
) -> list[FeatureSet]:
    """The sets of features in folders and files, by configuration; sets of one source are one.

    Args:
      paths: TRIDENT's jobs, folders of feature files, or files.
      encoder: its name, where files and paths do not say it.
      expected: of features to be imported as others were: its encoder and level hold where the
        files do not say.

    Raises:
      InputError: there are no features, files of a set differ in what they hold, an encoder is not
        known or known already, or no file can be read.
    """
    if encoder is not None and not _NAME.fullmatch(encoder):
        raise InputError(f"--name is {encoder!r}, expected letters, digits, '_', '-' and '.'")
    groups = [group for path in paths for group in folders.find(path)]
    if expected is not None:
        groups = [group for group in groups if _may_be(expected, *group)] or groups
    sets: dict[str, list[tuple[Source, _Probed]]] = {}
    for folder, members in groups:
        probed = _probe(folder, members)
        if expected is None:
            _require_names(probed)
        source = _source_of(folder, probed, encoder, expected)
        sets.setdefault(source.configuration, []).append((source, probed))
    return [_merged(name, parts) for name, parts in sorted(sets.items())]


def _may_be(expected: Source, folder: Path, members: list[Path]) -> bool:
    """Whether the names of folders say nothing else of a set than what is expected."""
    stated = folders.facts_of(members[0], folder)
    return all(value == getattr(expected, name) for name, value in stated.items())


@dataclasses.dataclass(frozen=True)
class _Probed:
    slides: list[SlideFeatures]
    failures: dict[Path, str]
    notices: list[str]


def _probe(folder: Path, members: Iterable[Path]) -> _Probed:
    """What the files of a set hold, with what their path says of it."""
    slides, failures = [], {}
    for path in members:
        try:
            stated = folders.facts_of(path, folder)
            for contents in arrays.contents(path):
                facts = _joined(path, stated, contents.facts)
                slides.append(SlideFeatures(path, dataclasses.replace(contents, facts=facts)))
        except InputError as error:
            failures[path] = str(error)
    if not slides:
        first = next(iter(failures.values()))
        more = f" (and {len(failures) - 1} other files)" if len(failures) > 1 else ""
        raise InputError(first + more)
    return _Probed(slides, failures, [s.contents.notice for s in slides if s.contents.notice])


def _joined(path: Path, stated: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Facts of path and file, which must agree; of the format, TRIDENT's path knows best."""
    facts = found | {key: stated[key] for key in ("format",) if key in stated}
    for key in stated.keys() & facts.keys():
        if stated[key] != facts[key]:
            raise InputError(
                f"{path} states {key} {facts[key]}, and its folder {stated[key]}: was it moved?"
            )
    return stated | facts


def _require_names(probed: _Probed) -> None:
    """Raises InputError where rows of the only file may be tiles, or slides without names."""
    if len(probed.slides) > 1:
        return
    (slide,) = probed.slides
    contents = slide.contents
    if contents.name is None and contents.facts["format"] == "arrays" and contents.rows > 1:
        raise InputError(
            f"{slide.path} has {contents.rows} rows without names: are these slides, or tiles of "
            "one? Save those of slides as .csv with a column slide, and those of tiles in one file "
            "for each slide, in a folder"
        )


def _source_of(
    folder: Path, probed: _Probed, encoder: str | None, expected: Source | None
) -> Source:
    """The one source of a set's files; InputError where they differ or do not say an encoder."""
    facts = _facts_of(folder, probed)
    named = facts.get("encoder") or encoder
    if "encoder" in facts and encoder not in (None, facts["encoder"]):
        raise InputError(
            f"{folder} is of encoder {facts['encoder']}, so --name={encoder} is not needed: leave "
            "it out"
        )
    if named is None and expected is not None:
        named = expected.encoder
        probed.notices.append(
            f"{folder} does not say which encoder made its features: taken to be {named}, as those "
            "that the models were trained on"
        )
    if named is None:
        raise InputError(
            f"{folder} ({facts['format']}, {facts['channels']} channels) does not say which "
            "encoder made its features: pass its name, such as --name=resnet50"
        )
    if not _NAME.fullmatch(named):
        named = re.sub(r"[^\w.+=-]+", "_", named).lstrip("._") or "encoder"
    level = facts.get("level") or (expected.level if expected else "slide")
    return Source(**facts | {"encoder": named, "level": level})


def _facts_of(folder: Path, probed: _Probed) -> dict[str, Any]:
    """What all files of a set state; InputError, with a list, where they differ."""
    held = [slide for slide in probed.slides if slide.contents.rows]
    if not held:
        raise InputError(f"no slide of {folder} has tiles (files read: {len(probed.slides)})")
    kinds: dict[str, dict[Any, list[Path]]] = collections.defaultdict(dict)
    names = {name for slide in held for name in slide.contents.facts}
    for slide in held:
        facts = slide.contents.facts | {"channels": slide.contents.channels}
        for name in (*names, "channels"):
            if name != "level" or name in facts:
                kinds[name].setdefault(facts.get(name), []).append(slide.path)
    if mixed := {name: values for name, values in kinds.items() if len(values) > 1}:
        lines = "\n".join(
            f"  {name} {'not stated' if value is None else value}: {len(paths)} "
            f"({', '.join(path.name for path in paths[:3])}{', ...' if len(paths) > 3 else ''})"
            for name, values in sorted(mixed.items())
            for value, paths in values.items()
        )
        raise InputError(
            f"the files of {folder} differ in what they hold, expected one encoder and one kind of "
            f"tile: name the folder or file of each kind\n{lines}"
        )
    return {name: next(iter(values)) for name, values in kinds.items()}


def _merged(configuration: str, parts: list[tuple[Source, _Probed]]) -> FeatureSet:
    """One set of those of one source."""
    sources = {source for source, _ in parts}
    if len(sources) > 1:
        listed = "\n".join(f"  {dataclasses.asdict(source)}" for source in sources)
        raise InputError(f"several kinds of features would be called {configuration}:\n{listed}")
    slides = [slide for _, probed in parts for slide in probed.slides]
    whys = {path: why for _, probed in parts for path, why in probed.failures.items()}
    notices = tuple(dict.fromkeys(text for _, probed in parts for text in probed.notices))
    named, unread = _named(slides, whys)
    failures = {name: whys[path] for name, path in unread.items()}
    empty = tuple(name for name, slide in named.items() if not slide.contents.rows)
    kept = {name: slide for name, slide in named.items() if slide.contents.rows}
    return FeatureSet(parts[0][0], kept, empty, failures, notices)


def _named(
    slides: Sequence[SlideFeatures], unread: Iterable[Path]
) -> tuple[dict[str, SlideFeatures], dict[str, Path]]:
    """Slides by name, and files that cannot be read: these decide what the others are called, too.

    Raises:
      InputError: two slides have one name, or a name in a table is no file name.
    """
    of_files = {slide.path: slide for slide in slides if slide.contents.name is None}
    names = name_images([*of_files, *unread])
    named = {name: of_files[path] for name, path in names.items() if path in of_files}
    without = {name: path for name, path in names.items() if path not in of_files}
    for slide in slides:
        name = slide.contents.name
        if name is None:
            continue
        if not _is_file_name(name):
            raise InputError(f"{slide.path} names a slide {name!r}, which is no name of a file")
        if name in named:
            raise InputError(
                f"{slide.path} and {named[name].path} both have features of slide {name}"
            )
        named[name] = slide
    return named, without


def _is_file_name(name: str) -> bool:
    """Whether descriptors can be called so, in the spelling that they are then found by."""
    path = PurePosixPath(name)
    usual = str(path) == name and not path.is_absolute() and ".." not in path.parts
    short = all(len(part.encode()) <= _LONGEST for part in path.parts)
    return usual and short and "\\" not in name and name.isprintable()
