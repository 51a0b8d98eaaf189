"""Weights into flax variables: the official HDF5 files by explicit name tables, or He-initialised by seed.

Variables are {"params": {layer: {"kernel", "bias", "scale"}}, "batch_stats": {layer: {"mean", "var"}}} of float32.
A flat name is `params/conv1_conv/kernel`.
"""

import difflib
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
from histojax.errors import InputError
from histojax.utils import download, files

Flat = dict[str, np.ndarray]
KerasFile = dict[str, dict[str, np.ndarray]]  # {layer: {dataset: array}} in the file's order.

# The ending of a dataset's name in a Keras file to ours. `running_std` holds the variance, whatever its name says.
LEAVES = {
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
ENDING = re.compile(rf"(?:^|[/_])({'|'.join(LEAVES)})(?:_\d+)?(?::0)?$")

# ResNet-50's layers in the file of 2018: the middle of the name by the convolution's place in our block.
RESNET_2018_BRANCHES = {0: "branch1", 1: "branch2a", 2: "branch2b", 3: "branch2c"}

# InceptionV3's layers are numbered, not named, in the file: they are matched in the file's order, which is Keras's
# order of a graph by depth, so that a block's branches are interleaved. The same for convolutions and batch norms.
ORDER_35 = ("3x3dbl_1", "5x5_1", "3x3dbl_2", "1x1_1", "5x5_2", "3x3dbl_3", "pool_1")
ORDER_17 = (
    "7x7dbl_1",
    "7x7dbl_2",
    "7x7_1",
    "7x7dbl_3",
    "7x7_2",
    "7x7dbl_4",
    "1x1_1",
    "7x7_3",
    "7x7dbl_5",
    "pool_1",
)
ORDER_8 = (
    "3x3dbl_1",
    "3x3_1",
    "3x3dbl_2",
    "3x3_row",
    "3x3_column",
    "3x3dbl_row",
    "3x3dbl_column",
    "1x1_1",
    "pool_1",
)
INCEPTION_ORDER = {
    "conv": ("1", "2", "3", "4", "5"),
    "mixed0": ORDER_35,
    "mixed1": ORDER_35,
    "mixed2": ORDER_35,
    "mixed3": ("3x3dbl_1", "3x3dbl_2", "3x3_1", "3x3dbl_3"),
    "mixed4": ORDER_17,
    "mixed5": ORDER_17,
    "mixed6": ORDER_17,
    "mixed7": ORDER_17,
    "mixed8": ("7x7x3_1", "7x7x3_2", "3x3_1", "7x7x3_3", "3x3_2", "7x7x3_4"),
    "mixed9": ORDER_8,
    "mixed10": ORDER_8,
}


def resnet_table(found: KerasFile, layers: list[str]) -> dict[str, str]:
    """File layer to our layer for ResNet-50: today's names are ours, those of 2018 have a letter for the block."""
    if not any(name.startswith(("res", "bn")) for name in found):
        return {layer: layer for layer in layers}
    table = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}
    for layer in layers:
        if match := re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer):
            stage, block, place, kind = match.groups()
            letter = "abcdef"[int(block) - 1]
            table[
                f"{'res' if kind == 'conv' else 'bn'}{stage}{letter}_{RESNET_2018_BRANCHES[int(place)]}"
            ] = layer
    return table


def inception_table(found: KerasFile, layers: list[str]) -> dict[str, str]:
    """File layer to our layer for InceptionV3, by order; where the file has too few or too many, aligned by shape."""
    expected = shapes(encoders.get("Inception"))
    table = {}
    for kind, ending, leaf in (("conv2d", "conv", "kernel"), ("batch_normalization", "bn", "bias")):
        theirs = [name for name in found if re.fullmatch(rf"{kind}(_\d+)?", name)]
        ours = [
            f"{block}_{part}_{ending}" for block, parts in INCEPTION_ORDER.items() for part in parts
        ]
        if len(theirs) == len(ours):
            table |= dict(zip(theirs, ours, strict=True))
            continue
        their_shapes = [next(iter(found[name].values())).shape for name in theirs]
        our_shapes = [expected[f"params/{name}/{leaf}"] for name in ours]
        steps = difflib.SequenceMatcher(
            None, their_shapes, our_shapes, autojunk=False
        ).get_opcodes()
        for _, start, end, our_start, our_end in steps:
            table |= dict(zip(theirs[start:end], ours[our_start:our_end], strict=False))
    return table


def vgg_table(found: KerasFile, layers: list[str]) -> dict[str, str]:
    """VGG-16's names are ours."""
    return {layer: layer for layer in layers}


TABLES = {"ResNet": resnet_table, "Inception": inception_table, "VGG": vgg_table}


