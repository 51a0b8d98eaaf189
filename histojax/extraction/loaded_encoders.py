"""The encoders of a protocol: loaded, folded, checked and placed on devices."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from histojax import config, encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import Encoder, Variables
from histojax.encoders import weights as published
from histojax.errors import InputError
from histojax.extraction import manifests
from histojax.extraction.engine import Engine
from histojax.ops import stain


@dataclasses.dataclass(frozen=True)
class LoadedEncoder:
    """A folded encoder with its variables.

    Attributes:
      encoder: the network, folded.
      variables: folded too.
      source: of the weights: `imagenet`, or `random, seed 0`.
      sha256: checksum of the variables before folding.
    """

    encoder: Encoder
    variables: Variables
    source: str
    sha256: str

    def manifest(self, extraction: Extraction, view: View) -> manifests.Manifest:
        """What decides the encoder's descriptors of a view."""
        return manifests.of(extraction, self.encoder.name, view, self.source, self.sha256)


def variables_of(
    encoder: Encoder, extraction: Extraction, runtime: Runtime = Runtime()
) -> tuple[Variables, str]:
    """The variables of an encoder as published, ImageNet's or random ones, and their source.

    Raises:
      InputError: the weight file is missing, altered, or cannot be downloaded.
    """
    if extraction.weights == "random":
        variables = published.random(encoder.name, extraction.weights_seed)
    else:
        variables = published.imagenet(encoder, runtime.cache, runtime.weights_dir)
    return variables, manifests.source_of(extraction)


def fold_encoders(
    extraction: Extraction,
    runtime: Runtime = Runtime(),
    weights: Mapping[str, published.Flat] | None = None,
) -> dict[str, LoadedEncoder]:
    """The folded encoders of a protocol by name, on no particular device; see `load_encoders`."""
    folded = {}
    for name in extraction.encoders:
        encoder = encoders.get(name, extraction.resnet_variant)
        if name in (weights or {}):
            variables, source = published.to_variables(weights[name]), extraction.weights
        else:
            variables, source = variables_of(encoder, extraction, runtime)
        folded[name] = LoadedEncoder(
            encoder.folded(extraction.precision),
            encoder.fold_variables(variables, extraction.precision),
            source,
            published.checksum(variables),
        )
    return folded


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


def check_encoders(loaded: dict[str, LoadedEncoder], extraction: Extraction) -> None:
    """Raises InputError where crops are too small for an encoder; nothing is computed."""
    for loaded_encoder in loaded.values():
        for view in extraction.views:
            image = jax.ShapeDtypeStruct((1, view.crop_size, view.crop_size, 3), jnp.uint8)
            try:
                jax.eval_shape(loaded_encoder.encoder.descriptors, loaded_encoder.variables, image)
            except ValueError as error:
                raise InputError(
                    f"view {view.name} does not fit: {error}. Choose other --views"
                ) from error


@dataclasses.dataclass(frozen=True)
class EncoderSet:
    """The encoders of a protocol on their devices, and the programs compiled so far.

    Attributes:
      extraction: the protocol.
      engine: devices and programs.
      encoders: by name, their variables on every device.
    """

    extraction: Extraction
    engine: Engine
    encoders: dict[str, LoadedEncoder]

    def made_with(self) -> dict[str, manifests.Manifest]:
        """What decides the descriptors of each configuration."""
        return {
            self.extraction.configuration(name, view): loaded.manifest(self.extraction, view)
            for name, loaded in self.encoders.items()
            for view in self.extraction.views
        }


def load_encoders(
    extraction: Extraction,
    runtime: Runtime = Runtime(),
    weights: Mapping[str, published.Flat] | None = None,
) -> EncoderSet:
    """Loads the encoders of a protocol onto the devices.

    Args:
      extraction: the protocol.
      runtime: devices, crops a step, pooling, and where weights are.
      weights: variables of encoders by flat name, taken instead of any files.

    Raises:
      InputError: unusable weights, or a protocol that does not fit.
    """
    check(extraction, runtime.pooling)
    engine = Engine.of(runtime)
    loaded = fold_encoders(extraction, runtime, weights)
    check_encoders(loaded, extraction)
    on_devices = {
        name: dataclasses.replace(encoder, variables=engine.replicate(encoder.variables))
        for name, encoder in loaded.items()
    }
    return EncoderSet(extraction, engine, on_devices)
