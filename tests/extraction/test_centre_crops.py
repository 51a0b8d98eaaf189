"""Descriptors of centre crops: what they are, that they are kept, and what is refused."""

import dataclasses
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from histojax.config import Extraction
from histojax.encoders import RAW, Encoder, NativeView, Tap
from histojax.errors import InputError
from histojax.extraction import centre_crops
from histojax.extraction.centre_crops import CentreEncoder
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images import reader
from histojax.images.centre_crop import CentreCrop


class Tokens(nn.Module):
    """Gives two vectors of an image: its mean colour, and the corner's."""

    @nn.compact
    def __call__(self, images):
        scale = self.param("scale", nn.initializers.ones, (3,))
        means = images.mean(axis=(1, 2)) * scale[None]
        return {"class_token": means, "patch_mean": images[:, 0, 0] * scale[None]}


ENCODER = Encoder(
    name="Tokens",
    module=Tokens(),
    outputs=(Tap("class_token", 3, signed=True), Tap("patch_mean", 3, signed=True)),
    convention=RAW,
    native=NativeView(0.5, 224, 16, "bicubic", resized=20),
)


def centre(scale: float = 1.0, **changes) -> CentreEncoder:
    variables = {"params": {"scale": jnp.full(3, scale, jnp.float32)}}
    loaded = LoadedEncoder(ENCODER, variables, "random, seed 0", f"{scale}")
    made = CentreEncoder(loaded, CentreCrop(24, 24), Extraction(encoders=("Tokens",)))
    return dataclasses.replace(made, **changes)


def test_descriptors_are_those_of_the_crops_as_they_are(paths, tmp_path):
    """The encoder does not resize the crops again, and a batch that is not full has no others."""
    crops = [CentreCrop(24, 24)(reader.read(path)).astype(float) for path in paths]
    expected = [[*crop.mean(axis=(0, 1)), *crop[0, 0]] for crop in crops]
    both = centre_crops.describe(paths, centre(), tmp_path)
    alone = centre_crops.describe(paths, centre(class_token_alone=True), tmp_path)
    assert both.dtype == np.float32
    np.testing.assert_allclose(both, expected, rtol=1e-5)
    np.testing.assert_array_equal(alone, both[:, :3])
    assert centre(class_token_alone=True).manifest()["protocol"]["taps"] == ["class_token"]
    assert centre(class_token_alone=True).text.startswith(
        "class_token, 3 channels, of the middle 24"
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "Tokens-centre-24-of-24-bilinear.npz",
        "Tokens-centre-24-of-24-bilinear-class_token.npz",
    }


def test_only_files_that_are_new_are_encoded(paths, tmp_path, monkeypatch):
    read, seen = reader.read, []
    monkeypatch.setattr(reader, "read", lambda path: (seen.append(Path(path).name), read(path))[1])
    copies = [tmp_path / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    first = centre_crops.describe(copies[:2], centre(), tmp_path)
    assert sorted(seen) == ["image0.png", "image1.png"]
    Image.new("RGB", (30, 40), "purple").save(copies[0])
    again = centre_crops.describe(copies[::-1], centre(), tmp_path)
    assert sorted(seen[2:]) == ["image0.png", "image2.png"]
    np.testing.assert_array_equal(again[1], first[1])
    assert again[2][:3] == pytest.approx([128, 0, 128])


def test_other_weights_and_damaged_files_are_refused(paths, tmp_path):
    centre_crops.describe(paths, centre(), tmp_path)
    with pytest.raises(InputError, match=r"made in another way; name another folder(.|\n)*sha256"):
        centre_crops.describe(paths, centre(2.0), tmp_path)
    (made,) = tmp_path.iterdir()
    made.write_bytes(made.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be read as descriptors: remove it"):
        centre_crops.describe(paths, centre(), tmp_path)
    with pytest.raises(InputError, match="Tokens gave descriptors of .*image0.png, or of an image"):
        centre_crops.describe(paths, centre(np.nan), tmp_path / "other")


def test_photos_are_resized_as_an_encoders_row_says_where_that_is_asked_for():
    assert centre_crops.crop_of(ENCODER, own_resizing=True) == CentreCrop(20, 16, "bicubic")
    assert centre_crops.crop_of(ENCODER, own_resizing=False) == CentreCrop(224, 224, "bilinear")
    unknown = dataclasses.replace(ENCODER, native=None)
    assert centre_crops.crop_of(unknown, own_resizing=True) == CentreCrop(224, 224, "bilinear")
