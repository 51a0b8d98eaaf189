"""Weights of encoders: from official files, which are kept, from others, and by seed."""

import dataclasses
import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util

from histojax import config, encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.encoders.weight_files import official_files
from histojax.errors import InputError
from histojax.extraction import loaded_encoders
from histojax.utils import array_files, download, files
from tests import narrow
from tests.encoders import made_files
from tests.parity import keras_models

PAPER = config.ENCODERS


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of the official form for each encoder that has one, by name."""
    folder = tmp_path_factory.mktemp("official")
    for name in PAPER:
        keras_models.write_official(keras_models.application(name), folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in PAPER}


@pytest.mark.parametrize("name", PAPER)
def test_the_official_form_fills_every_variable_with_its_own_array(name, official):
    variables = weights.load(name, official[name])
    found = {
        path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables, sep="/").items()
    }
    assert found == weights.shapes(encoders.ENCODERS[name])
    with array_files.open_arrays(official[name]) as (kind, arrays):
        sums = sorted(float(a.load().sum(dtype=np.float64)) for a in arrays.values())
    assert kind == "HDF5"
    ours = sorted(
        float(np.asarray(leaf).sum(dtype=np.float64)) for leaf in jax.tree.leaves(variables)
    )
    assert ours == sums


def test_the_weights_of_another_network_are_refused_and_the_network_is_named(official):
    message = "not a complete VGG weight file .* It fits ResNet: --weights=ResNet="
    with pytest.raises(InputError, match=message):
        weights.load("VGG", official["ResNet"])


def test_half_a_weight_file_is_refused(official, tmp_path):
    content = official["VGG"].read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"half\.h5 cannot be read as a file of weights"):
        weights.load("VGG", tmp_path / "half.h5")


def test_a_file_that_is_official_is_called_so_whatever_its_name(official, monkeypatch, tmp_path):
    named = {"file": "VGG.h5", "file_sha256": files.sha256(official["VGG"])}
    row = encoders.ENCODERS["VGG"]
    found = weights.read(row, official["VGG"])
    assert (found.source, found.file) == ("file", named)
    found = weights.read(with_md5("VGG", download.md5(official["VGG"])), official["VGG"])
    assert (found.source, found.file) == ("imagenet", {})


@pytest.mark.parametrize(
    "name",
    ["VGG", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ResNet", "Inception"))],
)
def test_random_weights_are_he_initialised_by_seed(name):
    encoder = encoders.ENCODERS[name]
    one, same, other = (weights.random(name, seed) for seed in (0, 0, 1))
    assert weights.checksum(one) == weights.checksum(same) != weights.checksum(other)
    big = 0
    for path, array in traverse_util.flatten_dict(one, sep="/").items():
        leaf = np.asarray(array)
        if not path.endswith("kernel"):
            assert (leaf == (1 if path.endswith(("scale", "var")) else 0)).all(), path
        elif leaf.size > 100_000:
            big += 1
            assert leaf.std() == pytest.approx(np.sqrt(2 / np.prod(leaf.shape[:-1])), rel=0.01), (
                path
            )
            assert abs(leaf.mean()) < 0.02 * leaf.std(), path
    assert big >= 5
    image = jax.ShapeDtypeStruct((1, 96, 96, 3), np.uint8)
    assert jax.eval_shape(encoder.descriptors, one, image).shape == (1, encoder.width)


def test_layers_of_one_shape_are_drawn_apart():
    params = weights.random("VGG", 0)["params"]
    assert not np.array_equal(params["block5_conv1"]["kernel"], params["block5_conv2"]["kernel"])


def test_the_checksum_sees_values_names_and_shapes_but_not_order():
    def of(values, name="a", shape=(2, 2)):
        return weights.checksum(
            {"params": {name: {"kernel": np.array(values, np.float32).reshape(shape)}}}
        )

    found = {of([1, 2, 3, 4]), of([1, 2, 3, 4 + 1e-6]), of([2, 1, 3, 4]), of([1, 2, 3, 4], "b")}
    assert len(found | {of([1, 2, 3, 4], shape=(4, 1))}) == 5
    layers = {
        name: {"kernel": np.full((2, 3), i), "bias": np.full(3, -i)} for i, name in enumerate("abc")
    }
    backwards = {name: dict(reversed(layers[name].items())) for name in reversed(layers)}
    assert weights.checksum({"params": layers}) == weights.checksum({"params": backwards})


def with_md5(name: str, md5: str) -> encoders.Encoder:
    """An encoder's row with another checksum in place of the official one."""
    encoder = encoders.ENCODERS[name]
    return dataclasses.replace(
        encoder, weight_file=dataclasses.replace(encoder.weight_file, md5=md5)
    )


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """A file of the official form for a VGG-16 with few channels."""
    with narrow.vgg():
        flat = weights.to_flat(weights.random("VGG", 3))
    layers = {}
    for name, array in flat.items():
        _, layer, leaf = name.split("/")
        layers.setdefault(layer, {})[f"{layer}/{leaf}:0"] = array
    return made_files.keras(tmp_path_factory.mktemp("small") / "vgg.h5", layers)


@pytest.fixture
def vgg(small_file, tmp_path):
    """The row of a narrow VGG-16 with the local file's checksum, and a folder holding that file."""
    with narrow.vgg():
        encoder = with_md5("VGG", download.md5(small_file))
        folder = tmp_path / "offline"
        folder.mkdir()
        (folder / encoder.weight_file.file).symlink_to(small_file)
        yield encoder, folder


