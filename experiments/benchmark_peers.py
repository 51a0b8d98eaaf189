"""How fast ours is beside Keras, PyTorch, transformers and NumPy.

histojax benchmark_peers                                     needs requirements-bench.txt
histojax benchmark_peers --crops=64 --rounds=20 --out=peers.json
histojax benchmark_peers --crop_sizes=96,192,400 --crops=8 --precisions=float32,bfloat16
histojax benchmark_peers --encoders=DINOv2-S,UNI --crops=2 --nopreprocess    beside transformers

Measures how fast each is. Every peer computes the same descriptors from the same random weights and
the same uint8 crops, which lie on the device; a call ends when the descriptors are on the host.
That they agree is asserted before anything is timed. Two calls, which compile, are not counted;
then the peers take turns, one call each a round. Peers that are not installed are left out. Takes
about 4 minutes on two cores.
"""

import os

# JAX would take three quarters of a GPU's memory; PyTorch gets the other half.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")

import collections
import dataclasses
import importlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from histojax import config, encoders
from histojax.config import STAIN_STATUS, Option
from histojax.datasets import synthetic
from histojax.encoders import Encoder, foundation, weights
from histojax.encoders.vit import VisionTransformer
from histojax.errors import InputError
from histojax.extraction import devices, engine, plans
from histojax.images import reader
from histojax.ops import stain
from histojax.utils import files

from . import runner
from .flag_types import define, define_path
from .measuring import describe
from .peers import preprocessing_numpy

FLAGS = flags.FLAGS

# What must be importable for a peer to run.
PEERS = {
    "keras": (".peers.keras_models",),
    "torch": (".peers.torch_models",),
    "torch-compile": (".peers.torch_models",),
    "transformers": (".peers.hugging_face",),
    "transformers-compile": (".peers.hugging_face",),
    "torchvision": (".peers.torch_models", "torchvision"),
    "ours": (),
}
# Relative, of our descriptors in float32.
TOLERANCES = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 5e-2}
AUGMENTATIONS, LEAST_AGREEMENT = 50, 0.999
Calls = dict[str, Callable[[], Any]]

define(
    "encoders",
    tuple[str, ...],
    Option("Encoders to time."),
    config.ENCODERS,
    choices=lambda: (*config.ENCODERS, *(row.name for row in foundation.ROWS)),
)
define(
    "crop_sizes",
    tuple[int, ...],
    Option(
        "Sides of crops in pixels; InceptionV3 is left out below 75, and vision transformers are "
        "timed at that of their input."
    ),
    (400,),
)
flags.DEFINE_integer("crops", 4, "Crops a batch.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Timed calls of each peer.", lower_bound=1)
define(
    "peers",
    tuple[str, ...],
    Option(
        "Peers to time. Default: ours beside keras and torch, or beside transformers; on a GPU "
        "those that torch compiles, too.",
        choices=tuple(PEERS),
    ),
)
flags.DEFINE_bool(
    "torchvision", False, "Time torchvision's networks too, which are not quite the same."
)
define(
    "precisions",
    tuple[str, ...],
    Option(
        "Precisions to time. Default: float32, and bfloat16 on a GPU.", choices=tuple(TOLERANCES)
    ),
)
flags.DEFINE_bool("preprocess", True, "Time stain normalisation and augmentation too.")
define_path("image", "Image to time these on. Default: synthetic tissue of 1024 x 768 pixels.")
define_path("out", "JSON file to write the figures to.")


def machine() -> dict[str, Any]:
    """What the figures are of."""
    return {
        **describe.processor(),
        "device": jax.devices()[0].device_kind,
        "versions": describe.versions(),
        "date": describe.date(),
    }


