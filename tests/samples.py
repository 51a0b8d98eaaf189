"""A protocol small enough for a test, and images of tissue to run it on."""

import numpy as np

from histojax import stain
from histojax.config import Extraction, View

SMALL = Extraction(
    encoders=("VGG",), views=(View(0.5, 48), View(1.0, 64)), augmentations=3, crops=3, weights="random", seed=4
)


def tissue(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, 0.4, (height // 8 + 1, width // 8 + 1, 2)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(np.uint8)
