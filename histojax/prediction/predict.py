"""New images to predictions with their doubt, image by image.

The device describes, and behind it all models score as many images as are waiting at a time: one where the device is
slow, a batch where it is fast. Every prediction is written as it comes; a broken run goes on where it stopped.

OUT/predictions.csv and others    see `ledger`
OUT/descriptors                   of the images, and stain_qc.csv
"""

import collections
import concurrent.futures
import queue
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from histojax.config import Runtime
from histojax.datasets import Dataset
from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import scoring
from histojax.prediction import conformal, uncertainty
from histojax.prediction.bundle import Bundle
from histojax.prediction.ledger import Ledger, PredictionSummary
from histojax.prediction.outputs import Truth
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files

if TYPE_CHECKING:
    from histojax.extraction.loaded_encoders import EncoderSet

AT_ONCE = 32  # Images that all models score at a time, at most.


def predict_images(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    *,
    descriptors: Path | None = None,
    options: PredictionOptions = PredictionOptions(),
    mpp: float | None = None,
    strict: bool = False,
    labels: Mapping[str, Truth] | None = None,
    encoder_set: "EncoderSet | None" = None,
    runtime: Runtime = Runtime(),
) -> PredictionSummary:
    """Describes images and predicts them, writing each prediction as it comes.

    Args:
      bundle: the models.
      paths: image files, of unique names.
      out: the folder of predictions.
      descriptors: where descriptors of the images are, or go; by default OUT/descriptors.
      options: coverage, sensitivity and the largest set.
      mpp: microns per pixel of the images, where files do not tell.
      strict: whether an image that cannot be predicted ends the run.
      labels: label and group of images by name, where they are known: they are written beside the predictions.
      encoder_set: the bundle's encoders, where they are loaded already.
      runtime: devices, crops a step, pooling, and where weights are.

    Raises:
      InputError: unusable folders, weights or options; no image could be predicted; or, with strict, one could not.
    """
    from histojax.extraction import (
        extract,  # Here alone, so that descriptors are scored without an accelerator's libraries.
    )

    check_options(bundle, options)
    files.require_writable(out)
    encoder_set = encoder_set or load_encoders(bundle, runtime)
    descriptors = descriptors or out / "descriptors"
    extract.claim(encoder_set, descriptors)  # Before anything that an earlier run left is touched.
    failed, left_out = {}, set()

    def refuse(path: Path, error: InputError) -> None:
        if strict:
            raise error
        logging.warning("%s", error)
        failed[as_text(path.name)] = str(error)
        left_out.add(path.stem)

    with Ledger(bundle, out, options, labels) as ledger:
        with Scorer(bundle, descriptors, options, ledger) as scorer:
            listener = extract.Listener(done=scorer.add, failed=refuse)
            extract.describe(paths, encoder_set, descriptors, mpp, listener=listener)
        return ledger.finish({path.stem for path in paths} - left_out, failed)


def predict_descriptors(
    bundle: Bundle, descriptors: Path, out: Path, options: PredictionOptions = PredictionOptions()
) -> PredictionSummary:
    """Predicts every image that has descriptors in a folder.

    Raises:
      InputError: there are none, or they are of another protocol or damaged; or unusable options.
    """
    check_options(bundle, options)
    names = store.image_names(descriptors, bundle.configurations[0])
    if not names:
        raise InputError(
            f"{descriptors} holds no descriptors of {bundle.configurations[0]}: pass --images"
        )
    scoring.check_same_extraction(bundle.made_with, descriptors)
    files.require_writable(out)
    rows = collections.defaultdict(dict)  # Of stain_qc.csv, by image.
    for key, row in store.read_stain_qc(descriptors).items():
        rows[key[0]][key] = row
    with Ledger(bundle, out, options) as ledger:
        todo = [name for name in names if not ledger.knows(name, digest_of(rows[name], name))]
        for batch in batches(todo):
            stain = {key: row for name in batch for key, row in rows[name].items()}
            for prediction in predict(bundle, descriptors, batch, batch, stain, options):
                ledger.add(prediction, digest_of(stain, prediction.image))
        return ledger.finish(set(names), {})


def as_text(name: str) -> str:
    """A file's name as it can be written, where it is no UTF-8."""
    return name.encode(errors="replace").decode()


def labels_of(bundle: Bundle, dataset: Dataset) -> dict[str, Truth]:
    """Label and group by name; InputError where the data have classes that the models do not know."""
    if unknown := sorted(set(dataset.classes) - set(bundle.classes)):
        raise InputError(
            f"the data have {', '.join(unknown)} among their classes, the models of {bundle.name} know "
            f"{', '.join(bundle.classes)}: correct the labels, or pass the images without them"
        )
    groups = dataset.groups or ("",) * len(dataset.names)
    labels = [dataset.classes[label] for label in dataset.labels]
    return dict(zip(dataset.names, zip(labels, groups, strict=True), strict=True))


