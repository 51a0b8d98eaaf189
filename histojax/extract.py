"""Images to descriptor files on the accelerator: devices, batch shapes and the order of the work.

image -> per scale: downscale, normalise -> per step: B crops, augmented [B, S, S, 3] -> encoders [B, D]
      -> p-norm over crops [A, D] -> one file per configuration
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from histojax import config, crops, encoders, images, pooling, resize, stain, store, weights
from histojax.config import Extraction, View
from histojax.encoders import Encoder, Variables
from histojax.errors import InputError
from histojax.files import require_writable
from histojax.progress import Progress

CROPS_PER_STEP = 20


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder with its variables, where they came from, and their checksum."""

    encoder: Encoder
    variables: Variables
    source: str
    sha256: str


def load_encoders(
    extraction: Extraction, cache: Path | None = None, weights_dir: Path | None = None
) -> dict[str, Loaded]:
    """The encoders of a protocol by name, with ImageNet or random variables."""
    loaded = {}
    for name in extraction.encoders:
        encoder = encoders.get(name, extraction.resnet_variant)
        if extraction.weights == "random":
            variables, source = weights.random(name, extraction.weights_seed), f"random, seed {extraction.weights_seed}"
        else:
            variables, source = weights.imagenet(encoder, cache, weights_dir), "imagenet"
        loaded[name] = Loaded(encoder, variables, source, weights.checksum(variables))
    return loaded


def manifest(extraction: Extraction, loaded: Loaded, view: View) -> store.Manifest:
    """What decides the descriptors of one configuration."""
    protocol = {
        "encoder": loaded.encoder.name,
        "scale": view.scale,
        "crop_size": view.crop_size,
        "crop_mode": "exact",
        **{
            name: getattr(extraction, name) for name in ("augmentations", "crops", "gain_low", "gain_high", "p", "seed")
        },
    }
    if loaded.encoder.name == "ResNet":
        protocol["resnet_variant"] = extraction.resnet_variant
    return {"protocol": protocol, "weights": {"source": loaded.source, "sha256": loaded.sha256}}


@functools.partial(jax.jit, static_argnames=("size", "low", "high", "sharding"))
def augmented_crops(
    image: jax.Array, key: jax.Array, index: jax.Array, per_augmentation: jax.Array, *,
    size: int, low: float, high: float, sharding: NamedSharding,
) -> jax.Array:  # fmt: skip
    """Crops number `index` of an image, counted augmentation by augmentation: uint8 [B, size, size, 3].

    A crop is cut first and augmented then: augmentation works pixel by pixel, so the result is the same as the other
    way round, and no augmented image is ever held.
    """

    def one(i: jax.Array) -> jax.Array:
        augmentation, crop = i // per_augmentation, i % per_augmentation
        square = crops.random_crop(image, key, augmentation, crop, size)
        return stain.augment(square, crops.gains(key, augmentation, low, high))

    return jax.lax.with_sharding_constraint(jax.vmap(one)(index), sharding)


