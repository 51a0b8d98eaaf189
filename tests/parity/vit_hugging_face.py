"""The vision transformers of Hugging Face's transformers, with weights drawn by NumPy."""

import numpy as np
import torch
import transformers

from tests.parity import vit_references as references


def model(kind: str, settings: dict) -> torch.nn.Module:
    """`kind` is ViT, Dinov2 or Dinov2WithRegisters; `settings` are those of its config."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    network = getattr(transformers, f"{kind}Model")(config).eval()
    references.fill(network, "hf")
    return network


@torch.inference_mode()
def stages(network: torch.nn.Module, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The stages of `test_vit` for inputs [N, 3, H, W]."""
    is_plain = isinstance(network, transformers.ViTModel)
    first = (network.layers if is_plain else network.encoder.layer)[0]
    ways = {"interpolate_pos_encoding": True} if is_plain else {}
    before = 1 + getattr(network.config, "num_register_tokens", 0)

    def tokens() -> np.ndarray:
        return network(torch.from_numpy(inputs), **ways).last_hidden_state.numpy()

    return references.stages(first, tokens, before)
