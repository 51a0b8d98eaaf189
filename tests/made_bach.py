"""BACH as it is downloaded, but with small images: the challenge's zips, or the folders in them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image

from histojax.config import BACH_CLASSES
from histojax.datasets.dataset import Dataset

TRAINING = "ICIAR2018_BACH_Challenge"
TEST = "ICIAR2018_BACH_Challenge_TestDataset"
PREFIXES = dict(zip(BACH_CLASSES, ("n", "b", "is", "iv"), strict=True))
TRUTH = f"{TRAINING}/Photos/microscopy_ground_truth.csv"
HEIGHT, WIDTH = 6, 8


def bach_dataset() -> Dataset:
    """The 400 photos by name and class, without files."""
    names = {
        f"{PREFIXES[label]}{i:03d}": k
        for k, label in enumerate(BACH_CLASSES)
        for i in range(1, 101)
    }
    return Dataset({name: Path(name) for name in names}, tuple(names.values()), BACH_CLASSES)


def tif(pixels: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3] as a TIFF without compression, as the challenge's."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "TIFF")
    return encoded.getvalue()


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def training(image=noise) -> dict[str, bytes]:
    """The files of the training zip: 400 photos, image(i) each, the ground truth, and a slide."""
    names = [
        (label, f"{PREFIXES[label]}{i:03d}.tif") for label in BACH_CLASSES for i in range(1, 101)
    ]
    made = {
        f"{TRAINING}/Photos/{label}/{name}": tif(image(i)) for i, (label, name) in enumerate(names)
    }
    made[TRUTH] = "".join(f"{name},{label}\n" for label, name in names).encode()
    made[f"{TRAINING}/WSI/A01.svs"] = b"a whole slide"
    return made


def unlabelled(image=noise) -> dict[str, bytes]:
    """The files of the test zip: 100 photos, image(1000 + i) each."""
    return {f"{TEST}/Photos/test{i}.tif": tif(image(1000 + i)) for i in range(100)}


def junk(root: str) -> dict[str, bytes]:
    """What macOS and Windows leave beside the photos."""
    photos = f"{root}/Photos"
    return {
        f"__MACOSX/{photos}/._n001.tif": b"\0\5\26\7",
        f"{photos}/.DS_Store": b"\0",
        f"{photos}/Normal/.DS_Store": b"\0",
        f"{photos}/Normal/._n001.tif": b"\0\5\26\7",
        f"{photos}/Benign/Thumbs.db": b"\0",
    }


def write_zip(folder: Path, name: str, made: dict[str, bytes]) -> Path:
    """A zip of these files, with entries for folders as most programs write them."""
    folder.mkdir(parents=True, exist_ok=True)
    folders = sorted(
        {f"{parent}/" for path in made for parent in Path(path).parents if parent.name}
    )
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in folders:
            archive.writestr(entry, b"")
        for path, content in made.items():
            archive.writestr(path, content)
    return folder / f"{name}.zip"


def write_folder(folder: Path, made: dict[str, bytes]) -> None:
    """The same files, unpacked."""
    for path, content in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def write_patients(folder: Path, rows: dict[str, str]) -> None:
    """The patient spreadsheet: {photo: patient}."""
    book = openpyxl.Workbook()
    for row in [("Image", "Patient ID"), *rows.items()]:
        book.active.append(row)
    book.save(folder / "ICIAR2018_BACH_dataset_micro_patient.xlsx")
