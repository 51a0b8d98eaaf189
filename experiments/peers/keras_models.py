"""The three encoders as keras.applications has them, on Keras's JAX backend: crops to descriptors."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from histojax.encoders import weights

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
# A dtype policy of Keras and a precision of JAX's products, which on a GPU are TF32 unless told.
PRECISIONS = {
    "float32": ("float32", "float32"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "bfloat16"),
}


def load(name: str, model: keras.Model, variables: dict[str, Any]) -> None:
    """Copies our variables into the model: by name, and InceptionV3's, whose layers are numbered, by order."""
    layers = [layer for layer in model.layers if layer.weights]
    names = {layer.name: layer.name for layer in layers}
    if name == "Inception":
        ours = [
            f"{block}_{part}" for block, parts in weights.INCEPTION_ORDER.items() for part in parts
        ]
        for kind, ending in (
            (keras.layers.Conv2D, "conv"),
            (keras.layers.BatchNormalization, "bn"),
        ):
            theirs = [layer.name for layer in layers if isinstance(layer, kind)]
            names |= {layer: f"{mine}_{ending}" for layer, mine in zip(theirs, ours, strict=True)}
    for layer in layers:
        paths = [weights.LEAVES[weight.path.rsplit("/", 1)[-1]] for weight in layer.weights]
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
    """One jitted stateless call, without the overhead of `predict`, input convention and averages in it."""
    policy, products = PRECISIONS[precision]
    model, preprocess = build(name, variables, policy), APPLICATIONS[name][1]
    images = jnp.asarray(crops)

    @jax.jit
    def describe(trainable, fixed, images):
        inputs = preprocess(images.astype(jnp.float32), data_format="channels_last")
        maps, _ = model.stateless_call(trainable, fixed, inputs, training=False)
        averages = [
            jnp.mean(each.astype(jnp.float32), axis=(1, 2)) for each in jax.tree.leaves(maps)
        ]
        return jnp.concatenate(averages, axis=-1)

    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def run() -> np.ndarray:
        with jax.default_matmul_precision(products):
            return np.asarray(describe(trainable, fixed, images))

    return run
