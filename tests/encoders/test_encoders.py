"""The encoders' interface and their table; for numbers see tests/parity/test_encoders.py.

Precisions are tested in test_folding, an encoder that is added in test_new_encoder.
"""

import csv
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from histojax import encoders
from histojax.encoders import weights
from histojax.ops import pooling
from tests import narrow

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
TAPS = {
    "ResNet": {"conv5_block3_out": 2048},
    "Inception": {"mixed10": 2048},
    "VGG": {"block2_conv2": 128, "block3_conv3": 256, "block4_conv3": 512, "block5_conv3": 512},
}
# PyTorch's networks; numbers are in tests/parity/test_torch.py.
TORCH_TAPS = {
    "TorchResNet": {"conv5_block3_out": 2048},
    "TorchResNetBlock3": {"conv4_block6_out": 1024},
    "TorchInception": {"mixed10": 2048},
    "TorchVGG": TAPS["VGG"],
}
random = functools.cache(weights.random)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 80, 96, 3), dtype=np.uint8)


def test_descriptors_are_the_taps_concatenated():
    with narrow.vgg():
        encoder, variables = encoders.ENCODERS["VGG"], weights.random("VGG", 0)
        taps = encoder.taps(variables, IMAGES)
        descriptors = np.asarray(encoder.descriptors(variables, IMAGES))
        as_float = np.asarray(encoder.descriptors(variables, IMAGES.astype(np.float32)))
    np.testing.assert_allclose(descriptors, np.concatenate(list(taps.values()), axis=1), rtol=1e-5)
    np.testing.assert_allclose(as_float, descriptors, rtol=1e-5)


@pytest.mark.parametrize("name", list(TAPS))
def test_taps_are_named_in_order_and_are_the_means_of_the_maps_and_not_negative(name):
    encoder, variables = encoders.ENCODERS[name], random(name, 0)
    descriptors = jax.eval_shape(encoder.descriptors, variables, IMAGES)
    assert descriptors.dtype == np.float32
    assert descriptors.shape == (2, encoder.width)
    taps = encoder.taps(variables, IMAGES)
    assert {tap: values.shape[1] for tap, values in taps.items()} == TAPS[name]
    assert list(taps) == list(TAPS[name])
    assert sum(values.shape[1] for values in taps.values()) == encoder.width
    assert all((np.asarray(values) >= 0).all() for values in taps.values())
    # Each image by itself: the other in the batch does not matter.
    swapped = encoder.taps(variables, IMAGES[::-1])
    for tap, values in taps.items():
        np.testing.assert_allclose(
            swapped[tap][::-1], values, rtol=1e-4, atol=1e-5 * float(values.max())
        )
        assert not np.allclose(values[0], values[1], rtol=1e-3)


@pytest.mark.parametrize(("name", "side"), [("ResNet", 31), ("Inception", 74), ("VGG", 15)])
def test_images_too_small_are_refused_with_the_size_needed(name, side):
    with pytest.raises(
        ValueError, match=f"at least {side + 1} x {side + 1} px, got {side} x {side}"
    ):
        encoders.ENCODERS[name].taps(random(name, 0), np.zeros((1, side, side, 3), np.uint8))


@pytest.mark.parametrize(("name", "side"), [("ResNet", 32), ("Inception", 75), ("VGG", 16)])
def test_the_smallest_images_allowed_leave_a_map_one_pixel_wide(name, side):
    for height, width in ((side, side), (side, side + 40), (side + 40, side)):
        image = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
        maps = jax.eval_shape(encoders.ENCODERS[name].module.apply, random(name, 0), image)
        assert min(maps[list(TAPS[name])[-1]].shape[1:3]) == 1
    image = jax.ShapeDtypeStruct((1, side - 1, side + 40, 3), np.float32)
    with pytest.raises(ValueError, match=f"got {side - 1} x {side + 40}"):
        jax.eval_shape(encoders.ENCODERS[name].module.apply, random(name, 0), image)


