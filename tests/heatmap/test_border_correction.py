"""What the border of a crop adds to a descriptor is added to windows; where it is measured."""

import itertools
import types

import numpy as np

from histojax.config import View
from histojax.heatmap import border_correction
from histojax.heatmap.encoder_pass import TiledAxis
from histojax.heatmap.slide_scan import Grid
from histojax.ops import crops, stain
from tests import samples
from tests.heatmap import tiny


def test_what_the_border_of_a_crop_adds_is_added_to_windows():
    """Against crops by themselves, all over the field: their mean is that of the windows."""
    rgb, view = samples.tissue(11, 192, 256), View(1.0, 64)
    uncorrected, _ = tiny.descriptors_of(rgb, tiny.protocol(view), 32)
    corrected, _ = tiny.descriptors_of(rgb, tiny.protocol(view), 32, corrected=True)
    loaded = tiny.encoder_set(tiny.protocol(view)).encoders["Tiny"]
    gains = crops.gains(crops.image_key(0, "a"), 0, 0.7, 1.3)
    image = np.asarray(stain.augment(stain.normalize(rgb), gains))
    alone = [
        np.rot90(image[top : top + 64, left : left + 64], turn)
        for top, left, turn in itertools.product((0, 43, 85, 128), (0, 48, 96, 144, 192), range(4))
    ]
    expected = np.asarray(loaded.encoder.descriptors(loaded.variables, np.stack(alone)))

    def error(descriptors):
        difference = descriptors[:, 0].mean(axis=0) - expected.mean(axis=0)
        relative = difference[: tiny.LIGHT] / expected.std(axis=0)[: tiny.LIGHT]
        return np.sqrt(np.mean(relative**2))

    assert error(corrected["Tiny-1.0-64"]) < 0.5 * error(uncorrected["Tiny-1.0-64"])
    assert (corrected["Tiny-1.0-64"] >= 0).all()


def test_the_border_is_measured_where_most_is_scored():
    scored = np.zeros((10, 20), bool)
    scored[2:9, 12:16] = True
    encoder_pass = types.SimpleNamespace(
        axes=(TiledAxis(320, 128, 3), TiledAxis(640, 128, 5)),
        scan=types.SimpleNamespace(scored=scored),
        centres=Grid((320, 640), 32).centres(1.0),
    )
    corners, sides = border_correction._best_tiles(encoder_pass, 64, 2)
    assert sides == (128, 128)
    assert corners == [(128, 384), (192, 384)]
    corners, sides = border_correction._best_tiles(encoder_pass, 200, 1)
    assert sides == (224, 224)
    assert corners == [(96, 384)]
