"""Means and norms over tiles that come in blocks, and random draws of them."""

import math

import numpy as np
import pytest

from histojax.features import tile_pooling


def test_the_tiles_of_a_draw_do_not_change_with_the_version_of_numpy():
    assert tile_pooling.draw(0, "a", 2, 3, 9)[1].tolist() == [2, 4, 6]


@pytest.mark.parametrize("p", [1, 3.0, 60.0, math.inf])
def test_norms_over_blocks_are_those_over_all_tiles(p):
    tiles = np.abs(np.random.default_rng(0).normal(size=(23, 5))).astype(np.float32) * [
        1e-30,
        1,
        1e8,
        1e30,
        0,
    ]
    tiles = tiles.astype(np.float32)
    blocks = np.split(tiles, [4, 5, 15])
    members = tile_pooling.draw(0, "a", 2, 6, 23)
    for drawn, expected in ((None, [tiles]), (members, [tiles[m] for m in members])):
        pooled = tile_pooling.pool(blocks, drawn, p)
        for found, rows in zip(pooled, expected, strict=True):
            largest = np.maximum(rows.max(axis=0).astype(float), 1e-300)
            mean = ((rows / largest) ** p).mean(axis=0)
            norm = largest * mean ** (1 / p) if p < math.inf else rows.max(axis=0)
            np.testing.assert_allclose(found, norm, rtol=1e-6, atol=1e-37)
