"""Weights as flax variables: from a file, ImageNet's, or drawn by seed.

Variables are {"params": {layer: {"kernel", "bias", "scale"}}, "batch_stats": {layer: {"mean",
"var"}}} of float32. A flat name is `params/conv1_conv/kernel`. `utils.array_files` reads files,
`weight_files.layouts` says which of a file's arrays is which of ours.
"""

import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from histojax import encoders
from histojax.encoders import Encoder, Variables, folding
from histojax.encoders.layers import Shapes
from histojax.encoders.vit import VisionTransformer
from histojax.encoders.weight_files import fitting, layouts, official_files
from histojax.encoders.weight_files.fitting import Fit
from histojax.errors import InputError
from histojax.utils import array_files, download, files
from histojax.utils.array_files.stored import StoredArrays, read_float32

Flat = dict[str, np.ndarray]

IMAGENET = "imagenet"  # The source of official files, whatever their name.
FILE = "file"  # The source of all other files.


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables of an encoder, and where they came from.

    Attributes:
      variables: as the encoder takes them.
      source: `imagenet`, `file`, or `random, seed 0`.
      file: the name and SHA-256 of the file (`file`, `file_sha256`) where that is the source, and
        the `licence` under which the encoder's is published.
    """

    variables: Variables
    source: str
    file: Mapping[str, str] = dataclasses.field(default_factory=dict)


@functools.cache
def shapes(encoder: Encoder) -> Shapes:
    """The shape of every variable of an encoder by flat name; nothing is computed."""
    if isinstance(encoder.module, VisionTransformer):
        return MappingProxyType(encoder.module.shapes())
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tree = jax.eval_shape(lambda image: encoder.module.init(jax.random.key(0), image), image)
    return MappingProxyType({name: leaf.shape for name, leaf in _flattened(tree).items()})


def to_variables(flat: Flat | Iterable[tuple[str, np.ndarray]]) -> Variables:
    """Arrays by flat name to the nested variables flax takes, on the default device.

    Of pairs no more than one is held in the host's memory at a time.
    """
    pairs = flat.items() if isinstance(flat, Mapping) else flat
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in pairs}
    return flax.traverse_util.unflatten_dict(arrays, sep="/")


def to_flat(variables: Variables) -> Flat:
    """Nested variables by flat name, in the host's memory."""
    return {name: np.asarray(value) for name, value in _flattened(variables).items()}


def _flattened(tree: Variables) -> dict:
    return flax.traverse_util.flatten_dict(tree, sep="/")


