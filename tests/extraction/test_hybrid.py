"""Crop mode hybrid in pure functions of made-up arrays; test_programs.py has it on images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax.config import Extraction, View
from histojax.encoders import Tap
from histojax.extraction import hybrid, manifests, preparation
from histojax.ops import crops, stain

HYBRID = Extraction(
    encoders=("VGG",),
    views=(View(0.5, 48),),
    augmentations=5,
    crops=3,
    crop_mode="hybrid",
    pool_crops=7,
)
NAME = "image"
# Two crops, four nodes, and four channels.
SMALLEST = dataclasses.replace(HYBRID, pool_crops=2, gain_nodes=2, crops=1, p=1.0)
TAPS = Tap("relu", 1), Tap("token", 3, signed=True)
# By version of `manifests.HYBRID`: two descriptors; corners and turns of a pool's first crops.
GOLDEN = {
    3: (
        [[0.0, 0.0, 0.375523, 2.692748], [1.703865, 2.258648, 0.073120, 0.628757]],
        [[10, 10, 0, 0, 0], [6, 27, 1, 1, 0], [1, 14, 0, 1, 1]],
    )
}


def test_the_numbers_of_crop_mode_hybrid_are_those_of_its_version():
    """Descriptors of two versions are never mixed, so a change of these needs a new version."""
    assert manifests.HYBRID in GOLDEN, "HYBRID has a new version: put its numbers here"
    descriptors, pool = GOLDEN[manifests.HYBRID]
    extraction = dataclasses.replace(SMALLEST, pool_crops=4)
    encoded, windows = np.arange(64) * 5 % 23, np.arange(64) * 7 % 31
    arrays = (jnp.float32(encoded.reshape(16, 4) / 9), jnp.float32(windows.reshape(4, 4, 4) / 9))
    key = crops.image_key(0, NAME)
    rows = hybrid.assemble(*arrays, key, taps=TAPS, extraction=extraction)
    np.testing.assert_allclose(rows[:2], descriptors, atol=1e-4)
    drawn = [crops.pool_corner_and_turn(key, c, jnp.array([42, 54]), 24) for c in range(3)]
    assert [[*map(int, (*corner, *turn))] for corner, turn in drawn] == pool


@pytest.mark.parametrize(
    ("gains", "rows"),
    [
        (1, ["+ + + + +", "- - - - -"]),
        (2, ["+- -+ +- -+ +-", "++ -- ++ -- ++", "-+ +- -+ +- -+"]),
        (3, ["+-- -+- +++ --+ +--", "++- -++ +-+ --- ++-", "-+- +++ --+ +-- -+-"]),
    ],
)
def test_crops_of_the_pool_are_encoded_at_the_middle_and_up_to_three_corners(
    gains, rows, monkeypatch
):
    monkeypatch.setitem(stain.AUGMENTATIONS, "made", stain.Augmentation(None, None, gains))
    extraction = dataclasses.replace(HYBRID, stain_augmentation="made", pool_crops=5)
    made, along = preparation.pool_gains(extraction), preparation.gain_nodes(extraction)[:, -1]
    np.testing.assert_array_equal(made[0], np.ones((5, gains)))
    for found, signs in zip(made[1:], rows, strict=True):
        expected = [along.max() if sign == "+" else along.min() for sign in signs.replace(" ", "")]
        np.testing.assert_array_equal(found.ravel(), expected)
    constant = dataclasses.replace(extraction, gain_low=1.2, gain_high=1.2)
    np.testing.assert_array_equal(
        preparation.pool_gains(constant), np.full((1, 5, gains), 1.2, np.float32)
    )


def test_only_what_is_never_negative_is_cut_off_at_zero():
    extraction = dataclasses.replace(SMALLEST, augmentations=200)
    by_node = jnp.array([2.0, 1.91, 2.09, 2.0])[:, None, None] * jnp.ones((4, 2, 1))
    # The middle is 2, but of what is negative in all windows.
    windows = jnp.concatenate([by_node, by_node, by_node - 5, 4 - by_node], axis=-1)
    # What colour changes is as in the windows, so that nothing drifts.
    first = jnp.array([[0.1, -0.9, 0.1, 0.05]] * 2)
    corners = jnp.array(preparation.pool_gains(extraction)[1:].reshape(-1, 2))
    at_corners = [hybrid.node_weights(gains, extraction) @ windows[:, 0] for gains in corners]
    pool = jnp.concatenate([first, first[:1] + jnp.stack(at_corners)])
    key = crops.image_key(0, NAME)
    rows = np.asarray(hybrid.assemble(pool, windows, key, taps=TAPS, extraction=extraction))
    gains = jax.vmap(lambda a: preparation.gains(key, a, extraction))(jnp.arange(200))
    weights_ = jax.vmap(lambda g: hybrid.node_weights(g, extraction))(gains)
    changes = np.asarray(weights_ @ windows[:, 0, 0])
    assert min(changes) < -0.11
    assert max(changes) > 0.11
    np.testing.assert_allclose(rows[:, 0], np.maximum(0.1 + changes, 0), atol=1e-5)
    # Of the others the pool's crops at the middle are negative, all windows, or a crop elsewhere.
    np.testing.assert_allclose(rows[:, 1], -0.9 + changes, atol=1e-5)
    np.testing.assert_allclose(rows[:, 2], 0.1 + changes, atol=1e-5)
    np.testing.assert_allclose(rows[:, 3], 0.05 - changes, atol=1e-5)


def test_what_drifts_with_the_border_and_the_colour_is_found_again():
    """A drift that is bilinear in both; and a tap in which nothing happens stays as it is."""
    extraction = dataclasses.replace(HYBRID, pool_crops=24, gain_nodes=3, crops=24, p=1.0)
    nodes = preparation.gain_nodes(extraction)
    rng = np.random.default_rng(0)
    contents, strength = rng.uniform(5, 6, (24, 3)), rng.uniform(1, 2, (24, 1))
    borders = strength * rng.uniform(0.5, 1, 3)
    mix = 0.1 * rng.normal(size=3)

    def window(gains):
        return contents * (1 + 0.2 * (gains[0] - 1) + 0.5 * (gains[0] - 1) * (gains[1] - 1))

    def exact(gains):  # Colour changes all windows by one factor, but for what is added here.
        change = np.mean(window(gains) - window(np.ones(2)), axis=0)
        return window(gains) + borders * (1 + change @ mix)

    def both(rows):
        return jnp.array(np.concatenate([rows, np.ones_like(rows[..., :1])], axis=-1), jnp.float32)

    windows = both(np.stack([window(node) for node in nodes]))
    gains = preparation.pool_gains(extraction)
    pool = both(np.array([exact(gains[i, c])[c] for i in range(4) for c in range(24)]))
    key = crops.image_key(0, NAME)
    taps = (Tap("relu", 3), Tap("constant", 1))
    rows = np.asarray(hybrid.assemble(pool, windows, key, taps=taps, extraction=extraction))
    for a, row in enumerate(rows):
        gains = np.asarray(preparation.gains(key, a, extraction), np.float64)
        chosen = np.asarray(crops.choose(key, a, 24, 24))
        expected = exact(gains)[chosen].mean(axis=0)
        without = (exact(np.ones(2)) + window(gains) - window(np.ones(2)))[chosen].mean(axis=0)
        np.testing.assert_array_less(np.abs(row[:3] - expected), 0.1 * np.abs(without - expected))
        np.testing.assert_allclose(row[3], 1, rtol=1e-6)
