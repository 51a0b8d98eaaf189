"""Images to descriptor files on the accelerator: what is compiled, for which images, and the order of the job.

host threads decode ahead -> the device prepares and describes (programs.py) -> a host thread writes behind
"""

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from histojax.config import (
    STAIN_OK,
    STAIN_STATUS,
    STAIN_TOO_LITTLE_TISSUE,
    Extraction,
    Runtime,
    View,
)
from histojax.errors import InputError
from histojax.extraction import engine, loaded_encoders, manifests, programs, store
from histojax.extraction.engine import Engine
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.images.padding import (
    PaddedImage,
    common_canvas,
    image_digest,
    read_padded,
    scaled_size,
    scales,
)
from histojax.images.resampling import Resampling
from histojax.ops import crops, stain
from histojax.utils import prefetch
from histojax.utils.files import require_writable
from histojax.utils.progress import Progress

DECODED_AHEAD, DECODERS = 4, 4
WRITTEN_BEHIND = 2


def problems(path: Path, extraction: Extraction, resampling: Resampling) -> list[str]:
    """What keeps an image from being described: it cannot be opened, or is smaller than a crop. Nothing is decoded."""
    try:
        path.stem.encode()
        height, width = resampling.size(path)
    except UnicodeEncodeError:
        return [
            f"{ascii(str(path))} has a name that is no UTF-8, by which its crops could not be drawn: rename it"
        ]
    except InputError as error:
        return [str(error)]
    found = []
    for view in extraction.views:
        small = scaled_size((height, width), view.scale)
        if min(small) < view.crop_size:
            brought = (
                f" ({resampling.factor(path):.3g} of its size, by --target_mpp)"
                if resampling.target_mpp
                else ""
            )
            found.append(
                f"{path} is {width} x {height} px{brought}, {small[1]} x {small[0]} at scale {view.scale}: smaller "
                f"than the {view.crop_size} px crop. Leave it out or choose other --views"
            )
    return found


def check_images(paths: Sequence[Path], extraction: Extraction, resampling: Resampling) -> None:
    """Raises InputError listing the images that cannot be described, before any job."""
    found = [problem for path in paths for problem in problems(path, extraction, resampling)]
    if found:
        more = f"\n  ... and {len(found) - 20} more" if len(found) > 20 else ""
        raise InputError(
            found[0] if len(found) == 1 else "\n  ".join(["images:", *found[:20]]) + more
        )


