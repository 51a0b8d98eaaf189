"""Every tap of every encoder against Keras 3 on JAX, by weights in files of the official form.

Tests the networks of encoders/resnet50, inception_v3 and vgg16, and encoders/layers.
"""

import jax
import keras
import numpy as np
import pytest

from histojax import config, encoders
from histojax.encoders import weights
from tests.parity import keras_models

# The first has odd and even maps at every stride, and is as large as the ResNet of 2018 needs.
SIZES = [
    (205, 230),
    *(pytest.param(s, marks=pytest.mark.slow) for s in [(400, 400), (333, 517), (650, 650)]),
]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def keras_input(name: str, images: np.ndarray) -> np.ndarray:
    """The official preprocessing of each network, by Keras itself."""
    module = {
        "ResNet": keras.applications.resnet50,
        "Inception": keras.applications.inception_v3,
        "VGG": keras.applications.vgg16,
    }[name]
    return np.asarray(
        module.preprocess_input(images.astype(np.float32).copy(), data_format="channels_last")
    )


def assert_taps_agree(encoder, variables, model, names, images):
    maps = model.predict_on_batch(keras_input(encoder.name, images))
    maps = maps if isinstance(maps, list) else [maps]
    ours = encoder.taps(variables, images)
    assert list(ours) == list(names)
    theirs = [np.asarray(tap_maps, np.float64).mean(axis=(1, 2)) for tap_maps in maps]
    for tap, expected in zip(names, theirs, strict=True):
        assert ours[tap].dtype == np.float32
        error = relative(np.asarray(ours[tap]), expected)
        size = f"{images.shape[1]} x {images.shape[2]}"
        print(f"{encoder.name} {tap} {size}: relative error {error:.1e}")
        assert error < 1e-5


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", config.ENCODERS)
def test_taps_equal_keras(name, size, tmp_path, fields):
    model = keras_models.application(name)
    keras_models.write_official(model, tmp_path / "weights.h5")
    variables = weights.load(name, tmp_path / "weights.h5")
    taps = keras_models.tap_model(model, keras_models.TAPS[name])
    with jax.default_matmul_precision("highest"):
        assert_taps_agree(
            encoders.ENCODERS[name], variables, taps, keras_models.TAPS[name], fields(*size)
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resnet_of_2018_equals_the_old_architecture_in_keras_layers(size, tmp_path, fields):
    model = keras_models.resnet50_2018()
    keras_models.randomize(model, seed=1)
    keras_models.write_2018(model, tmp_path / "weights.h5")
    variables = weights.load("ResNet", tmp_path / "weights.h5")
    with jax.default_matmul_precision("highest"):
        assert_taps_agree(
            encoders.RESNET_2018, variables, model, keras_models.TAPS["ResNet"], fields(*size)
        )


def test_both_generations_of_the_resnet_file_give_the_same_variables(tmp_path):
    model = keras_models.application("ResNet")
    keras_models.write_official(model, tmp_path / "today.h5")
    keras_models.write_2018(model, tmp_path / "2018.h5")
    today, old = (weights.load("ResNet", tmp_path / file) for file in ("today.h5", "2018.h5"))
    assert weights.checksum(today) == weights.checksum(old)
    jax.tree.map(np.testing.assert_array_equal, today, old)


def test_a_corner_of_ones_stays_one_under_inceptions_average_pool():
    pooled = np.asarray(encoders.layers.average_pool_same(np.ones((1, 5, 5, 2), np.float32)))
    np.testing.assert_allclose(pooled, 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["VGG", pytest.param("Inception", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_files_that_keras_writes_are_read_as_it_has_them(name, ending, tmp_path):
    """Of a whole model with a head, whose description is a long text in the file."""
    made = {"VGG": keras.applications.VGG16, "Inception": keras.applications.InceptionV3}[name]
    with keras_models.undrawn():
        body = made(weights=None, include_top=False, pooling="avg")
        model = keras.Model(body.inputs, keras.layers.Dense(4)(body.outputs[0]))
    keras_models.randomize(body, seed=2)
    path = tmp_path / f"model{ending}"
    (model.save_weights if ending == ".weights.h5" else model.save)(path)
    variables = weights.load(name, path)
    kernel = next(layer for layer in body.layers if layer.weights).weights[0]
    first = encoders.get(name).first_convolution
    np.testing.assert_array_equal(variables["params"][first]["kernel"], np.asarray(kernel))
