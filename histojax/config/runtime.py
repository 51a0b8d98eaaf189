"""Where and how the work is done, which changes no result."""

import dataclasses
from pathlib import Path
from typing import Any

from histojax.config.options import option


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Where and how descriptors are computed; nothing in it decides what they are.

    Attributes:
      devices: JAX devices that share the work; None for all local ones.
      weight_files: (encoder, file) pairs: files that weights are taken from, in place of the
        official ones. What they hold is recorded by its SHA-256.
    """

    devices: tuple[Any, ...] | None = None
    crops_per_step: int | None = option(
        None,
        "Crops (or whole images, in crop mode hybrid) that go through an encoder at a time, on all "
        "devices together. Default: what memory allows, tried once and remembered in the cache; "
        "on a CPU eight small crops or a large one a core, which is fastest there.",
        least=1,
    )
    pooling: str | None = option(
        None,
        "What pools feature maps: xla, or the fused kernel pallas, for crop mode exact on a GPU "
        "(interpreted, so slow, on a CPU). Default: xla, unless histojax accelerator measured on "
        "this kind of device that every encoder is faster with pallas.",
        choices=("xla", "pallas"),
    )
    xla_preset: str = option(
        "none",
        "XLA's flags for the encoders' programs on a GPU, by preset: nhwc, channels last in "
        "float32 and tf32 before Hopper; cublas, matrix products by cuBLAS; triton, by Triton; "
        "tiling, the same with every tiling tried, which takes long. histojax accelerator measures "
        "which is faster.",
        choices=("none", "nhwc", "cublas", "triton", "tiling"),
    )
    cache: Path | None = option(
        None,
        "Folder for weights and for what was found out about devices. Default: $HISTOJAX_CACHE, or "
        "~/.cache/histojax.",
    )
    weights_dir: Path | None = option(
        None,
        "Folder with files of weights, for machines without a network: the official ones of "
        "ImageNet, and those of pathology's encoders, such as FOLDER/UNI2-h/pytorch_model.bin.",
    )
    weight_files: tuple[tuple[str, Path], ...] = ()
    checked: float = option(
        0.05,
        "Crop mode hybrid: the share of images, but at least three, of which an augmentation is "
        "computed exactly too, to state the error; 0 checks none.",
        least=0,
        most=1,
    )
