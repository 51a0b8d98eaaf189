"""Weights as flax variables: from official HDF5 files by explicit name tables, or drawn by seed.

Variables are {"params": {layer: {"kernel", "bias", "scale"}}, "batch_stats": {layer: {"mean",
"var"}}} of float32. A flat name is `params/conv1_conv/kernel`. Which layer of a file is which of
ours, the encoder's row says (`WeightFile.layer_names`).
"""

import hashlib
import re
import zlib
from pathlib import Path

import flax.traverse_util
import h5py
import jax
import jax.numpy as jnp
import numpy as np

from histojax import encoders
from histojax.encoders import Encoder, Variables
from histojax.encoders.layers import KerasFile, Shapes
from histojax.errors import InputError
from histojax.utils import download, files

Flat = dict[str, np.ndarray]

# The ending of a dataset's name in a Keras file to ours. `running_std` holds the variance, despite
# its name.
_LEAVES = {
    "kernel": ("params", "kernel"),
    "W": ("params", "kernel"),
    "bias": ("params", "bias"),
    "b": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "running_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
    "running_std": ("batch_stats", "var"),
}
_ENDING = re.compile(rf"(?:^|[/_])({'|'.join(_LEAVES)})(?:_\d+)?(?::0)?$")


def shapes(encoder: Encoder) -> Shapes:
    """The shape of every variable of an encoder by flat name; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tree = jax.eval_shape(encoder.module.init, jax.random.key(0), image)
    return {name: leaf.shape for name, leaf in _flattened(tree).items()}


def to_variables(flat: Flat) -> Variables:
    """Flat names to the nested variables flax takes, on the default device."""
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in flat.items()}
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


def random(name: str, seed: int) -> Variables:
    """He-initialised variables: kernels from N(0, 2 / fan-in), zero biases, identity batch norms.

    Drawn with NumPy from (seed, variable name), so the same on every device and with every JAX.
    """
    flat = {}
    for path, shape in shapes(encoders.get(name)).items():
        if path.endswith("kernel"):
            generator = np.random.default_rng([seed, zlib.crc32(path.encode())])
            deviation = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
            flat[path] = generator.standard_normal(shape, np.float32) * deviation
        else:
            flat[path] = np.full(shape, float(path.endswith(("scale", "var"))), np.float32)
    return to_variables(flat)


def _read_h5(path: Path) -> KerasFile:
    """A Keras weight file as {layer: {dataset: float32 array}}; layers without weights left out.

    Raises:
      InputError: not an HDF5 file, or one without Keras's `layer_names`.
    """
    try:
        with h5py.File(path) as file:
            arrays = {}
            for layer in _texts(file.attrs["layer_names"]):
                group = file[layer]
                datasets = _texts(group.attrs["weight_names"])
                if datasets:
                    arrays[layer] = {name: np.asarray(group[name], np.float32) for name in datasets}
            return arrays
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as a Keras weight file (HDF5 with layer_names and "
            f"weight_names): {error}. Expected one of the *_notop.h5 files that "
            "third_party/weights.csv lists"
        ) from error


def _texts(names: np.ndarray) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def _flat_from_h5(name: str, path: Path) -> Flat:
    """The arrays of an official file by flat name.

    Raises:
      InputError: the file cannot be read, or entries are missing, extra or misshapen (all listed).
    """
    encoder = encoders.get(name)
    expected = shapes(encoder)
    arrays = _read_h5(path)
    names = encoder.weight_file.layer_names if encoder.weight_file else None
    our_layer = names(arrays, expected) if names else {layer: layer for layer in arrays}
    flat, extra = {}, []
    for layer, datasets in arrays.items():
        for dataset, array in datasets.items():
            ending = _ENDING.search(dataset)
            collection, leaf = _LEAVES[ending[1]] if ending else ("", "")
            ours = f"{collection}/{our_layer.get(layer)}/{leaf}"
            if ours in expected and ours not in flat:
                flat[ours] = array
            else:
                extra.append(f"{layer}: {dataset} {array.shape}")
    problems = {
        "missing": [f"{key} {shape}" for key, shape in expected.items() if key not in flat],
        "extra": extra,
        "misshapen": [
            f"{key}: {flat[key].shape}, expected {shape}"
            for key, shape in expected.items()
            if key in flat and flat[key].shape != shape
        ],
    }
    if any(problems.values()):
        lists = "\n".join(f"  {kind}: {item}" for kind, items in problems.items() for item in items)
        counts = ", ".join(f"{len(items)} {kind}" for kind, items in problems.items())
        raise InputError(
            f"{path} is not a complete {name} weight file ({counts}), so none of it was used. "
            f"Expected the official file without the dense top:\n{lists}"
        )
    return flat


def load_h5(name: str, path: str | Path) -> Variables:
    """Variables of an encoder (ResNet: of either generation) from an official HDF5 file.

    Raises:
      InputError: the file cannot be read, or entries are missing, extra or misshapen (all listed).
    """
    return to_variables(_flat_from_h5(name, Path(path)))


def _official_file(encoder: Encoder, cache: Path, weights_dir: Path | None) -> tuple[Path, str]:
    """Path and md5 of the encoder's verified weight file.

    It is taken from `weights_dir` alone if that is given, else from the cache or downloaded. In
    `weights_dir` either generation of the ResNet-50 file will do: they share a name.
    """
    official = encoder.weight_file
    if official is None:
        raise InputError(f"there are no ImageNet weights for {encoder.name}: use --weights=random")
    accepted = {official.md5}
    if weights_dir is None:
        path = cache / official.md5[:8] / official.file
        if not path.exists():
            download.fetch(official.url, path, official.md5)
    else:
        path = weights_dir / official.file
        if not path.exists():
            raise InputError(
                f"{path} does not exist: put the file of {official.url} (md5 {official.md5}) "
                "into --weights_dir"
            )
        variants = encoders.RESNET_VARIANTS.values()
        accepted |= {row.weight_file.md5 for row in variants if row.name == encoder.name}
    md5 = download.md5(path)
    if md5 not in accepted:
        raise InputError(
            f"{path} has md5 {md5}, expected {' or '.join(sorted(accepted))}: not used. "
            "Remove it and fetch it again"
        )
    return path, md5


def imagenet(
    encoder: Encoder, cache: Path | None = None, weights_dir: Path | None = None
) -> Variables:
    """ImageNet variables of an encoder.

    The converted arrays are kept in the cache as one .npz, so that the HDF5 file is read once.

    Raises:
      InputError: the file is absent and cannot be downloaded, or has another checksum or content.
    """
    cache = cache or files.default_cache()
    path, md5 = _official_file(encoder, cache, weights_dir)
    converted = cache / f"{encoder.name}-{md5}.npz"
    flat = load_npz(converted)
    if flat is None or {name: array.shape for name, array in flat.items()} != shapes(encoder):
        flat = _flat_from_h5(encoder.name, path)
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