def check_options(bundle: Bundle, options: PredictionOptions) -> None:
    """Raises InputError where options make no sense; warns of a coverage that so few groups cannot give."""
    if options.sensitivity is not None and not 0 < options.sensitivity <= 1:
        raise InputError(f"--sensitivity is {options.sensitivity}, expected above 0, at most 1")
    if options.largest_set is not None and not 1 <= options.largest_set <= len(bundle.classes):
        raise InputError(
            f"--largest_set is {options.largest_set}, expected 1 to {len(bundle.classes)} classes"
        )
    conformal.require_coverage(options.coverage)
    attainable = conformal.attainable(bundle.uncertainty.sets)
    if options.coverage > attainable:
        logging.warning(
            "coverage %g cannot be promised from so few groups: every set holds all classes. At most %.2f can",
            options.coverage,
            np.floor(100 * attainable) / 100,
        )


def load_encoders(bundle: Bundle, runtime: Runtime = Runtime()) -> "EncoderSet":
    """The encoders that new images are described with, checked to be those of the training images.

    Raises:
      InputError: the weights are others than the models were trained with, or cannot be had.
    """
    from histojax.extraction import loaded_encoders

    encoder_set = loaded_encoders.load_encoders(bundle.extraction, runtime, bundle.weights)
    for encoder, loaded in encoder_set.encoders.items():
        check_weights(bundle, encoder, loaded.sha256)
    return encoder_set


def encoder_variables(bundle: Bundle, runtime: Runtime = Runtime()) -> dict[str, Any]:
    """The variables of a bundle's encoders by flat name, to be put into its file; none of those drawn from a seed.

    Raises:
      InputError: the weights are others than the models were trained with, or cannot be had.
    """
    from histojax import encoders
    from histojax.encoders import weights

    if bundle.extraction.weights == "random":
        return {}
    found = {}
    for name in bundle.extraction.encoders:
        encoder = encoders.get(name, bundle.extraction.resnet_variant)
        here = weights.imagenet(encoder, runtime.cache, runtime.weights_dir)
        check_weights(bundle, name, weights.checksum(here))
        found[name] = weights.to_flat(here)
    return found


def check_weights(bundle: Bundle, encoder: str, sha256: str) -> None:
    """Raises InputError where an encoder's weights are not those that the bundle's models were trained with."""
    for name, made in bundle.made_with.items():
        wanted = made["weights"]["sha256"]
        if made["protocol"]["encoder"] == encoder and sha256 != wanted:
            raise InputError(
                f"the weights of {encoder} here have SHA-256 {sha256[:16]}..., but {name} of {bundle.name} was trained "
                f"with {wanted[:16]}...: name the same weight files with --weights_dir"
            )


def batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), AT_ONCE):
        yield names[first : first + AT_ONCE]


def digest_of(stain: store.StainQC, name: str) -> str:
    """The SHA-256 of an image's file by stain_qc.csv; empty where it is not there."""
    return next((row.file_sha256 for row in stain.values() if row.image == name), "")


def predict(
    bundle: Bundle,
    root: Path,
    names: Sequence[str],
    file_names: Sequence[str],
    stain: store.StainQC,
    options: PredictionOptions,
) -> list[Prediction]:
    """Predictions of images that are described below `root`."""
    descriptors = {name: store.read(root, name, names) for name in bundle.configurations}
    means = {name: each.mean(axis=1) for name, each in descriptors.items()}
    return uncertainty.judge(
        bundle.uncertainty,
        names,
        file_names,
        bundle.ensemble.score(descriptors),
        means,
        stain,
        options,
    )


class Scorer:
    """A thread that predicts images as they are described: `with Scorer(...) as scorer: scorer.add(path, rows)`.

    It takes all that wait, up to AT_ONCE. Its error is raised by a later `add`, or at the end.
    """

    def __init__(self, bundle: Bundle, root: Path, options: PredictionOptions, ledger: Ledger):
        self.bundle, self.root, self.options, self.ledger = bundle, root, options, ledger
        self.waiting: queue.Queue = queue.Queue()
        self.pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="score")
        self.work = self.pool.submit(self.loop)

    def __enter__(self) -> "Scorer":
        return self

    def add(self, path: Path, stain: store.StainQC) -> None:
        """Takes a described image, unless it was predicted before; with its rows of stain_qc.csv."""
        if self.work.done():
            self.work.result()
        if not self.ledger.knows(path.stem, digest_of(stain, path.stem)):
            self.waiting.put((path, stain))

    def loop(self) -> None:
        while batch := self.next_batch():
            paths = [path for path, _ in batch]
            stain = {key: row for _, rows in batch for key, row in rows.items()}
            names = [path.stem for path in paths]
            found = predict(
                self.bundle, self.root, names, [path.name for path in paths], stain, self.options
            )
            for path, prediction in zip(paths, found, strict=True):
                self.ledger.add(prediction, digest_of(stain, path.stem))

    def next_batch(self) -> list[tuple[Path, store.StainQC]]:
        """All that wait, at least one; none at the end."""
        batch = [self.waiting.get()]
        while batch[-1] is not None and len(batch) < AT_ONCE and not self.waiting.empty():
            batch.append(self.waiting.get())
        if batch[-1] is None:
            self.waiting.put(None)
        return [each for each in batch if each is not None]

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.waiting.put(
            None
        )  # What is described is predicted still, also after an error elsewhere.
        self.pool.shutdown(wait=True)
        if error is None:
            self.work.result()
