"""manifest.json of a folder of descriptors: the protocol, weights and versions they were made with.

<root>/<configuration>/manifest.json
  protocol   encoder, view, and how images were prepared, augmented and cropped; `recipe` is how a
             network with one input size is shown crops, and what is made of its output
  weights    source and SHA-256 of the encoder's weights; of a file also its name and SHA-256
  module     of an encoder of a user: what --encoders takes, SHA-256 of the file, and of its code
             without comments and layout; the same code decides the same descriptors
  versions   of histojax, of its preprocessing numerics, and of the libraries that compute
  crop_error how far descriptors of crop mode hybrid are from exact ones: see `crop_errors`

`of` writes protocol and weights of an `Extraction`, `extraction_of` reads them back. Those of
descriptors that others computed are written and read by `recipes.Recipe`.
"""

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from histojax.config import VERSION, Extraction, View
from histojax.errors import InputError
from histojax.extraction import manifest_form, modules, store
from histojax.extraction.provenance import are_imported, features_text, is_imported
from histojax.utils import files

# Version of what resizing, stain normalisation, augmentation, cropping and random draws compute.
# Raise it when their numbers change, since descriptors before and after must not be mixed;
# tests/extraction/test_numerics.py fails until then. Manifests without one are of version 1.
NUMERICS = 1
# Version of crop mode hybrid: where the crops of its pool lie, and what it makes of them and of its
# windows. Raise it when these numbers change; tests/extraction/test_hybrid.py fails until then.
# Manifests of crop mode hybrid without one are of version 1.
HYBRID = 3

MANIFEST = "manifest.json"
UNTRAINED = "UNTRAINED encoders: a trial of the pipeline, not a result"

_VERSIONS_OF = ("jax", "flax", "numpy", "pillow")
_REQUIRED = ("protocol", "weights")
# Fields of `Extraction` that are the same for all configurations; the second are recorded only
# where they differ from the default, since older manifests lack them.
_RECORDED = ("crop_mode", "augmentations", "crops", "gain_low", "gain_high", "p", "seed")
_RECORDED_OF_HYBRID = ("pool_crops", "gain_nodes")
_RECORDED_UNLESS_DEFAULT = (
    "precision",
    "target_mpp",
    "most_enlarged",
    "stain_normalizer",
    "stain_augmentation",
    "crop_layout",
)
# What has no meaning for some configurations, which then do not record it.
_OF_SCALES, _OF_DRAWN = "target_mpp", "crops"
_IMAGENET, _RANDOM = "imagenet", "random, seed "

Manifest = dict[str, Any]