def able(peers: Sequence[str], gpu: bool) -> list[str]:
    """The peers that can run on this machine; prints why another cannot."""
    runnable = []
    for peer in peers:
        try:
            modules = [importlib.import_module(name, __package__) for name in PEERS[peer]]
        # The last two where a build is for another release.
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{peer} is left out: {error} (see requirements-bench.txt)")
            continue
        if gpu and any(hasattr(module, "sees_gpu") and not module.sees_gpu() for module in modules):
            print(f"{peer} is left out: JAX has a GPU here, but this build of PyTorch sees none")
            continue
        runnable.append(peer)
    return runnable


def row_of(name: str) -> Encoder:
    """The encoder, which takes crops as they are."""
    return dataclasses.replace(encoders.get(name), native=None)


def is_transformer(name: str) -> bool:
    return isinstance(encoders.get(name).module, VisionTransformer)


def usual_peers(gpu: bool) -> tuple[str, ...]:
    """Those of the encoders that are timed."""
    kinds = {is_transformer(name) for name in FLAGS.encoders}
    peers = [*["keras", "torch"] * (False in kinds), *["transformers"] * (True in kinds)]
    compiled = [f"{peer}-compile" for peer in peers if peer != "keras"]
    return (*peers, *compiled * gpu, "ours")


def ours(
    name: str, variables: encoders.Variables, precision: str, crops: np.ndarray
) -> Callable[[], np.ndarray]:
    """The encoder as extraction runs it: one program, a suitable number of crops at a time."""
    encoder = row_of(name)
    fast, folded = encoder.folded(precision), encoder.fold_variables(variables, precision)
    count = max(n for n in range(1, len(jax.local_devices()) + 1) if len(crops) % n == 0)
    per_device = len(crops) // count
    most = engine.Engine.of().most_crops(crops.shape[1])
    step = max(size for size in range(1, min(most, per_device) + 1) if per_device % size == 0)

    def on_one_device(folded: encoders.Variables, batch: jax.Array) -> jax.Array:
        steps = batch.reshape(-1, step, *batch.shape[1:])
        descriptors = jax.lax.map(lambda images: fast.descriptors(folded, images), steps)
        return descriptors.reshape(per_device, -1)

    mesh = plans.mesh_of(jax.local_devices()[:count])
    spread = PartitionSpec(plans.AXIS)
    specs = {"in_specs": (PartitionSpec(), spread), "out_specs": spread}
    program = jax.jit(jax.shard_map(on_one_device, mesh=mesh, check_vma=False, **specs))
    folded = jax.device_put(folded, plans.replicated(mesh))
    batch = jax.device_put(crops, NamedSharding(mesh, spread))
    return lambda: np.asarray(program(folded, batch))


def descriptor(
    peer: str,
    name: str,
    variables: encoders.Variables,
    precision: str,
    crops: np.ndarray,
    gpu: bool,
) -> Callable[[], np.ndarray]:
    """What a peer runs; its packages are imported for it alone."""
    if peer == "ours":
        return ours(name, variables, precision, crops)
    module = importlib.import_module(PEERS[peer][0], __package__)
    if peer == "keras":
        return module.descriptor(name, variables, precision, crops)
    if peer == "torchvision":
        return module.torchvision_descriptor(name, precision, crops, gpu)
    compiled = peer.endswith("-compile")
    return module.descriptor(name, variables, precision, crops, gpu, compiled=compiled)


def assert_agree(peer: str, computed: np.ndarray, expected: np.ndarray, precision: str) -> float:
    """The relative difference of descriptors; InputError where precision does not explain it."""
    difference = float(np.linalg.norm(computed - expected) / np.linalg.norm(expected))
    if not difference <= TOLERANCES[precision]:
        raise InputError(
            f"{peer} in {precision} differs from our float32 descriptors by {difference:.1e}, at "
            f"most {TOLERANCES[precision]:.0e} was expected: it computes something else, so it was "
            "not timed"
        )
    return difference


