"""The steps of the pipeline that a report shows are exactly those of extraction."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from histojax import datasets
from histojax.config import STAIN_OK, Extraction
from histojax.errors import InputError
from histojax.evaluation import evaluate
from histojax.extraction import store
from histojax.ops import crops, resize, stain
from histojax.report import images
from tests import samples
from tests.images.test_thumbnails import decoded
from tests.report import sample_ensemble


@pytest.mark.parametrize("mode", ["exact", "hybrid"])
def test_the_pipeline_shows_the_crops_of_extraction(tmp_path, mode):
    rgb = samples.tissue(1, 200, 260)
    path = tmp_path / "an image.png"
    Image.fromarray(rgb).save(path)
    protocols = [
        images.protocol(sample_ensemble.manifest(f"VGG-0.5-{size}")) | {"crop_mode": mode}
        for size in (64, 80, 5000)
    ]
    shown = images.pipeline_steps(path.stem, path, protocols)
    assert [step.caption for step in shown[:2]] == ["original", "normalised"]
    assert [step.column for step in shown] == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 5, 6]
    assert np.abs(decoded(shown[0].uri) - np.array(resized(rgb, shown[0].uri), float)).mean() < 6

    normalized = stain.normalize(resize.downscale(jnp.asarray(rgb), 0.5))
    key = crops.image_key(0, "an image")
    for augmentation, (whole, crop) in enumerate(zip(shown[2:6], shown[6:10], strict=True)):
        gains = crops.gains(key, augmentation, 0.7, 1.3)
        assert f"{gains[0]:.2f}" in whole.caption
        augmented = stain.augment(normalized, gains)
        assert np.abs(decoded(whole.uri) - np.asarray(augmented, float)).mean() < 6
        expected = samples.random_crop(augmented, key, augmentation, 0, 64)
        if mode == "hybrid":
            first = crops.choose(key, augmentation, 20, Extraction.pool_crops)[0]
            place = crops.pool_corner_and_turn(key, first, jnp.array(augmented.shape[:2]), 64)
            cut = crops.cut(jnp.moveaxis(augmented, -1, 0), *place, 64)
            expected = jnp.moveaxis(cut, 0, -1)
        assert decoded(crop.uri).shape == (64, 64, 3)
        assert np.abs(decoded(crop.uri) - np.asarray(expected, float)).mean() < 8


def test_a_view_in_microns_is_shown_at_the_pixel_size_that_was_recorded(tmp_path):
    rgb, path = samples.tissue(2, 120, 160), tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    protocols = [images.protocol(None) | {"scale": 1.0, "mpp": 1.0}]
    with pytest.raises(InputError, match="does not say its pixel size"):
        images.pipeline_steps("a", path, protocols)
    measured = 0.5, 30.0, 1.0, 1.0, STAIN_OK
    rows = {
        (name, "1.0mpp"): store.StainQCRow(name, "1.0mpp", *measured, digest)
        for name, digest in (("a", "ab12@0.5um"), ("b", "ab12"))
    }
    store.write_stain_qc(tmp_path, rows)
    sizes = store.pixel_sizes(tmp_path)
    assert sizes == {"a": 0.5}
    assert images._read(path, 1.0, sizes["a"]).shape == (60, 80, 3)


def resized(rgb: np.ndarray, uri: str) -> Image.Image:
    height, width, _ = decoded(uri).shape
    return Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS)


def test_the_protocol_of_descriptors_of_unknown_origin_is_the_papers():
    expected = {"scale": 0.5, "crop_size": 400, "seed": 0, "crop_mode": "exact"}
    assert expected.items() <= images.protocol(None).items()
    assert images.protocol(sample_ensemble.manifest("VGG-1.0-800"))["crop_size"] == 800


def test_an_image_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        images.pipeline_steps("absent", tmp_path / "absent.png", [images.protocol(None)])


def test_an_evaluation_without_jax_says_why_it_has_no_pipeline(tmp_path, monkeypatch):
    names = [f"i{i:02d}" for i in range(14)]
    for i, name in enumerate(names):
        folder = tmp_path / "images" / "ab"[i // 7]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.tissue(i, 120, 150)).save(folder / f"{name}.png")
    models = sample_ensemble.write(
        tmp_path / "models", names, ("a", "b"), 2, configurations=("VGG-0.5-48",)
    )
    monkeypatch.setitem(sys.modules, "jax.numpy", None)
    data = datasets.load(tmp_path / "images")
    collected = images.collect(evaluate.evaluate(models, ("b",), draws=2), data)
    assert not collected.pipelines
    assert any("jax" in notice for notice in collected.notices)
    assert collected.thumbnails
