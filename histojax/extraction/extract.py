"""Images to descriptor files on the accelerator, from decoding to writing.

threads decode ahead -> the device prepares and encodes (image_extraction.py)
-> a thread writes behind
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging

from histojax.config import STAIN_OK, Extraction, Runtime
from histojax.errors import InputError
from histojax.extraction import (
    crop_errors,
    image_extraction,
    loaded_encoders,
    mixing,
    notices,
    pending,
    store,
)
from histojax.extraction.image_extraction import ExtractionJob, Listener
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.images.names import Images, by_name
from histojax.images.padding import PaddedImage, common_canvas, read_padded, read_sizes
from histojax.images.resampling import Resampling
from histojax.utils import files, prefetch
from histojax.utils.progress import Progress

DECODED_AHEAD = 4
DECODERS = 4
_WRITTEN_BEHIND = 2


@dataclasses.dataclass(frozen=True)
class ExtractionSummary:
    """What a run did.

    Attributes:
      extracted: images extracted in this run.
      done_before_count: images already complete.
      fallbacks: names of images whose stain normalisation fell back on the reference stains.
      inputs: crops, and in crop mode hybrid whole images, that went through the encoders.
      seconds: time of extraction, compilation included.
      first: seconds of these until the first image was on the device: compilation, mostly.
      waited: seconds of these in which the device waited for an image to be decoded.
      crop_errors: by configuration, how far crop mode hybrid is from exact crops: see
        `crop_errors.summarize`.
    """

    extracted: int
    done_before_count: int
    fallbacks: tuple[str, ...]
    inputs: int = 0
    seconds: float = 0.0
    first: float = 0.0
    waited: float = 0.0
    crop_errors: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def run(
    images: Images | Iterable[str | Path],
    extraction: Extraction,
    root: str | Path,
    *,
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    runtime: Runtime = Runtime(),
) -> ExtractionSummary:
    """Extracts descriptors of images; a run that was stopped goes on where it was.

    Args:
      images: image files by name, or image files, see `histojax.images.names`.
      extraction: the protocol.
      root: the folder of descriptors.
      mpp: microns per pixel of the images, where the files do not say.
      process: the number of this process, from 0; each takes its share of the images.
      processes: how many there are.
      runtime: devices, crops a step, pooling, and where weights are.

    Raises:
      InputError: unusable images, weights or folders; what was finished before stays.
    """
    images, root = by_name(images), files.as_path(root)
    pending.check_inputs(images, extraction, mpp, runtime)
    files.require_writable(root)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime)
    return extract_images(images, encoder_set, root, mpp, process, processes)


def extract_images(
    images: Images,
    encoder_set: EncoderSet,
    root: Path,
    mpp: float | None = None,
    process: int = 0,
    processes: int = 1,
    listener: Listener | None = None,
) -> ExtractionSummary:
    """`run` with encoders that are loaded already.

    With a listener, images are checked one by one, and an unusable one stops nothing.
    """
    extraction = encoder_set.extraction
    claim(encoder_set, root)
    if processes == 1:
        store.merge_stain_qc(root)  # Parts that a run of several processes may have left.
    share = pending.share_of(images, process, processes)
    rows = store.read_stain_qc(root)
    if processes > 1:
        rows = {key: row for key, row in rows.items() if row.image in share}
    missing = {}
    for name, path in share.items():
        try:
            if listener:
                pending.check_images({name: path}, extraction, mpp)
            missing[name] = pending.missing(name, path, encoder_set, mpp, root, rows)
        except InputError as error:
            _fail(listener, name, error)
    to_do = {name: pairs for name, pairs in missing.items() if pairs}
    if listener:
        for name in missing.keys() - to_do.keys():
            listener.done(name, image_extraction.rows_of(name, rows))
    sizes = read_sizes([share[name] for name in to_do], extraction, mpp)
    canvas = common_canvas(sizes, extraction.views)
    is_hybrid = extraction.crop_mode == "hybrid"
    if to_do and not listener:  # Who predicts takes the protocol of the models.
        notices.of_protocol(extraction, canvas)
    if mpp:
        notices.contradicted_pixel_sizes({name: share[name] for name in to_do}, extraction, mpp)
    checked = crop_errors.to_check(images, encoder_set.checked if is_hybrid else 0)
    job = ExtractionJob(
        encoder_set,
        share,
        to_do,
        root,
        process,
        processes,
        rows,
        {stated: dict(zip(to_do, of_all, strict=True)) for stated, of_all in sizes.items()},
        canvas,
        checked,
        listener,
    )
    done = _run_job(job, mpp)
    if processes > 1 and not any(pending.without_file(name, encoder_set, root) for name in images):
        store.merge_stain_qc(root)
    share_rows = [row for row in rows.values() if row.image in share]
    fallbacks = tuple(sorted({row.image for row in share_rows if row.status != STAIN_OK}))
    notices.duplicates(share_rows)
    notices.fallbacks(fallbacks)
    errors = _crop_errors(encoder_set, root) if is_hybrid else {}
    if checked & (missing.keys() - to_do.keys()) and not errors:
        logging.warning(
            "--checked=%g: how far descriptors are from exact crops is measured as they are "
            "extracted, and those of the images to check were before; name another folder to know",
            encoder_set.checked,
        )
    done_before = len(missing) - len(to_do)
    return dataclasses.replace(
        done, done_before_count=done_before, fallbacks=fallbacks, crop_errors=errors
    )


def claim(encoder_set: EncoderSet, root: Path) -> None:
    """Writes the manifests of a run, or refuses to mix protocols: see `mixing.claim`."""
    for configuration, manifest in encoder_set.made_with().items():
        mixing.claim(root, configuration, manifest)


def _crop_errors(encoder_set: EncoderSet, root: Path) -> dict[str, dict[str, Any]]:
    """What is known of the errors of crop mode hybrid, which manifests get; warns of large ones."""
    summaries = {
        name: crop_errors.summarize(root, name) for name in encoder_set.extraction.configurations
    }
    measured = {name: summary for name, summary in summaries.items() if summary}
    crop_errors.warn(measured, encoder_set.extraction)
    return measured


def _run_job(job: ExtractionJob, mpp: float | None) -> ExtractionSummary:
    """Extracts all that is missing; the summary has what was done and its times."""
    extraction = job.encoder_set.extraction
    total = sum(image_extraction.inputs(job, name) for name in job.missing)
    unit = "crops" if extraction.crop_mode == "exact" else "crops and whole images"
    begin, extracted, encoded, first, waited = time.monotonic(), 0, 0, 0.0, 0.0
    to_decode = [(job.images[name], pairs) for name, pairs in job.missing.items()]
    decode = functools.partial(_decode, extraction, mpp)
    decoded = prefetch.prefetch(decode, to_decode, DECODED_AHEAD, DECODERS)
    try:
        with (
            contextlib.closing(decoded),
            Progress("extract", total, unit) as bar,
            prefetch.background_writer(_WRITTEN_BEHIND) as write,
        ):
            for i, name in enumerate(job.missing):
                start = time.monotonic()
                images = next(decoded)
                if i > 0:  # While the first is decoded, the device has nothing to do yet.
                    waited += time.monotonic() - start
                if isinstance(images, InputError):
                    _fail(job.listener, name, images)
                else:
                    image_extraction.extract_image(job, name, images, write, bar)
                    extracted += 1
                    encoded += image_extraction.inputs(job, name)
                if i == 0:
                    first = time.monotonic() - begin
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "out of memory on the device: lower --crops_per_step. What was finished is kept"
        ) from error
    seconds = time.monotonic() - begin
    return ExtractionSummary(extracted, 0, (), encoded, seconds, first, waited)


def _fail(listener: Listener | None, name: str, error: InputError) -> None:
    """Passes the error to the listener; without one, raises it."""
    if listener is None:
        raise error
    listener.failed(name, error)


def _decode(
    extraction: Extraction, mpp: float | None, to_decode: tuple[Path, pending.Pairs]
) -> dict[float | None, PaddedImage] | InputError:
    """An image for the device, by the pixel sizes that views state, each resampled from the file.

    Or its error, which is raised when it is the image's turn.
    """
    path, pairs = to_decode
    views = {view.mpp: view for _, view in pairs}
    try:
        return {
            stated: read_padded(path, Resampling.of(extraction, mpp, view))
            for stated, view in views.items()
        }
    except InputError as error:
        return error
