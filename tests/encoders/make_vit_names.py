"""Makes vit_names.json: names and shapes of the arrays of vision transformers, of two blocks each.

They are those of timm's and of Hugging Face's own networks, with random weights, configured as
public loaders of the published encoders do it. Each in an environment of its own:

python tests/encoders/make_vit_names.py timm            with timm 1.0 (and torch, torchvision)
python tests/encoders/make_vit_names.py transformers    with transformers 5.24 (and torch)
"""

import json
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).parent / "vit_names.json"


def of_timm():
    import timm
    import torch

    swiglu = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    scaled, virchow = {"init_values": 1e-5}, {"img_size": 224, "mlp_ratio": 5.3375, **swiglu}
    giant = {"embed_dim": 1536, "num_heads": 24, "patch_size": 14, "mlp_ratio": 2.66667 * 2}
    uni2 = {**giant, **swiglu, "img_size": 224, "no_embed_class": True, "reg_tokens": 8}
    for name, architecture, options in (
        ("Lunit-S8", "vit_small_patch8_224", {}),
        ("kaiko-B16", "vit_base_patch16_224", {}),
        ("kaiko-L14", "vit_large_patch14_reg4_dinov2", {}),
        ("UNI", "vit_large_patch16_224", scaled),
        ("UNI2-h", "vit_giant_patch14_224", scaled | uni2),
        ("Virchow", "vit_huge_patch14_224", scaled | virchow),
        ("Virchow2", "vit_huge_patch14_224", scaled | virchow | {"reg_tokens": 4}),
        ("H-optimus-0", "vit_giant_patch14_reg4_dinov2", scaled | {"img_size": 224}),
        ("GigaPath", "vit_giant_patch14_dinov2", {"img_size": 224, "patch_size": 16}),
    ):
        network = timm.create_model(architecture, num_classes=0, depth=2, **options)
        yield name, {key: list(value.shape) for key, value in network.state_dict().items()}


def of_transformers():
    import transformers as hf
    from safetensors import safe_open

    large = {"hidden_size": 1024, "num_attention_heads": 16}
    giant = {"hidden_size": 1536, "num_attention_heads": 24, "use_swiglu_ffn": True}
    hibou = {**large, "use_swiglu_ffn": True, "num_register_tokens": 4}
    small = {"hidden_size": 384, "num_attention_heads": 6, "num_register_tokens": 4}
    for name, kind, options in (
        ("Phikon", "ViT", {"patch_size": 16, "image_size": 224}),
        ("Phikon-v2", "Dinov2", {**large, "patch_size": 16, "image_size": 224}),
        ("Midnight-12k", "Dinov2", {**giant, "patch_size": 14, "image_size": 224}),
        ("Hibou-L", "Dinov2WithRegisters", {**hibou, "patch_size": 14, "image_size": 224}),
        ("DINOv2-g", "Dinov2", {**giant, "patch_size": 14, "image_size": 518}),
        ("DINOv2-S-reg", "Dinov2WithRegisters", {**small, "patch_size": 14, "image_size": 518}),
    ):
        config = getattr(hf, f"{kind}Config")(num_hidden_layers=2, **options)
        network = getattr(hf, f"{kind}Model")(config)
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            with safe_open(f"{folder}/model.safetensors", "pt") as file:
                keys = list(file.keys())
                yield name, {key: list(file.get_slice(key).get_shape()) for key in keys}


if __name__ == "__main__":
    made = of_timm() if sys.argv[1] == "timm" else of_transformers()
    there = json.loads(OUT.read_text()) if OUT.exists() else {}
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted((there | dict(made)).items())]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