def checksum(variables: Variables) -> str:
    """SHA-256 over names, shapes and float32 values: the identity of a descriptor's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(_flattened(variables).items()):
        array = np.ascontiguousarray(value, np.float32)
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# What a vision transformer adds to or puts beside its patches, and what its branches are times.
_TOKENS = ("/class_token", "/register_tokens", "/position_embedding")
_ONES = ("scale", "var", "layer_scale1", "layer_scale2")


def random(name: str, seed: int) -> Variables:
    """He-initialised variables: kernels from N(0, 2 / fan-in), zero biases, identity norms.

    What has two axes or more counts as a kernel, its last axis being the output; tokens and
    positions are from N(0, 1), the scale of the patches that they join. Drawn with NumPy from
    (seed, variable name), so the same on every device and with every JAX.
    """
    flat = {}
    for path, shape in shapes(encoders.get(name)).items():
        if len(shape) > 1:
            generator = np.random.default_rng([seed, zlib.crc32(path.encode())])
            fan_in = 2 if path.endswith(_TOKENS) else np.prod(shape[:-1])
            deviation = np.float32(np.sqrt(2 / fan_in))
            flat[path] = generator.standard_normal(shape, np.float32) * deviation
        else:
            flat[path] = np.full(shape, float(path.endswith(_ONES)), np.float32)
    return to_variables(flat)


def load(name: str, path: str | Path, resnet_variant: str = "keras") -> Variables:
    """The variables of an encoder from a file of any kind and layout known here.

    `encoders.get(name).descriptors(load(name, path), images)` describes images by them.

    Args:
      name: of the encoder.
      path: Keras HDF5, `.weights.h5`, safetensors, .npz, or a state dict that PyTorch saved; see
        docs/extending.md.
      resnet_variant: of ResNet, as in `encoders.get`.

    Raises:
      InputError: the file cannot be read; arrays are missing, extra or misshapen (all listed); or
        it holds several copies of the network.
    """
    return read(encoders.get(name, resnet_variant), files.as_path(path)).variables


def load_h5(name: str, path: str | Path) -> Variables:
    """`load`, by the name that it had while it read Keras HDF5 alone."""
    return load(name, path)


def read(encoder: Encoder, path: Path, name: str = "") -> Weights:
    """The weights of an encoder from a file, with what a manifest records of them; see `load`.

    `name` is what the manifest calls the file; by default as it is called.
    """
    variables = to_variables(_arrays(encoder, path))
    md5s = official_files.md5s(encoder)
    if md5s and download.md5(path) in md5s:
        return Weights(variables, IMAGENET)
    file = {"file": name or path.name, "file_sha256": files.sha256(path)}
    licence = {"licence": encoder.published.licence_text} if encoder.published else {}
    return Weights(variables, FILE, file | licence)


def fits(encoder: Encoder, arrays: StoredArrays) -> list[Fit]:
    """How the arrays of a file fit an encoder in each layout, the best first."""
    expected = shapes(encoder)
    file = {name: array.shape for name, array in arrays.items()}
    real = {name: array.is_floating for name, array in arrays.items()}
    known = (*layouts.ours(encoder.folds), *encoder.layouts)
    module = encoder.module
    takes = module.takes if isinstance(module, VisionTransformer) else fitting.equal
    found = [fitting.fit(encoder.name, layout, expected, file, real, takes) for layout in known]
    return sorted(found, key=lambda fit: (fit.problems > 0, fit.distance))


def _arrays(encoder: Encoder, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a file with their flat names, each read when it is asked for.

    None is read before all of them fit.
    """
    with array_files.open_arrays(path) as (_, arrays):
        pass  # Names and shapes; an error in a layout below is not one of the file.
    fit = fits(encoder, arrays)[0]
    if fit.problems:
        raise InputError(_misfit(encoder, path, arrays, fit))
    if len(fit.names.prefixes) > 1:
        copies = ", ".join(repr(prefix) for prefix in sorted(fit.names.prefixes))
        raise InputError(
            f"{path} holds {len(fit.names.prefixes)} copies of {encoder.name}, whose names begin "
            f"with {copies}: save the one that you want by itself"
        )
    if fit.fine_tuned:
        logging.warning(
            "%s is a fine-tuned %s: what it says of the images that it was trained on is too good; "
            "describe others by it",
            path,
            encoder.name,
        )
    if fit.layout.folded:
        epsilon = getattr(encoder.module, "epsilon", 0.0)
        flat = folding.unfold_batch_norms(dict(_read(path, fit)), shapes(encoder), epsilon)
        yield from flat.items()
        return
    for name, array in _read(path, fit):
        if array.shape != (expected := shapes(encoder)[name]):
            logging.warning(
                "%s of %s is %s, where %s is expected to have %s: it is resampled to the patches "
                "of an image",
                name,
                path,
                array.shape,
                encoder.name,
                expected,
            )
        yield name, array


def _read(path: Path, fit: Fit) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a file that fits, with our flat names, as float32."""
    with array_files.open_arrays(path) as (_, arrays):
        for ours, names in fit.names.sources.items():
            parts = [read_float32(f"{name} of {path}", arrays[name]) for name in names]
            yield ours, fitting.as_ours(fit.layout, ours, parts)


def _misfit(encoder: Encoder, path: Path, arrays: StoredArrays, fit: Fit) -> str:
    """What to say of a file that does not fit, and of the encoders that it does fit."""
    others = [
        name
        for name, other in encoders.ENCODERS.items()
        if name != encoder.name and not fits(other, arrays)[0].problems
    ]
    hint = f" It fits {' and '.join(others)}: --weights={others[0]}={path}." if others else ""
    return (
        f"{path} is not a complete {encoder.name} weight file ({fit.counts}), so none of it was "
        f"used.{hint} {fitting.misfit_text(encoder.name, fit)}"
    )


def imagenet(
    encoder: Encoder, cache: Path | None = None, weights_dir: Path | None = None
) -> Variables:
    """ImageNet variables of an encoder.

    The converted arrays are kept in the cache as one .npz, so that the HDF5 file is read once.

    Raises:
      InputError: the file is absent and cannot be downloaded, or has another checksum or content.
    """
    cache = cache or files.default_cache()
    path, md5 = official_files.require(encoder, cache, weights_dir)
    converted = cache / f"{encoder.name}-{md5}.npz"
    flat = load_npz(converted)
    if flat is None or {name: array.shape for name, array in flat.items()} != shapes(encoder):
        flat = dict(_arrays(encoder, path))
        _save_npz(converted, flat)
    return to_variables(flat)


def load_npz(path: Path) -> Flat | None:
    """The arrays of a converted file, or None where it is absent or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # NumPy raises many kinds of error for a damaged archive; it is made anew.
        return None


def _save_npz(path: Path, flat: Flat) -> None:
    """Writes the arrays whole or not at all."""
    with files.atomic_write(path) as temporary, open(temporary, "wb") as out:
        np.savez(out, **flat)
