"""Vision transformers of timm and transformers: what they are made with, names, seeded weights.

NumPy alone, since timm and transformers each run in an environment without JAX; their models come
as arguments.

The settings are those of the published loaders and `config.json`s; our rows are not consulted.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Sizes = tuple[tuple[int, int], tuple[int, int]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

_S = {"embed_dim": 384, "depth": 12, "num_heads": 6}
_B = {"embed_dim": 768, "depth": 12, "num_heads": 12}
_L = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_H = {"embed_dim": 1280, "depth": 32, "num_heads": 16}
_G = {"embed_dim": 1536, "depth": 40, "num_heads": 24}
_SCALE = {"init_values": 1e-5}
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU", **_SCALE}
_G_MLP = {"mlp_ratio": 5.33334, **_SWIGLU}

# Arguments of timm.models.VisionTransformer, by our row; and mean and deviation of its input.
TIMM = {
    "Lunit-S8": ({"patch_size": 8, **_S}, LUNIT),
    "Lunit-S16": ({"patch_size": 16, **_S}, LUNIT),
    "kaiko-S8": ({"patch_size": 8, **_S}, HALF),
    "kaiko-S16": ({"patch_size": 16, **_S}, HALF),
    "kaiko-B8": ({"patch_size": 8, **_B}, HALF),
    "kaiko-B16": ({"patch_size": 16, **_B}, HALF),
    "kaiko-L14": (
        {
            "img_size": 518,
            "patch_size": 14,
            "reg_tokens": 4,
            "no_embed_class": True,
            **_L,
            **_SCALE,
        },
        HALF,
    ),
    "UNI": ({"patch_size": 16, **_L, **_SCALE}, IMAGENET),
    "UNI2-h": (
        {"patch_size": 14, "reg_tokens": 8, "no_embed_class": True, **_G, **_G_MLP, "depth": 24},
        IMAGENET,
    ),
    "Virchow": ({"patch_size": 14, "mlp_ratio": 5.3375, **_H, **_SWIGLU}, IMAGENET),
    "Virchow2": (
        {"patch_size": 14, "mlp_ratio": 5.3375, "reg_tokens": 4, **_H, **_SWIGLU},
        IMAGENET,
    ),
    "H-optimus-0": (
        {"patch_size": 14, "reg_tokens": 4, "no_embed_class": True, **_G, **_G_MLP},
        OPTIMUS,
    ),
    "GigaPath": ({"patch_size": 16, **_G, **_G_MLP}, IMAGENET),
}
TIMM["H-optimus-1"] = TIMM["H-optimus-0"]
LAYOUTS = ("Lunit-S16", "UNI", "UNI2-h", "Virchow2")  # One of each, for the fast tests.
FULL = ("Lunit-S16", "UNI", "Virchow2", "H-optimus-0")  # One of each width at its whole depth.


def _hf(width: int, depth: int, heads: int, side: int, patch: int = 14, **others) -> dict:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "image_size": side,
        "patch_size": patch,
        **others,
    }


# The model of transformers, arguments of its config, mean and deviation of its input.
HUGGING_FACE = {
    "Phikon": ("ViT", _hf(768, 12, 12, 224, 16, intermediate_size=3072), IMAGENET),
    "Phikon-v2": ("Dinov2", _hf(1024, 24, 16, 224, 16), IMAGENET),
    "Midnight-12k": ("Dinov2", _hf(1536, 40, 24, 224, use_swiglu_ffn=True), HALF),
    "Hibou-B": ("Dinov2WithRegisters", _hf(768, 12, 12, 224, use_swiglu_ffn=True), HIBOU),
    "Hibou-L": ("Dinov2WithRegisters", _hf(1024, 24, 16, 224, use_swiglu_ffn=True), HIBOU),
    "DINOv2-S": ("Dinov2", _hf(384, 12, 6, 518), IMAGENET),
    "DINOv2-B": ("Dinov2", _hf(768, 12, 12, 518), IMAGENET),
    "DINOv2-L": ("Dinov2", _hf(1024, 24, 16, 518), IMAGENET),
    "DINOv2-g": ("Dinov2", _hf(1536, 40, 24, 518, use_swiglu_ffn=True), IMAGENET),
}
_REGISTERED = ("DINOv2-S", "DINOv2-B", "DINOv2-L", "DINOv2-g")
HUGGING_FACE |= {
    f"{name}-reg": ("Dinov2WithRegisters", *HUGGING_FACE[name][1:]) for name in _REGISTERED
}

# Their parts of names to ours, in this order; and which of how many equal parts of ours it is.
_TIMM_NAMES = {
    "cls_token": "class_token",
    "reg_token": "register_tokens",
    "pos_embed": "position_embedding",
    "patch_embed.proj": "patch_embedding",
    "blocks.": "block",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "ls1.gamma": "layer_scale1",
    "ls2.gamma": "layer_scale2",
    "fc1": "in",
    "fc2": "out",
}
_HUGGING_FACE_NAMES = {
    "embeddings.patch_embeddings.projection": "patch_embedding",
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.": "",
    "encoder.layer.": "block",
    "layers.": "block",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "o_proj": "projection",
    "layer_scale1.lambda1": "layer_scale1",
    "layer_scale2.lambda1": "layer_scale2",
    "fc1": "in",
    "fc2": "out",
    "down_proj": "out",
}
_PARTS = {
    "q_proj": ("qkv", 0, 3),
    "k_proj": ("qkv", 1, 3),
    "v_proj": ("qkv", 2, 3),
    "gate_proj": ("in", 0, 2),
    "up_proj": ("in", 1, 2),
}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A variable as training might leave it, by our flat name and shape."""
    generator = np.random.Generator(np.random.PCG64([17, zlib.crc32(name.encode())]))
    uniform = generator.random(shape, np.float32)
    last = name.rpartition("/")[2]
    if last == "kernel":
        return (2 * uniform - 1) * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    if last in ("scale", "layer_scale1", "layer_scale2"):
        return uniform + np.float32(0.5)
    if last == "bias":
        return np.float32(0.2) * uniform - np.float32(0.1)
    return (2 * uniform - 1) * np.float32(np.sqrt(3))


