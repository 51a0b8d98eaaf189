"""Weights by name tables: files that do not fit are refused with a list; others are kept."""

import dataclasses
import functools
import hashlib
import io
import re
import shutil
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from flax import traverse_util

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import loaded_encoders
from histojax.utils import download, files
from tests.parity import keras_models


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of the official form for each encoder, by name."""
    folder = tmp_path_factory.mktemp("official")
    for name in encoders.ENCODERS:
        keras_models.write_official(keras_models.application(name), folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in encoders.ENCODERS}


SHAPES = functools.cache(weights.shapes)


@pytest.fixture(autouse=True)
def shapes_are_found_once(monkeypatch):
    monkeypatch.setattr(weights, "shapes", SHAPES)


def layer_names(path) -> list[str]:
    with h5py.File(path) as file:
        return weights._texts(file.attrs["layer_names"])


def changed(
    source, target, rename=lambda layer: layer, drop=(), extra=(), misshape=(), first=False
):
    """A weight file linked to another's layers, some renamed, left out, added, or misshapen."""
    names = [name for name in layer_names(source) if name not in drop]
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name in names:
            if name in misshape:
                old.copy(old[name], new, rename(name))
                dataset = old[name].attrs["weight_names"][0]
                shape = old[name][dataset].shape
                del new[rename(name)][dataset]
                new[rename(name)][dataset] = np.zeros((*shape[:-1], shape[-1] + 1), np.float32)
            else:
                new[rename(name)] = h5py.ExternalLink(source, name)
        for name in extra:
            group = new.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            group[f"{name}/kernel:0"] = np.zeros((2, 3), np.float32)
        kept = [rename(name) for name in names]
        new.attrs["layer_names"] = [
            name.encode() for name in ([*extra, *kept] if first else [*kept, *extra])
        ]
    return target


# A layer to lose and one to bend, and their places among Inception's numbered convolutions.
LOST = {"ResNet": "conv3_block2_1_conv", "Inception": "conv_4_conv", "VGG": "block4_conv2"}
BENT = {"ResNet": "conv4_block1_2_conv", "Inception": "conv_2_conv", "VGG": "block2_conv1"}
PLACES = {"conv_4_conv": 3, "conv_2_conv": 1}


def in_file(path, layer: str) -> str:
    """The name that a layer of ours has in the file."""
    convolutions = [name for name in layer_names(path) if name.startswith("conv2d")]
    return convolutions[PLACES[layer]] if layer in PLACES else layer


def refusal(name, path) -> str:
    with pytest.raises(InputError) as refused:
        weights.load_h5(name, path)
    return str(refused.value)


FAULTS = ["missing", "extra", "misshapen", "missing extra misshapen"]


@pytest.mark.parametrize(("name", "faults"), [(name, faults) for name in LOST for faults in FAULTS])
def test_missing_extra_and_misshapen_entries_are_all_listed_and_refused(
    name, faults, official, tmp_path
):
    lost, bent = LOST[name], BENT[name]
    path = changed(
        official[name],
        tmp_path / "bad.h5",
        drop=[in_file(official[name], lost)] if "missing" in faults else [],
        extra=["fc1"] if "extra" in faults else [],
        misshape=[in_file(official[name], bent)] if "misshapen" in faults else [],
    )
    expected = weights.shapes(encoders.ENCODERS[name])
    shape = expected[f"params/{bent}/kernel"]
    missing = {
        f"missing: {key} {shape}" for key, shape in expected.items() if key.split("/")[1] == lost
    }
    misshapen = {
        f"misshapen: params/{bent}/kernel: {(*shape[:-1], shape[-1] + 1)}, expected {shape}"
    }
    lists = [
        missing if "missing" in faults else set(),
        {"extra: fc1: fc1/kernel:0 (2, 3)"} if "extra" in faults else set(),
        misshapen if "misshapen" in faults else set(),
    ]
    header, *items = refusal(name, path).splitlines()
    assert {item.strip() for item in items} == set.union(*lists)
    assert f"({len(lists[0])} missing, {len(lists[1])} extra, {len(lists[2])} misshapen)" in header


@pytest.mark.parametrize("first", [True, False])
def test_one_numbered_layer_too_many_is_found_wherever_it_stands(first, official, tmp_path):
    path = changed(official["Inception"], tmp_path / "bad.h5", extra=["conv2d_999"], first=first)
    message = refusal("Inception", path)
    assert "0 missing, 1 extra, 0 misshapen" in message
    assert "extra: conv2d_999: conv2d_999/kernel:0 (2, 3)" in message


def test_any_one_layer_missing_from_inceptions_numbers_is_listed_by_its_shape(
    official, monkeypatch
):
    found = weights._read_h5(official["Inception"])
    assert len(found) == 188
    for lost, arrays in found.items():
        monkeypatch.setattr(
            weights,
            "_read_h5",
            lambda path, lost=lost: {k: v for k, v in found.items() if k != lost},
        )
        header, *items = refusal("Inception", Path("less.h5")).splitlines()
        assert f"({len(arrays)} missing, 0 extra, 0 misshapen)" in header
        for item, array in zip(items, arrays.values(), strict=True):
            assert item.startswith("  missing:")
            assert item.endswith(str(array.shape))


