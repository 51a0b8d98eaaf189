"""The encoders of keras.applications, on Keras's JAX backend: crops to descriptors."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from histojax.encoders import inception_v3

APPLICATIONS = {
    "ResNet": (keras.applications.ResNet50, keras.applications.resnet50.preprocess_input),
    "Inception": (keras.applications.InceptionV3, keras.applications.inception_v3.preprocess_input),
    "VGG": (keras.applications.VGG16, keras.applications.vgg16.preprocess_input),
}
TAPS = {
    "ResNet": ("conv5_block3_out",),
    "Inception": ("mixed10",),
    "VGG": ("block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
}
# Keras's name of an array to ours.
LEAVES = {
    "kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}
# A dtype policy of Keras and a precision of JAX's products, which on a GPU are TF32 unless told.
PRECISIONS = {
    "float32": ("float32", "float32"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "bfloat16"),
}


def load(name: str, model: keras.Model, variables: dict[str, Any]) -> None:
    """Copies our variables into the model by name; InceptionV3's numbered layers by order."""
    layers = [layer for layer in model.layers if layer.weights]
    names = {layer.name: layer.name for layer in layers}
    if name == "Inception":
        names |= inception_v3.layer_names(dict.fromkeys(names), {})
    for layer in layers:
        paths = [LEAVES[weight.path.rsplit("/", 1)[-1]] for weight in layer.weights]
        layer.set_weights(
            [np.asarray(variables[group][names[layer.name]][leaf]) for group, leaf in paths]
        )


def build(name: str, variables: dict[str, Any], policy: str) -> keras.Model:
    """The application without its top, giving the maps of our taps, in a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = APPLICATIONS[name][0](weights=None, include_top=False, input_shape=(None, None, 3))
    finally:
        keras.config.set_dtype_policy(before)
    load(name, model, variables)
    return keras.Model(model.input, [model.get_layer(tap).output for tap in TAPS[name]])


def descriptor(
    name: str, variables: dict[str, Any], precision: str, crops: np.ndarray
) -> Callable[[], np.ndarray]:
    """One jitted stateless call, with input convention and averages: no overhead of `predict`."""
    policy, products = PRECISIONS[precision]
    model, preprocess = build(name, variables, policy), APPLICATIONS[name][1]
    images = jnp.asarray(crops)

    @jax.jit
    def encode(trainable, fixed, images):
        inputs = preprocess(images.astype(jnp.float32), data_format="channels_last")
        maps, _ = model.stateless_call(trainable, fixed, inputs, training=False)
        averages = [
            jnp.mean(values.astype(jnp.float32), axis=(1, 2)) for values in jax.tree.leaves(maps)
        ]
        return jnp.concatenate(averages, axis=-1)

    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def run() -> np.ndarray:
        with jax.default_matmul_precision(products):
            return np.asarray(encode(trainable, fixed, images))

    return run
