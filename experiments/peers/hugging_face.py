"""Vision transformers of the table in Hugging Face's transformers: crops to descriptors.

Attention is PyTorch's scaled_dot_product_attention. Of positions that its models do not have, those
of registers are added to the registers beforehand, and the class gets zeros: the same sums.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from histojax import encoders
from histojax.encoders import vit, weights
from histojax.encoders.vit import VisionTransformer
from histojax.errors import InputError

from . import torch_models
from .torch_models import sees_gpu as sees_gpu

# Their parts of names, made ours in this order; what has a part of ours, which and of how many.
_NAMES = {
    "embeddings.patch_embeddings.projection": "patch_embedding",
    "encoder.layer.": "block",
    "layers.": "block",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "o_proj": "projection",
    ".lambda1": "",
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
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # Ours to theirs, by the number of axes.


def _model(module: VisionTransformer, side: int) -> nn.Module:
    """An untrained model of the module's geometry for square images of a side."""
    settings = {
        "hidden_size": module.width,
        "num_hidden_layers": module.depth,
        "num_attention_heads": module.heads,
        "image_size": side,
        "patch_size": module.patch,
        "layer_norm_eps": module.epsilon,
        "attn_implementation": "sdpa",
    }
    if not module.layer_scale:
        config = transformers.ViTConfig(**settings, intermediate_size=module.hidden)
        return transformers.ViTModel(config, add_pooling_layer=False)
    settings |= {"use_swiglu_ffn": module.swiglu}
    if not module.registers:
        return transformers.Dinov2Model(transformers.Dinov2Config(**settings))
    config = transformers.Dinov2WithRegistersConfig(
        **settings, num_register_tokens=module.registers
    )
    return transformers.Dinov2WithRegistersModel(config)


def _tokens(module: VisionTransformer, flat: weights.Flat, side: int) -> weights.Flat:
    """Class, registers and positions by their names."""
    prefix = module.own_positions
    positions = flat["params/position_embedding"]
    cells = side // module.patch
    patches = vit.resample_positions(positions[prefix:], cells, cells, module.resampling)
    own = np.zeros((1 + module.registers, module.width), np.float32)
    own[:prefix] = positions[:prefix]
    found = {
        "cls_token": flat["params/class_token"][None],
        "position_embeddings": np.concatenate([own[:1], patches])[None],
    }
    if module.registers:
        found["register_tokens"] = (flat["params/register_tokens"] + own[1:])[None]
    return {f"embeddings.{name}": array for name, array in found.items()}


def _state(
    module: VisionTransformer, network: nn.Module, flat: weights.Flat, side: int
) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """The model's tensors, and what is to be in them."""
    tokens = _tokens(module, flat, side)
    for theirs, tensor in network.state_dict().items():
        if theirs in tokens:
            yield tensor, tokens[theirs]
        elif "mask_token" not in theirs:
            name, part, parts = theirs, 0, 1
            for before, after in _NAMES.items():
                name = name.replace(before, after)
            for before, (after, which, count) in _PARTS.items():
                if before in name:
                    name, part, parts = name.replace(before, after), which, count
            leaf = "scale" if tensor.ndim == 1 else "kernel"
            array = flat["params/" + name.replace("weight", leaf).replace(".", "/")]
            yield tensor, np.split(array, parts, axis=-1)[part].transpose(_AXES[tensor.ndim])


class _Descriptors(nn.Module):
    """uint8 [N, H, W, 3] to float32 [N, D]."""

    def __init__(self, encoder: encoders.Encoder, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network, dtype
        self.taps = tuple(tap.layer for tap in encoder.outputs)
        self.front = 1 + encoder.module.registers
        convention = encoder.convention
        self.register_buffer("mean", torch.tensor(convention.mean).reshape(1, 3, 1, 1))
        self.register_buffer("divisor", torch.tensor(convention.divisor).reshape(1, 3, 1, 1))

    def forward(self, images):
        x = ((images.permute(0, 3, 1, 2).float() - self.mean) / self.divisor).to(self.dtype)
        tokens = self.network(x).last_hidden_state.float()
        found = {"class_token": tokens[:, 0], "patch_mean": tokens[:, self.front :].mean(1)}
        return torch.cat([found[tap] for tap in self.taps], 1)


def descriptor(
    name: str,
    variables: dict[str, Any],
    precision: str,
    crops: np.ndarray,
    gpu: bool,
    compiled: bool = False,
) -> Callable[[], np.ndarray]:
    """Our variables in the model of that geometry, for crops of one side."""
    encoder = encoders.get(name)
    if not isinstance(encoder.module, VisionTransformer):
        raise InputError(f"{name} is no vision transformer of the table")
    side = crops.shape[1]
    network = _model(encoder.module, side)
    for tensor, array in _state(encoder.module, network, weights.to_flat(variables), side):
        tensor.copy_(torch.from_numpy(np.array(array)))
    model = _Descriptors(encoder, network, torch_models.DTYPES[precision])
    model.network.to(torch_models.DTYPES[precision])
    return torch_models.timed(model, precision, crops, gpu, compiled)
