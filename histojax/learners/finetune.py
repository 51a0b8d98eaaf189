"""Training of fine-tuned encoders, on the folds and with the scores of other learners.

The last block or all of an encoder is trained with a new linear head on augmented crops (section
2.2 of the paper). Each epoch draws crops of every training image; a model keeps the epoch with the
lowest loss on a part of the training images that it is not fitted to (see `training`). Held-out
images decide nothing.

<models>/<configuration>/seed0-fold01.npz             a model: float32 arrays body/<layer>/kernel
    and bias, head/kernel [D, K] and bias [K], input/mean and scale [D] (see `finetune_step`)
<models>/<configuration>/.checkpoints/seed0-fold01/   Orbax's, of a model that is being trained

All randomness comes from (seed, fold, epoch, image name): a run continued from a checkpoint ends
like an unbroken one. N images, A augmentations, B crops of a step, D channels, K classes.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import traverse_util

from histojax import encoders
from histojax.config import Extraction, Finetune, Runtime, View
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.encoders import Variables, weights
from histojax.errors import InputError
from histojax.extraction import extract, loaded_encoders, pending
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images.padding import common_canvas, read_padded, scaled_size
from histojax.images.resampling import Resampling
from histojax.learners import ensembles, finetune_step, training
from histojax.learners.finetune_step import Batch, Images, StepConfig, Tree
from histojax.ops import stain
from histojax.utils import files, prefetch
from histojax.utils.progress import Progress

_LEARNER = "finetuned"
_CHECKPOINTS = ".checkpoints"


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What all configurations of a run share.

    Attributes:
      paths: of the images, in the order of `folds`.
      folds: images, labels and folds.
      splits: training and validation images, bool [N] each, of every (seed, fold).
      extraction: the protocol of images, crops and scores.
      finetune: the learner's parameters.
      resampling: of images when they are read.
      keep_checkpoints: whether those of finished models are kept.
    """

    paths: Sequence[Path]
    folds: Folds
    splits: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]
    extraction: Extraction
    finetune: Finetune
    resampling: Resampling
    keep_checkpoints: bool = False


@dataclasses.dataclass(frozen=True)
class _ConfigurationData:
    """What the models of a configuration are trained on.

    Attributes:
      settings: of the run.
      config: what the programs are compiled for.
      params: the encoder's before training, float32 by layer.
      images: all, in the order of `settings.folds`.
    """

    settings: _Settings
    config: StepConfig
    params: Variables
    images: Images

    def split_layers(self) -> tuple[Variables, Variables]:
        """The encoder's layers to train, and its frozen ones."""
        blocks = self.settings.finetune.blocks
        return finetune_step.split_layers(self.params, self.config.encoder, blocks)

    def batch(self, keys: jax.Array, indices: np.ndarray, augmentations: np.ndarray) -> Batch:
        """A crop of each of these images."""
        labels = self.settings.folds.labels[indices].astype(np.int32)
        images, sizes = self.images.pixels[indices], self.images.sizes[indices]
        return Batch(images, sizes, keys[indices], augmentations, labels)


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
    check(dataset.paths, extraction, mpp)
    settings = _Settings(
        dataset.paths,
        folds,
        training.validation_splits(folds, finetune.seeds, finetune.validation_parts),
        extraction,
        finetune,
        Resampling(extraction.target_mpp, mpp),
        keep_checkpoints,
    )
    as_dict = dataclasses.asdict(finetune)
    ensembles.record_ensemble(models, folds, _LEARNER, as_dict, finetune.seeds)
    loaded = {name: load_encoder(name, extraction, runtime) for name in extraction.encoders}
    loaded_encoders.check_encoders(loaded, extraction)
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
                folder = models / extraction.configuration(name, view) / _CHECKPOINTS
                epath.Path(folder).rmtree(missing_ok=True)
    return len(paths)


def check(paths: Sequence[Path], extraction: Extraction, mpp: float | None = None) -> None:
    """Raises InputError if protocol or images are unusable for fine-tuning."""
    if extraction.crop_mode != "exact":
        raise InputError(
            f"--crop_mode={extraction.crop_mode}: fine-tuning trains on crops, expected exact"
        )
    pending.check_inputs(paths, extraction, mpp)


def load_encoder(name: str, extraction: Extraction, runtime: Runtime) -> LoadedEncoder:
    """An encoder to train: its parameters, where they came from, and their checksum."""
    encoder = encoders.get(name, extraction.resnet_variant)
    variables, source = loaded_encoders.variables_of(encoder, extraction, runtime)
    folded, params = finetune_step.fold_batch_norms(encoder, variables, extraction.precision)
    return LoadedEncoder(folded, {"params": params}, source, weights.checksum(variables))