def state(shapes: Mapping[str, tuple[int, ...]], names: str) -> Iterator[tuple[str, np.ndarray]]:
    """The drawn variables as PyTorch's modules have them, by the names and shapes of a model.

    `names` is `timm` or `hf`. What we have no variable for (a pooler, a mask token) is left out.
    """
    table = _TIMM_NAMES if names == "timm" else _HUGGING_FACE_NAMES
    for theirs, shape in shapes.items():
        if "mask_token" in theirs or "pooler" in theirs:
            continue
        ours, part, parts = theirs, 0, 1
        for before, after in table.items():
            ours = ours.replace(before, after)
        for before, (after, which, count) in _PARTS.items():
            if before in ours:
                ours, part, parts = ours.replace(before, after), which, count
        kind = {1: "scale", 2: "kernel", 4: "kernel"}.get(len(shape), "")
        ours = f"params/{ours}".replace("weight", kind).replace(".", "/")
        axes = {1: (0,), 2: (1, 0), 3: (1, 2), 4: (2, 3, 1, 0)}[len(shape)]
        expected = [shape[axis] for axis in axes]
        expected[-1] *= parts
        array = np.split(draw(ours, tuple(expected)), parts, axis=-1)[part]
        back = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
        yield theirs, array[None] if len(shape) == 3 else array.transpose(back[len(shape)])


def fill(network: Any, names: str) -> None:
    """Puts the drawn variables into a model of PyTorch; `names` as for `state`."""
    tensors = network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, array in state(shapes, names):
        tensors[name].numpy()[...] = array


def stages(first: Any, tokens: Callable[[], np.ndarray], before: int) -> dict[str, np.ndarray]:
    """The stages of `test_vit`, of a model of PyTorch.

    Args:
      first: its first block.
      tokens: runs the model: [N, T, D].
      before: how many tokens there are before the patches.
    """
    found = {}

    def embedded(_, arguments):
        found["embedded"] = arguments[0].numpy().copy()

    def after(_, arguments, output):
        found["block0"] = (output[0] if isinstance(output, tuple) else output).numpy().copy()

    hooks = first.register_forward_pre_hook(embedded), first.register_forward_hook(after)
    found["tokens"] = tokens()
    for hook in hooks:
        hook.remove()
    found["class_token"] = found["tokens"][:, 0]
    found["patch_mean"] = found["tokens"][:, before:].mean(axis=1)
    return found


def sizes(patch: int) -> Sizes:
    """224 px, and another size, not square, of fewer rows and more columns."""
    return (224, 224), (12 * patch, 20 * patch) if patch > 8 else (24 * patch, 30 * patch)


def tiny(patch: int) -> tuple[dict, Sizes]:
    """timm's arguments for a network that fast tests can run, and two sizes of image for it."""
    changes = {"embed_dim": 32, "num_heads": 2, "depth": 2, "img_size": 4 * patch}
    return changes, ((4 * patch, 4 * patch), (3 * patch, 5 * patch))


def images(size: tuple[int, int], count: int = 2) -> np.ndarray:
    """Noise in coarse squares, uint8 [N, H, W, 3]."""
    generator = np.random.Generator(np.random.PCG64(5))
    coarse = generator.random((count, -(-size[0] // 7), -(-size[1] // 7), 3))
    fine = np.repeat(np.repeat(coarse, 7, axis=1), 7, axis=2)[:, : size[0], : size[1]]
    return np.round(255 * (0.7 * fine + 0.3 * generator.random(fine.shape))).astype(np.uint8)


def inputs(rgb: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> np.ndarray:
    """As torchvision's ToTensor and Normalize have them: float32 [N, 3, H, W]."""
    scaled = rgb.astype(np.float32) / np.float32(255)
    normal = (scaled - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def sample(array: np.ndarray, count: int = 100) -> np.ndarray:
    """So many entries, spread over an array; all of a smaller one."""
    flat = np.asarray(array, np.float32).ravel()
    if flat.size <= count:
        return flat
    return flat[np.random.Generator(np.random.PCG64(9)).integers(0, flat.size, count)]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The norm of the difference over the norm of theirs."""
    ours, theirs = (np.asarray(array, np.float64) for array in (ours, theirs))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
