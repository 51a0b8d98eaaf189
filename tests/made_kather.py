"""Kather's zip with few tiles: the published layout and names, and synthetic tissue."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from histojax.datasets.kather import CLASSES
from histojax.datasets.published import FILES
from histojax.ops import stain

ROOT = "Kather_texture_2016_image_tiles_5000"
SLIDES = 5


def tile(label: int, index: int) -> np.ndarray:
    """uint8 RGB [150, 150, 3]: tissue whose amounts of stain go by the class; the last is empty."""
    rng = np.random.default_rng([label, index])
    amounts = rng.gamma(2, [0.1 + 0.08 * label, 0.5 - 0.05 * label], (30, 30, 2))
    amounts = amounts.repeat(5, 0).repeat(5, 1) * (label < len(CLASSES) - 1)
    pixels = 240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def name(label: int, index: int) -> str:
    """As in the published zip."""
    slide = f"CRC-Prim-HE-{index % SLIDES + 1:02d}_{index:03d}"
    return f"{label}{index:03X}_{slide}.tif_Row_{150 * index + 1}_Col_151.tif"


def write(folder: Path, per_class: int) -> Path:
    """The zip under its published name."""
    path = folder / FILES["crc"].name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{ROOT}/", b"")
        for label, folder_name in enumerate(CLASSES):
            archive.writestr(f"{ROOT}/{folder_name}/", b"")
            for index in range(per_class):
                encoded = io.BytesIO()
                Image.fromarray(tile(label, index)).save(encoded, "TIFF")
                archive.writestr(f"{ROOT}/{folder_name}/{name(label, index)}", encoded.getvalue())
        archive.writestr(f"__MACOSX/{ROOT}/01_TUMOR/._{name(0, 0)}", b"junk")
        archive.writestr(f"{ROOT}/01_TUMOR/.DS_Store", b"junk")
    return path