def of(
    extraction: Extraction,
    encoder: str,
    view: View,
    source: str,
    sha256: str,
    file: Mapping[str, str] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Manifest:
    """What decides the descriptors of one configuration.

    Args:
      extraction: the protocol.
      encoder: its name.
      view: scale or pixel size, and crop size.
      source, sha256: where the encoder's weights come from: `imagenet`, `file` or `random, seed 0`;
        and the checksum of its variables.
      file: the name and SHA-256 of the file (`file`, `file_sha256`), and its licence, which decide
        nothing.
      recipe: `Encoder.recipe`; None where it has none.
    """
    protocol = {"encoder": encoder, "scale": view.scale, "crop_size": view.crop_size}
    protocol |= {} if view.mpp is None else {"mpp": view.mpp}
    protocol |= {"recipe": dict(recipe)} if recipe else {}
    protocol |= {name: getattr(extraction, name) for name in _RECORDED}
    if extraction.crop_mode == "hybrid":
        protocol |= {name: getattr(extraction, name) for name in _RECORDED_OF_HYBRID}
        protocol["hybrid"] = HYBRID
    if encoder == "ResNet":
        protocol["resnet_variant"] = extraction.resnet_variant
    for name in _RECORDED_UNLESS_DEFAULT:
        if getattr(extraction, name) != getattr(Extraction, name):
            protocol[name] = getattr(extraction, name)
    if view.mpp is not None:
        protocol.pop(_OF_SCALES, None)
    if extraction.crop_layout == "grid":
        del protocol[_OF_DRAWN]
    weights = {"source": source, "sha256": sha256} | dict(file or {})
    return {"protocol": protocol, "weights": weights}


def source_of_random(seed: int) -> str:
    """The source of weights drawn by seed."""
    return f"{_RANDOM}{seed}"


def word_of(weights: Mapping[str, str]) -> str:
    """What `Extraction.weights` has for the recorded weights: imagenet, random, or a SHA-256."""
    source = weights["source"]
    if source.startswith(_RANDOM):
        return "random"
    return source if source == _IMAGENET else weights["sha256"]


def extraction_of(manifests: Mapping[str, Manifest | None], name: str) -> Extraction:
    """The protocol that descriptors were made with, for extraction from new images.

    Args:
      manifests: of each configuration; None where there is none.
      name: of the ensemble, for messages.

    Raises:
      InputError: the protocol was not recorded (descriptors not made here), differs between
        configurations, is of another version of the preprocessing numerics, or of a crop mode that
        there is no longer.
    """
    if are_imported(manifests):
        made_of = "; ".join(features_text(made) for made in manifests.values())
        raise InputError(
            f"{name} was trained on imported features, {made_of}, which histojax does not compute "
            "from images: compute those of new slides as before, and pass them to histojax predict "
            "as --features"
        )
    if unknown := [configuration for configuration, made in manifests.items() if made is None]:
        raise InputError(
            f"{name} was trained on descriptors of unknown protocol ({', '.join(unknown)}), so "
            "those of new images cannot be computed: make them with what made these, and give "
            f"histojax predict --models={name} their folder as --descriptors"
        )
    if others := {_numerics(made) for made in manifests.values()} - {NUMERICS}:
        raise InputError(
            f"{name} was trained on descriptors of version {', '.join(map(str, sorted(others)))} "
            f"of the preprocessing numerics, this histojax computes version {NUMERICS}: extract "
            "and train again, or predict with the histojax that made them"
        )
    if others := {_hybrid(made) for made in manifests.values()} - {None, HYBRID}:
        raise InputError(
            f"{name} was trained on descriptors of version {', '.join(map(str, sorted(others)))} "
            f"of crop mode hybrid, this histojax computes version {HYBRID}, which is nearer to "
            "exact crops: extract and train again, or predict with the histojax that made it"
        )
    if any(made["protocol"].get("crop_mode") == "shared" for made in manifests.values()):
        raise InputError(
            f"{name} was trained on descriptors of --crop_mode=shared, which histojax no longer "
            "computes, since with trained weights it missed exact crops by 20 to 45 %: extract "
            "and train again with --crop_mode=hybrid, which is as fast, or predict with the "
            "histojax that made it"
        )
    required = ("encoder", "scale", "crop_size", *(set(_RECORDED) - {_OF_DRAWN}))
    if missing := sorted(
        {key for made in manifests.values() for key in required if key not in made["protocol"]}
    ):
        raise InputError(
            f"{name} was trained on descriptors of which no {', '.join(missing)} is recorded, so "
            "those of new images cannot be computed: its manifests are damaged"
        )
    optional = (*_RECORDED_OF_HYBRID, *_RECORDED_UNLESS_DEFAULT, _OF_DRAWN)
    defaults = {field: getattr(Extraction, field) for field in optional}
    protocols = [defaults | made["protocol"] for made in manifests.values()]
    values = {
        field: {protocol[field] for protocol in protocols} for field in (*_RECORDED, *optional)
    }
    by_scale = {protocol[_OF_SCALES] for protocol in protocols if "mpp" not in protocol}
    values[_OF_SCALES] = by_scale or {Extraction.target_mpp}
    words, seeds = _weights_of(manifests.values())
    one_each = len(dict(words)) == len(words) and len(seeds) < 2
    values["weights"] = {True} if one_each else {True, False}
    if mixed := [key for key, kinds in values.items() if len(kinds) > 1]:
        raise InputError(
            f"the configurations of {name} differ in {', '.join(mixed)}: predict with each alone"
        )
    del values["weights"]
    alike = {word for _, word in words} in ({"random"}, {_IMAGENET})
    variants = [
        protocol["resnet_variant"] for protocol in protocols if "resnet_variant" in protocol
    ]
    pairs = tuple(
        (made["encoder"], View(made["scale"], made["crop_size"], made.get("mpp")))
        for made in protocols
    )
    chosen, views = (tuple(dict.fromkeys(each)) for each in zip(*pairs, strict=True))
    return Extraction(
        encoders=chosen,
        views=views,
        own_views=pairs if len(pairs) < len(chosen) * len(views) else (),
        weights=words[0][1] if alike else words,
        weights_seed=seeds.pop() if seeds else 0,
        resnet_variant=variants[0] if variants else "keras",
        **{field: kinds.pop() for field, kinds in values.items()},
    )


def _weights_of(manifests: Iterable[Manifest]) -> tuple[tuple[tuple[str, str], ...], set[int]]:
    """(encoder, word) pairs in order, and the seeds of random weights."""
    manifests = list(manifests)
    words = ((made["protocol"]["encoder"], word_of(made["weights"])) for made in manifests)
    sources = (made["weights"]["source"] for made in manifests)
    seeds = {int(s.removeprefix(_RANDOM)) for s in sources if s.startswith(_RANDOM)}
    return tuple(dict.fromkeys(words)), seeds


def weights_text(manifests: Iterable[Manifest | None]) -> str:
    """One line on the weights behind a result, which says so where they are random.

    It names the modules of users' encoders, too.
    """
    manifests = list(manifests)
    if manifests and all(map(is_imported, manifests)):
        return f"imported features: {'; '.join(map(features_text, manifests))}"
    weights = [made["weights"] if made else None for made in manifests]
    sources = sorted({source_text(each) if each else "not recorded" for each in weights})
    untrained = any(each and each["source"].startswith(_RANDOM) for each in weights)
    note = f" ({UNTRAINED})" if untrained else ""
    of_modules = "".join(f"; {text}" for text in modules.texts(manifests))
    return f"weights: {' and '.join(sources)}{note}{of_modules}"


def source_text(weights: Mapping[str, str]) -> str:
    """Where recorded weights come from: `imagenet`, or `vgg.h5 (SHA-256 1a2b3c4d5e6f7081...)`."""
    if "file" in weights:
        licence = f", {weights['licence']}" if "licence" in weights else ""
        return f"{weights['file']} (SHA-256 {weights['file_sha256'][:16]}...{licence})"
    return weights["source"]


def versions() -> dict[str, Any]:
    """Versions of this library, of its preprocessing numerics, and of those it computes with."""
    return {"histojax": VERSION, "numerics": NUMERICS} | _installed()


@functools.cache
def _installed() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _VERSIONS_OF}


