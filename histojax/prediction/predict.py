"""Predicts new images with a bundle: extracts descriptors, scores them, writes each prediction.

The device extracts while, on another thread, all models score as many images as are waiting: one at
a time where the device is slow, a batch where it is fast. Each prediction is written as it is made,
so an interrupted run can be continued.

OUT/predictions.csv and others    see `outputs`
OUT/descriptors                   the descriptors of the images, and stain_qc.csv
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import logging

from histojax.config import Runtime
from histojax.datasets import Dataset
from histojax.datasets.labels import did_you_mean
from histojax.errors import InputError
from histojax.extraction import store
from histojax.images.names import Images, by_name, file_label
from histojax.learners import scoring
from histojax.prediction import (
    bundled_encoders,
    conformal,
    learned,
    outputs,
    pixel_sizes,
    uncertainty,
)
from histojax.prediction.bundle import Bundle
from histojax.prediction.outputs import PredictionWriter
from histojax.prediction.summary import KnownLabel, PredictionSummary
from histojax.prediction.uncertainty import PredictionOptions, ScoredImages
from histojax.utils import files

if TYPE_CHECKING:
    from histojax.extraction.loaded_encoders import EncoderSet

_BATCH = 32  # Images that all models score at a time, at most.


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Images to predict.

    Attributes:
      images: image files by name.
      mpp: microns per pixel of all of them; None to take what each file says.
      labels: label and group by image, where they are known: written beside the predictions.
    """

    images: Images
    mpp: float | None = None
    labels: Mapping[str, KnownLabel] | None = None


class _Described(NamedTuple):
    """An image whose descriptors are on disk.

    Attributes:
      name, file: of the image, and of its file.
      stain_rows: its rows of stain_qc.csv.
      digest: SHA-256 of imported descriptors; empty where the rows know the image's file.
    """

    name: str
    file: str
    stain_rows: store.StainQC
    digest: str = ""

    @property
    def known_by(self) -> str:
        """The SHA-256 that tells whether it was predicted before; empty where nothing is known."""
        of_file = (row.file_sha256 for row in self.stain_rows.values())
        return self.digest or next(of_file, "")


def predict_images(
    bundle: Bundle,
    images: ImageFiles | Images | Iterable[str | Path],
    out: str | Path,
    *,
    descriptors: str | Path | None = None,
    options: PredictionOptions = PredictionOptions(),
    strict: bool = False,
    encoder_set: "EncoderSet | None" = None,
    runtime: Runtime = Runtime(),
) -> PredictionSummary:
    """Extracts descriptors from images and predicts, writing each prediction as it is made.

    Args:
      bundle: the models.
      images: image files by name, or image files, see `histojax.images.names`.
      out: the folder of predictions.
      descriptors: the folder of descriptors, reused where they exist; by default OUT/descriptors.
      options: coverage, sensitivity and the largest set.
      strict: whether an image that cannot be predicted ends the run.
      encoder_set: the bundle's encoders, where they are loaded already.
      runtime: devices, crops per step, pooling, and where weights are.

    Raises:
      InputError: there are no images; folders, weights or options are unusable; no image could be
        predicted; or, with `strict`, one could not.
    """
    # Imported here because scoring stored descriptors must work without JAX.
    from histojax.extraction import extract

    if not isinstance(images, ImageFiles):
        images = ImageFiles(by_name(images))
    if not images.images:
        raise InputError("there are no images to predict: pass at least one image file")
    check_options(bundle, options)
    pixel_sizes.warn_if_far(images.mpp, bundle.about)
    out = files.as_path(out)
    root = files.as_path(descriptors or out / "descriptors")
    files.require_writable(out)
    encoder_set = encoder_set or bundled_encoders.load(bundle, runtime)
    extract.claim(encoder_set, root)  # Before any result of an earlier run is touched.
    errors: dict[str, str] = {}
    with (
        outputs.open_writer(bundle, out, options, images.labels) as writer,
        _in_background(functools.partial(_predict, writer, root)) as add,
    ):
        listener = extract.Listener(
            done=functools.partial(_add_unless_predicted, writer, add, images.images),
            failed=functools.partial(_record_failure, errors, strict),
        )
        extract.extract_images(images.images, encoder_set, root, images.mpp, listener=listener)
    failed = {file_label(name, images.images[name]): text for name, text in errors.items()}
    # A name that is not valid UTF-8 cannot be written.
    failed = {file.encode(errors="replace").decode(): text for file, text in failed.items()}
    return writer.finish(set(images.images) - set(errors), failed)


def predict_descriptors(
    bundle: Bundle,
    descriptors: str | Path,
    out: str | Path,
    options: PredictionOptions = PredictionOptions(),
    *,
    names: Iterable[str] | None = None,
    labels: Mapping[str, KnownLabel] | None = None,
    failed: Mapping[str, str] | None = None,
) -> PredictionSummary:
    """Predicts images that have descriptors in a folder.

    Args:
      bundle: the models.
      descriptors: the folder.
      out: the folder of predictions.
      options: coverage, sensitivity and the largest set.
      names: of the images; by default all that have descriptors there.
      labels: label and group by image, where they are known.
      failed: why other images have no descriptors, by file name.

    Raises:
      InputError: there are no descriptors, or they are of another protocol or damaged; or options
        are unusable.
    """
    check_options(bundle, options)
    root, out = files.as_path(descriptors), files.as_path(out)
    if names is None:
        names = store.image_names(root, bundle.configurations[0])
    names = tuple(names)
    if not (names or failed):
        there = ", ".join(store.configurations(root)) or "none"
        raise InputError(
            f"{root} holds no descriptors of {bundle.configurations[0]}, which the models of "
            f"{bundle.name} need (it has {there}): name a folder that has them, or the "
            f"{'feature files, as --features' if bundle.imported else 'images'}"
        )
    scoring.check_same_extraction(bundle.made_with, root)
    files.require_writable(out)
    digests, rows_of = {}, collections.defaultdict(dict)
    if bundle.imported:
        digests = learned.digests_of(root, bundle.configurations, names)
    for (name, scale), row in store.read_stain_qc(root).items():
        rows_of[name][name, scale] = row
    described = [_Described(name, name, rows_of[name], digests.get(name, "")) for name in names]
    with outputs.open_writer(bundle, out, options, labels) as writer:
        new = [image for image in described if not writer.has(image.name, image.known_by)]
        for first in range(0, len(new), _BATCH):
            _predict(writer, root, new[first : first + _BATCH])
    return writer.finish(set(names), dict(failed or {}))