@dataclasses.dataclass(frozen=True)
class Engine:
    """The devices, and how many crops go through an encoder at a time."""

    mesh: jax.sharding.Mesh
    crops_per_step: int

    @classmethod
    def create(cls, crops_per_step: int = CROPS_PER_STEP, devices: Sequence[jax.Device] | None = None) -> "Engine":
        """All local devices by default; crops per step are rounded up to a multiple of their number."""
        devices = list(devices or jax.local_devices())
        mesh = jax.sharding.Mesh(np.array(devices), ("crops",))
        return cls(mesh, -(-crops_per_step // len(devices)) * len(devices))

    def replicate(self, tree: Variables) -> Variables:
        """The same arrays on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def describe(
        self, normalized: jax.Array, key: jax.Array, extraction: Extraction, view: View, loaded: Sequence[Loaded],
        bar: Progress,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Descriptors of one normalised image by encoder name: uint8 [H, W, 3] to float32 [A, D] each."""
        total = extraction.augmentations * extraction.crops
        parts: dict[str, list[jax.Array]] = {each.encoder.name: [] for each in loaded}
        sharding = NamedSharding(self.mesh, PartitionSpec("crops"))
        for start in range(0, total, self.crops_per_step):
            # The last step is filled up with repetitions of the last crop, so that every step has one shape.
            index = np.minimum(np.arange(start, start + self.crops_per_step), total - 1).astype(np.int32)
            batch = augmented_crops(
                normalized, key, jax.device_put(index, sharding), extraction.crops,
                size=view.crop_size, low=extraction.gain_low, high=extraction.gain_high, sharding=sharding,
            )  # fmt: skip
            for each in loaded:
                parts[each.encoder.name].append(each.encoder.descriptors(each.variables, batch))
            # One step is computed while the next is prepared; more in flight would only fill memory.
            if start:
                jax.block_until_ready([steps[-2] for steps in parts.values()])
            bar.add(min(self.crops_per_step, total - start) * len(loaded), "compiling" if not bar.done else "")
        shape = (extraction.augmentations, extraction.crops, -1)
        return {
            name: np.asarray(pooling.pnorm(jnp.concatenate(steps)[:total].reshape(shape), extraction.p))
            for name, steps in parts.items()
        }


def check_images(paths: Sequence[Path], extraction: Extraction) -> None:
    """Raises InputError listing the images that cannot be opened or are smaller than a crop, before any work."""
    problems = []
    for path in paths:
        try:
            height, width = images.size(path)
        except InputError as error:
            problems.append(str(error))
            continue
        for view in extraction.views:
            scaled = round(height * view.scale), round(width * view.scale)
            if min(scaled) < view.crop_size:
                problems.append(
                    f"{path} is {width} x {height} px, {scaled[1]} x {scaled[0]} at scale {view.scale}: smaller than "
                    f"the {view.crop_size} px crop. Leave it out or choose other --views"
                )
    if problems:
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise InputError(problems[0] if len(problems) == 1 else "\n  ".join(["images:", *problems[:20]]) + more)


def check_encoders(loaded: dict[str, Loaded], extraction: Extraction) -> None:
    """Raises InputError where crops are too small for an encoder; nothing is computed."""
    for each in loaded.values():
        for view in extraction.views:
            image = jax.ShapeDtypeStruct((1, view.crop_size, view.crop_size, 3), jnp.uint8)
            try:
                jax.eval_shape(each.encoder.descriptors, each.variables, image)
            except ValueError as error:
                raise InputError(f"view {view.name} does not fit: {error}. Choose other --views") from error


def quality_row(name: str, scale: float, quality: stain.StainQuality, digest: str) -> list[str]:
    """A row of stain_qc.csv; the angle is left empty where no stain vectors were sought."""
    status = int(quality.status)
    angle = "" if stain.STATUS[status].endswith("too little tissue") else f"{float(quality.stain_angle):.2f}"
    maxima = [f"{float(value):.4f}" for value in quality.maxima]
    return [name, str(scale), f"{float(quality.tissue_fraction):.4f}", angle, *maxima, stain.STATUS[status], digest]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did: images described now and before, and those whose stain normalisation fell back."""

    described: int
    done_before: int
    fallbacks: tuple[str, ...]


def run(
    paths: Sequence[Path],
    extraction: Extraction,
    root: Path,
    *,
    cache: Path | None = None,
    weights_dir: Path | None = None,
    crops_per_step: int = CROPS_PER_STEP,
    devices: Sequence[jax.Device] | None = None,
) -> Outcome:
    """Describes images and writes the descriptors below `root`; goes on where an earlier run stopped.

    Args:
      paths: image files, of unique names.
      extraction: the protocol.
      root: the folder of descriptors.
      cache, weights_dir: where ImageNet weights are kept, and where they are if not to be downloaded.
      crops_per_step: crops that go through an encoder at a time; memory grows with it.
      devices: by default all local ones.

    Raises:
      InputError: unusable images, weights or folders; what was finished before stays.
    """
    config.check(config.Protocol(extraction=extraction))
    require_writable(root)
    check_images(paths, extraction)
    engine = Engine.create(crops_per_step, devices)
    loaded = load_encoders(extraction, cache, weights_dir)
    check_encoders(loaded, extraction)
    for each in loaded.values():
        for view in extraction.views:
            store.claim(root, f"{each.encoder.name}-{view.name}", manifest(extraction, each, view))
    rows = store.read_stain_qc(root)
    to_do = [(path, lacking) for path in paths if (lacking := unfinished(path, extraction, loaded, root, rows))]
    loaded = {
        name: dataclasses.replace(each, variables=engine.replicate(each.variables)) for name, each in loaded.items()
    }
    crops_each = extraction.augmentations * extraction.crops
    try:
        with Progress("extract", sum(len(lacking) for _, lacking in to_do) * crops_each, "crops") as bar:
            for path, lacking in to_do:
                describe_image(path, lacking, extraction, engine, loaded, root, rows, bar)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(f"out of memory at {engine.crops_per_step} crops a step: lower --crops_per_step") from error
    fallbacks = notices({key: row for key, row in rows.items() if key[0] in {path.stem for path in paths}})
    return Outcome(len(to_do), len(paths) - len(to_do), fallbacks)


def notices(rows: dict[tuple[str, str], list[str]]) -> tuple[str, ...]:
    """Warns of images whose stain normalisation fell back, and of one file under several names; returns the former."""
    same = collections.defaultdict(set)
    for (name, _), row in rows.items():
        same[row[-1]].add(name)
    for names in same.values():
        if len(names) > 1:
            logging.warning("%s are one file under several names: folds may leak", ", ".join(sorted(names)))
    fallbacks = sorted({name for (name, _), row in rows.items() if row[6] != stain.STATUS[0]})
    for name in fallbacks:
        logging.warning("stain normalisation of %s fell back on the reference stains, see %s", name, store.STAIN_QC)
    return tuple(fallbacks)


def unfinished(
    path: Path, extraction: Extraction, loaded: dict[str, Loaded], root: Path, rows: dict[tuple[str, str], list[str]]
) -> list[tuple[str, View]]:
    """The (encoder, view) pairs whose descriptors an image lacks: all, where stain_qc.csv does not know the image.

    Raises:
      InputError: the file is not the one its descriptors were made of.
    """
    pairs = [(name, view) for view in extraction.views for name in loaded]
    shapes = {name: (extraction.augmentations, each.encoder.width) for name, each in loaded.items()}
    lacking = [(n, view) for n, view in pairs if not store.is_done(root, f"{n}-{view.name}", path.stem, shapes[n])]
    recorded = {row[-1] for (image, _), row in rows.items() if image == path.stem}
    if not recorded:
        return pairs
    if recorded != {store.sha256(path)}:
        raise InputError(
            f"{path} is not the file that the descriptors of {path.stem!r} in {root} were made of (SHA-256 differs): "
            "name another folder, or give one of the images another name"
        )
    return lacking


def describe_image(
    path: Path, lacking: list[tuple[str, View]], extraction: Extraction, engine: Engine, loaded: dict[str, Loaded],
    root: Path, rows: dict[tuple[str, str], list[str]], bar: Progress,
) -> None:  # fmt: skip
    """Describes one image for the (encoder, view) pairs it lacks, and writes its rows of stain_qc.csv and its files."""
    rgb = images.read(path)
    digest = store.sha256(path)
    key = engine.replicate(crops.image_key(extraction.seed, path.stem))
    for scale in dict.fromkeys(view.scale for _, view in lacking):
        normalized, quality = stain.normalize_with_quality(resize.downscale(rgb, scale))
        normalized = engine.replicate(normalized)
        rows[path.stem, str(scale)] = quality_row(path.stem, scale, quality, digest)
        store.write_stain_qc(root, rows)
        for view in dict.fromkeys(view for _, view in lacking if view.scale == scale):
            needed = [loaded[name] for name, other in lacking if other == view]
            described = engine.describe(normalized, key, extraction, view, needed, bar)
            for name, descriptors in described.items():
                store.write(root, f"{name}-{view.name}", path.stem, descriptors)
