"""Pictures for a page: thumbnails of images, and an image on its way through the pipeline, as the paper's Fig. 2.

Pictures are JPEG data URIs, so that a page carries them itself.
"""

import base64
import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from histojax.config import Extraction
from histojax.errors import InputError
from histojax.images import reader

SIDE, WIDE = 160, 220  # Longest side of a thumbnail and of a picture of the pipeline, px.
QUALITY = 80
WORKERS = 4
AUGMENTATIONS = 4


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, what it shows, and the column it stands in: a crop below its augmentation."""

    caption: str
    uri: str
    column: int


def thumbnail(rgb: np.ndarray, side: int = SIDE) -> str:
    """An image made small: uint8 [H, W, 3] -> data URI."""
    small, out = Image.fromarray(rgb), io.BytesIO()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def thumbnails(paths: dict[str, Path]) -> dict[str, str]:
    """Thumbnails of image files, by name; what cannot be read is left out and told in the log."""

    def of_file(path: Path) -> str | None:
        try:
            return thumbnail(reader.read(path))
        except InputError as error:
            logging.warning("no picture: %s", error)
            return None

    with ThreadPoolExecutor(WORKERS) as pool:
        found = dict(zip(paths, pool.map(of_file, paths.values()), strict=True))
    return {name: uri for name, uri in found.items() if uri}


def pipeline(path: Path, protocols: list[dict[str, Any]]) -> list[Picture]:
    """The original, normalised, in its first augmentations, and a crop of each: the very ones that were described.

    Args:
      path: an image file; its name seeds the random numbers.
      protocols: of configurations at one scale, as their manifests record them; a crop size of each is shown.

    Raises:
      InputError: the image cannot be read.
    """
    # Here alone: a report is written where there is no jax, without these pictures.
    import jax.numpy as jnp

    from histojax.ops import crops, resize, stain

    first = protocols[0]
    rgb = reader.read(path)
    small = resize.downscale(jnp.asarray(rgb), first["scale"])
    augmentation_step = stain.AUGMENTATIONS[first["stain_augmentation"]]
    normalized, _ = stain.NORMALIZERS[first["stain_normalizer"]].normalize(small)
    density, key = augmentation_step.planes(normalized), crops.image_key(first["seed"], path.stem)
    shown = [
        Picture("original", thumbnail(rgb, WIDE), 1),
        Picture("normalised", thumbnail(np.asarray(normalized), WIDE), 2),
    ]
    augmented = []
    for augmentation in range(min(AUGMENTATIONS, first["augmentations"])):
        gains = crops.gains(
            key, augmentation, first["gain_low"], first["gain_high"], augmentation_step.gains
        )
        augmented.append(augmentation_step.apply(density, gains))
        caption = f"augmentation {augmentation + 1}"
        if first["stain_augmentation"] == "hematoxylin_eosin":
            caption += f": hematoxylin × {gains[0]:.2f}, eosin × {gains[1]:.2f}"
        shown.append(Picture(caption, thumbnail(as_rgb(augmented[-1]), WIDE), 3 + augmentation))
    for size in sorted(
        {each["crop_size"] for each in protocols if each["crop_size"] <= min(density.shape[1:])}
    ):
        for augmentation, planes in enumerate(augmented):
            corner, turn = crops.corner_and_turn(
                key, augmentation, 0, jnp.array(planes.shape[1:]), size
            )
            if first["crop_mode"] == "shared":
                turn = crops.image_turn(key, augmentation)
            crop = thumbnail(as_rgb(crops.cut(planes, corner, turn, size)), SIDE)
            shown.append(
                Picture(
                    f"a crop of {size} px of augmentation {augmentation + 1}",
                    crop,
                    3 + augmentation,
                )
            )
    return shown


def as_rgb(planes: Any) -> np.ndarray:
    """Whole grey levels [3, H, W] -> uint8 [H, W, 3]."""
    return np.moveaxis(np.asarray(planes), 0, -1).astype(np.uint8)


def protocol(made_with: dict[str, Any] | None) -> dict[str, Any]:
    """The protocol of a configuration's manifest; the paper's where it was not recorded."""
    default = Extraction()
    names = "seed augmentations gain_low gain_high crop_mode stain_normalizer stain_augmentation"
    paper = {name: getattr(default, name) for name in names.split()}
    view = {"scale": default.views[0].scale, "crop_size": default.views[0].crop_size}
    return paper | view | (made_with["protocol"] if made_with else {})
