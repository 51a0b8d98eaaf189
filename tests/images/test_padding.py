"""Padding keeps an image's pixels; buckets are tested in extraction/test_extract.py."""

import hashlib

import numpy as np
from PIL import Image

from histojax.config import View
from histojax.images import padding
from histojax.images.resampling import Resampling
from tests import samples


def test_a_padded_image_has_its_pixels_size_and_digest(tmp_path):
    path, rgb = tmp_path / "a.png", samples.tissue(0, 70, 130)
    Image.fromarray(rgb).save(path)
    image = padding.read_padded(path)
    assert (image.path, image.size, image.rgb.shape) == (path, (70, 130), (96, 160, 3))
    np.testing.assert_array_equal(image.rgb[:70, :130], rgb)
    assert not image.rgb[70:].any()
    assert not image.rgb[:, 130:].any()
    assert image.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    resampled = padding.image_digest(path, Resampling(0.84, 0.5))
    assert resampled == f"{image.digest}@0.5um"


def test_all_padded_images_fit_into_the_common_canvas():
    views = [View(0.5, 32), View(0.5, 40), View(1.0, 32), View.in_microns(0.5, 16)]
    sizes = {None: [(70, 130), (200, 40)], 0.5: [(35, 65), (100, 20)]}
    canvas = padding.common_canvas(sizes, views)
    assert canvas == {"0.5": (112, 80), "1.0": (224, 160), "0.5mpp": (128, 96)}
    assert padding.common_canvas({None: [], 0.5: []}, views) == {}