def _missing_models(
    settings: _Settings, models: Path, loaded: dict[str, LoadedEncoder]
) -> dict[tuple[str, View], ensembles.MissingModels]:
    """Records the data of every encoder and view; returns their models that are still missing."""
    extraction, finetune = settings.extraction, settings.finetune
    of_images = "".join(files.sha256(path) for path in settings.paths)
    digest = hashlib.sha256(of_images.encode()).hexdigest()
    missing = {}
    for name, encoder in loaded.items():
        for view in extraction.views:
            configuration = extraction.configuration(name, view)
            manifest = {"images_sha256": digest, "extraction": encoder.manifest(extraction, view)}
            ensembles.record_manifest(models / configuration / ensembles.MANIFEST, manifest)
            missing[name, view] = ensembles.missing_models(
                models, configuration, _LEARNER, finetune.seeds, settings.folds.count
            )
    return missing


def _prepare(settings: _Settings, loaded: LoadedEncoder, view: View) -> _ConfigurationData:
    """Reads the images of a configuration, and decides the sizes of its programs."""
    finetune = settings.finetune
    images = max(training_images.sum() for training_images, _ in settings.splits.values())
    steps = int(-(-images * finetune.crops_per_epoch // finetune.batch_crops))
    classes = len(settings.folds.classes)
    config = StepConfig(loaded.encoder, view, settings.extraction, finetune, classes, steps)
    return _ConfigurationData(
        settings, config, loaded.variables["params"], _read_images(settings, view)
    )


def _read_images(settings: _Settings, view: View) -> Images:
    """Images resampled, downscaled and normalised as for extraction."""
    paths, resampling = settings.paths, settings.resampling
    normalizer = stain.NORMALIZERS[settings.extraction.stain_normalizer]
    canvas = common_canvas([resampling.size(path) for path in paths], [view])[view.scale]
    pixels = np.empty((len(paths), 3, *canvas), np.uint8)
    sizes = np.empty((len(paths), 2), np.int32)
    read = functools.partial(read_padded, resampling=resampling)
    decoded = prefetch.prefetch(read, paths, extract.DECODED_AHEAD, extract.DECODERS)
    for i, image in enumerate(decoded):
        sizes[i] = scaled_size(image.size, view.scale)
        size = np.array(image.size, np.int32)
        pixels[i] = finetune_step.normalized(
            image.rgb, size, sizes[i], scale=view.scale, canvas=canvas, normalizer=normalizer
        )
    return Images(tuple(path.stem for path in paths), pixels, sizes)


def _fit_and_save(
    data: _ConfigurationData, path: Path, seed: int, fold: int, bar: Progress
) -> None:
    """Trains one model, and writes it with its scores of held-out images."""
    checkpoints = path.parent / _CHECKPOINTS / path.stem
    best, losses = _fit(data, seed, fold, checkpoints, bar)
    if not np.isfinite(losses).any():
        raise InputError(
            f"{path} would not be finite, training diverged: remove {checkpoints} and lower "
            "--head_learning_rate or --body_learning_rate"
        )
    by_epoch = ", ".join(f"{loss:.4f}" for loss in losses)
    logging.info("%s: validation loss by epoch %s", path, by_epoch)
    held_out = data.images.take(np.flatnonzero(data.settings.folds.folds == fold))
    scores = _score_images(data, best, held_out, data.settings.extraction.augmentations)
    flat = traverse_util.flatten_dict(best, sep="/")
    ensembles.save_model(path, {name: np.asarray(a) for name, a in flat.items()}, scores)
    if not data.settings.keep_checkpoints:
        epath.Path(checkpoints).rmtree(missing_ok=True)


def _fit(
    data: _ConfigurationData, seed: int, fold: int, checkpoints: Path, bar: Progress
) -> tuple[Tree, np.ndarray]:
    """Trains one model, from its last checkpoint if there is one.

    Returns:
      The model of the best epoch (as of `finetune_step.initial_model`), and the validation loss of
      each epoch, float32, infinite where it diverged.
    """
    training_images, validation_images = map(np.flatnonzero, data.settings.splits[seed, fold])
    body, _ = data.split_layers()
    keys = jax.vmap(lambda key: jax.random.fold_in(key, fold))(data.images.keys(seed))
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(epath.Path(checkpoints).absolute(), options=options) as manager:
        state = _initial_state(data.config, body)
        done = manager.latest_step() or 0
        if done:
            state = _restore(manager, done, state, checkpoints)
        else:
            state["best"]["input"] = _standardise_input(data, keys, training_images)
        bar.add(done)
        for epoch in range(done, data.config.finetune.epochs):
            drawn = _draw_crops(data.config, training_images, seed, fold, epoch)
            batches = (data.batch(keys, *crops_of_step) for crops_of_step in drawn)
            state = _run_epoch(data, state, batches, validation_images, epoch)
            manager.save(epoch + 1, args=ocp.args.StandardSave(state))
            bar.add(1)
    return state["best"], state["losses"]


def _initial_state(config: StepConfig, body: Variables) -> Tree:
    """What training starts from: parameters, optimiser, best model and losses."""
    best = finetune_step.initial_model(config, body)
    trained = {"body": best["body"], "head": best["head"]}
    return {
        "trained": trained,
        "optimizer": finetune_step.optimizer(config).init(trained),
        "best": best,
        "losses": np.full(config.finetune.epochs, np.inf, np.float32),
    }


def _run_epoch(
    data: _ConfigurationData,
    state: Tree,
    batches: Iterable[Batch],
    validation_images: np.ndarray,
    epoch: int,
) -> Tree:
    """Trains on an epoch's crops; its result is the best if its validation loss is the lowest."""
    best, trained, optimizer = state["best"], state["trained"], state["optimizer"]
    losses = state["losses"]
    _, frozen_body = data.split_layers()
    frozen = {"body": frozen_body, "input": best["input"]}
    for batch in batches:
        trained, optimizer, _ = finetune_step.step(trained, optimizer, frozen, batch, data.config)
    model = {**trained, "input": best["input"]}
    loss = _validation_loss(data, model, validation_images)
    if loss < losses.min():
        best = model
    losses = np.where(np.arange(len(losses)) == epoch, loss, losses)
    return {"trained": trained, "optimizer": optimizer, "best": best, "losses": losses}


def _restore(manager: ocp.CheckpointManager, done: int, like: Tree, checkpoints: Path) -> Tree:
    """The state after `done` epochs; InputError if it cannot be read."""
    try:
        return manager.restore(done, args=ocp.args.StandardRestore(like))
    except Exception as error:  # Orbax and its dependencies raise errors of many kinds.
        raise InputError(
            f"the checkpoint of epoch {done} in {checkpoints} cannot be read, it is damaged: "
            "remove that folder, and its model is trained from the beginning"
        ) from error


def _standardise_input(data: _ConfigurationData, keys: jax.Array, training: np.ndarray) -> Tree:
    """What standardises the head's input: from a crop of each training image, before training."""
    size = data.config.finetune.batch_crops
    filled = np.resize(training, -(-len(training) // size) * size)
    first = np.zeros(size, np.int32)
    descriptors = [
        finetune_step.descriptors(data.params, data.batch(keys, indices, first), data.config)
        for indices in filled.reshape(-1, size)
    ]
    return finetune_step.standardisation(np.concatenate(descriptors)[: len(training)])


def _draw_crops(
    config: StepConfig, training: np.ndarray, seed: int, fold: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The crops of an epoch's steps, shuffled: indices of images and augmentations, int [B] each.

    All models have equally many steps; one of fewer training images begins again if they end early.
    """
    draws, shape = config.finetune.crops_per_epoch, (config.steps, config.finetune.batch_crops)
    shuffled = np.random.default_rng((seed, fold, epoch)).permutation(len(training) * draws)
    rows = np.resize(shuffled, shape)
    augmentations = (epoch * draws + rows % draws).astype(np.int32)
    return list(zip(training[rows // draws], augmentations, strict=True))


def _score_images(
    data: _ConfigurationData, model: Tree, images: Images, augmentations: int
) -> np.ndarray:
    """Class probabilities of images, by the crops that extraction draws: float64 [N, A, K]."""
    config = data.config
    trained = {"body": model["body"], "head": model["head"]}
    _, frozen_body = data.split_layers()
    frozen = {"body": frozen_body, "input": model["input"]}
    keys = images.keys(config.extraction.seed)
    by_image = [
        [
            finetune_step.score(trained, frozen, pixels, size, key, np.int32(augmentation), config)
            for augmentation in range(augmentations)
        ]
        for pixels, size, key in zip(images.pixels, images.sizes, keys, strict=True)
    ]
    probabilities = np.array(jax.device_get(by_image), np.float64)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def _validation_loss(data: _ConfigurationData, model: Tree, validation: np.ndarray) -> np.float32:
    """Mean negative log probability of images' true classes; infinite if it is not finite."""
    scores = _score_images(data, model, data.images.take(validation), 1)[:, 0]
    labels = data.settings.folds.labels[validation]
    of_truth = scores[np.arange(len(validation)), labels]
    loss = np.float32(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())
    return loss if np.isfinite(loss) else np.float32(np.inf)
