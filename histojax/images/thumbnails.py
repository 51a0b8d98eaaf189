"""Thumbnails of images as JPEG data URIs, so that an HTML page carries its pictures itself.

uint8 RGB [H, W, 3] -> "data:image/jpeg;base64,..."
"""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from histojax.errors import InputError
from histojax.images import slide

SIDE = 160  # Longest side of a thumbnail unless another is asked for, px.
_QUALITY = 80
_WORKERS = 4


def thumbnail(rgb: np.ndarray, side: int = SIDE) -> str:
    """A small copy of an image, its longest side at most `side` px: uint8 [H, W, 3] -> data URI."""
    small, jpeg = Image.fromarray(rgb), io.BytesIO()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    small.save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


def thumbnails(paths: dict[str, Path]) -> dict[str, str]:
    """Thumbnails of image files, by name; an unreadable file is left out, with a warning."""

    def of_file(path: Path) -> str | None:
        try:
            return thumbnail(slide.read_small(path))
        except InputError as error:
            logging.warning("no thumbnail: %s", error)
            return None

    with ThreadPoolExecutor(_WORKERS) as pool:
        uris = dict(zip(paths, pool.map(of_file, paths.values()), strict=True))
    return {name: uri for name, uri in uris.items() if uri}
