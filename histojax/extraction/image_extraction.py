"""One image to its descriptor files: the programs of what it lacks, and what is written of it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE, View
from histojax.errors import InputError
from histojax.extraction import crop_errors, encoding, manifests, pending, store
from histojax.extraction.engine import passes
from histojax.extraction.loaded_encoders import EncoderSet, LoadedEncoder
from histojax.extraction.plans import Pooled
from histojax.images.names import Images
from histojax.images.padding import PaddedImage, by_resolution, scaled_size
from histojax.ops import crops, stain
from histojax.utils import prefetch
from histojax.utils.progress import Progress


@dataclasses.dataclass(frozen=True)
class Listener:
    """Callbacks for images that finish or fail.

    With a listener, a failed image does not stop the run. Calls never overlap, but usually come
    from another thread.

    Attributes:
      done: takes the name of an image once all its descriptors are written, in this run or an
        earlier one, and its rows of stain_qc.csv.
      failed: takes the name of an image that cannot be extracted from, and why.
    """

    done: Callable[[str, store.StainQC], None]
    failed: Callable[[str, InputError], None]


@dataclasses.dataclass(frozen=True)
class ExtractionJob:
    """What extraction from an image needs beside the image.

    Attributes:
      encoder_set: protocol, devices and encoders.
      images: the image files by name.
      missing: encoders and views to extract, by image name.
      root: the folder of descriptors.
      process, processes: which process this is, and how many share the run.
      rows: of stain_qc.csv, of all images of this process; grows as images are prepared.
      sizes: heights and widths of the images that lack some, as they are read, by the pixel sizes
        that views state.
      canvas: height and width that prepared images are padded to, by resolution.
      checked: images of which the error of crop mode hybrid is measured.
      listener: is called for each image; None for no calls.
    """

    encoder_set: EncoderSet
    images: Images
    missing: dict[str, pending.Pairs]
    root: Path
    process: int
    processes: int
    rows: store.StainQC
    sizes: dict[float | None, dict[str, tuple[int, int]]]
    canvas: dict[str, tuple[int, int]]
    checked: frozenset[str] = frozenset()
    listener: Listener | None = None


def inputs(job: ExtractionJob, name: str) -> int:
    """Crops and whole images of an image that go through the encoders."""
    extraction, total = job.encoder_set.extraction, 0
    for encoder_name, views in passes(job.missing[name], extraction):
        encoder = job.encoder_set.encoders[encoder_name].encoder
        size = scaled_size(job.sizes[views[0].mpp][name], views[0].scale)
        for workload in encoding.workloads(encoder, extraction, views, size, size):
            total += workload.rows * workload.inputs_per_row
        total += len(views) * extraction.crops * (name in job.checked)
    return total


def extract_image(
    job: ExtractionJob,
    name: str,
    images: Mapping[float | None, PaddedImage],
    write: prefetch.Submit,
    bar: Progress,
) -> None:
    """Runs the programs that an image lacks descriptors of; results are fetched in background.

    Args:
      job: what the image is extracted for.
      name: of the image.
      images: it, by the pixel sizes that views state.
      write: runs a function in background.
      bar: counts crops.
    """
    extraction, engine = job.encoder_set.extraction, job.encoder_set.engine
    missing = job.missing[name]
    key = engine.replicate(crops.image_key(extraction.seed, name))
    for resolution, first in by_resolution(view for _, view in missing).items():
        image, scale = images[first.mpp], first.scale
        planes, quality, size = engine.prepare(extraction, image, scale, job.canvas[resolution])
        write(_write_stain_qc, job, name, image.digest, resolution, quality)
        whole = scaled_size(image.rgb.shape, scale)
        prepared = encoding.PreparedImage(planes, size, whole, key)
        pairs = [pair for pair in missing if pair[1].resolution == resolution]
        for encoder_name, views in passes(pairs, extraction):
            loaded = job.encoder_set.encoders[encoder_name]
            work = engine, loaded, extraction
            pooled = encoding.encode(*work, views, prepared, bar)
            if name in job.checked:
                for view in views:
                    exact = encoding.encode_first_exactly(*work, view, prepared, bar)
                    write(_write_crop_error, job, name, loaded, view, pooled[view.name], exact)
            write(_write_descriptors, job, name, encoder_name, pooled)
    if job.listener:
        write(_report_done, job, name)


def _write_crop_error(
    job: ExtractionJob,
    name: str,
    loaded: LoadedEncoder,
    view: View,
    pooled: jax.Array,
    exact: jax.Array,
) -> None:
    """Writes how far an image is from exact crops; InputError where either is not finite.

    Runs before the descriptors are written, since images that have descriptors are left alone.
    """
    extraction = job.encoder_set.extraction
    configuration = extraction.configuration(loaded.encoder.name, view)
    both = np.asarray(pooled), np.asarray(exact)
    for descriptors in both:
        store.require_finite(configuration, name, descriptors)
    taps = {tap.layer: tap.channels for tap in loaded.encoder.outputs}
    made_with = loaded.manifest(extraction, view) | {"versions": manifests.versions()}
    crop_errors.write(job.root, configuration, name, made_with, crop_errors.measure(*both, taps))


def _write_stain_qc(
    job: ExtractionJob, name: str, digest: str, resolution: str, quality: stain.StainQuality
) -> None:
    """Adds a row to stain_qc.csv.

    Runs before the descriptors are written, so every descriptor file has its row.
    """
    row = _stain_qc_row(name, digest, resolution, quality)
    job.rows[row.image, row.scale] = row
    store.write_stain_qc(job.root, job.rows, job.process, job.processes)


def _stain_qc_row(
    name: str, digest: str, resolution: str, quality: stain.StainQuality
) -> store.StainQCRow:
    """A row of stain_qc.csv, with numbers rounded as the file keeps them."""
    status = STAIN_STATUS[int(quality.status)]
    angle = None
    if status != STAIN_TOO_LITTLE_TISSUE:
        angle = round(float(quality.stain_angle), 2)
    hematoxylin, eosin = (round(float(value), 4) for value in quality.maxima)
    return store.StainQCRow(
        image=name,
        scale=resolution,
        tissue_fraction=round(float(quality.tissue_fraction), 4),
        stain_angle_degrees=angle,
        max_hematoxylin=hematoxylin,
        max_eosin=eosin,
        status=status,
        file_sha256=digest,
    )


def _write_descriptors(job: ExtractionJob, name: str, encoder_name: str, pooled: Pooled) -> None:
    """Fetches an image's descriptors by one encoder and writes those that were missing."""
    extraction = job.encoder_set.extraction
    for encoder, view in job.missing[name]:
        if encoder == encoder_name and view.name in pooled:
            descriptors = np.asarray(pooled[view.name])
            configuration = extraction.configuration(encoder_name, view)
            store.write(job.root, configuration, name, np.ascontiguousarray(descriptors))


def _report_done(job: ExtractionJob, name: str) -> None:
    job.listener.done(name, rows_of(name, job.rows))


def rows_of(name: str, rows: store.StainQC) -> store.StainQC:
    """The rows of stain_qc.csv of one image."""
    return {key: row for key, row in rows.items() if row.image == name}
