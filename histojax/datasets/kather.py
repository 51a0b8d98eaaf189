"""Kather's texture set: 5,000 tiles of colorectal tissue in eight classes, from ten slides.

Kather et al., "Multi-class texture analysis in colorectal cancer histology", Scientific Reports
6:27988, 2016. Its zip has a folder for each class; the name of a tile says which slide it is of,
so that slides can be held out whole.
"""

import hashlib
import re
import zipfile
from pathlib import Path

from histojax.datasets.folds import Folds
from histojax.datasets.published import FILES
from histojax.errors import InputError
from histojax.utils import files, zips
from histojax.utils.zips import Member

CLASSES = (
    *("01_TUMOR", "02_STROMA", "03_COMPLEX", "04_LYMPHO"),
    *("05_DEBRIS", "06_MUCOSA", "07_ADIPOSE", "08_EMPTY"),
)
PER_CLASS = 625
MPP = 0.495  # Microns per pixel.
# Accuracy in percent, of eight classes, by texture features and a support vector machine.
PUBLISHED_ACCURACY = 87.4
LABELS = "labels.csv"

_SIDE = 150  # Of a tile, px.
_MOST_BYTES = 4 * _SIDE * _SIDE + 2**20  # Of a tile's file.
_TILE = re.compile(rf"(?:[^/]+/)?({'|'.join(CLASSES)})/([^./\\][^/\\]*\.tif)")
_SLIDE = re.compile(r"CRC-Prim-HE-\d+")


def unpack(archive: Path, folder: Path, per_class: int) -> Path:
    """Unpacks tiles of each class into class folders, with a table of labels and slides.

    Which tiles is decided by the SHA-256 of their names, so that more tiles include fewer ones.

    Args:
      archive: the published zip.
      folder: where the class folders and the table go; what is there already is kept.
      per_class: how many tiles of each class.

    Returns:
      The table, image,label,slide; written once all tiles are there. A tile whose name tells no
      slide has an empty cell.

    Raises:
      InputError: the zip is damaged or unsafe, or has fewer tiles of a class.
    """
    remedy = f"remove {archive} and download it again"
    root = zips.open_zip(archive, remedy).root
    tiles: dict[str, dict[str, Member]] = {label: {} for label in CLASSES}
    for entry in root.namelist():
        if found := _TILE.fullmatch(entry):
            label, name = found.groups()
            tiles[label][name] = Member(zipfile.Path(root, entry), _MOST_BYTES, remedy)
    chosen, rows = {}, []
    for label, by_name in tiles.items():
        if len(by_name) < per_class:
            raise InputError(
                f"{archive} has {len(by_name)} tiles of {label}, expected at least {per_class}: "
                f"{remedy}, or ask for fewer tiles"
            )
        for name in sorted(by_name, key=_rank)[:per_class]:
            chosen[folder / label / name] = by_name[name]
            slide = _SLIDE.search(name)
            rows.append([f"{label}/{name}", label, slide[0] if slide else ""])
    zips.unpack(chosen)
    files.write_csv(folder / LABELS, rows, ["image", "label", "slide"])
    return folder / LABELS


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def tiles_per_class(labels: Path) -> int:
    """How many tiles of each class a table that `unpack` wrote lists; 0 if it or a tile is gone."""
    if not labels.exists():
        return 0
    rows = files.read_csv(labels, ["image", "label", "slide"])
    if not all((labels.parent / row["image"]).is_file() for row in rows):
        return 0
    return len(rows) // len(CLASSES)


def published(split: Folds) -> str:
    """What was published on the images of a split, where they are Kather's; else empty."""
    slides = [_SLIDE.search(name) for name in split.names]
    if split.classes != CLASSES or not all(slides):
        return ""
    folds_of_slides = {(slide[0], fold) for slide, fold in zip(slides, split.folds, strict=True)}
    whole = len(folds_of_slides) == len({slide for slide, _ in folds_of_slides})
    ours = " Here, no slide is in training and test at once." if whole else ""
    return (
        f"Published on these data: an accuracy of {PUBLISHED_ACCURACY} % by texture features "
        f"({FILES['crc'].source}), on all {len(CLASSES) * PER_CLASS:,} tiles and in another split: "
        f"a landmark, no like-for-like comparison.{ours}"
    )