def shapes(encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """The shape of every variable of an encoder by flat name; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tree = jax.eval_shape(encoder.module.init, jax.random.key(0), image)
    return {
        name: leaf.shape for name, leaf in flax.traverse_util.flatten_dict(tree, sep="/").items()
    }


def to_variables(flat: Flat) -> Variables:
    """Flat names to the nested variables flax takes, on the default device."""
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in flat.items()}
    return flax.traverse_util.unflatten_dict(arrays, sep="/")


def to_flat(variables: Variables) -> Flat:
    """Nested variables by flat name, in the host's memory."""
    return {
        name: np.asarray(value)
        for name, value in flax.traverse_util.flatten_dict(variables, sep="/").items()
    }


def checksum(variables: Variables) -> str:
    """SHA-256 over names, shapes and float32 values: the identity of the weights a descriptor was made with."""
    digest = hashlib.sha256()
    for name, value in sorted(flax.traverse_util.flatten_dict(variables, sep="/").items()):
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
            draw = np.random.default_rng([seed, zlib.crc32(path.encode())]).standard_normal(
                shape, np.float32
            )
            flat[path] = draw * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        else:
            flat[path] = np.full(shape, float(path.endswith(("scale", "var"))), np.float32)
    return to_variables(flat)


def read_h5(path: Path) -> KerasFile:
    """A Keras weight file as {layer: {dataset: float32 array}}, layers without weights left out.

    Raises:
      InputError: not an HDF5 file, or one without Keras's `layer_names`.
    """
    try:
        with h5py.File(path) as file:
            found = {}
            for layer in (text(name) for name in file.attrs["layer_names"]):
                datasets = [text(name) for name in file[layer].attrs["weight_names"]]
                if datasets:
                    found[layer] = {
                        name: np.asarray(file[layer][name], np.float32) for name in datasets
                    }
            return found
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as a Keras weight file (HDF5 with layer_names and weight_names): {error}. "
            "Expected one of the *_notop.h5 files that third_party/weights.csv lists"
        ) from error


def text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def flat_from_h5(name: str, path: Path) -> Flat:
    """The arrays of an official file by flat name; what is missing, extra or misshapen is listed, then refused."""
    found = read_h5(path)
    expected = shapes(encoders.get(name))
    layers = list(dict.fromkeys(flat.split("/")[1] for flat in expected))
    table = TABLES[name](found, layers)
    flat, extra = {}, []
    for layer, datasets in found.items():
        for dataset, array in datasets.items():
            ending = ENDING.search(dataset)
            collection, leaf = LEAVES[ending[1]] if ending else ("", "")
            ours = f"{collection}/{table.get(layer)}/{leaf}"
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
            f"{path} is not a complete {name} weight file ({counts}); nothing of it was used. Expected the official "
            f"file without the dense top:\n{lists}"
        )
    return flat


def load_h5(name: str, path: str | Path) -> Variables:
    """Variables of `ResNet` (either generation of the file), `Inception` or `VGG` from an official HDF5 file.

    Raises:
      InputError: the file cannot be read, or entries are missing, extra or misshapen (all are listed).
    """
    return to_variables(flat_from_h5(name, Path(path)))


def official_file(encoder: Encoder, cache: Path, weights_dir: Path | None) -> tuple[Path, str]:
    """Path and md5 of the encoder's verified weight file: from `weights_dir` alone if given, else cache or download.

    In `weights_dir` either generation of the ResNet-50 file will do: they share a name.
    """
    wanted = encoder.weight_file
    if weights_dir is None:
        path = cache / wanted.md5[:8] / wanted.file
        if not path.exists():
            download.fetch(wanted.url, path, wanted.md5)
        accepted = {wanted.md5}
    else:
        path = weights_dir / wanted.file
        if not path.exists():
            raise InputError(
                f"{path} is not there: put the file of {wanted.url} (md5 {wanted.md5}) into --weights_dir"
            )
        accepted = {wanted.md5}
        if encoder.name == "ResNet":
            accepted = {
                variant.weight_file.md5 for variant in encoders.RESNET_VARIANTS.values()
            } | accepted
    found = download.md5(path)
    if found not in accepted:
        raise InputError(
            f"{path} has md5 {found}, expected {' or '.join(sorted(accepted))}: not used. Remove it and fetch it again"
        )
    return path, found


def imagenet(
    encoder: Encoder, cache: Path | None = None, weights_dir: Path | None = None
) -> Variables:
    """ImageNet variables of an encoder; the converted arrays are kept in one .npz, so that the HDF5 is read once.

    Raises:
      InputError: the file is absent and cannot be fetched, its checksum is wrong, or its content does not fit.
    """
    cache = cache or files.default_cache()
    path, digest = official_file(encoder, cache, weights_dir)
    converted = cache / f"{encoder.name}-{digest}.npz"
    flat = load_npz(converted)
    if flat is None or {name: array.shape for name, array in flat.items()} != shapes(encoder):
        flat = flat_from_h5(encoder.name, path)
        save_npz(converted, flat)
    return to_variables(flat)


def load_npz(path: Path) -> Flat | None:
    """The arrays of a converted file, or None where it is absent or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (
        Exception
    ):  # NumPy's reader raises whatever a damaged archive throws up; the file is then made anew.
        return None


def save_npz(path: Path, flat: Flat) -> None:
    """Writes the arrays whole or not at all."""
    with files.atomic_write(path) as temporary, open(temporary, "wb") as out:
        np.savez(out, **flat)
