"""Fine-tuned encoders beside frozen ones: the same folds, and scores of the same form (the paper's section 2.2).

The last block or all of an encoder is trained with a new linear head on augmented crops. Each epoch draws crops of
every training image; a model keeps the epoch with the lowest loss on a part of the training images that it is not
fitted to. The images it is judged on decide nothing.

<models>/<configuration>/seed0-fold01.npz                 a model, see finetuned.py
<models>/<configuration>/.checkpoints/seed0-fold01/       Orbax's, of a model that is being trained

What is random comes from (seed, fold, epoch, image name): a run that goes on from a checkpoint ends where an unbroken
one does. N images, B crops of a step.
"""

import dataclasses
import datetime
import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from histojax import encoders
from histojax.config import Extraction, Finetune, Runtime, View
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.encoders import Variables, weights
from histojax.errors import InputError
from histojax.extraction import extract, loaded_encoders
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images.resampling import Resampling
from histojax.learners import ensembles, finetune_step, finetuned, probe
from histojax.learners.finetune_step import Batch, Tree, Tuning
from histojax.ops import stain
from histojax.utils import files
from histojax.utils.progress import Progress

LEARNER = "finetuned"
CHECKPOINTS = ".checkpoints"

Parts = dict[
    tuple[int, int], tuple[np.ndarray, np.ndarray]
]  # By seed and fold: training, validation, bool [N] each.


@dataclasses.dataclass(frozen=True)
class Work:
    """A configuration in training.

    Attributes:
      tuning: what its programs are compiled for.
      params: the encoder's, float32 by layer.
      images: all, in the order of `folds`.
      folds: the split.
      parts: of every seed and fold.
    """

    tuning: Tuning
    params: Variables
    images: finetuned.Images
    folds: Folds
    parts: Parts


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
    """Trains what is still missing of the ensemble, on one device; returns the number of models trained now.

    Args:
      dataset: the images, in the order of `folds`.
      models: where models go, with `folds.csv` already there.
      extraction: encoders, views, how crops are drawn, and by how many images are scored.
      finetune: how is trained.
      runtime: where ImageNet weights are.
      keep_checkpoints: not to remove those of finished models.

    Raises:
      InputError: unusable images or weights; the folder holds models of other data or parameters; the training images
        cannot be split; a checkpoint is damaged; or training diverges.
    """
    begun = time.monotonic()
    check(dataset.paths, extraction, mpp)
    parts = {
        (seed, fold): probe.split(folds, fold, seed, finetune.validation_parts)
        for seed in range(finetune.seeds)
        for fold in range(folds.count)
    }
    ensembles.record_ensemble(models, folds, LEARNER, dataclasses.asdict(finetune), finetune.seeds)
    loaded = {name: load(name, extraction, runtime) for name in extraction.encoders}
    loaded_encoders.check_encoders(loaded, extraction)
    digest = hashlib.sha256(
        "".join(files.sha256(path) for path in dataset.paths).encode()
    ).hexdigest()
    missing = {}
    for each in loaded.values():
        for view in extraction.views:
            name = extraction.configuration(each.encoder.name, view)
            wanted = {
                "images_sha256": digest,
                "extraction": loaded_encoders.manifest(extraction, each, view),
            }
            ensembles.record_manifest(models / name / ensembles.MANIFEST, wanted)
            missing[each.encoder.name, view] = [
                place
                for place in parts
                if not ensembles.is_finished(model_path(models, name, *place))
            ]
    count = sum(map(len, missing.values()))
    with Progress("fine-tune", count * finetune.epochs, "epochs") as bar:
        for (name, view), places in missing.items():
            if places:
                work = prepare(
                    dataset.paths, folds, parts, loaded[name], view, extraction, finetune, mpp
                )
                for place in places:
                    fit_and_save(work, models, *place, keep_checkpoints, bar)
            if not keep_checkpoints:
                folder = models / extraction.configuration(name, view) / CHECKPOINTS
                epath.Path(folder).rmtree(missing_ok=True)
    if count:
        row = (datetime.date.today().isoformat(), count, f"{time.monotonic() - begun:.1f}", 1)
        ensembles.record_training_time(models, (*row, jax.local_devices()[0].device_kind))
    return count