def stain_qc_row(
    name: str, scale: float, quality: stain.StainQuality, digest: str
) -> store.StainQCRow:
    """A row of stain_qc.csv, with numbers as the file keeps them."""
    status = STAIN_STATUS[int(quality.status)]
    hematoxylin, eosin = (round(float(value), 4) for value in quality.maxima)
    return store.StainQCRow(
        image=name,
        scale=str(scale),
        tissue_fraction=round(float(quality.tissue_fraction), 4),
        stain_angle_degrees=None
        if status == STAIN_TOO_LITTLE_TISSUE
        else round(float(quality.stain_angle), 2),
        max_hematoxylin=hematoxylin,
        max_eosin=eosin,
        status=status,
        file_sha256=digest,
    )


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who is told of images as they are finished, and of those that cannot be described, which then stop nothing.

    Both are called by one thread at a time, mostly not the caller's.

    Attributes:
      done: given each image once all its descriptors are written, also where an earlier run wrote them, and its rows of
        stain_qc.csv.
      failed: given each image that cannot be described, and why.
    """

    done: Callable[[Path, store.StainQC], None]
    failed: Callable[[Path, InputError], None]


@dataclasses.dataclass(frozen=True)
class ExtractionSummary:
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
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    runtime: Runtime = Runtime(),
) -> ExtractionSummary:
    """Describes images and writes the descriptors below `root`; goes on where an earlier run stopped.

    Args:
      paths: image files, of unique names.
      extraction: the protocol.
      root: the folder of descriptors.
      mpp: microns per pixel of the images, where files do not tell.
      process, processes: which of how many processes this is; each describes its share of the images.
      runtime: devices, crops a step, pooling, and where weights are.

    Raises:
      InputError: unusable images, weights or folders; what was finished before stays.
    """
    loaded_encoders.check(extraction, runtime.pooling)
    check_images(paths, extraction, Resampling(extraction.target_mpp, mpp))
    require_writable(root)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime)
    return describe(paths, encoder_set, root, mpp, process, processes)


def describe(
    paths: Sequence[Path],
    encoder_set: EncoderSet,
    root: Path,
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    listener: Listener | None = None,
) -> ExtractionSummary:
    """`run` by encoders that are loaded already. With a listener, images that cannot be described are told and left."""
    extraction, resampling = (
        encoder_set.extraction,
        Resampling(encoder_set.extraction.target_mpp, mpp),
    )
    claim(encoder_set, root)
    if processes == 1:
        store.merge_stain_qc(root)  # What is left of a run of several processes.
    mine = sorted(paths, key=lambda path: path.stem)[process::processes]
    names, rows = {path.stem for path in mine}, store.read_stain_qc(root)
    if processes > 1:
        rows = {key: row for key, row in rows.items() if key[0] in names}
    lacking = {}
    for path in mine:
        try:
            check_images([path] if listener else [], extraction, resampling)
            lacking[path] = unfinished(path, encoder_set, resampling, root, rows)
        except InputError as error:
            fail(listener, path, error)
    to_do = {path: pairs for path, pairs in lacking.items() if pairs}
    if listener:
        for path in lacking.keys() - to_do.keys():
            listener.done(path, rows_of(path, rows))
    canvas = common_canvas([resampling.size(path) for path in to_do], extraction.views)
    job = ExtractionJob(encoder_set, to_do, root, process, processes, rows, canvas, listener)
    start = time.monotonic()
    described, waited = describe_all(job, resampling)
    seconds = time.monotonic() - start
    if processes > 1 and not any(lacking_of(path, encoder_set, root) for path in paths):
        store.merge_stain_qc(root)
    fallbacks = notices({key: row for key, row in rows.items() if key[0] in names})
    return ExtractionSummary(described, len(lacking) - len(to_do), fallbacks, seconds, waited)


def claim(encoder_set: EncoderSet, root: Path) -> None:
    """Records what descriptors below `root` are made with, or refuses to mix them with others: see `manifests.claim`."""
    for configuration, manifest in encoder_set.made_with().items():
        manifests.claim(root, configuration, manifest)


def describe_all(job: "ExtractionJob", resampling: Resampling) -> tuple[int, float]:
    """Describes the images that lack something; how many, and seconds that the device waited for decoding."""
    extraction, described, waited = job.encoder_set.extraction, 0, 0.0
    views = sum(
        len(views) for pairs in job.lacking.values() for _, views in passes(pairs, extraction)
    )
    decoded = prefetch.prefetch(
        functools.partial(decode, resampling), job.lacking, DECODED_AHEAD, DECODERS
    )
    try:
        with (
            contextlib.closing(decoded),
            Progress(
                "extract", views * extraction.augmentations * extraction.crops, "crops"
            ) as bar,
            prefetch.background_writer(WRITTEN_BEHIND) as write,
        ):
            for i, path in enumerate(job.lacking):
                asked = time.monotonic()
                image = next(decoded)
                waited += (time.monotonic() - asked) * (
                    i > 0
                )  # For the first there is nothing to wait beside.
                if isinstance(image, InputError):
                    fail(job.listener, path, image)
                else:
                    describe_image(job, image, write, bar)
                    described += 1
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "out of memory on the device: lower --crops_per_step. What was finished is kept"
        ) from error
    return described, waited


def fail(listener: Listener | None, path: Path, error: InputError) -> None:
    """Tells the listener that an image cannot be described; without one, that ends the run."""
    if listener is None:
        raise error
    listener.failed(path, error)


def decode(resampling: Resampling, path: Path) -> PaddedImage | InputError:
    """An image for the device, or what is wrong with it, to be told in its turn."""
    try:
        return read_padded(path, resampling)
    except InputError as error:
        return error


def notices(rows: store.StainQC) -> tuple[str, ...]:
    """Warns of images whose stain normalisation fell back, and of one file under several names; returns the former."""
    same = collections.defaultdict(set)
    for row in rows.values():
        same[row.file_sha256].add(row.image)
    for names in same.values():
        if len(names) > 1:
            logging.warning(
                "%s are one file under several names: folds may leak", ", ".join(sorted(names))
            )
    fallbacks = sorted({row.image for row in rows.values() if row.status != STAIN_OK})
    for name in fallbacks:
        logging.warning(
            "stain normalisation of %s fell back on the reference stains, see %s",
            name,
            store.STAIN_QC,
        )
    return tuple(fallbacks)


def lacking_of(path: Path, encoder_set: EncoderSet, root: Path) -> list[tuple[str, View]]:
    """The (encoder, view) pairs that have no descriptor file of an image."""
    extraction = encoder_set.extraction
    return [
        (name, view)
        for view in extraction.views
        for name, each in encoder_set.encoders.items()
        if not store.is_done(
            root,
            extraction.configuration(name, view),
            path.stem,
            (extraction.augmentations, each.encoder.width),
        )
    ]


def unfinished(
    path: Path, encoder_set: EncoderSet, resampling: Resampling, root: Path, rows: store.StainQC
) -> list[tuple[str, View]]:
    """The (encoder, view) pairs whose descriptors an image lacks: all, where stain_qc.csv does not know the image.

    Raises:
      InputError: the file is not the one its descriptors were made of.
    """
    lacking = lacking_of(path, encoder_set, root)
    recorded = {row.file_sha256 for row in rows.values() if row.image == path.stem}
    if not recorded:
        return [
            (name, view) for view in encoder_set.extraction.views for name in encoder_set.encoders
        ]
    if recorded != {image_digest(path, resampling)}:
        raise InputError(
            f"{path} is not the file that the descriptors of {path.stem!r} in {root} were made of (SHA-256 or pixel "
            "size differs): name another folder, or give one of the images another name"
        )
    return lacking


class ExtractionJob(NamedTuple):
    """What describing an image needs beside the image."""

    encoder_set: EncoderSet
    lacking: dict[Path, list[tuple[str, View]]]
    root: Path
    process: int
    processes: int
    rows: store.StainQC
    canvas: dict[float, tuple[int, int]]
    listener: Listener | None = None


def passes(
    pairs: Iterable[tuple[str, View]], extraction: Extraction
) -> list[tuple[str, tuple[View, ...]]]:
    """What has to run for (encoder, view) pairs: an encoder with the views, of one scale, that one program describes.

    In crop mode exact each view by itself; in crop mode shared all views of a scale, which come from one pass.
    """
    if extraction.crop_mode == "exact":
        return [(name, (view,)) for name, view in pairs]
    at_scale = {
        scale: tuple(v for v in extraction.views if v.scale == scale)
        for scale in scales(extraction.views)
    }
    return list(dict.fromkeys((name, at_scale[view.scale]) for name, view in pairs))


def prepare(
    machine: Engine,
    extraction: Extraction,
    image: PaddedImage,
    scale: float,
    canvas: tuple[int, int],
) -> tuple[jax.Array, stain.StainQuality, tuple[int, int]]:
    """`programs.prepare` of an image on every device: its planes, its quality, and its size after scaling."""
    small = scaled_size(image.size, scale)
    planes, quality = programs.prepare(
        machine.replicate(image.rgb),
        *(np.array(size, np.int32) for size in (image.size, small)),
        scale=scale,
        canvas=canvas,
        normalizer=stain.NORMALIZERS[extraction.stain_normalizer],
        augmentation=stain.AUGMENTATIONS[extraction.stain_augmentation],
    )
    return planes, quality, small


def describe_image(
    job: ExtractionJob, image: PaddedImage, write: prefetch.Submit, bar: Progress
) -> None:
    """Describes one image for the (encoder, view) pairs it lacks; its results are fetched and written behind."""
    extraction, machine, lacking = (
        job.encoder_set.extraction,
        job.encoder_set.engine,
        job.lacking[image.path],
    )
    key = machine.replicate(crops.image_key(extraction.seed, image.path.stem))
    for scale in scales(view for _, view in lacking):
        # Exact crops do not see the canvas, so one serves all images. A whole image is described on its own.
        canvas = (
            scaled_size(image.rgb.shape, scale)
            if extraction.crop_mode == "shared"
            else job.canvas[scale]
        )
        density, quality, size = prepare(machine, extraction, image, scale, canvas)
        write(write_quality, job, image, scale, quality)
        for name, views in passes([pair for pair in lacking if pair[1].scale == scale], extraction):
            each = job.encoder_set.encoders[name]
            program = machine.program(each.encoder, each.variables, extraction, views, canvas)
            pooled = engine.describe(program, each.variables, density, size, key, bar)
            write(write_descriptors, job, image, name, pooled)
    if job.listener:
        write(tell_done, job, image.path)


def write_quality(
    job: ExtractionJob, image: PaddedImage, scale: float, quality: stain.StainQuality
) -> None:
    """Adds a row to stain_qc.csv; before the descriptors are there, so that no descriptor is without one."""
    name = image.path.stem
    job.rows[name, str(scale)] = stain_qc_row(name, scale, quality, image.digest)
    store.write_stain_qc(job.root, job.rows, job.process, job.processes)


def tell_done(job: ExtractionJob, path: Path) -> None:
    """Tells the listener that an image's descriptors are all there."""
    job.listener.done(path, rows_of(path, job.rows))


def rows_of(path: Path, rows: store.StainQC) -> store.StainQC:
    """The rows of stain_qc.csv of one image."""
    return {key: row for key, row in rows.items() if key[0] == path.stem}


def write_descriptors(
    job: ExtractionJob, image: PaddedImage, name: str, pooled: programs.Pooled
) -> None:
    """Fetches an image's descriptors of one encoder and writes those that were lacking."""
    for other, view in job.lacking[image.path]:
        if other == name and view.name in pooled:
            extraction = job.encoder_set.extraction
            descriptors = np.asarray(pooled[view.name])[: extraction.augmentations]
            configuration = extraction.configuration(name, view)
            store.write(job.root, configuration, image.path.stem, np.ascontiguousarray(descriptors))