def read(root: Path, configuration: str) -> Manifest | None:
    """The manifest of a configuration; None for files not made here (the authors').

    Raises:
      InputError: it is damaged.
    """
    path = root / configuration / MANIFEST
    if not path.exists():
        return None
    manifest = files.read_json(path, _REQUIRED)
    manifest_form.check(manifest, path)
    return manifest


def imported_slides(root: Path, configurations: Iterable[str]) -> dict[str, Path] | None:
    """The descriptor file of each slide that has all configurations; None if computed here.

    Raises:
      InputError: as for `are_imported`, or no slide has all of them.
    """
    configurations = tuple(configurations)
    if not are_imported({name: read(root, name) for name in configurations}):
        return None
    first, *others = (store.image_names(root, name) for name in configurations)
    in_all = {*first}.intersection(*others)
    names = [name for name in first if name in in_all]
    if not names:
        raise InputError(
            f"{root} has no slide with descriptors of each of {', '.join(configurations)}: pass "
            "the configurations to use as --configurations"
        )
    return {name: store.file_of(root, configurations[0], name) for name in names}


def differences(recorded: Manifest, expected: Manifest) -> list[str]:
    """The values that differ among those that decide descriptors, a line each.

    The same variables from different sources give the same descriptors.
    """
    found, wanted = _decisive(recorded), _decisive(expected)
    if found["weights"].get("sha256") == wanted["weights"].get("sha256"):
        found["weights"] = wanted["weights"] = {}
    if not modules.same(recorded, expected):
        found["module"], wanted["module"] = (
            modules.text(made["module"]) if "module" in made else None
            for made in (recorded, expected)
        )
    return files.differences(found, wanted)


def _decisive(manifest: Manifest) -> Manifest:
    """What decides descriptors, with the defaults that are not recorded."""
    if is_imported(manifest):
        return {"protocol": manifest["protocol"], "weights": {}}
    defaults = {name: getattr(Extraction, name) for name in _RECORDED_UNLESS_DEFAULT}
    defaults |= {_OF_DRAWN: Extraction.crops}
    weights = {k: v for k, v in manifest["weights"].items() if k in ("source", "sha256")}
    if version := _hybrid(manifest):
        defaults["hybrid"] = version
    return {
        "protocol": defaults | manifest["protocol"],
        "weights": weights,
        "versions": {"numerics": _numerics(manifest)},
    }


def _hybrid(manifest: Manifest) -> int | None:
    """The version of crop mode hybrid; None for other modes."""
    protocol = manifest["protocol"]
    return protocol.get("hybrid", 1) if protocol.get("crop_mode") == "hybrid" else None


def _numerics(manifest: Manifest) -> int:
    """The version of the preprocessing numerics; 1 where none is recorded."""
    return manifest.get("versions", {}).get("numerics", 1)
