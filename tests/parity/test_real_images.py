"""Resize, normalisation and augmentation on real images, against OpenCV and float64 NumPy.

Every twelfth breast image and every larger field; with slow tests, every image.
"""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from histojax.config import STAIN_STATUS
from histojax.images import reader
from histojax.ops import resize, stain
from tests import references

GAINS = [(0.7, 1.3), (1.3, 0.7), (0.93, 1.08)]


def within_one_level(ours, theirs) -> float:
    """The share of pixels none of whose channels is off by more than one grey level."""
    difference = np.abs(np.asarray(ours).astype(int) - theirs.astype(int)).max(axis=-1)
    return float((difference <= 1).mean())


@pytest.fixture(scope="module", params=[12, pytest.param(1, marks=pytest.mark.slow)])
def real_images(request, shared_data) -> list[Path]:
    paths = [path for path in sorted(shared_data.rglob("*")) if reader.is_image_name(path)]
    paths = [path for path in paths if path.suffix != ".svs"]
    assert len(paths) == 61
    breast = [path for path in paths if "ucsb_breast" in path.parts]
    return [path for path in paths if path not in breast] + breast[:: request.param]


def test_resize_equals_opencv(real_images):
    for path in real_images:
        rgb = reader.read(path)
        for scale in (0.5, 0.37):
            theirs = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            ours = np.asarray(resize.downscale(rgb, scale))
            assert ours.shape == theirs.shape, (path.name, scale)
            assert np.abs(ours.astype(int) - theirs).max() <= 1, (path.name, scale)


def test_half_scale_equals_the_protocols_taps(real_images):
    for path in real_images:
        rgb = reader.read(path)
        if rgb.shape[0] % 2 == 0 and rgb.shape[1] % 2 == 0:
            difference = np.asarray(resize.downscale(rgb, 0.5)).astype(int) - references.half(rgb)
            assert np.abs(difference).max() == 0, path.name


def test_normalisation_and_augmentation_equal_float64(real_images):
    shares = []
    for path, gains in zip(real_images, itertools.cycle(GAINS), strict=False):
        rgb = np.asarray(resize.downscale(reader.read(path), 0.5))
        normalized, quality = stain.normalize_with_quality(rgb)
        assert STAIN_STATUS[int(quality.status)] == "ok", path.name
        shares.append(
            (within_one_level(normalized, references.macenko(rgb)), f"normalised {path.name}")
        )
        ours = stain.augment(normalized, np.array(gains, np.float32))
        theirs = references.augment(np.asarray(normalized), np.array(gains))
        shares.append((within_one_level(ours, theirs), f"augmented {path.name} {gains}"))
    assert min(shares)[0] >= 0.999, min(shares)
    print(f"least share of pixels within one grey level: {min(shares)}")
