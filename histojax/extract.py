"""Images to descriptor files on the accelerator: what is compiled, for which images, and the order of the work.

host threads decode ahead -> the device prepares and describes (core.py) -> a host thread writes behind
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from histojax import config, core, crops, encoders, engine, feeding, images, stain, store, weights
from histojax.config import Extraction, View
from histojax.encoders import Encoder, Variables
from histojax.engine import Engine
from histojax.errors import InputError
from histojax.files import require_writable
from histojax.progress import Progress

DECODED_AHEAD, DECODERS = 4, 4
WRITTEN_BEHIND = 2


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An encoder with its folded variables, where they came from, and their checksum before folding."""

    encoder: Encoder
    variables: Variables
    source: str
    sha256: str


def load_encoders(
    extraction: Extraction, cache: Path | None = None, weights_dir: Path | None = None
) -> dict[str, Loaded]:
    """The folded encoders of a protocol by name, with ImageNet or random variables."""
    loaded = {}
    for name in extraction.encoders:
        encoder = encoders.get(name, extraction.resnet_variant)
        if extraction.weights == "random":
            variables, source = weights.random(name, extraction.weights_seed), f"random, seed {extraction.weights_seed}"
        else:
            variables, source = weights.imagenet(encoder, cache, weights_dir), "imagenet"
        folded = encoder.fold(variables, extraction.precision)
        loaded[name] = Loaded(encoder.folded(extraction.precision), folded, source, weights.checksum(variables))
    return loaded


def manifest(extraction: Extraction, loaded: Loaded, view: View) -> store.Manifest:
    """What decides the descriptors of one configuration; precision where it is not float32."""
    protocol = {
        "encoder": loaded.encoder.name,
        "scale": view.scale,
        "crop_size": view.crop_size,
        **{
            name: getattr(extraction, name)
            for name in ("crop_mode", "augmentations", "crops", "gain_low", "gain_high", "p", "seed")
        },
    }
    if loaded.encoder.name == "ResNet":
        protocol["resnet_variant"] = extraction.resnet_variant
    if extraction.precision != "float32":
        protocol["precision"] = extraction.precision
    return {"protocol": protocol, "weights": {"source": loaded.source, "sha256": loaded.sha256}}


