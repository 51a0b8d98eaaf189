"""Folders of images for these tests: a clean one, and one spoiled in every known way."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter

from histojax.datasets import synthetic

HEIGHT, WIDTH = 160, 192
MARKUP = "<img src=x onerror=alert(1)> & 'q'.png"


@pytest.fixture(scope="session")
def tissue() -> list[np.ndarray]:
    """Twelve fields, six of each class."""
    return [
        synthetic.render(label, seed, HEIGHT, WIDTH)
        for label in ("Benign", "Invasive")
        for seed in range(6)
    ]


def save(rgb: np.ndarray, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path, **options)


def bomb() -> bytes:
    """A PNG that claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    side = (100_000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")


@pytest.fixture(scope="session")
def clean(tissue, tmp_path_factory) -> Path:
    """Two classes of six images."""
    root = tmp_path_factory.mktemp("clean")
    for i, rgb in enumerate(tissue):
        save(rgb, root / ("benign" if i < 6 else "malignant") / f"image{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def spoiled(clean, tissue, tmp_path_factory) -> Path:
    """The same, with everything wrong that we know of."""
    root = tmp_path_factory.mktemp("spoiled") / "data"
    shutil.copytree(clean, root)
    a, b = root / "benign", root / "malignant"
    save(np.full_like(tissue[0], 243), a / "blank.png")
    save(tissue[0] * np.array([[[0.72, 1, 0.68]]]), a / "greenish.png")
    save(np.array(Image.fromarray(tissue[1]).convert("L").convert("RGB")), a / "grey.png")
    save(tissue[2] * 0.5, a / "dark.png")
    save(np.clip(tissue[3] * 1.4, 0, 255), a / "bright.png")
    Image.fromarray(tissue[4]).filter(ImageFilter.GaussianBlur(3)).save(a / "blurred.png")
    save(tissue[5][:100, :110], a / "tiny.png")
    save(tissue[6], b / "jpeg.png", format="JPEG")
    Image.fromarray(tissue[7]).convert("RGBA").save(b / "alpha.png")
    save(np.rot90(tissue[1]), b / "turned.png")
    shutil.copy(b / "image08.png", b / MARKUP)
    tifffile.imwrite(b / "sixteen.tif", tissue[9].astype(np.uint16), photometric="rgb")
    pages = [Image.fromarray(rgb) for rgb in tissue[9:11]]
    pages[0].save(b / "pages.tif", save_all=True, append_images=pages[1:])
    with tifffile.TiffWriter(b / "pyramid.tif") as pyramid:
        pyramid.write(tissue[11], photometric="rgb", tile=(64, 64))
        pyramid.write(tissue[11][::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
    (b / "cut.png").write_bytes((b / "image09.png").read_bytes()[:9000])
    (b / "empty.png").write_bytes(b"")
    (b / "text.jpg").write_text("no image")
    (b / "bomb.png").write_bytes(bomb())
    (root / "slide.vsi").write_bytes(b"?")
    (root / "notes.docx").write_bytes(b"?")
    (root / ".hidden.svs").write_bytes(b"?")
    save(tissue[0], root / ".thumbnails" / "hidden.png")
    save(tissue[0], root / "loose.png")
    save(tissue[0], a / "deeper" / "deep.png")
    return root
