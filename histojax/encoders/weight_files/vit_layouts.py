"""How files name the arrays of a vision transformer: timm, Hugging Face's transformers, DINOv2.

A `*` stands for the number of a block. Heads, poolers and the token of masked patches are left out.
"""

from collections.abc import Mapping

from histojax.encoders.layers import Shapes
from histojax.encoders.weight_files import layouts
from histojax.encoders.weight_files.layouts import Layout

# Leaves of PyTorch's layers to ours, of a product and of a norm.
_PRODUCT = {"weight": "kernel", "bias": "bias"}
_NORM = {"weight": "scale", "bias": "bias"}


def _leaves(layers: Mapping[str, str], leaves: Mapping[str, str]) -> dict[str, str]:
    """Layers of a file to ours, as arrays to arrays."""
    return {
        f"{theirs}.{leaf}": f"{ours}/{our_leaf}"
        for theirs, ours in layers.items()
        for leaf, our_leaf in leaves.items()
    }


_TIMM = {
    "cls_token": "class_token",
    "reg_token": "register_tokens",
    "pos_embed": "position_embedding",
    "blocks.*.ls1.gamma": "block*/layer_scale1",
    "blocks.*.ls2.gamma": "block*/layer_scale2",
}
_TIMM |= _leaves(
    {
        "patch_embed.proj": "patch_embedding",
        "blocks.*.attn.qkv": "block*/attention/qkv",
        "blocks.*.attn.proj": "block*/attention/projection",
        "blocks.*.mlp.fc1": "block*/mlp/in",
        "blocks.*.mlp.fc2": "block*/mlp/out",
    },
    _PRODUCT,
)
_TIMM |= _leaves(
    {"blocks.*.norm1": "block*/norm1", "blocks.*.norm2": "block*/norm2", "norm": "norm"}, _NORM
)

# What DINOv2 itself, and Hibou's own release, call otherwise than timm.
_RENAMED = {"reg_token": "register_tokens"}
_RENAMED_SWIGLU = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3."}

# Of both of Hugging Face's; query, key and value are parts of one array of ours.
_HF = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "position_embedding",
}
_HF |= _leaves(
    {
        "embeddings.patch_embeddings.projection": "patch_embedding",
        "encoder.layer.*.attention.attention.query": "block*/attention/qkv",
        "encoder.layer.*.attention.attention.key": "block*/attention/qkv",
        "encoder.layer.*.attention.attention.value": "block*/attention/qkv",
        "encoder.layer.*.attention.output.dense": "block*/attention/projection",
    },
    _PRODUCT,
)
_HF |= _leaves({"layernorm": "norm"}, _NORM)

_HF_VIT = _leaves(
    {
        "encoder.layer.*.intermediate.dense": "block*/mlp/in",
        "encoder.layer.*.output.dense": "block*/mlp/out",
    },
    _PRODUCT,
) | _leaves(
    {
        "encoder.layer.*.layernorm_before": "block*/norm1",
        "encoder.layer.*.layernorm_after": "block*/norm2",
    },
    _NORM,
)
_HF_DINOV2 = {
    "embeddings.register_tokens": "register_tokens",
    "encoder.layer.*.layer_scale1.lambda1": "block*/layer_scale1",
    "encoder.layer.*.layer_scale2.lambda1": "block*/layer_scale2",
}
_HF_DINOV2 |= _leaves(
    {"encoder.layer.*.norm1": "block*/norm1", "encoder.layer.*.norm2": "block*/norm2"}, _NORM
)
_HF_DINOV2 |= _leaves(
    {"encoder.layer.*.mlp.fc1": "block*/mlp/in", "encoder.layer.*.mlp.fc2": "block*/mlp/out"},
    _PRODUCT,
)
_HF_SWIGLU = {"mlp.fc1.": "mlp.weights_in.", "mlp.fc2.": "mlp.weights_out."}


def _renamed(names: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Names of a file with parts of them replaced."""
    changed = {}
    for theirs, ours in names.items():
        for part, new in parts.items():
            theirs = theirs.replace(part, new)
        changed[theirs] = ours
    return changed


def _layout(name: str, names: Mapping[str, str], top: str) -> Layout:
    def table(shapes: Shapes) -> dict[str, str]:
        depth = sum(flat_name.endswith("/norm1/scale") for flat_name in shapes)
        found = {}
        for theirs, ours in names.items():
            for i in range(depth if "*" in theirs else 1):
                flat_name = f"params/{ours}".replace("*", str(i))
                if flat_name in shapes:
                    found[theirs.replace("*", str(i))] = flat_name
        return found

    assign = layouts.by_table(table, top=top)
    return Layout(name, assign, output_first=True, of_one_image=True)


_TOP, _HF_TOP = r"head\.|mask_token$", r"(pooler|classifier)\.|embeddings\.mask_token$"

TIMM = _layout("timm", _TIMM, _TOP)
DINOV2 = _layout("DINOv2", _renamed(_TIMM, _RENAMED), _TOP)
DINOV2_SWIGLU = _layout("DINOv2", _renamed(_TIMM, _RENAMED | _RENAMED_SWIGLU), _TOP)
HF_VIT = _layout("Hugging Face's ViT", _HF | _HF_VIT, _HF_TOP)
HF_DINOV2 = _layout("Hugging Face's DINOv2", _HF | _HF_DINOV2, _HF_TOP)
HF_DINOV2_SWIGLU = _layout("Hugging Face's DINOv2", _HF | _renamed(_HF_DINOV2, _HF_SWIGLU), _HF_TOP)
