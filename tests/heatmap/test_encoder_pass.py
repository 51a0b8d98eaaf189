"""Passes over a field: which tiles are needed, and how encoders are cut into them."""

import numpy as np
import pytest

from histojax import encoders
from histojax.config import View
from histojax.heatmap import tile_features
from tests import samples
from tests.heatmap import tiny

WITH_MAPS = [encoder for encoder in encoders.ENCODERS.values() if not encoder.vectors]


@pytest.mark.parametrize("encoder", WITH_MAPS, ids=lambda encoder: encoder.name)
def test_every_encoder_has_tiles_on_its_cells(encoder):
    assert encoder.tile % 32 == encoder.halo % 32 == 0
    assert encoder.tile > 4 * encoder.halo


def test_glass_is_not_scored_and_not_encoded(monkeypatch):
    rgb = np.full((192, 640, 3), 245, np.uint8)
    rgb[:, :200] = samples.tissue(8, 192, 200)
    encoded, feature_cells = [], tile_features.feature_cells

    def counted(variables, tiles, *arguments, **others):
        encoded.append(len(tiles))
        return feature_cells(variables, tiles, *arguments, **others)

    monkeypatch.setattr(tile_features, "feature_cells", counted)
    scores = tiny.scores_of(rgb, tiny.protocol(View(1.0, 40)), tiny.darkness, 20)
    assert np.isfinite(scores[:, :10]).all()
    assert np.isnan(scores[:, 12:]).all()
    assert sum(encoded) <= 3 * 6  # Of 3 x 10 tiles, in pairs.
    glass = np.full_like(rgb, 245)
    assert np.isnan(tiny.scores_of(glass, tiny.protocol(View(1.0, 40)), pytest.fail, 20)).all()
