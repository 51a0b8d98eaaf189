"""The encoders of a protocol: loaded, folded, checked and placed on devices."""

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
from absl import logging

from histojax import config, encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import Encoder, Variables
from histojax.encoders import weights as published
from histojax.encoders.weight_files import published_files
from histojax.encoders.weight_files.published_files import FoundFile
from histojax.encoders.weights import Weights
from histojax.errors import InputError
from histojax.extraction import manifests, pooling_choice
from histojax.extraction.engine import Engine
from histojax.ops import stain

_MOST_NODES = 100  # Passes of a whole image; more would cost about as much as exact crops.


@dataclasses.dataclass(frozen=True)
class LoadedEncoder:
    """A folded encoder with its variables.

    Attributes:
      encoder: the network, folded.
      variables: folded too.
      source: of the weights: `imagenet`, `file`, or `random, seed 0`.
      sha256: checksum of the variables before folding.
      file: of the weights, where that is the source: its name, SHA-256 and licence.
    """

    encoder: Encoder
    variables: Variables
    source: str
    sha256: str
    file: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def manifest(self, extraction: Extraction, view: View) -> manifests.Manifest:
        """What decides the encoder's descriptors of a view."""
        name, origin, recipe = self.encoder.name, self.encoder.origin, self.encoder.recipe
        made = manifests.of(extraction, name, view, self.source, self.sha256, self.file, recipe)
        return made | ({"module": dataclasses.asdict(origin)} if origin else {})


def weights_of(encoder: Encoder, extraction: Extraction, runtime: Runtime = Runtime()) -> Weights:
    """The weights of an encoder as published, from a file, or random.

    Raises:
      InputError: the weight file is missing, altered, does not fit, holds other weights than the
        protocol's, or cannot be downloaded.
    """
    word, file = extraction.weights_of(encoder.name), file_of(encoder, extraction, runtime)
    if file is not None:
        weights = published.read(encoder, file.path, file.name)
        if _is_sha256(word) and published.checksum(weights.variables) != word:
            raise InputError(
                f"{file.path} holds other weights of {encoder.name} than those asked for, whose "
                f"variables have SHA-256 {word[:16]}...: name the file that holds these"
            )
        if encoder.published and encoder.published.terms:
            logging.warning(
                "%s is published under %s; its weights here are those of %s",
                encoder.name,
                encoder.published.licence_text,
                file.path,
            )
        return weights
    if word == "random":
        source = manifests.source_of_random(extraction.weights_seed)
        return Weights(published.random(encoder.name, extraction.weights_seed), source)
    if word == published.IMAGENET:
        variables = published.imagenet(encoder, runtime.cache, runtime.weights_dir)
        return Weights(variables, published.IMAGENET)
    raise InputError(
        f"the weights of {encoder.name} (SHA-256 of their variables {word[:16]}...) came from a "
        f"file, which is not named: pass --weights={encoder.name}=FILE"
    )


def file_of(
    encoder: Encoder, extraction: Extraction, runtime: Runtime = Runtime()
) -> FoundFile | None:
    """The file that an encoder's weights are read from, which is not read yet.

    None where they are random, or ImageNet's. InputError where it is not there.
    """
    path = dict(runtime.weight_files).get(encoder.name)
    if path is not None:
        return published_files.in_place_of(encoder, path)
    if encoder.published and extraction.weights_of(encoder.name) != "random":
        return published_files.require(encoder, runtime.weights_dir)
    return None


def _is_sha256(word: str) -> bool:
    return word not in ("imagenet", "random", published.FILE)


def fold_encoders(
    extraction: Extraction,
    runtime: Runtime = Runtime(),
    weights: Mapping[str, Weights] | None = None,
) -> dict[str, LoadedEncoder]:
    """The folded encoders of a protocol by name, on no particular device; see `load_encoders`."""
    chosen = {name: encoders.get(name, extraction.resnet_variant) for name in extraction.encoders}
    passed = dict(runtime.weight_files)
    taken = {name: given for name, given in (weights or {}).items() if name not in passed}
    for name in chosen.keys() - taken.keys():  # Before gigabytes of another one are read.
        file_of(chosen[name], extraction, runtime)
    folded = {}
    for name, encoder in chosen.items():
        given = taken.get(name) or weights_of(encoder, extraction, runtime)
        folded[name] = LoadedEncoder(
            encoder.folded(extraction.precision),
            encoder.fold_variables(given.variables, extraction.precision),
            given.source,
            published.checksum(given.variables),
            given.file,
        )
    return folded