@pytest.fixture(scope="module")
def converted(small_file, tmp_path_factory):
    """The .npz that `imagenet` leaves in its cache, and the checksum of what it returned."""
    folder, cache = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("cache")
    with narrow.vgg():
        encoder = with_md5("VGG", download.md5(small_file))
        shutil.copy(small_file, folder / encoder.weight_file.file)
        found = weights.checksum(weights.imagenet(encoder, cache, folder))
    (npz,) = cache.iterdir()
    return npz, found


def forbidden(path):
    raise AssertionError(f"{path} was read again")


def test_the_file_is_converted_once_and_kept(vgg, converted, small_file, monkeypatch):
    encoder, folder = vgg
    npz, first = converted
    assert first == weights.checksum(weights.load_h5("VGG", small_file))
    monkeypatch.setattr(array_files, "open_arrays", forbidden)
    assert weights.checksum(weights.imagenet(encoder, npz.parent, folder)) == first


def flipped(content: bytes) -> bytes:
    """With one bit of a kernel changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        kernel = max(archive.infolist(), key=lambda entry: entry.compress_size)
    middle = kernel.header_offset + kernel.compress_size // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def npy_file(content: bytes) -> bytes:
    np.save(buffer := io.BytesIO(), np.zeros(3))
    return buffer.getvalue()


def other_arrays(content: bytes) -> bytes:
    np.savez(buffer := io.BytesIO(), **{"params/block1_conv1/kernel": np.zeros(3)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        flipped,
        lambda content: b"no archive",
        other_arrays,
        lambda content: b"",
        npy_file,
    ],
    ids=["half", "one bit", "text", "other arrays", "empty", "npy"],
)
def test_a_damaged_conversion_is_made_anew(damage, vgg, converted, tmp_path):
    encoder, folder = vgg
    npz, first = converted
    again = tmp_path / "cache" / npz.name
    again.parent.mkdir()
    again.write_bytes(damage(npz.read_bytes()))
    assert weights.checksum(weights.imagenet(encoder, again.parent, folder)) == first
    assert weights.load_npz(again).keys() == weights.load_npz(npz).keys()


def test_a_wrong_checksum_is_refused_and_nothing_is_read_or_kept(vgg, tmp_path, monkeypatch):
    encoder, folder = vgg
    monkeypatch.setattr(array_files, "open_arrays", forbidden)
    with pytest.raises(InputError, match=f"has md5 {encoder.weight_file.md5}, expected {'0' * 32}"):
        weights.imagenet(with_md5("VGG", "0" * 32), tmp_path / "cache", folder)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("encoder", [*map(encoders.get, PAPER), encoders.RESNET_2018])
def test_an_absent_file_is_named_with_its_address(encoder, tmp_path):
    with pytest.raises(InputError) as refused:
        weights.imagenet(encoder, tmp_path / "cache", tmp_path)
    assert f"{encoder.weight_file.url} (md5 {encoder.weight_file.md5})" in str(refused.value)


def test_a_folder_may_hold_either_generation_of_the_resnet_file_and_the_cache_only_its_own(
    tmp_path, monkeypatch
):
    encoder = encoders.ENCODERS["ResNet"]
    file = tmp_path / encoder.weight_file.file
    file.write_bytes(b"the file of 2018")
    old = with_md5("ResNet", download.md5(file))
    monkeypatch.setitem(encoders.RESNET_VARIANTS, "keras2018", old)
    assert official_files.require(encoder, tmp_path, tmp_path) == (file, old.weight_file.md5)
    cached = tmp_path / encoder.weight_file.md5[:8] / file.name
    cached.parent.mkdir()
    cached.write_bytes(b"the file of 2018")
    with pytest.raises(InputError, match=f"expected {encoder.weight_file.md5}"):
        official_files.require(encoder, tmp_path, None)


def test_the_cache_is_filled_from_the_address_once(tmp_path, monkeypatch):
    asked = []

    def fetch(url, path, md5):
        asked.append((url, md5))
        path.parent.mkdir()
        path.write_bytes(b"weights")

    monkeypatch.setattr(download, "fetch", fetch)
    encoder = with_md5("VGG", hashlib.md5(b"weights").hexdigest())
    paths = {official_files.require(encoder, tmp_path, None) for _ in range(2)}
    assert asked == [(encoder.weight_file.url, encoder.weight_file.md5)]
    ((path, digest),) = paths
    assert path.read_bytes() == b"weights"
    assert digest == encoder.weight_file.md5


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HISTOJAX_CACHE": "/one", "XDG_CACHE_HOME": "/two"}, "/one"),
        ({"XDG_CACHE_HOME": "/two"}, "/two/histojax"),
        ({"HISTOJAX_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/three"}, "/three/.cache/histojax"),
    ],
)
def test_the_cache_is_where_the_environment_says(environment, expected, monkeypatch):
    for name in ("HISTOJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert files.default_cache() == Path(expected)


def test_extraction_takes_the_official_weights_from_a_folder(
    vgg, small_file, tmp_path, monkeypatch
):
    """Up to descriptors: test_extraction_by_the_weights_of_a_file in test_new_encoder."""
    encoder, folder = vgg
    monkeypatch.setitem(encoders.ENCODERS, "VGG", encoder)
    view = View(1.0, 40)
    extraction = Extraction(("VGG",), (view,), augmentations=1, crops=2)
    runtime = Runtime(cache=tmp_path / "cache", weights_dir=folder)
    loaded = loaded_encoders.load_encoders(extraction, runtime).encoders["VGG"]
    expected = weights.load("VGG", small_file)
    recorded = loaded.manifest(extraction, view)["weights"]
    assert recorded == {"source": "imagenet", "sha256": weights.checksum(expected)}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, encoder.fold_variables(expected))
