"""The encoders that a bundle needs for images: whether it has any, their weights, their modules.

Weights are in the bundle, official, or in files that the user names; modules are the user's. They
must be those that the models were trained with. A bundle never holds weights that their licence, or
a gate, keeps its maker from passing on: these it knows by their SHA-256.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from histojax.config import Runtime
from histojax.errors import InputError
from histojax.extraction import manifests, modules
from histojax.prediction.bundle import Bundle, Flat
from histojax.utils import files

if TYPE_CHECKING:
    from histojax.encoders.weights import Shapes
    from histojax.extraction.loaded_encoders import EncoderSet

_MOST_BYTES = 2**30  # Of an encoder's weights in a bundle, which is read whole.


def require(bundle: Bundle) -> None:
    """Raises InputError where a bundle is of imported features, so that it can see no image."""
    if bundle.imported:
        features = manifests.weights_text(bundle.made_with.values())
        raise InputError(
            f"{bundle.name} was trained on {features}. Their encoder is not here, so it neither "
            "predicts nor maps images: compute the features of new slides as before, and pass "
            "their folder to histojax predict as --features, or in Python to predict_features"
        )


def load(bundle: Bundle, runtime: Runtime = Runtime()) -> "EncoderSet":
    """Loads the encoders for new images, and checks that they are those of the training images.

    Raises:
      InputError: the weights are not those the models were trained with, or cannot be had; or the
        bundle is of imported features.
    """
    from histojax.encoders import weights
    from histojax.extraction import loaded_encoders

    require(bundle)
    for name in bundle.extraction.encoders:
        _require_module(bundle, name)
    included = {}
    for name, flat in bundle.weights.items():
        recorded = bundle.encoder_weights(name)
        file = {k: recorded[k] for k in ("file", "file_sha256", "licence") if k in recorded}
        included[name] = weights.Weights(weights.to_variables(flat), recorded["source"], file)
    _require_files(bundle, runtime, included)
    encoder_set = loaded_encoders.load_encoders(bundle.extraction, runtime, included)
    for encoder, loaded in encoder_set.encoders.items():
        _check_weights(bundle, encoder, loaded.sha256)
        _check_recipe(bundle, encoder, loaded.encoder.recipe)
    return encoder_set


def withheld(bundle: Bundle) -> dict[str, str]:
    """Why the weights of encoders stay out of the bundle, by name; random ones are drawn again."""
    from histojax import encoders
    from histojax.encoders import weights

    if bundle.imported:
        return {}
    extraction, reasons = bundle.extraction, {}
    for name in extraction.encoders:
        encoder = encoders.ENCODERS.get(name)
        if extraction.weights_of(name) == "random" or encoder is None:
            continue
        published = encoder.published
        if published and (published.terms or published.gate):
            terms = filter(None, (published.licence_text, published.gate))
            reasons[name] = f"{', '.join(terms)}: {published.address}"
        elif (size := _bytes(weights.shapes(encoder))) > _MOST_BYTES:
            reasons[name] = f"they take {size / 2**30:.1f} GiB"
    return reasons


def _bytes(shapes: "Shapes") -> int:
    """The size of float32 arrays of these shapes."""
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def notes(reasons: Mapping[str, str]) -> list[str]:
    """What `withheld` found, in sentences for a person."""
    return [
        f"the weights of {name} stay out of the bundle, which knows them by their SHA-256 "
        f"({reason}): predicting needs their file"
        for name, reason in reasons.items()
    ]


def variables(bundle: Bundle, runtime: Runtime = Runtime()) -> dict[str, Flat]:
    """The encoders' variables, by flat name, to store in the bundle.

    Not those of random weights, nor what is `withheld`; none of imported features, whose encoders
    are not here.

    Raises:
      InputError: the weights are not those the models were trained with, or cannot be had.
    """
    from histojax import encoders
    from histojax.encoders import weights
    from histojax.extraction import loaded_encoders

    if bundle.imported:
        return {}
    extraction, flat = bundle.extraction, {}
    kept_out = withheld(bundle)
    _require_files(bundle, runtime, kept_out)
    for name in extraction.encoders:
        if extraction.weights_of(name) == "random" or name in kept_out:
            continue
        _require_module(bundle, name)
        encoder = encoders.get(name, extraction.resnet_variant)
        loaded = loaded_encoders.weights_of(encoder, extraction, runtime).variables
        _check_weights(bundle, name, weights.checksum(loaded))
        flat[name] = weights.to_flat(loaded)
    return flat


def _require_module(bundle: Bundle, name: str) -> None:
    """Raises InputError where the module of a user's encoder has not been passed, or is another."""
    from histojax.encoders import ENCODERS

    module = bundle.encoder_module(name)
    if module is None:
        return
    text, here = modules.text(module), ENCODERS.get(name)
    if here is None or here.origin is None:
        how = f"pass --encoders={module['reference']}, with its path here"
        if not module["file_sha256"]:
            how = "add its row by histojax.encoders.own.register"
        raise InputError(
            f"{bundle.name} needs the module of its encoder {name}, {text}, which is no part of "
            f"histojax or of a bundle: {how}. It is run, so take none that you do not trust"
        )
    origin = dataclasses.asdict(here.origin)
    if not modules.same({"module": origin}, {"module": module}):
        raise InputError(
            f"the encoder {name} here, of {modules.text(origin)}, has other code than that of "
            f"{bundle.name}, {text}: take the module as it was, or train anew"
        )