@pytest.mark.parametrize("shift", [1, 95, 189])
def test_inceptions_numbers_may_start_anywhere(shift, official, tmp_path):
    def renumber(layer):
        match = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer)
        return f"{match[1]}_{int(match[2] or 0) + shift}" if match else layer

    path = changed(official["Inception"], tmp_path / "renumbered.h5", rename=renumber)
    assert layer_names(path) != layer_names(official["Inception"])
    found, expected = (
        weights._flat_from_h5("Inception", each) for each in (path, official["Inception"])
    )
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("name", list(LOST))
def test_the_official_form_fills_every_variable_with_its_own_array(name, official):
    variables = weights.load_h5(name, official[name])
    found = {
        path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables, sep="/").items()
    }
    assert found == weights.shapes(encoders.ENCODERS[name])
    arrays = [
        array
        for datasets in weights._read_h5(official[name]).values()
        for array in datasets.values()
    ]
    sums = sorted(float(array.sum(dtype=np.float64)) for array in arrays)
    ours = sorted(
        float(np.asarray(leaf).sum(dtype=np.float64)) for leaf in jax.tree.leaves(variables)
    )
    assert ours == sums


def test_the_weights_of_another_network_are_refused(official):
    with pytest.raises(InputError, match="not a complete VGG weight file"):
        weights.load_h5("VGG", official["ResNet"])


def bare(path):
    h5py.File(path, "w").close()


def whole_model(path):
    with h5py.File(path, "w") as file:
        file.create_group("model_weights").attrs["layer_names"] = [b"block1_conv1"]


def layer_named_but_absent(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("not HDF5"),
        bare,
        whole_model,
        layer_named_but_absent,
        lambda path: None,
    ],
)
def test_files_that_are_no_weight_files_are_refused(write, tmp_path):
    write(tmp_path / "bad.h5")
    with pytest.raises(InputError, match=r"bad\.h5 cannot be read as a Keras weight file"):
        weights.load_h5("VGG", tmp_path / "bad.h5")


def test_half_a_weight_file_is_refused(official, tmp_path):
    content = official["VGG"].read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as a Keras weight file"):
        weights.load_h5("VGG", tmp_path / "half.h5")


@pytest.mark.parametrize("name", list(encoders.ENCODERS))
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


@pytest.fixture
def vgg(official, tmp_path):
    """VGG-16's row with the local file's checksum, and a folder holding that file."""
    encoder = with_md5("VGG", download.md5(official["VGG"]))
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / encoder.weight_file.file).symlink_to(official["VGG"])
    return encoder, folder


@pytest.fixture(scope="module")
def converted(official, tmp_path_factory):
    """The .npz that `imagenet` leaves in its cache, and the checksum of what it returned."""
    folder, cache = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("cache")
    encoder = with_md5("VGG", download.md5(official["VGG"]))
    shutil.copy(official["VGG"], folder / encoder.weight_file.file)
    found = weights.checksum(weights.imagenet(encoder, cache, folder))
    (npz,) = cache.iterdir()
    return npz, found


def forbidden(path):
    raise AssertionError(f"{path} was read again")


def test_the_file_is_converted_once_and_kept(vgg, converted, official, monkeypatch):
    encoder, folder = vgg
    npz, first = converted
    assert first == weights.checksum(weights.load_h5("VGG", official["VGG"]))
    monkeypatch.setattr(weights, "_read_h5", forbidden)
    assert weights.checksum(weights.imagenet(encoder, npz.parent, folder)) == first


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
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
    monkeypatch.setattr(weights, "_read_h5", forbidden)
    with pytest.raises(InputError, match=f"has md5 {encoder.weight_file.md5}, expected {'0' * 32}"):
        weights.imagenet(with_md5("VGG", "0" * 32), tmp_path / "cache", folder)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("encoder", [*encoders.ENCODERS.values(), encoders.RESNET_2018])
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
    assert weights._official_file(encoder, tmp_path, tmp_path) == (file, old.weight_file.md5)
    cached = tmp_path / encoder.weight_file.md5[:8] / file.name
    cached.parent.mkdir()
    cached.write_bytes(b"the file of 2018")
    with pytest.raises(InputError, match=f"expected {encoder.weight_file.md5}"):
        weights._official_file(encoder, tmp_path, None)


def test_the_cache_is_filled_from_the_address_once(tmp_path, monkeypatch):
    asked = []

    def fetch(url, path, md5):
        asked.append((url, md5))
        path.parent.mkdir()
        path.write_bytes(b"weights")

    monkeypatch.setattr(download, "fetch", fetch)
    encoder = with_md5("VGG", hashlib.md5(b"weights").hexdigest())
    paths = {weights._official_file(encoder, tmp_path, None) for _ in range(2)}
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


def test_extraction_takes_the_official_weights_from_a_folder(vgg, official, tmp_path, monkeypatch):
    """Up to descriptors: test_extraction_by_the_weights_of_a_file in test_new_encoder."""
    encoder, folder = vgg
    monkeypatch.setitem(encoders.ENCODERS, "VGG", encoder)
    view = View(1.0, 40)
    extraction = Extraction(("VGG",), (view,), augmentations=1, crops=2)
    runtime = Runtime(cache=tmp_path / "cache", weights_dir=folder)
    loaded = loaded_encoders.load_encoders(extraction, runtime).encoders["VGG"]
    expected = weights.load_h5("VGG", official["VGG"])
    recorded = loaded.manifest(extraction, view)["weights"]
    assert recorded == {"source": "imagenet", "sha256": weights.checksum(expected)}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, encoder.fold_variables(expected))