def model_path(models: Path, configuration: str, seed: int, fold: int) -> Path:
    """Where a fine-tuned model is."""
    return ensembles.model_path(models, configuration, seed, fold, LEARNER)


def check(paths: Sequence[Path], extraction: Extraction, mpp: float | None = None) -> None:
    """Raises InputError where protocol or images cannot be fine-tuned on."""
    if extraction.crop_mode != "exact":
        raise InputError(
            f"--crop_mode={extraction.crop_mode}: fine-tuning trains on crops, expected exact"
        )
    loaded_encoders.check(extraction, "xla")
    extract.check_images(paths, extraction, Resampling(extraction.target_mpp, mpp))


def load(name: str, extraction: Extraction, runtime: Runtime) -> LoadedEncoder:
    """An encoder to train, with its parameters, where they came from, and their checksum."""
    encoder = encoders.get(name, extraction.resnet_variant)
    variables, source = loaded_encoders.variables_of(encoder, extraction, runtime)
    foldable, params = finetune_step.foldable(encoder, variables, extraction.precision)
    return LoadedEncoder(foldable, {"params": params}, source, weights.checksum(variables))


def prepare(
    paths: Sequence[Path],
    folds: Folds,
    parts: Parts,
    loaded: LoadedEncoder,
    view: View,
    extraction: Extraction,
    finetune: Finetune,
    mpp: float | None = None,
) -> Work:
    """Reads the images of a configuration, and says what its programs are compiled for."""
    most = max(training.sum() for training, _ in parts.values()) * finetune.crops_per_epoch
    steps = int(-(-most // finetune.batch_crops))
    chosen = Tuning(loaded.encoder, view, extraction, finetune, len(folds.classes), steps)
    normalizer = stain.NORMALIZERS[extraction.stain_normalizer]
    images = finetuned.read_images(paths, view, Resampling(extraction.target_mpp, mpp), normalizer)
    return Work(chosen, loaded.variables["params"], images, folds, parts)


def fit_and_save(
    work: Work, models: Path, seed: int, fold: int, keep_checkpoints: bool, bar: Progress
) -> None:
    """Trains one model, and writes it with its scores of the images it never saw."""
    chosen = work.tuning
    configuration = chosen.extraction.configuration(chosen.encoder.name, chosen.view)
    path = model_path(models, configuration, seed, fold)
    checkpoints = models / configuration / CHECKPOINTS / path.stem
    best, losses = fit(work, seed, fold, checkpoints, bar)
    if not np.isfinite(losses).any():
        raise InputError(
            f"{path} would not be finite, training diverged: remove {checkpoints} and lower --head_learning_rate or "
            "--body_learning_rate"
        )
    logging.info(
        "%s: validation loss by epoch %s", path, ", ".join(f"{value:.4f}" for value in losses)
    )
    model = finetuned.flat(best)
    held_out = np.flatnonzero(work.folds.folds == fold)
    ensembles.save_model(
        path,
        model,
        finetuned.score_images(chosen, work.params, model, finetuned.taken(work.images, held_out)),
    )
    if not keep_checkpoints:
        epath.Path(checkpoints).rmtree(missing_ok=True)


def fit(
    work: Work, seed: int, fold: int, checkpoints: Path, bar: Progress
) -> tuple[Tree, np.ndarray]:
    """Trains one model, from its last checkpoint where there is one.

    Returns:
      The model of the best epoch, nested; and the validation loss of each epoch, float32, infinite where it diverged.
    """
    chosen, (training, validation) = work.tuning, map(np.flatnonzero, work.parts[seed, fold])
    body, frozen_body = finetune_step.split_layers(
        work.params, chosen.encoder, chosen.finetune.blocks
    )
    keys = jax.vmap(lambda key: jax.random.fold_in(key, fold))(
        finetuned.image_keys(seed, work.images.names)
    )
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(epath.Path(checkpoints).absolute(), options=options) as manager:
        progress, done = blank(chosen, body), manager.latest_step() or 0
        if done:
            progress = restored(manager, done, progress, checkpoints)
        else:
            progress["best"]["input"] = standardise(work, keys, training)
        bar.add(done)
        for epoch in range(done, chosen.finetune.epochs):
            batches = (
                batch_of(work, keys, *drawn) for drawn in order(chosen, training, seed, fold, epoch)
            )
            progress = after_epoch(work, progress, frozen_body, batches, validation, epoch)
            manager.save(epoch + 1, args=ocp.args.StandardSave(progress))
            bar.add(1)
    return progress["best"], progress["losses"]


def blank(chosen: Tuning, body: Variables) -> Tree:
    """What an epoch hands to the next, before the first one."""
    best = finetune_step.beginning(chosen, body)
    trained = {"body": best["body"], "head": best["head"]}
    losses = np.full(chosen.finetune.epochs, np.inf, np.float32)
    return {
        "trained": trained,
        "optimizer": finetune_step.optimizer(chosen).init(trained),
        "best": best,
        "losses": losses,
    }


def after_epoch(
    work: Work,
    progress: Tree,
    frozen_body: Variables,
    batches: Iterable[Batch],
    validation: np.ndarray,
    epoch: int,
) -> Tree:
    """Trains on an epoch's crops, and keeps the result as the best where its validation loss is the lowest so far."""
    best, trained, state, losses = (
        progress[name] for name in ("best", "trained", "optimizer", "losses")
    )
    frozen = {"body": frozen_body, "input": best["input"]}
    for batch in batches:
        trained, state, _ = finetune_step.step(trained, state, frozen, batch, work.tuning)
    loss = validation_loss(work, trained, frozen, validation)
    if loss < losses.min():
        best = {**trained, "input": best["input"]}
    losses = np.where(np.arange(len(losses)) == epoch, loss, losses)
    return {"trained": trained, "optimizer": state, "best": best, "losses": losses}


def restored(manager: ocp.CheckpointManager, done: int, like: Tree, checkpoints: Path) -> Tree:
    """The state after `done` epochs; InputError where it cannot be read."""
    try:
        return manager.restore(done, args=ocp.args.StandardRestore(like))
    except Exception as error:  # Orbax and what it stands on raise errors of many kinds.
        raise InputError(
            f"the checkpoint of epoch {done} in {checkpoints} cannot be read, it is damaged: remove that folder, "
            "and its model is trained from the beginning"
        ) from error


def standardise(work: Work, keys: jax.Array, training: np.ndarray) -> Tree:
    """What the head's input is standardised by: a crop of each training image as the encoder describes it at first."""
    size = work.tuning.finetune.batch_crops
    filled = np.resize(training, -(-len(training) // size) * size)
    found = [
        finetune_step.descriptors(
            work.params, batch_of(work, keys, places, np.zeros(size, np.int32)), work.tuning
        )
        for places in filled.reshape(-1, size)
    ]
    return finetune_step.standardisation(np.concatenate(found)[: len(training)])


def order(
    chosen: Tuning, training: np.ndarray, seed: int, fold: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The crops of an epoch's steps, shuffled: places of images and augmentations, int [B] each.

    All models have as many steps; one of fewer training images begins again where they end early.
    """
    draws, size = chosen.finetune.crops_per_epoch, (chosen.steps, chosen.finetune.batch_crops)
    rows = np.resize(
        np.random.default_rng((seed, fold, epoch)).permutation(len(training) * draws), size
    )
    return list(
        zip(training[rows // draws], (epoch * draws + rows % draws).astype(np.int32), strict=True)
    )


def batch_of(work: Work, keys: jax.Array, places: np.ndarray, augmentations: np.ndarray) -> Batch:
    """A crop of each of these images."""
    labels = work.folds.labels[places].astype(np.int32)
    return Batch(
        work.images.pixels[places], work.images.sizes[places], keys[places], augmentations, labels
    )


def validation_loss(work: Work, trained: Tree, frozen: Tree, validation: np.ndarray) -> np.float32:
    """Mean negative logarithm of the true class's probability, an image's crops averaged; inf where it diverged."""
    found = finetuned.scores(
        work.tuning, trained, frozen, finetuned.taken(work.images, validation), 1
    )[:, 0]
    own = found[np.arange(len(validation)), work.folds.labels[validation]]
    loss = np.float32(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())
    return loss if np.isfinite(loss) else np.float32(np.inf)
