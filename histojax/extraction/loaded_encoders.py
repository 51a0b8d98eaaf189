"""The encoders of a protocol: loaded, checked, on their devices, with the programs compiled so far."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from histojax import config, encoders
from histojax.config import Extraction, View
from histojax.encoders import Encoder, Variables, weights
from histojax.errors import InputError
from histojax.extraction import programs, store
from histojax.extraction.engine import Engine
from histojax.ops import stain
from histojax.utils import files


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder with its folded variables, where they came from, and their checksum before folding."""

    encoder: Encoder
    variables: Variables
    source: str
    sha256: str


def load_encoders(
    extraction: Extraction,
    cache: Path | None = None,
    weights_dir: Path | None = None,
    given: Mapping[str, weights.Flat] | None = None,
) -> dict[str, Loaded]:
    """The folded encoders of a protocol by name, with ImageNet or random variables, or those given by flat name."""
    loaded = {}
    for name in extraction.encoders:
        encoder = encoders.get(name, extraction.resnet_variant)
        if name in (given or {}):
            variables, source = weights.to_variables(given[name]), extraction.weights
        elif extraction.weights == "random":
            variables, source = (
                weights.random(name, extraction.weights_seed),
                f"random, seed {extraction.weights_seed}",
            )
        else:
            variables, source = weights.imagenet(encoder, cache, weights_dir), "imagenet"
        folded = encoder.fold_variables(variables, extraction.precision)
        loaded[name] = Loaded(
            encoder.folded(extraction.precision), folded, source, weights.checksum(variables)
        )
    return loaded


def manifest(extraction: Extraction, loaded: Loaded, view: View) -> store.Manifest:
    """What decides the descriptors of one configuration; precision and pixel size where they are not the defaults."""
    protocol = {
        "encoder": loaded.encoder.name,
        "scale": view.scale,
        "crop_size": view.crop_size,
        **{
            name: getattr(extraction, name)
            for name in (
                "crop_mode",
                "augmentations",
                "crops",
                "gain_low",
                "gain_high",
                "p",
                "seed",
            )
        },
    }
    if loaded.encoder.name == "ResNet":
        protocol["resnet_variant"] = extraction.resnet_variant
    if extraction.precision != "float32":
        protocol["precision"] = extraction.precision
    for name in ("target_mpp", "stain_normalizer", "stain_augmentation"):
        if getattr(extraction, name) != getattr(Extraction, name):
            protocol[name] = getattr(extraction, name)
    return {"protocol": protocol, "weights": {"source": loaded.source, "sha256": loaded.sha256}}


def check(extraction: Extraction, pooling: str) -> None:
    """Raises InputError where protocol and flags do not fit."""
    config.check(config.Protocol(extraction=extraction))
    for name, values, known in (
        ("encoders", extraction.encoders, encoders.ENCODERS),
        ("stain_normalizer", [extraction.stain_normalizer], stain.NORMALIZERS),
        ("stain_augmentation", [extraction.stain_augmentation], stain.AUGMENTATIONS),
    ):
        if unknown := [value for value in values if value not in known]:
            raise InputError(f"--{name} has {unknown[0]!r}, expected of {', '.join(known)}")
    if pooling == "pallas" and extraction.crop_mode == "shared":
        raise InputError(
            "--pooling=pallas is for --crop_mode=exact: shared crops are windows, which XLA pools"
        )


def check_encoders(loaded: dict[str, Loaded], extraction: Extraction) -> None:
    """Raises InputError where crops are too small for an encoder; nothing is computed."""
    for each in loaded.values():
        for view in extraction.views:
            image = jax.ShapeDtypeStruct((1, view.crop_size, view.crop_size, 3), jnp.uint8)
            try:
                jax.eval_shape(each.encoder.descriptors, each.variables, image)
            except ValueError as error:
                raise InputError(
                    f"view {view.name} does not fit: {error}. Choose other --views"
                ) from error


@dataclasses.dataclass(frozen=True)
class Opened:
    """Encoders on their devices, with the programs compiled so far: what one run can leave to the next.

    Attributes:
      extraction: the protocol.
      machine: devices and programs.
      loaded: encoders by name, their variables on every device.
    """

    extraction: Extraction
    machine: Engine
    loaded: dict[str, Loaded]


def open_encoders(
    extraction: Extraction,
    *,
    cache: Path | None = None,
    weights_dir: Path | None = None,
    crops_per_step: int | None = None,
    pooling: str = "xla",
    use: Sequence[jax.Device] | None = None,
    given: Mapping[str, weights.Flat] | None = None,
) -> Opened:
    """Loads the encoders of a protocol.

    Args:
      extraction: the protocol.
      cache, weights_dir: where ImageNet weights are kept, and where they are if not to be downloaded.
      crops_per_step: crops (whole images in crop mode shared) that go through an encoder at a time, on all devices; by
        default what memory allows, tried once and remembered in the cache.
      pooling: `xla`, or `pallas` for the fused kernel (crop mode exact, on a GPU; interpreted on a CPU).
      use: the devices; by default all local ones.
      given: variables of encoders by flat name, in place of any files.

    Raises:
      InputError: unusable weights, or a protocol that does not fit.
    """
    check(extraction, pooling)
    cache = cache or files.default_cache()
    machine = Engine(
        programs.mesh_of(use or jax.local_devices()), crops_per_step, pooling == "pallas", cache
    )
    loaded = load_encoders(extraction, cache, weights_dir, given)
    check_encoders(loaded, extraction)
    return Opened(
        extraction,
        machine,
        {
            name: dataclasses.replace(each, variables=machine.replicate(each.variables))
            for name, each in loaded.items()
        },
    )
