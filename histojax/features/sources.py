"""sources.csv of imported descriptors: the file of each slide, and a digest of its features.

By it a feature file that has changed since is noticed: the same file by its size and time, and
otherwise by the features themselves, so that a copy of a file is not taken for another.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from histojax.errors import InputError
from histojax.extraction import store
from histojax.features.feature_sets import FeatureSet, SlideFeatures
from histojax.utils import files

_FILE = "sources.csv"


@dataclasses.dataclass(frozen=True)
class SourceRow:
    """A row of sources.csv: where the descriptors of an image come from.

    Attributes:
      image: its name.
      file: of its features.
      tiles: N.
      file_bytes, modified: size of the file, and when it was last changed, in seconds since 1970.
      features_sha256: of the features as float32, little-endian, tile by tile.
    """

    image: str
    file: str
    tiles: int
    file_bytes: int
    modified: float
    features_sha256: str


_COLUMNS = {field.name: field.type for field in dataclasses.fields(SourceRow)}


def read(root: Path, configuration: str) -> dict[str, SourceRow]:
    """The rows of sources.csv by image; none where it does not exist."""
    path = root / configuration / _FILE
    if not path.exists():
        return {}
    rows = files.read_csv(path, _COLUMNS)
    try:
        made = [SourceRow(**{k: kind(row[k]) for k, kind in _COLUMNS.items()}) for row in rows]
    except ValueError as error:
        raise InputError(
            f"{path} is damaged: {error}. Remove {path.parent} and import anew"
        ) from error
    return {row.image: row for row in made}


def update(digest, block: np.ndarray) -> None:
    """Takes features, float32 [n, D], into a digest."""
    digest.update(block.astype("<f4", copy=False).tobytes())


def write(root: Path, configuration: str, rows: dict[str, SourceRow]) -> None:
    """Replaces sources.csv."""
    cells = (dataclasses.astuple(rows[name]) for name in sorted(rows))
    files.write_csv(root / configuration / _FILE, cells, _COLUMNS)


def row_of(name: str, slide: SlideFeatures, digest) -> SourceRow:
    """The row of a slide whose features were digested."""
    return SourceRow(
        name, str(slide.path), slide.contents.rows, *_size_and_time(slide.path), digest.hexdigest()
    )


def _size_and_time(path: Path) -> tuple[int, float]:
    stat = path.stat()
    if files.is_local(path):
        return stat.st_size, stat.st_mtime
    return stat.length, float(stat.mtime)


def unchanged(
    found: FeatureSet, root: Path, configuration: str, rows: dict[str, SourceRow]
) -> set[str]:
    """The slides that have descriptors of the features that they still have.

    Raises:
      InputError: features of some have changed.
    """
    described = set(store.image_names(root, configuration)) & rows.keys()
    done = described & found.slides.keys()
    emptied = [name for name in found.empty if name in described]
    changed = [*emptied]
    for name in done:
        slide, row = found.slides[name], rows[name]
        known = (row.file, row.file_bytes, row.modified)
        if known == (str(slide.path), *_size_and_time(slide.path)):
            continue
        digest = hashlib.sha256()
        for block in slide.contents.blocks():
            update(digest, block)
        if digest.hexdigest() != row.features_sha256:
            changed.append(name)
    if changed:
        listed = ", ".join(f"{name}.npy" for name in sorted(changed)[:5])
        more = ", ..." if len(changed) > 5 else ""
        raise InputError(
            f"features of {len(changed)} of {len(done) + len(emptied)} slides have changed since "
            f"they were imported: remove {listed}{more} from {root / configuration} to import them "
            "again, and train again what was trained on them, into another folder"
        )
    return done
