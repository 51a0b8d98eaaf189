"""The vision transformers of pathology, in one literal table; DINOv2 of natural images, a control.

As public loaders and the models' own code have them, which third_party/README.md names. What was
inferred is said in a row's `published.inferred`: there the file decides. Weights are neither here
nor downloaded: most are had by registered users alone.
"""

from histojax.encoders.encoder import Encoder, Tap
from histojax.encoders.inputs import TORCHVISION, InputConvention, NativeView
from histojax.encoders.sources import Published
from histojax.encoders.vit import VisionTransformer
from histojax.encoders.weight_files import vit_layouts as names
from histojax.encoders.weight_files.layouts import Layout


def _standardised(mean: tuple[float, ...], deviation: tuple[float, ...]) -> InputConvention:
    """For a mean and deviation of values in 0..1."""
    return InputConvention(tuple(255 * m for m in mean), tuple(255 * d for d in deviation))


_HALF = _standardised((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_LUNIT = _standardised((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
_OPTIMUS = _standardised((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HIBOU = _standardised((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

_BILINEAR = NativeView(mpp=0.5, crop_size=224, input_size=224, resize_filter="bilinear")
_BICUBIC = NativeView(mpp=0.5, crop_size=224, input_size=224, resize_filter="bicubic")
# Tiles of 256 px, in whose middle the input lies.
_GIGAPATH = NativeView(0.5, 256, 224, "bicubic", resized=256)

# Geometries; rows add the patch, the grid of positions, registers and where these come in.
_S = {"width": 384, "depth": 12, "heads": 6, "hidden": 1536}
_B = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072}
_L = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}
_H = {"width": 1280, "depth": 32, "heads": 16, "hidden": 3416, "swiglu": True}
_G = {"width": 1536, "depth": 40, "heads": 24, "hidden": 4096, "swiglu": True}
_SWIGLU_B = _B | {"hidden": 2048, "swiglu": True}
_SWIGLU_L = _L | {"hidden": 2736, "swiglu": True}
_UNI2 = _G | {"depth": 24}

_KAIKO = "kaiko_ai_towards_large_pathology_fms"
_SAFETENSORS = ("model.safetensors", "pytorch_model.bin")
_BIN = ("pytorch_model.bin", "model.safetensors")
# Licences and what they forbid.
_LUNIT_NC = ("Lunit's own", "non-commercial")
_KAIKO_NC = ("kaiko's own", "non-commercial")
_OWKIN_NC = ("Owkin's own", "non-commercial")
_CC = ("CC BY-NC-ND 4.0", "non-commercial, no derivatives")
_APACHE = ("Apache-2.0", "")
_GRANTED = "access is granted on request"
_ACCEPTED = "its conditions must be accepted"
# No gate; what was inferred.
_FILTER = ("", "resize filter")
_GRID = ("", "grid of positions")
_GRID_AND_FILTER = ("", "grid of positions, resize filter")

_CLASS = ("class_token",)
_CLASS_AND_PATCHES = ("class_token", "patch_mean")


def _row(
    name: str,
    module: VisionTransformer,
    convention: InputConvention,
    native: NativeView,
    published: Published,
    layouts: tuple[Layout, ...] = (names.TIMM,),
    tokens: tuple[str, ...] = _CLASS,
) -> Encoder:
    """A row; `tokens` are what the descriptor consists of, in this order."""
    return Encoder(
        name=name,
        module=module,
        outputs=tuple(Tap(token, module.width, stride=0, signed=True) for token in tokens),
        convention=convention,
        last_block=(f"block{module.depth - 1}", "norm"),
        layouts=layouts,
        native=native,
        published=published,
    )


ROWS = (
    _row(
        "Lunit-S8",
        VisionTransformer(**_S, patch=8, grid=28, layer_scale=False),
        _LUNIT,
        _BICUBIC,
        Published("1aurent/vit_small_patch8_224.lunit_dino", _SAFETENSORS, *_LUNIT_NC, *_FILTER),
    ),
    _row(
        "Lunit-S16",
        VisionTransformer(**_S, patch=16, grid=14, layer_scale=False),
        _LUNIT,
        _BICUBIC,
        Published("1aurent/vit_small_patch16_224.lunit_dino", _SAFETENSORS, *_LUNIT_NC, *_FILTER),
    ),
    _row(
        "kaiko-S8",
        VisionTransformer(**_S, patch=8, grid=28, layer_scale=False),
        _HALF,
        _BILINEAR,
        Published(f"1aurent/vit_small_patch8_224.{_KAIKO}", _SAFETENSORS, *_KAIKO_NC),
    ),
    _row(
        "kaiko-S16",
        VisionTransformer(**_S, patch=16, grid=14, layer_scale=False),
        _HALF,
        _BILINEAR,
        Published(f"1aurent/vit_small_patch16_224.{_KAIKO}", _SAFETENSORS, *_KAIKO_NC),
    ),
    _row(
        "kaiko-B8",
        VisionTransformer(**_B, patch=8, grid=28, layer_scale=False),
        _HALF,
        _BILINEAR,
        Published(f"1aurent/vit_base_patch8_224.{_KAIKO}", _SAFETENSORS, *_KAIKO_NC),
    ),
    _row(
        "kaiko-B16",
        VisionTransformer(**_B, patch=16, grid=14, layer_scale=False),
        _HALF,
        _BILINEAR,
        Published(f"1aurent/vit_base_patch16_224.{_KAIKO}", _SAFETENSORS, *_KAIKO_NC),
    ),
    _row(
        "kaiko-L14",
        VisionTransformer(**_L, patch=14, grid=37, registers=4, positions="patches"),
        _HALF,
        _BILINEAR,
        Published(f"1aurent/vit_large_patch14_reg4_224.{_KAIKO}", _SAFETENSORS, *_KAIKO_NC),
    ),
    _row(
        "Phikon",
        VisionTransformer(
            **_B, patch=16, grid=14, layer_scale=False, resampling="plain", epsilon=1e-12
        ),
        TORCHVISION,
        _BILINEAR,
        Published("owkin/phikon", _SAFETENSORS, *_OWKIN_NC),
        layouts=(names.HF_VIT,),
    ),
    _row(
        "Phikon-v2",
        VisionTransformer(**_L, patch=16, grid=14, resampling="plain"),
        TORCHVISION,
        _BICUBIC,
        Published("owkin/phikon-v2", _SAFETENSORS, *_OWKIN_NC, *_GRID_AND_FILTER),
        layouts=(names.HF_DINOV2,),
    ),
    _row(
        "UNI",
        VisionTransformer(**_L, patch=16, grid=14),
        TORCHVISION,
        _BILINEAR,
        Published("MahmoodLab/UNI", _BIN, *_CC, _GRANTED),
    ),
    _row(
        "UNI2-h",
        VisionTransformer(**_UNI2, patch=14, grid=16, registers=8, positions="patches"),
        TORCHVISION,
        _BILINEAR,
        Published("MahmoodLab/UNI2-h", _BIN, *_CC, _GRANTED),
    ),
    _row(
        "Virchow",
        VisionTransformer(**_H, patch=14, grid=16),
        TORCHVISION,
        _BICUBIC,
        Published("paige-ai/Virchow", _BIN, *_APACHE, _GRANTED),
        tokens=_CLASS_AND_PATCHES,
    ),
    _row(
        "Virchow2",
        VisionTransformer(
            **_H, patch=14, grid=16, registers=4, positions="class+registers+patches"
        ),
        TORCHVISION,
        _BICUBIC,
        Published("paige-ai/Virchow2", _BIN, *_CC, _GRANTED),
        tokens=_CLASS_AND_PATCHES,
    ),
    _row(
        "H-optimus-0",
        VisionTransformer(**_G, patch=14, grid=16, registers=4, positions="patches"),
        _OPTIMUS,
        _BICUBIC,
        Published("bioptimus/H-optimus-0", _BIN, *_APACHE, _ACCEPTED),
    ),
    _row(
        "H-optimus-1",
        VisionTransformer(**_G, patch=14, grid=16, registers=4, positions="patches"),
        _OPTIMUS,
        _BICUBIC,
        Published("bioptimus/H-optimus-1", _BIN, *_CC, _ACCEPTED),
    ),
    _row(
        "GigaPath",
        VisionTransformer(**_G, patch=16, grid=14),
        TORCHVISION,
        _GIGAPATH,
        Published("prov-gigapath/prov-gigapath", _BIN, *_APACHE, _ACCEPTED),
    ),
    _row(
        "Hibou-B",
        VisionTransformer(**_SWIGLU_B, patch=14, grid=16, registers=4),
        _HIBOU,
        _BICUBIC,
        Published("histai/hibou-b", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2_SWIGLU, names.DINOV2_SWIGLU),
    ),
    _row(
        "Hibou-L",
        VisionTransformer(**_SWIGLU_L, patch=14, grid=16, registers=4),
        _HIBOU,
        _BICUBIC,
        Published("histai/hibou-L", _SAFETENSORS, *_APACHE, _ACCEPTED),
        layouts=(names.HF_DINOV2_SWIGLU, names.DINOV2_SWIGLU),
    ),
    _row(
        "Midnight-12k",
        VisionTransformer(**_G, patch=14, grid=16, resampling="plain"),
        _HALF,
        _BILINEAR,
        Published("kaiko-ai/midnight", _SAFETENSORS, "MIT", "", *_GRID),
        layouts=(names.HF_DINOV2_SWIGLU,),
        tokens=_CLASS_AND_PATCHES,
    ),
    _row(
        "DINOv2-S",
        VisionTransformer(**_S, patch=14, grid=37, resampling="plain"),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-small", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-S-reg",
        VisionTransformer(**_S, patch=14, grid=37, registers=4),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-with-registers-small", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-B",
        VisionTransformer(**_B, patch=14, grid=37, resampling="plain"),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-base", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-B-reg",
        VisionTransformer(**_B, patch=14, grid=37, registers=4),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-with-registers-base", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-L",
        VisionTransformer(**_L, patch=14, grid=37, resampling="plain"),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-large", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-L-reg",
        VisionTransformer(**_L, patch=14, grid=37, registers=4),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-with-registers-large", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2, names.DINOV2),
    ),
    _row(
        "DINOv2-g",
        VisionTransformer(**_G, patch=14, grid=37, resampling="plain"),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-giant", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2_SWIGLU, names.DINOV2_SWIGLU),
    ),
    _row(
        "DINOv2-g-reg",
        VisionTransformer(**_G, patch=14, grid=37, registers=4),
        TORCHVISION,
        _BICUBIC,
        Published("facebook/dinov2-with-registers-giant", _SAFETENSORS, *_APACHE),
        layouts=(names.HF_DINOV2_SWIGLU, names.DINOV2_SWIGLU),
    ),
)