@pytest.mark.parametrize("shape", [(80, 80, 3), (1, 80, 80, 4), (1, 80, 80, 1), (1, 3, 80, 80)])
@pytest.mark.parametrize("name", list(TAPS))
def test_anything_but_a_batch_of_rgb_is_refused(name, shape):
    with pytest.raises(ValueError, match=f"{name} takes RGB images"):
        encoders.ENCODERS[name].descriptors(random(name, 0), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("name", list(TORCH_TAPS))
def test_the_networks_as_pytorch_has_them_have_their_taps_at_their_strides(name):
    encoder = encoders.ENCODERS[name]
    image = jax.ShapeDtypeStruct((2, 320, 288, 3), np.float32)
    for row in (encoder, encoder.folded()):
        variables = jax.eval_shape(row.module.init, jax.random.key(0), image)
        maps = jax.eval_shape(row.maps, variables, image)
        assert {tap.layer: maps[tap.layer].shape[3] for tap in row.outputs} == TORCH_TAPS[name]
        for tap in row.outputs:
            assert maps[tap.layer].shape[1] in (320 // tap.stride, 320 // tap.stride - 2)
    others = [row.name for row in encoders.ENCODERS.values() if not row.published]
    assert list(TAPS | TORCH_TAPS) == others


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="ResNet, Inception, VGG"):
        encoders.get("AlexNet")
    with pytest.raises(ValueError, match="keras, keras2018"):
        encoders.get("ResNet", "torch")
    with pytest.raises(ValueError, match="keras, keras2018"):
        encoders.get("VGG", "torch")


def test_the_variant_chooses_the_resnet_and_nothing_else():
    assert encoders.get("ResNet") is encoders.get("ResNet", "keras") is encoders.ENCODERS["ResNet"]
    assert encoders.get("ResNet", "keras2018") is encoders.RESNET_2018
    assert encoders.RESNET_2018.module != encoders.ENCODERS["ResNet"].module
    for name in ("Inception", "VGG"):
        assert encoders.get(name, "keras2018") is encoders.ENCODERS[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ResNet", (30 - 103.939, 20 - 116.779, 10 - 123.68)),
        ("VGG", (30 - 103.939, 20 - 116.779, 10 - 123.68)),
        ("Inception", (10 / 127.5 - 1, 20 / 127.5 - 1, 30 / 127.5 - 1)),
        ("TorchInception", (10 / 127.5 - 1, 20 / 127.5 - 1, 30 / 127.5 - 1)),
        *(
            (
                name,
                (
                    (10 / 255 - 0.485) / 0.229,
                    (20 / 255 - 0.456) / 0.224,
                    (30 / 255 - 0.406) / 0.225,
                ),
            )
            for name in ("TorchResNet", "TorchResNetBlock3", "TorchVGG")
        ),
    ],
)
def test_inputs_are_made_ready_as_each_network_was_trained(name, expected):
    pixel = encoders.ENCODERS[name].convention(np.array([[[[10, 20, 30]]]], np.float32))
    np.testing.assert_allclose(np.asarray(pixel)[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(("side", "averaged"), [(197, 7), (400, 7), (420, 7), (421, 14), (650, 21)])
def test_the_resnet_of_2018_averages_whole_windows_of_seven(side, averaged):
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    maps = jax.eval_shape(encoders.RESNET_2018.maps, random("ResNet", 0), images)
    (tap,) = encoders.RESNET_2018.outputs
    assert tap.averaged_cells(maps["conv5_block3_out"].shape[1]) == averaged
    values = np.random.default_rng(0).random(maps["conv5_block3_out"].shape, np.float32)
    expected = values[:, :averaged, :averaged].mean(axis=(1, 2))
    np.testing.assert_allclose(tap.average(values), expected, rtol=1e-5)


@pytest.mark.parametrize("side", [32, 192, 193, 196])
def test_the_resnet_of_2018_refuses_images_that_fill_no_window(side):
    images = jax.ShapeDtypeStruct((1, side, 400, 3), np.float32)
    with pytest.raises(ValueError, match=f"got {side} x 400"):
        jax.eval_shape(encoders.RESNET_2018.module.apply, random("ResNet", 0), images)


def test_the_manifest_of_weight_files_agrees_with_the_table():
    with open(THIRD_PARTY / "weights.csv") as file:
        rows = {(row["encoder"], row["generation"]): row for row in csv.DictReader(file)}
    published = {name: e for name, e in encoders.ENCODERS.items() if e.weight_file}
    ours = {(name, "keras"): encoder for name, encoder in published.items()}
    ours["ResNet", "keras2018"] = encoders.RESNET_2018
    assert set(rows) == set(ours)
    for key, encoder in ours.items():
        file = encoder.weight_file
        assert (rows[key]["file"], rows[key]["url"], rows[key]["md5"]) == (
            file.file,
            file.url,
            file.md5,
        )


def test_crops_of_signed_taps_are_pooled_by_their_mean():
    """And NaN, which extraction refuses, where a tap is negative and not said to be signed."""
    crops = np.array([[[1, -2, 3], [2, 4, -5]], [[0, 1, 1], [0, -3, 1]]], np.float32)
    taps = (encoders.Tap("relu", 1), encoders.Tap("token", 1, signed=True), encoders.Tap("bad", 1))
    pooled = encoders.pool_over_crops(crops, taps, 3.0)
    expected = [[(9 / 2) ** (1 / 3), 1, np.nan], [0, -1, 1]]
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    crops = np.abs(crops)
    pooled = encoders.pool_over_crops(crops, taps[:1] * 3, 3.0)
    np.testing.assert_array_equal(pooled, pooling.pnorm(crops, 3.0))