def check(extraction: Extraction, pooling: str | None) -> None:
    """Raises InputError where protocol and flags do not fit."""
    config.check(config.Protocol(extraction=extraction))
    for name, values, known in (
        ("encoders", extraction.encoders, encoders.ENCODERS),
        ("stain_normalizer", [extraction.stain_normalizer], stain.NORMALIZERS),
        ("stain_augmentation", [extraction.stain_augmentation], stain.AUGMENTATIONS),
    ):
        if unknown := [value for value in values if value not in known]:
            raise InputError(f"--{name} has {unknown[0]!r}, expected of {', '.join(known)}")
    chosen = [encoders.get(name) for name in extraction.encoders]
    if extraction.crop_mode == "hybrid":
        _check_hybrid(extraction, pooling)
        require_maps(chosen, "--crop_mode=hybrid takes windows of", "pass --crop_mode=exact")
    if pooling == "pallas":
        if not importlib.util.find_spec("jax.experimental.pallas.triton"):
            raise InputError(
                f"--pooling=pallas needs Pallas's Triton backend, which jax {jax.__version__} no "
                "longer has: pass --pooling=xla"
            )
        require_maps(chosen, "--pooling=pallas pools", "pass --pooling=xla")
        if extraction.crop_layout == "grid":
            raise InputError(
                "--pooling=pallas takes as many crops of each image, and --crop_layout=grid has as "
                "many as tile it: pass --pooling=xla"
            )
        if signed := [encoder.name for encoder in chosen if any(t.signed for t in encoder.outputs)]:
            raise InputError(
                f"--pooling=pallas takes p-norms, and {signed[0]} has signed taps, whose crops are "
                "pooled by their mean: pass --pooling=xla"
            )


def _check_hybrid(extraction: Extraction, pooling: str | None) -> None:
    """Raises InputError where crop mode hybrid has no place."""
    if pooling == "pallas":
        raise InputError(
            "--pooling=pallas is for --crop_mode=exact: in crop mode hybrid crops are pooled after "
            "their colours are added, which XLA does"
        )
    gains = stain.AUGMENTATIONS[extraction.stain_augmentation].gains
    nodes = extraction.gain_nodes**gains  # Not made yet: there may be billions.
    if extraction.gain_low < extraction.gain_high and nodes > _MOST_NODES:
        raise InputError(
            f"--stain_augmentation={extraction.stain_augmentation} takes {gains} random gains, so "
            f"--crop_mode=hybrid would encode each image at {extraction.gain_nodes} ** {gains} = "
            f"{nodes} nodes, expected at most {_MOST_NODES}: lower --gain_nodes, or pass "
            "--crop_mode=exact"
        )


def require_maps(chosen: Iterable[Encoder], what: str, advice: str) -> None:
    """Raises InputError where an encoder has no feature maps that grow with the image.

    Args:
      chosen: the encoders.
      what, advice: what needs maps, such as `heat maps show`, and what to do.
    """
    for encoder in chosen:
        if encoder.vectors:
            raise InputError(
                f"{what} feature maps, but {encoder.vectors[0]} of {encoder.name} is a vector, or "
                f"a map of images of one size, or resized to it: {advice}"
            )


def check_encoders(loaded: dict[str, LoadedEncoder], extraction: Extraction) -> None:
    """Raises InputError where crops are too small for an encoder; nothing is computed."""
    for name, loaded_encoder in loaded.items():
        for view in extraction.views_of(name):
            image = jax.ShapeDtypeStruct((1, view.crop_size, view.crop_size, 3), jnp.uint8)
            try:
                jax.eval_shape(loaded_encoder.encoder.descriptors, loaded_encoder.variables, image)
            except Exception as error:  # An encoder of a user raises what it likes.
                if not (loaded_encoder.encoder.origin or isinstance(error, ValueError)):
                    raise
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
      checked: the share of images whose error in crop mode hybrid is measured.
    """

    extraction: Extraction
    engine: Engine
    encoders: dict[str, LoadedEncoder]
    checked: float = Runtime.checked

    def made_with(self) -> dict[str, manifests.Manifest]:
        """What decides the descriptors of each configuration."""
        return {
            self.extraction.configuration(name, view): self.encoders[name].manifest(
                self.extraction, view
            )
            for name, view in self.extraction.pairs
        }


def load_encoders(
    extraction: Extraction,
    runtime: Runtime = Runtime(),
    weights: Mapping[str, Weights] | None = None,
) -> EncoderSet:
    """Loads the encoders of a protocol onto the devices.

    Args:
      extraction: the protocol.
      runtime: devices, crops a step, pooling, and where weights are.
      weights: of encoders by name, taken instead of any files.

    Raises:
      InputError: unusable weights, or a protocol that does not fit.
    """
    check(extraction, runtime.pooling)
    if others := sorted({name for name, _ in runtime.weight_files} - {*extraction.encoders}):
        raise InputError(
            f"--weights names a file for {', '.join(others)}, expected of the encoders "
            f"{', '.join(extraction.encoders)}"
        )
    engine = Engine.of(pooling_choice.resolve(extraction, runtime))
    loaded = fold_encoders(extraction, runtime, weights)
    check_encoders(loaded, extraction)
    on_devices = {
        name: dataclasses.replace(encoder, variables=engine.replicate(encoder.variables))
        for name, encoder in loaded.items()
    }
    return EncoderSet(_with_weights(extraction, loaded), engine, on_devices, runtime.checked)


def _with_weights(extraction: Extraction, loaded: dict[str, LoadedEncoder]) -> Extraction:
    """The protocol with the SHA-256 of weights from files."""
    if isinstance(extraction.weights, str) and not any(e.file for e in loaded.values()):
        return extraction
    view = extraction.views[0]
    recorded = {name: e.manifest(extraction, view)["weights"] for name, e in loaded.items()}
    words = tuple((name, manifests.word_of(weights)) for name, weights in recorded.items())
    return dataclasses.replace(extraction, weights=words)