def _require_files(bundle: Bundle, runtime: Runtime, others: Iterable[str] = ()) -> None:
    """Raises InputError naming the files of weights that are not passed; `others` need none."""
    passed = {*others, *dict(runtime.weight_files)}
    for name in bundle.extraction.encoders:
        recorded = bundle.encoder_weights(name)
        if "file" in recorded and name not in passed and not _is_found(name, runtime):
            raise InputError(
                f"{bundle.name} needs the weights of {name} that came from the file "
                f"{recorded['file']} (SHA-256 {recorded['file_sha256'][:16]}...): pass "
                f"--weights={name}={recorded['file']}, with its path here"
            )


def _is_found(name: str, runtime: Runtime) -> bool:
    """Whether the published file of an encoder is here, in --weights_dir or a cache."""
    from histojax.encoders import ENCODERS
    from histojax.encoders.weight_files import published_files

    encoder = ENCODERS.get(name)
    if encoder is None or encoder.published is None:
        return False
    return published_files.find(encoder, runtime.weights_dir) is not None


def _check_weights(bundle: Bundle, encoder: str, sha256: str) -> None:
    """Raises InputError where weights are not those that the models were trained with."""
    for configuration, manifest in bundle.made_with.items():
        expected = manifest["weights"]["sha256"]
        if manifest["protocol"]["encoder"] == encoder and sha256 != expected:
            raise InputError(
                f"the weights of {encoder} here have SHA-256 {sha256[:16]}..., but {configuration} "
                f"of {bundle.name} was trained with {expected[:16]}...: name the same weight files "
                f"with --weights={encoder}=FILE or, official ones, --weights_dir"
            )


def _check_recipe(bundle: Bundle, encoder: str, recipe: dict[str, Any] | None) -> None:
    """Raises InputError where crops become descriptors in another way than those trained on."""
    for configuration, manifest in bundle.made_with.items():
        lines = files.differences(manifest["protocol"].get("recipe", {}), recipe or {})
        if manifest["protocol"]["encoder"] == encoder and lines:
            raise InputError(
                f"{configuration} of {bundle.name} was trained on descriptors that were made "
                f"otherwise than this histojax makes those of {encoder}: {'; '.join(lines)}. "
                "Extract and train again, or predict with the histojax that made it"
            )
