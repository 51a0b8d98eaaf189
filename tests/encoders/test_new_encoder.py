"""An encoder of a module of its own works in extraction, fine-tuning and heat maps."""

import dataclasses

import h5py
import numpy as np
import pytest
from PIL import Image

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import own, weights
from histojax.errors import InputError
from histojax.extraction import extract, loaded_encoders, manifests, store
from histojax.learners import finetune, finetune_step
from histojax.utils import download
from tests import samples
from tests.heatmap import tiny

VIEW = View(0.5, 32)
FILE_LAYERS = {"stem": "conv1_conv", "stem_norm": "conv1_bn", "head": "conv2"}
LEAVES = {"kernel": "kernel", "bias": "bias", "scale": "gamma"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(encoders, "ENCODERS", dict(encoders.ENCODERS))
    return own.load("tests.encoders.small_encoder:SMALL")


def protocol(**others) -> Extraction:
    return Extraction(("Small",), (VIEW,), augmentations=2, crops=2, **others)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(samples.tissue(0, 70, 90)).save(path)
    return path


def write_h5(path, variables):
    """A Keras weight file of the encoder's variables."""
    with h5py.File(path, "w") as file:
        for theirs, ours in FILE_LAYERS.items():
            group = file.create_group(theirs)
            arrays = {LEAVES[leaf]: value for leaf, value in variables["params"][ours].items()}
            for leaf, value in variables["batch_stats"].get(ours, {}).items():
                arrays[f"moving_{'variance' if leaf == 'var' else leaf}"] = value
            for leaf, value in arrays.items():
                group[f"{theirs}/{leaf}:0"] = np.asarray(value)
            group.attrs["weight_names"] = [f"{theirs}/{leaf}:0".encode() for leaf in arrays]
        file.attrs["layer_names"] = [layer.encode() for layer in FILE_LAYERS]
    return path


def test_folded_it_computes_the_same(small):
    variables = weights.random("Small", 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    expected = small.descriptors(variables, images)
    assert expected.shape == (2, 12)
    folded = small.folded().descriptors(small.fold_variables(variables), images)
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5)


def test_extraction_by_random_weights(image, tmp_path):
    extract.run([image], protocol(weights="random"), tmp_path / "descriptors")
    descriptors = store.read(tmp_path / "descriptors", "Small-0.5-32", ["image"])
    assert descriptors.shape == (1, 2, 12)
    assert (descriptors > 0).any()


def test_extraction_by_the_weights_of_a_file(small, image, tmp_path):
    variables = weights.random("Small", 5)
    file = write_h5(tmp_path / "small.h5", variables)
    weight_file = dataclasses.replace(small.weight_file, md5=download.md5(file))
    own.register(dataclasses.replace(small, weight_file=weight_file))
    runtime = Runtime(cache=tmp_path / "cache", weights_dir=tmp_path)
    extract.run([image], protocol(), tmp_path / "descriptors", runtime=runtime)
    manifest = manifests.read(tmp_path / "descriptors", "Small-0.5-32")
    assert manifest["weights"] == {"source": "imagenet", "sha256": weights.checksum(variables)}


def test_an_encoder_without_published_weights_needs_random_ones(small, tmp_path):
    own.register(dataclasses.replace(small, weight_file=None))
    with pytest.raises(
        InputError,
        match="no ImageNet weights for Small: use --weights=Small=FILE with .* or --weights=random",
    ):
        loaded_encoders.load_encoders(protocol(), Runtime(cache=tmp_path))


def test_fine_tuning_trains_its_last_block():
    loaded = finetune.load_encoder("Small", protocol(weights="random"), Runtime())
    params = loaded.variables["params"]
    trained, frozen = finetune_step.split_layers(params, loaded.encoder, "last")
    assert set(trained) == {"conv2"}
    assert set(frozen) == {"conv1_conv"}


def test_heat_maps_by_it():
    extraction = protocol(weights="random")
    loaded = loaded_encoders.load_encoders(extraction)
    rgb = samples.tissue(0, 192, 256)
    descriptors, scored = tiny.descriptors_of(rgb, extraction, 32, 1, loaded)
    assert scored.all()
    assert descriptors["Small-0.5-32"].shape == (6 * 8, 1, 12)
