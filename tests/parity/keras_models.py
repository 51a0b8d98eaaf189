"""Keras 3 models with random weights and statistics, and HDF5 files of theirs in official form."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import h5py
import jax
import keras
import numpy as np
from keras import layers
from keras.src.legacy.saving import legacy_h5_format

APPLICATIONS = {
    "ResNet": keras.applications.ResNet50,
    "Inception": keras.applications.InceptionV3,
    "VGG": keras.applications.VGG16,
}
TAPS = {
    "ResNet": ("conv5_block3_out",),
    "Inception": ("mixed10",),
    "VGG": ("block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
}


def randomize(model: keras.Model, seed: int) -> None:
    """He-like kernels; biases, scales and statistics that all differ from their initial values."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if weight.path.endswith("kernel"):
                deviation = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
                values.append(rng.standard_normal(shape, np.float32) * deviation)
            elif weight.path.endswith(("gamma", "variance")):
                values.append(rng.uniform(0.5, 1.5, shape))
            else:
                values.append(rng.normal(0, 0.1, shape))
        layer.set_weights([value.astype(np.float32) for value in values])


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Variables of models made in it are zeros: JAX compiles a program a shape for others."""

    def zeros(self, shape, dtype):
        return jax.device_put(np.zeros(shape, dtype))

    with contextlib.ExitStack() as patched:
        for kind in ("GlorotUniform", "Zeros", "Ones"):
            initializer = getattr(keras.initializers, kind)
            patched.enter_context(mock.patch.object(initializer, "__call__", zeros))
        yield


@functools.cache
def application(name: str, seed: int = 0) -> keras.Model:
    """The Keras application without its top, with random weights, giving our taps' feature maps."""
    with undrawn():
        model = APPLICATIONS[name](weights=None, include_top=False, input_shape=(None, None, 3))
    randomize(model, seed)
    return model


def tap_model(model: keras.Model, names: tuple[str, ...]) -> keras.Model:
    return keras.Model(model.input, [model.get_layer(name).output for name in names])


def write_official(model: keras.Model, path: Path) -> None:
    """The file as Keras's own legacy saver writes it."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


SUFFIXES_2018 = {
    "kernel": "W",
    "bias": "b",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}


def name_2018(layer: str) -> str:
    """conv2_block1_1_conv -> res2a_branch2a."""
    if layer in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[layer]
    stage, block, place, kind = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer).groups()
    branch = "1" if place == "0" else "2" + "abc"[int(place) - 1]
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{'abcdef'[int(block) - 1]}_branch{branch}"


def write_2018(model: keras.Model, path: Path) -> None:
    """ResNet-50's weights as in the file of 2018, whose groups and datasets have other names."""
    with h5py.File(path, "w") as file:
        names = []
        for layer in model.layers:
            name = name_2018(layer.name) if layer.weights else layer.name
            names.append(name.encode())
            group = file.create_group(name)
            datasets = []
            for weight in layer.weights:
                dataset = f"{name}_{SUFFIXES_2018[weight.path.split('/')[-1]]}_1:0"
                group[dataset] = np.asarray(weight)
                datasets.append(dataset.encode())
            group.attrs["weight_names"] = (
                np.array(datasets, dtype="S") if datasets else np.zeros(0, "S1")
            )
        file.attrs["layer_names"] = np.array(names)


@undrawn()
def resnet50_2018() -> keras.Model:
    """ResNet-50 of Keras 2.1.4 on Theano: symmetric padding, epsilon 1e-3, a last 7 x 7 pool."""

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-3, name=name)(x)

    def block(x, filters, name, stride=1, project=False):
        shortcut = x
        if project:
            shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(x)
            shortcut = norm(shortcut, f"{name}_0_bn")
        x = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(x)
        x = layers.Activation("relu")(norm(x, f"{name}_1_bn"))
        x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
        x = layers.Activation("relu")(norm(x, f"{name}_2_bn"))
        x = norm(layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x), f"{name}_3_bn")
        return layers.Activation("relu")(layers.Add()([x, shortcut]))

    images = layers.Input((None, None, 3))
    x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(layers.ZeroPadding2D(3)(images))
    x = layers.Activation("relu")(norm(x, "conv1_bn"))
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, (blocks, filters) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=2):
        for i in range(1, blocks + 1):
            stride = 2 if i == 1 and stage > 2 else 1
            x = block(x, filters, f"conv{stage}_block{i}", stride, project=i == 1)
    return keras.Model(images, layers.AveragePooling2D(7, strides=7, name="conv5_block3_out")(x))