def take_turns(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every call, the peers alternating, every other round backwards."""
    times = {peer: [] for peer in calls}
    for i in range(rounds):
        for peer, call in list(calls.items())[:: 1 if i % 2 == 0 else -1]:
            start = time.perf_counter()
            call()
            times[peer].append(1e3 * (time.perf_counter() - start))
    return times


def rows(times: dict[str, list[float]], work: int) -> list[dict[str, str | float | None]]:
    """Median, minimum, units of work a second, and how many times as fast ours is.

    That is the median of the rounds' ratios, which other work on the machine moves less than the
    ratio of the medians.
    """
    medians = {peer: statistics.median(values) for peer, values in times.items()}
    ours = times.get("ours")
    return [
        {
            "peer": peer,
            "median_ms": round(medians[peer], 3),
            "min_ms": round(min(values), 3),
            "per_second": round(1e3 * work / medians[peer], 3),
            "ours_is_times_as_fast": round(_ratio(values, ours), 3) if ours else None,
        }
        for peer, values in times.items()
    ]


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def show(row: dict[str, str | float | None], head: str, unit: str) -> None:
    """Prints a row."""
    text = f"{head}  {row['peer']:<14}{row['median_ms']:>10.1f}{row['min_ms']:>10.1f}"
    text += f"{row['per_second']:>10.2f} {unit}"
    if row["ours_is_times_as_fast"] is not None and row["peer"] != "ours":
        text += f"  ours is {row['ours_is_times_as_fast']:.2f} x as fast as {row['peer']}"
    print(text, flush=True)


def tissue(height: int, width: int) -> np.ndarray:
    return synthetic.render("Benign", 0, height, width)


def random_crops(count: int, size: int) -> np.ndarray:
    """Windows of synthetic tissue: uint8 [N, size, size, 3]."""
    field, rng = tissue(size + 64, size + 64), np.random.default_rng(0)
    return np.stack([field[y : y + size, x : x + size] for y, x in rng.integers(0, 65, (count, 2))])


def time_encoder(
    name: str, precision: str, peers: list[str], crops: np.ndarray, gpu: bool
) -> list[dict[str, str | float | None]]:
    """Every peer on one encoder: agreement first, then turns."""
    variables = weights.random(name, 0)
    expected = np.asarray(row_of(name).descriptors(variables, crops))
    calls, differences = {}, {}
    for peer in peers:
        if peer != "ours" and peer.startswith("transformers") != is_transformer(name):
            continue
        try:
            call = descriptor(peer, name, variables, precision, crops, gpu)
            computed = call()
        except Exception as error:  # Of other libraries: no compiler, or too little memory.
            if peer == "ours":
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            print(f"{peer} is left out: {reason}", flush=True)
            continue
        if peer != "torchvision":
            differences[peer] = assert_agree(peer, computed, expected, precision)
        call()
        calls[peer] = call
    table = rows(take_turns(calls, FLAGS.rounds), len(crops))
    of = {"encoder": name, "precision": precision, "crop_size": crops.shape[1]}
    for row in table:
        show(row, f"{name:<14}{precision:<9}{crops.shape[1]:>4} px", "crops/s")
    return [{**of, **row, "difference": differences.get(row["peer"])} for row in table]


def time_preprocessing(image: np.ndarray) -> list[dict[str, str | float | None]]:
    """One normalisation and 50 augmentations, ours and NumPy's: agreement first, then turns."""
    gains = np.random.default_rng(0).uniform(0.7, 1.3, (AUGMENTATIONS, 2)).astype(np.float32)
    on_device, augment = jnp.asarray(image), jax.jit(as_bytes)

    def our_augmentations(normalized: jax.Array) -> Iterator[jax.Array]:
        density = stain.optical_density(normalized)
        for pair in gains:
            yield augment(density, pair).block_until_ready()

    def their_augmentations(normalized: np.ndarray) -> Iterator[np.ndarray]:
        amounts = preprocessing_numpy.stain_amounts(normalized)
        for pair in gains:
            yield preprocessing_numpy.augment(amounts, pair, image.shape)

    # Step by step: of a normalised image one grey level off, augmentation makes two.
    normalized, quality = stain.normalize_with_quality(on_device)
    if quality.status:
        raise InputError(
            f"--image has no two stains ({STAIN_STATUS[int(quality.status)]}): name one of stained "
            "tissue"
        )
    shares = [share_within_one_level(np.asarray(normalized), preprocessing_numpy.normalize(image))]
    pairs = zip(
        our_augmentations(normalized), their_augmentations(np.asarray(normalized)), strict=True
    )
    shares += [
        share_within_one_level(np.moveaxis(np.asarray(ours), 0, -1), theirs)
        for ours, theirs in pairs
    ]
    if min(shares) < LEAST_AGREEMENT:
        raise InputError(
            f"NumPy's pre-processing and ours agree within a grey level in {min(shares):.2%} of "
            f"pixels, at least {LEAST_AGREEMENT:.1%} was expected: nothing of it was timed"
        )
    calls = {
        "numpy": lambda: exhaust(their_augmentations(preprocessing_numpy.normalize(image))),
        "ours": lambda: exhaust(our_augmentations(stain.normalize(on_device))),
    }
    table = rows(take_turns(calls, FLAGS.rounds), 1)
    height, width = image.shape[:2]
    print(
        f"stain normalisation once and {AUGMENTATIONS} augmentations of {width} x {height} px; "
        "NumPy has one thread"
    )
    for row in table:
        show(row, f"{'stain':<19}", "images/s")
    return [{**row, "agreement": min(shares)} for row in table]


def as_bytes(density: jax.Array, gains: jax.Array) -> jax.Array:
    """An augmentation as uint8, as NumPy's is."""
    return stain.augment_density(density, gains).astype(jnp.uint8)


def exhaust(augmented: Iterator[Any]) -> None:
    """Makes each image and drops it, as extraction does."""
    collections.deque(augmented, maxlen=0)


def share_within_one_level(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of pixels whose three channels differ by at most one grey level: [H, W, 3] each."""
    return float(np.mean(np.all(np.abs(ours.astype(int) - theirs) <= 1, axis=-1)))


def main() -> None:
    devices.split_cpu()
    gpu = jax.default_backend() == "gpu"
    precisions = FLAGS.precisions or (("float32", "bfloat16") if gpu else ("float32",))
    peers = FLAGS.peers or usual_peers(gpu)
    peers = (*peers, "torchvision") if FLAGS.torchvision and "torchvision" not in peers else peers
    image = reader.read(FLAGS.image) if FLAGS.image else tissue(768, 1024)
    if FLAGS.out:
        files.require_writable(FLAGS.out.parent)
    this = machine()
    print(f"{this['cpu']}, {this['cores']} cores, JAX on {this['device']}; {this['versions']}")
    if (this["load"] or 0) > 0.5:
        print(f"load {this['load']} a minute ago: if other work runs on, it slows peers unequally")
    peers = able(peers, gpu)
    if "torchvision" in peers:
        print("torchvision's networks have other strides and paddings: only their speed compares")
    print(f"{FLAGS.crops} crops a batch, {FLAGS.rounds} rounds; ms a batch: median, minimum")
    timed = []
    for name, precision in itertools.product(FLAGS.encoders, precisions):
        native = encoders.get(name).native
        for size in (native.input_size,) if native else FLAGS.crop_sizes:
            if name != "Inception" or size >= 75:
                crops = random_crops(FLAGS.crops, size)
                timed += time_encoder(name, precision, peers, crops, gpu)
    result = {"machine": this, "crops": FLAGS.crops, "rounds": FLAGS.rounds, "encoders": timed}
    result["preprocessing"] = time_preprocessing(image) if FLAGS.preprocess else []
    if FLAGS.out:
        files.write_json(FLAGS.out, result)
        print(f"written to {FLAGS.out}")


if __name__ == "__main__":
    runner.run(main, __doc__)
