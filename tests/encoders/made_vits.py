"""Tiny vision transformers, and files of them as each library or publisher names the arrays."""

import dataclasses

import numpy as np

from histojax import encoders
from histojax.encoders import weights

# A row of each way that files name arrays, with another MLP, other registers and positions.
LAYOUTS = {
    "timm": "Virchow2",
    "timm without scale": "Lunit-S16",
    "Hugging Face's ViT": "Phikon",
    "Hugging Face's DINOv2": "DINOv2-S-reg",
    "Hugging Face's DINOv2, SwiGLU": "Hibou-B",
    "DINOv2's own": "DINOv2-g-reg",
}


def tiny(name: str) -> encoders.Encoder:
    """A row with a network of width 8 and two blocks, for images of 28 px."""
    row = encoders.get(name)
    module = row.module.clone(width=8, depth=2, heads=2, hidden=12, patch=7, grid=4)
    outputs = tuple(dataclasses.replace(tap, channels=8) for tap in row.outputs)
    native = dataclasses.replace(row.native, crop_size=28, input_size=28, resized=0)
    return dataclasses.replace(row, module=module, outputs=outputs, native=native)


def drawn(encoder: encoders.Encoder) -> weights.Flat:
    """Variables by flat name, none alike."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=s).astype("f") for name, s in weights.shapes(encoder).items()}


def as_file(way: str, flat: weights.Flat) -> dict[str, np.ndarray]:
    """As the library or publisher of a layout names and lays out arrays."""
    file = {}
    for name, array in flat.items():
        block, _, rest = name.removeprefix("params/").partition("/")
        number = block.removeprefix("block") if block[:5] == "block" else None
        path = name.removeprefix("params/") if number is None else rest
        layer, _, leaf = path.rpartition("/")
        if leaf not in ("kernel", "bias", "scale"):
            layer, leaf = path, ""
        if leaf == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if path.endswith(("_token", "_tokens", "position_embedding")):
            array = array[None]
        for theirs, part in NAMES[way](layer, array):
            ending = {"kernel": ".weight", "scale": ".weight", "bias": ".bias", "": ""}[leaf]
            file[theirs.replace("*", number or "") + ending] = part
    return file


def _timm(layer, array, renamed=lambda name: name):
    own = {
        "patch_embedding": "patch_embed.proj",
        "class_token": "cls_token",
        "register_tokens": "reg_token",
        "position_embedding": "pos_embed",
        "norm": "norm",
        "norm1": "blocks.*.norm1",
        "norm2": "blocks.*.norm2",
        "attention/qkv": "blocks.*.attn.qkv",
        "attention/projection": "blocks.*.attn.proj",
        "layer_scale1": "blocks.*.ls1.gamma",
        "layer_scale2": "blocks.*.ls2.gamma",
        "mlp/in": "blocks.*.mlp.fc1",
        "mlp/out": "blocks.*.mlp.fc2",
    }
    return [(renamed(own[layer]), array)]


def _dinov2(layer, array):
    names = {"reg_token": "register_tokens"}
    names |= {"blocks.*.mlp.fc1": "blocks.*.mlp.w12", "blocks.*.mlp.fc2": "blocks.*.mlp.w3"}
    return _timm(layer, array, lambda name: names.get(name, name))


def _hugging_face(mlp, norms):
    own = {
        "patch_embedding": "embeddings.patch_embeddings.projection",
        "class_token": "embeddings.cls_token",
        "register_tokens": "embeddings.register_tokens",
        "position_embedding": "embeddings.position_embeddings",
        "norm": "layernorm",
        "norm1": f"encoder.layer.*.{norms[0]}",
        "norm2": f"encoder.layer.*.{norms[1]}",
        "attention/projection": "encoder.layer.*.attention.output.dense",
        "layer_scale1": "encoder.layer.*.layer_scale1.lambda1",
        "layer_scale2": "encoder.layer.*.layer_scale2.lambda1",
        "mlp/in": f"encoder.layer.*.{mlp[0]}",
        "mlp/out": f"encoder.layer.*.{mlp[1]}",
    }

    def names(layer, array):
        if layer != "attention/qkv":
            return [(own[layer], array)]
        parts = zip(("query", "key", "value"), np.split(array, 3), strict=True)
        return [(f"encoder.layer.*.attention.attention.{name}", part) for name, part in parts]

    return names


NAMES = {
    "timm": _timm,
    "timm without scale": _timm,
    "Hugging Face's ViT": _hugging_face(
        ("intermediate.dense", "output.dense"), ("layernorm_before", "layernorm_after")
    ),
    "Hugging Face's DINOv2": _hugging_face(("mlp.fc1", "mlp.fc2"), ("norm1", "norm2")),
    "Hugging Face's DINOv2, SwiGLU": _hugging_face(
        ("mlp.weights_in", "mlp.weights_out"), ("norm1", "norm2")
    ),
    "DINOv2's own": _dinov2,
}


# What such files have beside the network, and we do not need.
BESIDE = {
    "timm": "head.weight",
    "timm without scale": "head.bias",
    "Hugging Face's ViT": "pooler.dense.weight",
    "Hugging Face's DINOv2": "embeddings.mask_token",
    "Hugging Face's DINOv2, SwiGLU": "embeddings.mask_token",
    "DINOv2's own": "mask_token",
}
