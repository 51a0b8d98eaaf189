"""Normalisation and augmentation of any image; real images are in tests/parity.

Other normalisers and augmentations, and those that do nothing: tests/heatmap/test_stain_steps.py.
"""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.config import STAIN_STATUS
from histojax.ops import stain
from tests import references

REFERENCE = np.array(stain.REFERENCE_STAINS)
SHAPE = (64, 80, 3)  # Of nearly all images, so that one program serves all tests.


def tissue(seed: int, height: int = 64, width: int = 80, share: float = 0.7) -> np.ndarray:
    """Random mixtures of two stains over white, as Beer-Lambert has them."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, 0.4, (height * width, 2)) * (
        rng.uniform(size=(height * width, 1)) < share
    )
    return (
        np.clip(240 * np.exp(-amounts @ REFERENCE.T), 0, 255)
        .astype(np.uint8)
        .reshape(height, width, 3)
    )


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 1))
@settings(max_examples=25, deadline=None)
def test_normalisation_equals_the_reference(seed, share):
    rgb = tissue(seed, share=share)
    ours, quality = stain.normalize_with_quality(rgb)
    assert STAIN_STATUS[int(quality.status)] == "ok"
    difference = np.abs(np.asarray(ours).astype(int) - references.macenko(rgb))
    assert (difference <= 1).mean() >= 0.999


@given(seed=st.integers(0, 2**32 - 1), h=st.floats(0, 2), e=st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_augmentation_equals_the_reference(seed, h, e):
    rgb = np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)
    gains = np.array([h, e], np.float32)
    difference = np.abs(
        np.asarray(stain.augment(rgb, gains)).astype(int) - references.augment(rgb, gains)
    )
    assert (difference <= 1).mean() >= 0.999


def test_pure_stains_are_found_and_brought_to_the_reference_maxima():
    rng = np.random.default_rng(0)
    amounts = rng.gamma(2, 0.6, (10_000, 2))
    amounts[:1000, 0] = amounts[1000:2000, 1] = 0
    rgb = (
        np.clip(240 * np.exp(-amounts @ REFERENCE.T), 0, 255).astype(np.uint8).reshape(100, 100, 3)
    )
    normalized, quality = stain.normalize_with_quality(rgb)
    angle = np.degrees(
        np.arccos(REFERENCE[:, 0] @ REFERENCE[:, 1] / np.prod(np.linalg.norm(REFERENCE, axis=0)))
    )
    assert float(quality.stain_angle) == pytest.approx(angle, abs=1)
    again = stain.normalize_with_quality(normalized)[1]
    np.testing.assert_allclose(again.maxima, stain.REFERENCE_MAXIMA, rtol=0.05)


def test_normalisation_forgets_the_strength_of_the_stain():
    rng = np.random.default_rng(1)
    amounts = rng.gamma(2, 0.3, (5120, 2))
    weak, strong = (
        (240 * np.exp(-(amounts * gain) @ REFERENCE.T)).astype(np.uint8).reshape(SHAPE)
        for gain in (0.6, 1.0)
    )
    before = np.abs(weak.astype(float) - strong).mean()
    after = np.abs(np.asarray(stain.normalize(weak)).astype(float) - stain.normalize(strong)).mean()
    assert after < before / 8


@pytest.mark.parametrize(
    ("image", "status"),
    [
        (np.full(SHAPE, 255, np.uint8), "fallback: too little tissue"),
        (np.full(SHAPE, 240, np.uint8), "fallback: too little tissue"),
        (np.zeros(SHAPE, np.uint8), "fallback: degenerate stain plane"),
        (np.full(SHAPE, 97, np.uint8), "fallback: degenerate stain plane"),
        (np.full(SHAPE, (120, 60, 130), np.uint8), "fallback: degenerate stain plane"),
        (
            np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8),
            "fallback: degenerate stain plane",
        ),
    ],
    ids=["white", "blank", "black", "grey", "one colour", "noise"],
)
def test_images_without_a_stain_plane_fall_back_and_say_so(image, status):
    normalized, quality = stain.normalize_with_quality(image)
    assert STAIN_STATUS[int(quality.status)] == status
    assert np.isfinite(np.concatenate([np.ravel(value) for value in quality])).all()
    density = -np.log((image.reshape(-1, 3).astype(np.float64) + 1) / 240)
    amounts = np.linalg.lstsq(REFERENCE, density.T, rcond=None)[0]
    unscaled = np.clip(240 * np.exp(-REFERENCE @ amounts), 0, 255).T.reshape(image.shape)
    np.testing.assert_allclose(np.asarray(normalized), unscaled, atol=1.01)


def test_a_few_specks_of_tissue_on_white_are_not_blown_up():
    rgb = np.full(SHAPE, 240, np.uint8)
    rgb[:7, :7] = tissue(2, 7, 7, share=1)
    normalized, quality = stain.normalize_with_quality(rgb)
    assert STAIN_STATUS[int(quality.status)] == "fallback: too little tissue"
    assert np.abs(np.asarray(normalized)[32:].astype(int) - 240).max() <= 2


@given(st.integers(0, 2**32 - 1), st.floats(0, 80), st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_normalisation_is_never_not_finite(seed, spread, level):
    rng = np.random.default_rng(seed)
    rgb = np.clip(level + spread * rng.normal(size=SHAPE) * rng.uniform(0, 1, 3), 0, 255).astype(
        np.uint8
    )
    quality = stain.normalize_with_quality(rgb)[1]
    assert all(np.isfinite(np.asarray(value)).all() for value in quality)


def test_the_percentile_of_masked_values_is_numpys():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=1001).astype(np.float32), rng.uniform(size=1001) < 0.3
    ours = jax.jit(stain._masked_percentile)(values, mask, np.array([1.0, 50.0, 99.0], np.float32))
    np.testing.assert_allclose(ours, np.percentile(values[mask], [1, 50, 99]), rtol=1e-5)


def test_normalisation_and_augmentation_vmap():
    batch = np.stack([tissue(0), tissue(1)])
    gains = np.array([[0.7, 1.3], [1.1, 0.9]], np.float32)
    one_by_one = [
        np.asarray(stain.augment(stain.normalize(rgb), g))
        for rgb, g in zip(batch, gains, strict=True)
    ]
    together = jax.vmap(lambda rgb, g: stain.augment(stain.normalize(rgb), g))(batch, gains)
    difference = np.abs(np.asarray(together).astype(int) - np.stack(one_by_one))
    assert (difference <= 1).all()


def test_unit_gains_change_little():
    rgb = tissue(3)
    kept = np.asarray(stain.augment(rgb, np.ones(2, np.float32))).astype(int)
    assert np.abs(kept - rgb).mean() < 3
