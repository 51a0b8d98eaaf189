"""Thumbnails are small, keep an image's shape and colours, and leave out what cannot be read."""

import base64
import io

import numpy as np
from PIL import Image

from histojax.images import thumbnails
from tests import samples


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_thumbnail_has_the_images_shape_and_is_small():
    rgb = samples.tissue(0, 300, 400)
    small = decoded(thumbnails.thumbnail(rgb))
    assert small.shape == (120, 160, 3)
    assert np.abs(small.mean(axis=(0, 1)) - rgb.mean(axis=(0, 1))).max() < 3
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    assert len(thumbnails.thumbnail(noise)) < 25_000


def test_what_cannot_be_read_has_no_thumbnail(tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no image")
    Image.fromarray(samples.tissue(0, 30, 40)).save(tmp_path / "a.png")
    uris = thumbnails.thumbnails(
        {"a": tmp_path / "a.png", "b": tmp_path / "damaged.png", "c": tmp_path / "absent.png"}
    )
    assert list(uris) == ["a"]
