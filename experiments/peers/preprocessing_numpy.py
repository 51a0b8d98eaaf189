"""Stain normalisation and augmentation in plain NumPy, as one writes them: uint8 [H, W, 3].

In float64. What does not depend on the gains is computed once an image, and powers are
exponentials, which NumPy has vectorised.
"""

import numpy as np

WHITE = 240
REFERENCE = np.array(
    [[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]
)  # Rows R, G, B; columns H, E.
REFERENCE_MAXIMA = np.array([1.9705, 1.0308])
DECONVOLUTION = np.array([[1.88, -0.07, -0.60], [-1.02, 1.13, -0.48], [-0.55, -0.13, 1.57]])
MIXING = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def density(rgb: np.ndarray) -> np.ndarray:
    """Natural optical density [pixels, 3]."""
    return -np.log((rgb.reshape(-1, 3).astype(np.float64) + 1) / WHITE)


def normalize(rgb: np.ndarray) -> np.ndarray:
    """Macenko normalisation: step 2 of the protocol."""
    every = density(rgb)
    tissue = every[np.all(every >= 0.15, axis=1)]
    _, vectors = np.linalg.eigh(np.cov(tissue, rowvar=False))
    plane = vectors[:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    projected = tissue @ plane
    angles = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), (1, 99))
    stains = plane @ np.stack([np.cos(angles), np.sin(angles)])
    if stains[0, 0] < stains[0, 1]:
        stains = stains[:, ::-1]
    amounts = every @ np.linalg.pinv(stains).T
    amounts *= REFERENCE_MAXIMA / np.percentile(amounts, 99, axis=0)
    rebuilt = WHITE * np.exp(-amounts @ REFERENCE.T)
    return np.clip(rebuilt, 0, 255).astype(np.uint8).reshape(rgb.shape)


def stain_amounts(rgb: np.ndarray) -> np.ndarray:
    """Natural optical density of hematoxylin, eosin and residual [pixels, 3]: step 3."""
    return density(rgb) @ DECONVOLUTION.T


def augment(amounts: np.ndarray, gains: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Gains [2] of hematoxylin and eosin, and back to an image [H, W, 3]: the rest of step 3."""
    rebuilt = WHITE * np.exp(-(amounts * [*gains, 1]) @ MIXING) - 1
    return np.clip(rebuilt, 0, 255).astype(np.uint8).reshape(shape)