def bucket(side: int) -> int:
    """A side rounded up to one of four sizes an octave (.. 768, 896, 1024, 1280 ..): few shapes for many images."""
    step = max(32, 2 ** (side.bit_length() - 3))
    return -(-side // step) * step


def scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width after downscaling."""
    return round(size[0] * scale), round(size[1] * scale)


class Padded(NamedTuple):
    """An image as it goes to the device: uint8 [H, W, 3] padded to its buckets, its own size, its file's SHA-256."""

    path: Path
    rgb: np.ndarray
    size: tuple[int, int]
    digest: str


def read_padded(path: Path) -> Padded:
    """Reads an image and pads it below and to the right."""
    rgb = images.read(path)
    size = rgb.shape[:2]
    below, right = (bucket(side) - side for side in size)
    return Padded(path, np.pad(rgb, ((0, below), (0, right), (0, 0))), size, store.sha256(path))


def check(paths: Sequence[Path], extraction: Extraction, pooling: str) -> None:
    """Raises InputError where protocol, flags or images do not fit; nothing is computed or written."""
    config.check(config.Protocol(extraction=extraction))
    if pooling == "pallas" and extraction.crop_mode == "shared":
        raise InputError("--pooling=pallas is for --crop_mode=exact: shared crops are windows, which XLA pools")
    check_images(paths, extraction)


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
            small = scaled((height, width), view.scale)
            if min(small) < view.crop_size:
                problems.append(
                    f"{path} is {width} x {height} px, {small[1]} x {small[0]} at scale {view.scale}: smaller than "
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
    """What a run did: images described now and before, those whose stain normalisation fell back, and its pace.

    Attributes:
      seconds: that describing took, compilation included.
      waited: of these, how many the device had nothing to do because no image was decoded yet.
    """

    described: int
    done_before: int
    fallbacks: tuple[str, ...]
    seconds: float = 0.0
    waited: float = 0.0


def run(
    paths: Sequence[Path],
    extraction: Extraction,
    root: Path,
    *,
    cache: Path | None = None,
    weights_dir: Path | None = None,
    crops_per_step: int | None = None,
    pooling: str = "xla",
    use: Sequence[jax.Device] | None = None,
    process: int = 0,
    processes: int = 1,
) -> Outcome:
    """Describes images and writes the descriptors below `root`; goes on where an earlier run stopped.

    Args:
      paths: image files, of unique names.
      extraction: the protocol.
      root: the folder of descriptors.
      cache, weights_dir: where ImageNet weights are kept, and where they are if not to be downloaded.
      crops_per_step: crops (whole images in crop mode shared) that go through an encoder at a time, on all devices; by
        default what memory allows, tried once and remembered in the cache.
      pooling: `xla`, or `pallas` for the fused kernel (crop mode exact, on a GPU; interpreted on a CPU).
      use: the devices; by default all local ones.
      process, processes: which of how many processes this is; each describes its share of the images.

    Raises:
      InputError: unusable images, weights or folders; what was finished before stays.
    """
    check(paths, extraction, pooling)
    require_writable(root)
    cache = cache or weights.default_cache()
    machine = Engine(core.mesh_of(use or jax.local_devices()), crops_per_step, pooling == "pallas", cache)
    loaded = load_encoders(extraction, cache, weights_dir)
    check_encoders(loaded, extraction)
    for each in loaded.values():
        for view in extraction.views:
            store.claim(root, extraction.configuration(each.encoder.name, view), manifest(extraction, each, view))
    mine = sorted(paths, key=lambda path: path.stem)[process::processes]
    names = {path.stem for path in mine}
    if processes == 1:
        store.merge_stain_qc(root)  # What is left of a run of several processes.
    rows = store.read_stain_qc(root)
    if processes > 1:
        rows = {key: row for key, row in rows.items() if key[0] in names}
    to_do = {path: lacking for path in mine if (lacking := unfinished(path, extraction, loaded, root, rows))}

    loaded = {
        name: dataclasses.replace(each, variables=machine.replicate(each.variables)) for name, each in loaded.items()
    }
    work = Work(extraction, machine, loaded, to_do, root, process, processes, rows, common_canvas(to_do, extraction))
    views_to_do = sum(len(views) for lacking in to_do.values() for _, views in passes(lacking, extraction))
    start, waited = time.monotonic(), 0.0
    decoded = feeding.ahead(read_padded, to_do, DECODED_AHEAD, DECODERS)
    try:
        with (
            contextlib.closing(decoded),
            Progress("extract", views_to_do * extraction.augmentations * extraction.crops, "crops") as bar,
            feeding.Behind(WRITTEN_BEHIND) as behind,
        ):
            for i in range(len(to_do)):
                asked = time.monotonic()
                image = next(decoded)
                waited += (time.monotonic() - asked) * (i > 0)  # For the first there is nothing to wait beside.
                describe_image(work, image, behind, bar)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError("out of memory on the device: lower --crops_per_step. What was finished is kept") from error
    seconds = time.monotonic() - start
    if processes > 1 and not any(lacking_of(path, extraction, loaded, root) for path in paths):
        store.merge_stain_qc(root)
    fallbacks = notices({key: row for key, row in rows.items() if key[0] in names})
    return Outcome(len(to_do), len(mine) - len(to_do), fallbacks, seconds, waited)


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


def lacking_of(path: Path, extraction: Extraction, loaded: dict[str, Loaded], root: Path) -> list[tuple[str, View]]:
    """The (encoder, view) pairs that have no descriptor file of an image."""
    rows = extraction.augmentations
    return [
        (name, view)
        for view in extraction.views
        for name, each in loaded.items()
        if not store.is_done(root, extraction.configuration(name, view), path.stem, (rows, each.encoder.width))
    ]


def unfinished(
    path: Path, extraction: Extraction, loaded: dict[str, Loaded], root: Path, rows: dict[tuple[str, str], list[str]]
) -> list[tuple[str, View]]:
    """The (encoder, view) pairs whose descriptors an image lacks: all, where stain_qc.csv does not know the image.

    Raises:
      InputError: the file is not the one its descriptors were made of.
    """
    lacking = lacking_of(path, extraction, loaded, root)
    recorded = {row[-1] for (image, _), row in rows.items() if image == path.stem}
    if not recorded:
        return [(name, view) for view in extraction.views for name in loaded]
    if recorded != {store.sha256(path)}:
        raise InputError(
            f"{path} is not the file that the descriptors of {path.stem!r} in {root} were made of (SHA-256 differs): "
            "name another folder, or give one of the images another name"
        )
    return lacking


def common_canvas(paths: Iterable[Path], extraction: Extraction) -> dict[float, tuple[int, int]]:
    """Height and width by scale that every one of the images fits into, padded and downscaled: one shape for all."""
    sizes = [tuple(map(bucket, images.size(path))) for path in paths]
    return {scale: tuple(max(axis) for axis in zip(*(scaled(size, scale) for size in sizes), strict=True))
            for scale in scales(extraction.views) if sizes}  # fmt: skip


class Work(NamedTuple):
    """What describing an image needs beside the image."""

    extraction: Extraction
    machine: Engine
    loaded: dict[str, Loaded]
    lacking: dict[Path, list[tuple[str, View]]]
    root: Path
    process: int
    processes: int
    rows: dict[tuple[str, str], list[str]]
    canvas: dict[float, tuple[int, int]]


def passes(pairs: Iterable[tuple[str, View]], extraction: Extraction) -> list[tuple[str, tuple[View, ...]]]:
    """What has to run for (encoder, view) pairs: an encoder with the views, of one scale, that one program describes.

    In crop mode exact each view by itself; in crop mode shared all views of a scale, which come from one pass.
    """
    if extraction.crop_mode == "exact":
        return [(name, (view,)) for name, view in pairs]
    at_scale = {scale: tuple(v for v in extraction.views if v.scale == scale) for scale in scales(extraction.views)}
    return list(dict.fromkeys((name, at_scale[view.scale]) for name, view in pairs))


def scales(views: Iterable[View]) -> list[float]:
    """The scales of views, each once."""
    return list(dict.fromkeys(view.scale for view in views))


def prepare(
    machine: Engine, image: Padded, scale: float, canvas: tuple[int, int]
) -> tuple[jax.Array, stain.StainQuality, tuple[int, int]]:
    """`core.prepare` of an image on every device: its density, its quality, and its own size after scaling."""
    small = scaled(image.size, scale)
    sizes = (np.array(size, np.int32) for size in (image.size, small))
    return *core.prepare(machine.replicate(image.rgb), *sizes, scale=scale, canvas=canvas), small


def describe_image(work: Work, image: Padded, behind: feeding.Behind, bar: Progress) -> None:
    """Describes one image for the (encoder, view) pairs it lacks; its results are fetched and written behind."""
    extraction, machine, lacking = work.extraction, work.machine, work.lacking[image.path]
    key = machine.replicate(crops.image_key(extraction.seed, image.path.stem))
    for scale in scales(view for _, view in lacking):
        # Exact crops do not see the canvas, so one serves all images. A whole image is described on its own.
        canvas = scaled(image.rgb.shape, scale) if extraction.crop_mode == "shared" else work.canvas[scale]
        density, quality, size = prepare(machine, image, scale, canvas)
        behind.do(write_quality, work, image, scale, quality)
        for name, views in passes([pair for pair in lacking if pair[1].scale == scale], extraction):
            each = work.loaded[name]
            program = machine.program(each.encoder, each.variables, extraction, views, canvas)
            pooled = engine.describe(program, each.variables, density, size, key, bar)
            behind.do(write_descriptors, work, image, name, pooled)


def write_quality(work: Work, image: Padded, scale: float, quality: stain.StainQuality) -> None:
    """Adds a row to stain_qc.csv; before the descriptors are there, so that no descriptor is without one."""
    name = image.path.stem
    work.rows[name, str(scale)] = quality_row(name, scale, quality, image.digest)
    store.write_stain_qc(work.root, work.rows, work.process, work.processes)


def write_descriptors(work: Work, image: Padded, name: str, pooled: core.Pooled) -> None:
    """Fetches an image's descriptors of one encoder and writes those that were lacking."""
    for other, view in work.lacking[image.path]:
        if other == name and view.name in pooled:
            descriptors = np.asarray(pooled[view.name])[: work.extraction.augmentations]
            configuration = work.extraction.configuration(name, view)
            store.write(work.root, configuration, image.path.stem, np.ascontiguousarray(descriptors))
