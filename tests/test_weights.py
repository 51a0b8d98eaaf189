"""Weights by name tables: what does not fit is listed and refused, what fits is read once and kept."""

import dataclasses

import h5py
import jax
import numpy as np
import pytest

from histojax import download, encoders, extract, weights
from histojax.config import Extraction, View
from histojax.errors import InputError
from tests.parity import keras_models


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of the official form for each encoder, by name."""
    folder = tmp_path_factory.mktemp("official")
    for name in encoders.ENCODERS:
        keras_models.write_official(keras_models.application(name), folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in encoders.ENCODERS}


def changed(source, target, rename=lambda layer: layer, drop=(), extra=(), misshape=()):
    """A copy of a weight file with layers renamed, left out, added, or given a kernel of another shape."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        names = [name.decode() if isinstance(name, bytes) else name for name in old.attrs["layer_names"]]
        kept = [name for name in names if name not in drop]
        for name in kept:
            old.copy(old[name], new, rename(name))
            if name in misshape:
                dataset = old[name].attrs["weight_names"][0]
                shape = old[name][dataset].shape
                del new[rename(name)][dataset]
                new[rename(name)][dataset] = np.zeros((*shape[:-1], shape[-1] + 1), np.float32)
        for name in extra:
            group = new.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            group[f"{name}/kernel:0"] = np.zeros((2, 3), np.float32)
        new.attrs["layer_names"] = [rename(name).encode() for name in kept] + [name.encode() for name in extra]
    return target


