"""Training of fine-tuned encoders, on the folds and with the scores of other learners.

The last block or all of an encoder is trained with a new linear head on augmented crops (section
2.2 of the paper); `finetune_fit` trains one model. Held-out images decide nothing.

<models>/<configuration>/seed0-fold01.npz             a model: float32 arrays body/<layer>/kernel
    and bias of every layer, trained or not, head/kernel [D, K] and bias [K], input/mean and scale
    [D] (see `finetune_step`), and an empty encoder/<name>; the encoder's part is a file of weights
    as any other
<models>/images.csv                                   the images' files, see `trained_images`
<models>/<configuration>/.checkpoints/seed0-fold01/   Orbax's, of a model that is being trained

N images, D channels, K classes.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from absl import logging
from etils import epath
from flax import traverse_util

from histojax import encoders
from histojax.config import Extraction, Finetune, Runtime, View
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.encoders import weights
from histojax.encoders.weight_files import layouts
from histojax.errors import InputError
from histojax.extraction import extract, loaded_encoders, pending
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images import names
from histojax.images.padding import common_canvas, read_padded, scaled_size
from histojax.images.resampling import Resampling
from histojax.learners import ensembles, finetune_fit, finetune_step, trained_images, training
from histojax.learners.finetune_fit import TrainingData
from histojax.learners.finetune_step import Images, StepConfig
from histojax.ops import stain
from histojax.utils import files, prefetch
from histojax.utils.progress import Progress

_LEARNER = "finetuned"
_CHECKPOINTS = ".checkpoints"


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What all configurations of a run share.

    Attributes:
      images: the image files by name, in the order of `folds`.
      digests: the SHA-256 of each, by name.
      folds: images, labels and folds.
      splits: training and validation images, bool [N] each, of every (seed, fold).
      extraction: the protocol of images, crops and scores.
      finetune: the learner's parameters.
      mpp: microns per pixel of the images; None if their files say so.
    """

    images: names.Images
    digests: dict[str, str]
    folds: Folds
    splits: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]
    extraction: Extraction
    finetune: Finetune
    mpp: float | None


def train(
    dataset: Dataset,
    models: Path,
    folds: Folds,
    extraction: Extraction,
    finetune: Finetune,
    *,
    runtime: Runtime = Runtime(),
    mpp: float | None = None,
    keep_checkpoints: bool = False,
) -> int:
    """Trains the missing models of an ensemble on one device, and returns how many there were.

    Args:
      dataset: the images, in the order of `folds`.
      models: the ensemble's folder, with `folds.csv` already in it.
      folds: images, labels and folds.
      extraction: encoders, views, how crops are drawn, and how many score an image.
      finetune: the learner's parameters.
      runtime: where weights are cached and read from.
      mpp: microns per pixel of the images; None if their files say so.
      keep_checkpoints: whether those of finished models are kept.

    Raises:
      InputError: images or weights are unusable; the folder holds models of other data or
        parameters; the training images cannot be split; a checkpoint is damaged; or training
        diverges.
    """
    models = files.as_path(models)
    check(dataset.images, extraction, mpp)
    settings = _Settings(
        dataset.images,
        trained_images.digests(dataset.images),
        folds,
        training.validation_splits(folds, finetune.seeds, finetune.validation_parts),
        extraction,
        finetune,
        mpp,
    )
    as_dict = dataclasses.asdict(finetune)
    ensembles.record_ensemble(models, folds, _LEARNER, as_dict, finetune.seeds)
    loaded = {name: load_encoder(name, extraction, runtime) for name in extraction.encoders}
    loaded_encoders.check_encoders(loaded, extraction)
    for encoder in loaded.values():
        finetune_step.split_layers(encoder.variables["params"], encoder.encoder, finetune.blocks)
    missing = _missing_models(settings, models, loaded)
    paths = [path for of_view in missing.values() for path in of_view.values()]
    device = jax.local_devices()[0].device_kind
    with (
        Progress("fine-tune", len(paths) * finetune.epochs, "epochs") as bar,
        training.record_time(models, paths, 1, device),
    ):
        for (name, view), of_view in missing.items():
            if of_view:
                data = _prepare(settings, loaded[name], view)
                for (seed, fold), path in of_view.items():
                    _fit_and_save(data, path, seed, fold, bar)
                    if not keep_checkpoints:
                        epath.Path(_checkpoints_of(path)).rmtree(missing_ok=True)
            if not keep_checkpoints:
                folder = models / extraction.configuration(name, view) / _CHECKPOINTS
                epath.Path(folder).rmtree(missing_ok=True)
    return len(paths)


def check(images: names.Images, extraction: Extraction, mpp: float | None = None) -> None:
    """Raises InputError if protocol or images are unusable for fine-tuning."""
    if extraction.crop_mode != "exact":
        raise InputError(
            f"--crop_mode={extraction.crop_mode}: fine-tuning trains on crops, expected exact"
        )
    if extraction.crop_layout != "random":
        raise InputError(
            f"--crop_layout={extraction.crop_layout}: fine-tuning trains on random crops, expected "
            "random"
        )
    pending.check_inputs(images, extraction, mpp)


