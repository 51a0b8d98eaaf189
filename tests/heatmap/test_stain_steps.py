"""Other stain normalisers and augmentations, from extraction to the report and heat maps.

Those of the tables that do nothing, and ones that a test adds: a value and a row are enough.
"""

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from histojax import encoders
from histojax.config import Extraction, Finetune, View
from histojax.datasets import Dataset, folds
from histojax.encoders import weights
from histojax.extraction import extract, manifests, store
from histojax.images.names import name_images
from histojax.learners import ensembles, finetune
from histojax.ops import crops, pooling, resize, stain
from histojax.report import images
from tests import samples
from tests.encoders.small_encoder import SMALL
from tests.heatmap import tiny

VIEW = View(0.5, 32)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "Small", SMALL)


def fit_grey_world(pixels, valid):
    """The mean of each channel, over the pixels that count."""
    _, quality = stain.fit_macenko(pixels, valid)
    values, weight = pixels.reshape(-1, 3), valid.reshape(-1, 1)
    return jnp.sum(values * weight, axis=0) / jnp.sum(weight), quality


def make_grey(rgb, mean):
    """The mean of each channel becomes 128."""
    return jnp.clip(rgb * (128 / mean)[None, None], 0, 255).astype(jnp.uint8)


ROWS = {
    "none": (stain.NO_NORMALIZER, stain.NO_AUGMENTATION),
    "custom": (
        stain.Normalizer(fit_grey_world, make_grey),
        stain.Augmentation(
            planes=lambda rgb: jnp.moveaxis(rgb, -1, 0).astype(jnp.float32),
            apply=lambda planes, gains: jnp.floor(jnp.clip(planes * gains[0], 0, 255)),
            gains=1,
        ),
    ),
}


@pytest.fixture(params=list(ROWS))
def row(request, monkeypatch):
    """The name of a row of both tables."""
    normalizer, augmentation = ROWS[request.param]
    monkeypatch.setitem(stain.NORMALIZERS, request.param, normalizer)
    monkeypatch.setitem(stain.AUGMENTATIONS, request.param, augmentation)
    return request.param


def protocol(row: str, *views: View) -> Extraction:
    return Extraction(
        encoders=("Small",),
        views=views,
        augmentations=2,
        crops=2,
        weights="random",
        stain_normalizer=row,
        stain_augmentation=row,
    )


def save_images(folder, count):
    paths = []
    for i in range(count):
        paths.append(folder / f"image{i}.png")
        Image.fromarray(samples.tissue(i, 70, 90)).save(paths[-1])
    return paths


def augmented(row: str, rgb: np.ndarray, augmentation: int, name: str) -> np.ndarray:
    """An image normalised and augmented by NumPy: uint8 [H, W, 3]."""
    if row == "none":
        return rgb
    mean = rgb.reshape(-1, 3).mean(axis=0, dtype=np.float32)
    normalized = np.clip(rgb * (128 / mean), 0, 255).astype(np.uint8)
    (gain,) = np.asarray(crops.gains(crops.image_key(0, name), augmentation, 0.7, 1.3, 1))
    return np.floor(np.clip(normalized * gain, 0, 255)).astype(np.uint8)


def test_descriptors_are_of_images_by_these_steps(row, tmp_path):
    (path,), view = save_images(tmp_path, 1), VIEW
    extraction = protocol(row, view)
    extract.run([path], extraction, tmp_path / "descriptors")
    descriptors = store.read(tmp_path / "descriptors", "Small-0.5-32", ["image0"])[0]
    small = np.asarray(resize.downscale(np.array(Image.open(path)), 0.5))
    key = crops.image_key(0, "image0")
    for augmentation in range(2):
        image = jnp.asarray(augmented(row, small, augmentation, "image0"))
        squares = [samples.random_crop(image, key, augmentation, crop, 32) for crop in range(2)]
        by_crop = SMALL.descriptors(weights.random("Small", 0), np.stack(squares))
        expected = np.asarray(pooling.pnorm(by_crop, 3.0))
        # A grey level may round the other way.
        error = np.linalg.norm(descriptors[augmentation] - expected)
        assert error <= 1e-2 * np.linalg.norm(expected)
    manifest = manifests.read(tmp_path / "descriptors", "Small-0.5-32")
    assert manifest["protocol"]["stain_normalizer"] == row


def test_heat_maps_use_these_steps(row):
    """Of a field of one colour, so that the network's brightness channels are known."""
    rgb = np.full((96, 128, 3), (170, 110, 160), np.uint8)
    extraction = tiny.protocol(View(1.0, 64), stain_normalizer=row, stain_augmentation=row)
    descriptors, scored = tiny.descriptors_of(rgb, extraction, 32, augmentations=2)
    assert scored.all()
    (values,) = descriptors.values()
    for augmentation in range(2):
        red = augmented(row, rgb, augmentation, "a")[0, 0, 0]
        light = values[:, augmentation, tiny.LIGHT]
        np.testing.assert_allclose(light, red - encoders.CAFFE.mean[0] + 123, atol=1.01)


def test_fine_tuning_uses_these_steps(tmp_path, monkeypatch):
    normalizer, augmentation = ROWS["custom"]
    transform, apply = mock.Mock(side_effect=make_grey), mock.Mock(side_effect=augmentation.apply)
    monkeypatch.setitem(
        stain.NORMALIZERS, "watched", dataclasses.replace(normalizer, transform=transform)
    )
    monkeypatch.setitem(
        stain.AUGMENTATIONS, "watched", dataclasses.replace(augmentation, apply=apply)
    )
    dataset = Dataset(name_images(save_images(tmp_path, 8)), (0, 1) * 4, ("benign", "malignant"))
    split = folds.make(dataset, 2, 0)
    folds.save(split, tmp_path / ensembles.FOLDS)
    options = Finetune(
        folds=2, seeds=1, crops_per_epoch=2, epochs=2, warmup_epochs=1, validation_parts=2
    )
    assert finetune.train(dataset, tmp_path, split, protocol("watched", VIEW), options) == 2
    assert transform.called
    assert apply.call_args.args[1].shape == (1,)  # One gain, as the augmentation says.


def test_the_reports_pipeline_shows_these_steps(row, tmp_path):
    (path,) = save_images(tmp_path, 1)
    recorded = {"scale": 0.5, "crop_size": 32, "augmentations": 2}
    steps = images.protocol(
        {"protocol": recorded | {"stain_normalizer": row, "stain_augmentation": row}}
    )
    pictures = images.pipeline_steps(path.stem, path, [steps])
    captions = [picture.caption for picture in pictures]
    second = "not normalised" if row == "none" else "normalised"
    assert captions[:4] == ["original", second, "augmentation 1", "augmentation 2"]
    assert len(pictures) == 6
    normalised, first = pictures[1].uri, pictures[2].uri
    assert (normalised == first) == (row == "none")