CASES = {
    "ResNet": ("conv3_block2_1_conv", "conv4_block1_2_conv"),
    "VGG": ("block4_conv2", "block2_conv1"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_missing_extra_and_misshapen_entries_are_all_listed_and_refused(name, official, tmp_path):
    lost, bent = CASES[name]
    path = changed(official[name], tmp_path / "bad.h5", drop=[lost], extra=["fc1"], misshape=[bent])
    with pytest.raises(InputError) as refusal:
        weights.load_h5(name, path)
    message = str(refusal.value)
    assert f"missing: params/{lost}/kernel" in message
    assert f"missing: params/{lost}/bias" in message
    assert "extra: fc1: fc1/kernel:0 (2, 3)" in message
    assert f"misshapen: params/{bent}/kernel" in message
    assert "2 missing, 1 extra, 1 misshapen" in message


def test_a_layer_missing_from_the_numbered_inception_file_is_found_by_shape(official, tmp_path):
    with h5py.File(official["Inception"]) as file:
        names = list(file.attrs["layer_names"])
    convolutions = [name for name in names if name.startswith("conv2d")]
    path = changed(official["Inception"], tmp_path / "bad.h5", drop=convolutions[3:4])
    with pytest.raises(InputError) as refusal:
        weights.load_h5("Inception", path)
    assert "missing: params/conv_4_conv/kernel (1, 1, 64, 80)" in str(refusal.value)
    assert "1 missing, 0 extra, 0 misshapen" in str(refusal.value)


def test_inceptions_numbers_may_start_anywhere(official, tmp_path):
    def renumber(layer):
        kind, _, number = layer.rpartition("_")
        return (
            f"{kind}_{int(number) + 189}" if number.isdecimal() and kind in ("conv2d", "batch_normalization") else layer
        )

    path = changed(official["Inception"], tmp_path / "renumbered.h5", rename=renumber)
    found, expected = (weights.load_h5("Inception", each) for each in (path, official["Inception"]))
    assert weights.checksum(found) == weights.checksum(expected)


def test_the_weights_of_another_network_are_refused(official):
    with pytest.raises(InputError, match="not a complete VGG weight file"):
        weights.load_h5("VGG", official["ResNet"])


def test_files_that_are_no_weight_files_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    h5py.File(tmp_path / "bare.h5", "w").close()
    for name in ("text.h5", "bare.h5", "absent.h5"):
        with pytest.raises(InputError, match="cannot be read as a Keras weight file"):
            weights.load_h5("VGG", tmp_path / name)


@pytest.mark.parametrize("name", list(encoders.ENCODERS))
def test_random_weights_are_he_initialised_by_seed(name):
    one, same, other = (weights.random(name, seed) for seed in (0, 0, 1))
    assert weights.checksum(one) == weights.checksum(same) != weights.checksum(other)
    for path, leaf in jax.tree_util.tree_leaves_with_path(one):
        kind = path[-1].key
        if kind == "kernel" and leaf.size > 5000:
            assert float(leaf.std()) == pytest.approx(np.sqrt(2 / np.prod(leaf.shape[:-1])), rel=0.05)
        elif kind != "kernel":
            assert (np.asarray(leaf) == (1 if kind in ("scale", "var") else 0)).all()


def test_the_checksum_sees_one_changed_value():
    variables = weights.random("VGG", 0)
    bias = variables["params"]["block1_conv1"]["bias"]
    variables["params"]["block1_conv1"]["bias"] = bias.at[3].set(1e-7)
    assert weights.checksum(variables) != weights.checksum(weights.random("VGG", 0))


@pytest.fixture
def vgg(official, tmp_path):
    """VGG-16's row with the local file's checksum in place of the official one, and a folder holding that file."""
    encoder = encoders.ENCODERS["VGG"]
    folder = tmp_path / "offline"
    folder.mkdir()
    file = folder / encoder.weight_file.file
    file.write_bytes(official["VGG"].read_bytes())
    stand_in = dataclasses.replace(encoder.weight_file, md5=download.md5(file))
    return dataclasses.replace(encoder, weight_file=stand_in), folder


def test_the_file_is_converted_once_and_kept(vgg, tmp_path, monkeypatch):
    encoder, folder = vgg
    first = weights.imagenet(encoder, tmp_path / "cache", folder)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]
    monkeypatch.setattr(weights, "read_h5", None)
    assert weights.checksum(weights.imagenet(encoder, tmp_path / "cache", folder)) == weights.checksum(first)


def test_a_damaged_conversion_is_made_anew(vgg, tmp_path):
    encoder, folder = vgg
    first = weights.imagenet(encoder, tmp_path / "cache", folder)
    (converted,) = (tmp_path / "cache").iterdir()
    converted.write_bytes(converted.read_bytes()[:100_000])
    assert weights.checksum(weights.imagenet(encoder, tmp_path / "cache", folder)) == weights.checksum(first)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(vgg, tmp_path):
    encoder, folder = vgg
    with open(folder / encoder.weight_file.file, "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=f"expected {encoder.weight_file.md5}"):
        weights.imagenet(encoder, tmp_path / "cache", folder)
    assert not (tmp_path / "cache").exists()


def test_an_absent_file_is_named_with_its_address(tmp_path):
    with pytest.raises(InputError, match="https://.*md5 6d6bbae143d832006294945121d1f1fc"):
        weights.imagenet(encoders.ENCODERS["VGG"], tmp_path / "cache", tmp_path)


def test_extraction_takes_the_official_weights_from_a_folder(vgg, official, tmp_path, monkeypatch, fields):
    from PIL import Image

    encoder, folder = vgg
    monkeypatch.setitem(encoders.ENCODERS, "VGG", encoder)
    Image.fromarray(fields(60, 60)[0]).save(tmp_path / "image.png")
    extraction = Extraction(("VGG",), (View(1.0, 40),), augmentations=1, crops=2)
    root = tmp_path / "out"
    extract.run([tmp_path / "image.png"], extraction, root, cache=tmp_path / "cache", weights_dir=folder)
    manifest = extract.store.read_manifest(root, "VGG-1.0-40")
    expected = weights.checksum(weights.load_h5("VGG", official["VGG"]))
    assert manifest["weights"] == {"source": "imagenet", "sha256": expected}
