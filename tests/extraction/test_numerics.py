"""What preprocessing computes, kept as numbers by version of `manifests.NUMERICS`.

Descriptors of two versions are never mixed, so a change of these numbers needs a new version. To
add one, raise NUMERICS and put what `python -m tests.extraction.test_numerics` prints into GOLDEN.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax.extraction import manifests
from histojax.ops import crops, resize, stain
from tests.samples import random_crop

SCALE, CROP_SIZE, AUGMENTATIONS, CROPS = 0.6, 24, 2, 3
LEVELS = ("resize", "normalise", "augment", "crop")
GOLDEN = {
    1: {
        "resize": (
            "8c70a8b987b19f629cd68bb3b777a78569a1b3a2c2c3a7c6d889b3cc86b2856b9fffffffa894bb"
            "f9c2d88b5595da87b37f5a96b3a1c5bbacc8f3caddba79a9c6aecd8470a4512879ffffff"
        ),
        "normalise": (
            "81618db27999955479d27e98b0698a7a5986ac95b5be9bb7d47d96c779957a5b87fffffca086aa"
            "fabdc680476fd67b94744b77ac95b5b5a0bdf3c6ceb36b8bc1a4be79608e441f45fffffc"
        ),
        "augment": (
            "81658db38299965d7ad38b99b1748b7a5d86ac98b5bea1b7d58b97c885967a5f87fffffca08aaa"
            "fac8c7814f6fd78995745177ac98b5b5a3bdf3ceceb4768cc1a9be79638e452345fffffc"
        ),
        "crop": "ded3dce79ba2b19fbbcbc2d4fffffcfffffc",
        "key": [2052094127, 2903909582],
        "gains": [
            [0.9928929805755615, 0.7303730249404907],
            [0.9001719951629639, 0.7824349999427795],
        ],
        "corners": [[1, 29], [5, 16], [15, 26], [9, 18], [17, 16], [13, 2]],
        "turns": [[1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]],
        "choices": [[18, 3, 13], [17, 6, 20]],
        "stain": [0.474, 22.998, 1.616, 0.806],
    }
}


def image() -> np.ndarray:
    """Purple spots and pink stripes on glass, of integers alone: uint8 [70, 90, 3]."""
    y, x = np.mgrid[:70, :90]
    spots = ((x * x + 3 * y * y + 5 * x * y) % 97 < 30)[..., None]
    stripes = ((2 * x + 3 * y) % 41 < 25)[..., None]
    colour = np.where(spots, (105, 70, 140), np.where(stripes, (215, 140, 180), (243, 241, 244)))
    texture = (x * 7 + y * 13 + x * y) % 17 - 8
    return np.clip(colour + texture[..., None], 0, 255).astype(np.uint8)


def computed() -> dict[str, Any]:
    """Grey levels of every stage at some pixels, in hexadecimal, and all draws of an image."""
    key = crops.image_key(3, "slide-1")
    gains = [crops.gains(key, a, 0.7, 1.3) for a in range(AUGMENTATIONS)]
    small = resize.downscale(image(), SCALE)
    normalised, quality = stain.normalize_with_quality(small)
    augmented = stain.augment(normalised, gains[0])
    sides = jnp.array(augmented.shape[:2])
    drawn = [
        crops.corner_and_turn(key, a, c, sides, CROP_SIZE)
        for a in range(AUGMENTATIONS)
        for c in range(CROPS)
    ]
    stages = small, normalised, augmented, random_crop(augmented, key, 0, 1, CROP_SIZE)
    values = {name: hexadecimal(stage) for name, stage in zip(LEVELS, stages, strict=True)}
    return values | {
        "key": jax.random.key_data(key).tolist(),
        "gains": np.round(np.stack(gains), 6).tolist(),
        "corners": [corner.tolist() for corner, _ in drawn],
        "turns": [[int(step) for step in turn] for _, turn in drawn],
        "choices": [crops.choose(key, a, CROPS, 24).tolist() for a in range(AUGMENTATIONS)],
        "stain": [
            round(float(value), 3)
            for value in (quality.tissue_fraction, quality.stain_angle, *quality.maxima)
        ],
    }


def hexadecimal(levels: np.ndarray) -> str:
    """Some pixels of an image."""
    return np.asarray(levels)[3::9, 4::11].tobytes().hex()


def levels_of(text: str) -> np.ndarray:
    return np.array(list(bytes.fromhex(text)))


@pytest.fixture(scope="module")
def found():
    return computed()


@pytest.fixture
def golden():
    message = "NUMERICS has a new version: add its numbers, and leave those of the old one"
    assert manifests.NUMERICS in GOLDEN, message
    return GOLDEN[manifests.NUMERICS]


@pytest.mark.parametrize("stage", LEVELS)
def test_grey_levels_are_those_of_this_version(stage, found, golden):
    levels, expected = levels_of(found[stage]), levels_of(golden[stage])
    # Rounding may differ between processors: by one level, at hardly any pixel.
    assert levels.shape == expected.shape
    assert np.abs(levels - expected).max() <= 1
    assert (levels != expected).sum() <= 2


@pytest.mark.parametrize("name", ["key", "corners", "turns", "choices"])
def test_draws_of_whole_numbers_are_those_of_this_version(name, found, golden):
    assert found[name] == golden[name]


def test_gains_and_stain_are_those_of_this_version(found, golden):
    np.testing.assert_allclose(found["gains"], golden["gains"], atol=2e-6)
    np.testing.assert_allclose(found["stain"], golden["stain"], rtol=2e-3)


def test_a_change_of_a_constant_is_noticed(golden, monkeypatch):
    monkeypatch.setattr(stain, "ANGLE_PERCENTILE", 2.0)
    # Compiled anew, since what is compiled keeps the constants.
    normalised, _ = jax.jit(stain.MACENKO.normalize)(resize.downscale(image(), SCALE))
    levels = levels_of(hexadecimal(normalised))
    assert (np.abs(levels - levels_of(golden["normalise"])) > 1).sum() > 2


if __name__ == "__main__":
    print(computed())
