"""The picture of the pipeline, after the paper's Fig. 2: an image on its way to a probability.

Everything in it is computed by histojax from one synthetic image: its stain normalisation, three of
its augmentations, six crops of one of them, the crops' descriptors by VGG-16 with random weights,
their 3-norm, and the class probabilities in predictions.csv.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from histojax import encoders
from histojax.config import Extraction
from histojax.datasets import synthetic
from histojax.encoders import weights
from histojax.images.thumbnails import thumbnail
from histojax.ops import crops, stain
from histojax.utils import files

_CROP = 144  # Side of a crop, px.
_CELLS = 8  # Channels shown of each tap.
_SIDE = 420  # Longest side of an image, px.


@dataclasses.dataclass(frozen=True)
class Crop:
    """A crop: its data URI, and where it was cut, as shares of the image's height and width."""

    uri: str
    top: float
    left: float
    height: float
    width: float


def values(path: Path, predictions: Path) -> dict[str, Any]:
    """What pipeline.html shows of an image, whose prediction is a row of a table."""
    rgb = np.asarray(Image.open(path))
    rows = files.read_csv(predictions, ("image",))
    row = next(row for row in rows if row["image"] == path.stem)
    protocol = Extraction()
    key = crops.image_key(protocol.seed, path.stem)
    normalized = stain.normalize(jnp.asarray(rgb))
    density = stain.optical_density(normalized)
    gains = [
        crops.gains(key, i, protocol.gain_low, protocol.gain_high)
        for i in range(protocol.augmentations)
    ]
    # From the most hematoxylin for its eosin to the least, since the eye sees no small change.
    gains.sort(key=lambda gain: float(gain[1] - gain[0]))
    gains = [gains[i] for i in (0, len(gains) // 2, -1)]
    augmented = [stain.augment_density(density, gain) for gain in gains]
    places = [crops.corner_and_turn(key, 0, i, np.array(rgb.shape[:2]), _CROP) for i in range(6)]
    cut = [_as_rgb(crops.cut(augmented[0], *place, _CROP)) for place in places]
    rows_of_cells, pooled = _descriptors(np.stack(cut), protocol.p)
    height, width = rgb.shape[:2]
    return {
        "image": thumbnail(rgb, _SIDE),
        "normalized": thumbnail(np.asarray(normalized), _SIDE),
        "augmented": [thumbnail(_as_rgb(planes), _SIDE) for planes in augmented],
        "crops": [
            Crop(
                thumbnail(rgb, _CROP),
                float(corner[0]) / height,
                float(corner[1]) / width,
                _CROP / height,
                _CROP / width,
            )
            for rgb, (corner, _) in zip(cut, places, strict=True)
        ],
        "descriptors": rows_of_cells,
        "pooled": pooled,
        "probabilities": {name: float(row[f"p_{name}"]) for name in synthetic.CLASSES},
        "protocol": protocol,
    }


def _as_rgb(planes: jax.Array) -> np.ndarray:
    """Whole grey levels [3, H, W] to uint8 [H, W, 3]."""
    return np.moveaxis(np.asarray(planes), 0, -1).astype(np.uint8)


def _descriptors(rgb: np.ndarray, p: float) -> tuple[list, list]:
    """Some channels of each tap for crops [P, H, W, 3], and pooled, as shares of the largest."""
    vgg = encoders.get("VGG")
    taps = vgg.taps(weights.random("VGG", seed=0), jnp.asarray(rgb))
    each, pooled = [], []
    for tap in taps.values():
        # Channels that differ most between the crops, in their order.
        chosen = jnp.sort(jnp.argsort(-jnp.std(tap, axis=0))[:_CELLS])
        of_crops = tap[:, chosen]
        largest = of_crops.max()
        of_image = encoders.pool_over_crops(of_crops, (encoders.Tap("", _CELLS),), p)
        each.append((of_crops / largest).tolist())
        pooled.append((of_image / largest).tolist())
    by_crop = [[tap[i] for tap in each] for i in range(len(rgb))]
    return by_crop, pooled
