"""The protocol in plain NumPy, float64 throughout, written from the paper and not from our code."""

import numpy as np

WHITE = 240


def macenko(rgb: np.ndarray) -> np.ndarray:
    """Stain normalisation, step 2 of the protocol."""
    density = -np.log((rgb.reshape(-1, 3).astype(np.float64) + 1) / WHITE)
    tissue = density[(density >= 0.15).all(axis=1)]
    values, vectors = np.linalg.eigh(np.cov(tissue, rowvar=False))
    leading = vectors[:, np.argsort(values)[::-1][:2]]
    leading = leading * np.where(leading.sum(axis=0) < 0, -1, 1)
    projected = tissue @ leading
    phi = np.arctan2(projected[:, 1], projected[:, 0])
    first, second = (
        leading @ np.array([np.cos(angle), np.sin(angle)])
        for angle in (np.percentile(phi, 1), np.percentile(phi, 99))
    )
    stains = np.column_stack([first, second] if first[0] > second[0] else [second, first])
    amounts = np.linalg.lstsq(stains, density.T, rcond=None)[0]
    scale = np.array([1.9705, 1.0308]) / np.percentile(amounts, 99, axis=1)
    reference = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
    rebuilt = WHITE * np.exp(-reference @ (amounts * scale[:, None]))
    return np.clip(rebuilt.T, 0, 255).astype(np.uint8).reshape(rgb.shape)


def augment(rgb: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Hematoxylin and eosin gains, step 3 of the protocol: deconvolve, multiply, mix."""
    density = -np.log10((rgb.reshape(-1, 3).astype(np.float64) + 1) / WHITE)
    deconvolution = np.array([[1.88, -0.07, -0.60], [-1.02, 1.13, -0.48], [-0.55, -0.13, 1.57]])
    mixing = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    amounts = (deconvolution @ density.T).T
    amounts[:, :2] *= gains
    rebuilt = WHITE * 10.0 ** -(amounts @ mixing) - 1
    return np.clip(rebuilt, 0, 255).astype(np.uint8).reshape(rgb.shape)


def pnorm(descriptors: np.ndarray, p: float) -> np.ndarray:
    """Equation 1 of the paper."""
    magnitude = np.abs(descriptors.astype(np.float64))
    if np.isinf(p):
        return magnitude.max(axis=0)
    return np.mean(magnitude**p, axis=0) ** (1 / p)


def half(rgb: np.ndarray) -> np.ndarray:
    """Downscaling by one half, step 1 of the protocol.

    Taps (-3, 19, 19, -3)/32 at stride 2, edges replicated.
    """

    def axis0(values: np.ndarray) -> np.ndarray:
        size = values.shape[0]
        starts = 2 * np.arange(size // 2)
        rows = [values[np.clip(starts + offset, 0, size - 1)] for offset in (-1, 0, 1, 2)]
        return (-3 * rows[0] + 19 * rows[1] + 19 * rows[2] - 3 * rows[3]) / 32

    both = axis0(axis0(rgb.astype(np.float64)).swapaxes(0, 1)).swapaxes(0, 1)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def window_average(maps: np.ndarray, top: float, left: float, cells: float) -> np.ndarray:
    """Of crop mode hybrid: the mean of a square window of maps [H, W, C], weighted by area: [C]."""
    total, area = np.zeros(maps.shape[-1]), 0.0
    for i in range(maps.shape[0]):
        for j in range(maps.shape[1]):
            height = min(i + 1, top + cells) - max(i, top)
            width = min(j + 1, left + cells) - max(j, left)
            if height > 0 and width > 0:
                total += height * width * maps[i, j]
                area += height * width
    return total / area
