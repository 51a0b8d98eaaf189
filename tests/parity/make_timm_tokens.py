"""Writes timm_tokens.npz: what timm's vision transformers give for weights drawn by NumPy.

timm needs torchvision, so run it in an environment of its own, in the repository's folder:

  pip install timm==1.0.31 torch==2.14.1 torchvision==0.29.1
  python -m tests.parity.make_timm_tokens
"""

import os
from pathlib import Path

import numpy as np
import timm.layers
import timm.models.vision_transformer
import torch

from tests.parity import vit_references as references

GOLDEN = Path(__file__).with_name("timm_tokens.npz")


def model(settings: dict) -> torch.nn.Module:
    named = dict(settings)
    if "mlp_layer" in named:
        named["mlp_layer"] = getattr(timm.layers, named["mlp_layer"])
        named["act_layer"] = getattr(torch.nn, named["act_layer"])
    transformer = timm.models.vision_transformer.VisionTransformer(
        num_classes=0, dynamic_img_size=True, **named
    ).eval()
    references.fill(transformer, "timm")
    return transformer


@torch.inference_mode()
def stages(transformer: torch.nn.Module, inputs: np.ndarray) -> dict[str, np.ndarray]:
    images = torch.from_numpy(inputs)
    found = references.stages(
        transformer.blocks[0],
        lambda: transformer.forward_features(images).numpy(),
        transformer.num_prefix_tokens,
    )
    return found | {"class_token": transformer(images).numpy()}


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    golden = {}
    for name, (settings, convention) in references.TIMM.items():
        patch = settings["patch_size"]
        kinds = {"cut": ({"depth": 2}, references.sizes(patch))}
        if name in references.LAYOUTS:
            kinds["tiny"] = references.tiny(patch)
        if name in references.FULL:
            kinds["full"] = ({}, references.sizes(patch)[:1])
        for kind, (changes, sizes) in kinds.items():
            transformer = model(settings | changes)
            for size in sizes:
                rgb = references.images(size)
                for stage, array in stages(
                    transformer, references.inputs(rgb, *convention)
                ).items():
                    golden[f"{name}/{kind}/{size[0]}x{size[1]}/{stage}"] = references.sample(array)
            print(name, kind, flush=True)
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
