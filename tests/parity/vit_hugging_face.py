"""The vision transformers of Hugging Face's transformers, with weights drawn by NumPy."""

import numpy as np
import torch
import transformers

from tests.parity import vit_references as references


def model(kind: str, settings: dict) -> torch.nn.Module:
    """`kind` is ViT, Dinov2 or Dinov2WithRegisters; `settings` are those of its config."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    network = getattr(transformers, f"{kind}Model")(config).eval()
    state = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for name, array in references.state(shapes, "hf"):
        state[name].copy_(torch.from_numpy(array))
    return network


@torch.inference_mode()
def stages(network: torch.nn.Module, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The stages of `test_vit` for inputs [N, 3, H, W]."""
    found = {}

    def embedded(_, arguments):
        found["embedded"] = arguments[0].numpy().copy()

    def after(_, arguments, output):
        found["block0"] = (output[0] if isinstance(output, tuple) else output).numpy().copy()

    is_plain = isinstance(network, transformers.ViTModel)
    first = (network.layers if is_plain else network.encoder.layer)[0]
    hooks = first.register_forward_pre_hook(embedded), first.register_forward_hook(after)
    ways = {"interpolate_pos_encoding": True} if is_plain else {}
    found["tokens"] = network(torch.from_numpy(inputs), **ways).last_hidden_state.numpy()
    for hook in hooks:
        hook.remove()
    registers = getattr(network.config, "num_register_tokens", 0)
    found["class_token"] = found["tokens"][:, 0]
    found["patch_mean"] = found["tokens"][:, 1 + registers :].mean(axis=1)
    return found
