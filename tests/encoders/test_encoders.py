"""The encoders' interface and their table; their numbers are in tests/parity."""

import csv
from pathlib import Path

import numpy as np
import pytest

from histojax import encoders, weights
from histojax.report import published

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
TAPS = {
    "ResNet": {"conv5_block3_out": 2048},
    "Inception": {"mixed10": 2048},
    "VGG": {"block2_conv2": 128, "block3_conv3": 256, "block4_conv3": 512, "block5_conv3": 512},
}


@pytest.mark.parametrize("name", list(TAPS))
def test_taps_are_named_in_order_and_descriptors_are_their_concatenation(name):
    encoder, variables = encoders.ENCODERS[name], weights.random(name, 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 80, 96, 3), dtype=np.uint8)
    taps = encoder.taps(variables, images)
    assert {tap: values.shape[1] for tap, values in taps.items()} == TAPS[name]
    assert list(taps) == list(TAPS[name])
    descriptors = np.asarray(encoder.descriptors(variables, images))
    assert descriptors.dtype == np.float32
    assert descriptors.shape == (2, encoder.width)
    np.testing.assert_allclose(descriptors, np.concatenate(list(taps.values()), axis=1), rtol=1e-5)
    as_float = np.asarray(encoder.descriptors(variables, images.astype(np.float32)))
    np.testing.assert_allclose(as_float, descriptors, rtol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("ResNet", 31), ("Inception", 74), ("VGG", 15)])
def test_images_too_small_are_refused_with_the_size_needed(name, side):
    with pytest.raises(ValueError, match=f"at least {side + 1} x {side + 1} px, got {side} x {side}"):
        encoders.ENCODERS[name].taps(weights.random(name, 0), np.zeros((1, side, side, 3), np.uint8))


@pytest.mark.parametrize("shape", [(80, 80, 3), (1, 80, 80, 4)])
def test_anything_but_a_batch_of_rgb_is_refused(shape):
    with pytest.raises(ValueError, match="RGB images"):
        encoders.ENCODERS["VGG"].taps(weights.random("VGG", 0), np.zeros(shape, np.uint8))


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="ResNet, Inception, VGG"):
        encoders.get("AlexNet")
    with pytest.raises(ValueError, match="keras, keras2018"):
        encoders.get("ResNet", "torch")


@pytest.mark.parametrize(("side", "last"), [(400, 1), (650, 3)])
def test_the_resnet_of_2018_pools_whole_windows_of_seven(side, last):
    import jax

    variables = weights.random("ResNet", 0)
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    maps = jax.eval_shape(encoders.RESNET_2018.module.apply, variables, images)
    assert maps["conv5_block3_out"].shape == (1, last, last, 2048)
    small = jax.ShapeDtypeStruct((1, 192, 192, 3), np.float32)
    with pytest.raises(ValueError, match="at least 193"):
        jax.eval_shape(encoders.RESNET_2018.module.apply, variables, small)


def test_the_manifest_of_weight_files_agrees_with_the_table():
    with open(THIRD_PARTY / "weights.csv") as file:
        rows = {(row["encoder"], row["generation"]): row for row in csv.DictReader(file)}
    ours = {(name, "keras"): encoder for name, encoder in encoders.ENCODERS.items()}
    ours["ResNet", "keras2018"] = encoders.RESNET_2018
    assert set(rows) == set(ours)
    for key, encoder in ours.items():
        file = encoder.weight_file
        assert (rows[key]["file"], rows[key]["url"], rows[key]["md5"]) == (file.file, file.url, file.md5)


def test_the_published_table_is_the_same_in_both_places_and_agrees_with_its_means():
    with open(THIRD_PARTY / "rakhlin2018_table1.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(published.ACCURACY)
    for model, accuracies in published.ACCURACY.items():
        assert tuple(float(rows[model][f"f{fold}"]) for fold in range(1, 11)) == accuracies
        printed = (float(rows[model]["mean"]), float(rows[model]["std"]))
        assert printed == published.MEAN_AND_DEVIATION[model]
        assert printed[0] == pytest.approx(np.mean(accuracies), abs=0.051)
    assert published.MEAN_AND_DEVIATION["Model fusion"][1] == pytest.approx(
        np.std(published.ACCURACY["Model fusion"]), abs=0.051
    )