def score_stored(
    bundle: Bundle,
    descriptors_root: Path,
    names: Sequence[str],
    file_names: Sequence[str],
    stain_rows: store.StainQC,
    digests: Mapping[str, str] | None = None,
) -> ScoredImages:
    """Scores images whose descriptors are on disk.

    Args:
      bundle: the models.
      descriptors_root: the folder of descriptors.
      names, file_names: of the images, and of their files.
      stain_rows: rows of stain_qc.csv.
      digests: SHA-256 of imported descriptors by image.

    Raises:
      InputError: descriptors are missing or damaged.
    """
    descriptors = {
        configuration: store.read(descriptors_root, configuration, names)
        for configuration in bundle.configurations
    }
    means = {configuration: values.mean(axis=1) for configuration, values in descriptors.items()}
    scores = bundle.ensemble.score(descriptors)
    return ScoredImages(names, file_names, scores, means, stain_rows, digests or {})


def labels_of(bundle: Bundle, dataset: Dataset) -> dict[str, KnownLabel]:
    """Label and group by image; InputError where a class is not one of the bundle's."""
    if unknown := sorted(set(dataset.classes) - set(bundle.classes)):
        raise InputError(
            f"the data have {', '.join(unknown)} among their classes, the models of {bundle.name} "
            f"know {', '.join(bundle.classes)}: correct the labels, or pass the images without "
            f"them.{did_you_mean(unknown, bundle.classes)}"
        )
    groups = dataset.groups or ("",) * len(dataset.names)
    labels = [dataset.classes[label] for label in dataset.labels]
    return dict(zip(dataset.names, zip(labels, groups, strict=True), strict=True))


def check_options(bundle: Bundle, options: PredictionOptions) -> None:
    """Refuses impossible options; warns if there are too few groups for the coverage.

    Raises:
      InputError: an option is impossible.
    """
    if options.sensitivity is not None and not 0 < options.sensitivity <= 1:
        raise InputError(f"sensitivity is {options.sensitivity}, expected above 0, at most 1")
    if options.largest_set is not None and not 1 <= options.largest_set <= len(bundle.classes):
        raise InputError(
            f"largest_set is {options.largest_set}, expected 1 to {len(bundle.classes)} classes"
        )
    coverage = uncertainty.coverage_of(bundle.uncertainty, options)
    conformal.require_coverage(coverage)
    attainable = conformal.attainable_coverage(bundle.uncertainty.sets)
    if coverage > attainable:
        logging.warning(
            "too few groups to guarantee a coverage of %g (at most %.2f is possible): every "
            "prediction set will hold all classes",
            coverage,
            np.floor(100 * attainable) / 100,
        )


def _add_unless_predicted(
    writer: PredictionWriter,
    add: Callable[[_Described], None],
    images: Images,
    name: str,
    stain_rows: store.StainQC,
) -> None:
    """Adds an image, unless its prediction is on disk."""
    image = _Described(name, file_label(name, images[name]), stain_rows)
    if not writer.has(name, image.known_by):
        add(image)


def _record_failure(errors: dict[str, str], strict: bool, name: str, error: InputError) -> None:
    """Logs the error and adds it to `errors`; with `strict`, raises it."""
    if strict:
        raise error
    logging.warning("%s", error)
    errors[name] = str(error)


def _predict(writer: PredictionWriter, root: Path, images: Sequence[_Described]) -> None:
    """Predicts images whose descriptors are below `root`, and writes the predictions."""
    scored = score_stored(
        writer.bundle,
        root,
        [image.name for image in images],
        [image.file for image in images],
        {key: row for image in images for key, row in image.stain_rows.items()},
        {image.name: image.digest for image in images if image.digest},
    )
    predictions = uncertainty.assess(writer.bundle.uncertainty, scored, writer.options)
    for prediction, image in zip(predictions, images, strict=True):
        writer.add(prediction, image.known_by)


@contextlib.contextmanager
def _in_background(
    predict: Callable[[Sequence[_Described]], None],
) -> Iterator[Callable[[_Described], None]]:
    """Yields a function that queues an image for the prediction thread.

    On exit, even after an error, the thread first finishes all queued images. Its own error is
    re-raised by the next call, or on exit.
    """
    waiting: queue.Queue[_Described | None] = queue.Queue()  # None is the end.

    def next_batch() -> list[_Described]:
        batch = [waiting.get()]
        while batch[-1] is not None and len(batch) < _BATCH and not waiting.empty():
            batch.append(waiting.get())
        if batch[-1] is None:
            waiting.put(None)
        return [item for item in batch if item is not None]

    def predict_all() -> None:
        while batch := next_batch():
            predict(batch)

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="predict") as pool:
        future = pool.submit(predict_all)

        def add(item: _Described) -> None:
            if future.done():
                future.result()
            waiting.put(item)

        try:
            yield add
        finally:
            waiting.put(None)
    future.result()
