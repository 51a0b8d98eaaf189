"""An image at each step of the pipeline, as in the paper's Fig. 2: pictures for a page, as JPEG data URIs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import Extraction
from histojax.images import reader
from histojax.images.thumbnails import SIDE, thumbnail

WIDE = 220  # Longest side of a picture of the pipeline, px.
AUGMENTATIONS = 4


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, what it shows, and the column it stands in: a crop below its augmentation."""

    caption: str
    uri: str
    column: int


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