def load_encoder(name: str, extraction: Extraction, runtime: Runtime) -> LoadedEncoder:
    """An encoder to train: its parameters, where they came from, and their checksum."""
    encoder = encoders.get(name, extraction.resnet_variant)
    given = loaded_encoders.weights_of(encoder, extraction, runtime)
    folded, params = finetune_step.fold_batch_norms(encoder, given.variables, extraction.precision)
    sha256 = weights.checksum(given.variables)
    return LoadedEncoder(folded, {"params": params}, given.source, sha256, given.file)


def _missing_models(
    settings: _Settings, models: Path, loaded: dict[str, LoadedEncoder]
) -> dict[tuple[str, View], ensembles.MissingModels]:
    """Records the data of every encoder and view; returns their models that are still missing."""
    extraction, finetune = settings.extraction, settings.finetune
    trained_images.require_unchanged(models, settings.digests)
    digest = trained_images.digest_of_all(settings.digests)
    missing = {}
    for name, encoder in loaded.items():
        for view in extraction.views_of(name):
            configuration = extraction.configuration(name, view)
            manifest = {"images_sha256": digest, "extraction": encoder.manifest(extraction, view)}
            ensembles.record_manifest(models / configuration / ensembles.MANIFEST, manifest)
            missing[name, view] = ensembles.missing_models(
                models, configuration, _LEARNER, finetune.seeds, settings.folds.count
            )
    trained_images.record(models, settings.digests)
    return missing


def _prepare(settings: _Settings, loaded: LoadedEncoder, view: View) -> TrainingData:
    """Reads the images of a configuration, and decides the sizes of its programs."""
    finetune = settings.finetune
    most_images = max(training_images.sum() for training_images, _ in settings.splits.values())
    steps = int(-(-most_images * finetune.crops_per_epoch // finetune.batch_crops))
    classes = len(settings.folds.classes)
    config = StepConfig(loaded.encoder, view, settings.extraction, finetune, classes, steps)
    images, params = _read_images(settings, view), loaded.variables["params"]
    return TrainingData(config, params, images, settings.folds, settings.splits)


def _read_images(settings: _Settings, view: View) -> Images:
    """Images resampled, downscaled and normalised as for extraction."""
    paths, extraction = list(settings.images.values()), settings.extraction
    normalizer = stain.NORMALIZERS[extraction.stain_normalizer]
    resampling = Resampling.of(extraction, settings.mpp, view)
    sizes = {view.mpp: [resampling.size(path) for path in paths]}
    canvas = common_canvas(sizes, [view])[view.resolution]
    pixels = np.empty((len(paths), 3, *canvas), np.uint8)
    scaled = np.empty((len(paths), 2), np.int32)
    read = functools.partial(read_padded, resampling=resampling)
    decoded = prefetch.prefetch(read, paths, extract.DECODED_AHEAD, extract.DECODERS)
    for i, (name, image) in enumerate(zip(settings.images, decoded, strict=True)):
        read_digest = image.digest[: len(settings.digests[name])]  # Without the pixel size.
        trained_images.require_read(name, image.path, read_digest, settings.digests[name])
        scaled[i] = scaled_size(image.size, view.scale)
        size = np.array(image.size, np.int32)
        pixels[i] = finetune_step.normalized(
            image.rgb, size, scaled[i], scale=view.scale, canvas=canvas, normalizer=normalizer
        )
    return Images(tuple(settings.images), pixels, scaled)


def _fit_and_save(data: TrainingData, path: Path, seed: int, fold: int, bar: Progress) -> None:
    """Trains one model, and writes it with its scores of held-out images."""
    checkpoints = _checkpoints_of(path)
    best, losses = finetune_fit.fit(data, seed, fold, checkpoints, bar)
    if not np.isfinite(losses).any():
        raise InputError(
            f"{path} would not be finite, training diverged: remove {checkpoints} and lower "
            "--head_learning_rate or --body_learning_rate"
        )
    by_epoch = ", ".join(f"{loss:.4f}" for loss in losses)
    logging.info("%s: validation loss by epoch %s", path, by_epoch)
    held_out = data.images.take(np.flatnonzero(data.folds.folds == fold))
    augmentations = data.config.extraction.augmentations
    scores = finetune_fit.score_images(data, best, held_out, augmentations)
    _, frozen = data.split_layers()
    whole = {**best, "body": {**frozen, **best["body"]}}
    flat = traverse_util.flatten_dict(whole, sep="/")
    made_from = {f"{layouts.MADE_FROM}{data.config.encoder.name}": np.zeros(0, np.float32)}
    arrays = {name: np.asarray(array) for name, array in flat.items()} | made_from
    ensembles.save_model(path, arrays, scores)


def _checkpoints_of(model: Path) -> Path:
    """The folder of a model's checkpoints while it is trained."""
    return model.parent / _CHECKPOINTS / model.stem
