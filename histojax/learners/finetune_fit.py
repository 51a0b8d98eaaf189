"""Training of one fine-tuned model: its epochs, the best of which it keeps, and its scores.

Each epoch draws crops of every training image; a model keeps the epoch with the lowest loss on a
part of the training images that it is not fitted to (see `training`). All randomness comes from
(seed, fold, epoch, image name): a run continued from a checkpoint ends like an unbroken one.

N images, A augmentations, B crops of a step, K classes.
"""

import dataclasses
import functools
import logging as stdlib_logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from histojax.datasets.folds import Folds
from histojax.encoders import Variables
from histojax.errors import InputError
from histojax.learners import finetune_step
from histojax.learners.finetune_step import Batch, Images, StepConfig, Tree
from histojax.utils.progress import Progress


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What the models of a configuration are trained on.

    Attributes:
      config: what the programs are compiled for.
      params: the encoder's before training, float32 by layer.
      images: all, in the order of `folds`.
      folds: images, labels and folds.
      splits: training and validation images, bool [N] each, of every (seed, fold).
    """

    config: StepConfig
    params: Variables
    images: Images
    folds: Folds
    splits: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]

    def split_layers(self) -> tuple[Variables, Variables]:
        """The encoder's layers to train, and its frozen ones."""
        config = self.config
        return finetune_step.split_layers(self.params, config.encoder, config.finetune.blocks)

    def batch(self, keys: jax.Array, indices: np.ndarray, augmentations: np.ndarray) -> Batch:
        """A crop of each of these images."""
        labels = self.folds.labels[indices].astype(np.int32)
        images, sizes = self.images.pixels[indices], self.images.sizes[indices]
        return Batch(images, sizes, keys[indices], augmentations, labels)


def fit(
    data: TrainingData, seed: int, fold: int, checkpoints: Path, bar: Progress
) -> tuple[Tree, np.ndarray]:
    """Trains one model, from its last checkpoint if there is one.

    Returns:
      The model of the best epoch (as of `finetune_step.initial_model`), and the validation loss of
      each epoch, float32, infinite where it diverged.
    """
    training_images, validation_images = map(np.flatnonzero, data.splits[seed, fold])
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
            _save(manager, epoch + 1, state, checkpoints)
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
    data: TrainingData,
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


def _save(manager: ocp.CheckpointManager, done: int, state: Tree, checkpoints: Path) -> None:
    """Keeps the state after `done` epochs; OSError, of a full disk say, if it cannot be written.

    TensorStore gives the system's error as a number within its text. Of all else that is written at
    the same time, Orbax logs an error a thread, asyncio one a task, and Python tells of each
    callback that finds its event loop closed: these are left out, after a failure for good, since
    they may come late.
    """
    loggers = (logging.get_absl_logger(), stdlib_logging.getLogger("asyncio"))
    unraisable = sys.unraisablehook
    for logger in loggers:
        logger.addFilter(_is_of_others)
    sys.unraisablehook = functools.partial(_tell_of_others, unraisable)
    try:
        manager.save(done, args=ocp.args.StandardSave(state))
        sys.unraisablehook = unraisable
        for logger in loggers:
            logger.removeFilter(_is_of_others)
    except Exception as error:
        number = re.search(r"os_error_code='(\d+)'", str(error))
        code = int(number[1]) if number else getattr(error, "errno", None)
        if code is None:
            raise
        path = getattr(error, "filename", None) or str(checkpoints)
        raise OSError(code, os.strerror(code), path) from error


def _is_of_others(record: stdlib_logging.LogRecord) -> bool:
    """Whether a line of the log is not an error of Orbax's threads or tasks, also raised."""
    parts = Path(record.pathname).parts
    return record.levelno != stdlib_logging.ERROR or not {"orbax", "asyncio"} & {*parts}


def _tell_of_others(tell: Callable[..., None], unraisable: Any) -> None:
    """Tells of an error that could not be raised, unless it is that of a closed event loop."""
    if str(unraisable.exc_value) != "Event loop is closed":
        tell(unraisable)


def _restore(manager: ocp.CheckpointManager, done: int, like: Tree, checkpoints: Path) -> Tree:
    """The state after `done` epochs; InputError if it cannot be read."""
    try:
        return manager.restore(done, args=ocp.args.StandardRestore(like))
    except Exception as error:  # Orbax and its dependencies raise errors of many kinds.
        raise InputError(
            f"the checkpoint of epoch {done} in {checkpoints} cannot be read, it is damaged: "
            "remove that folder, and its model is trained from the beginning"
        ) from error


def _standardise_input(data: TrainingData, keys: jax.Array, training: np.ndarray) -> Tree:
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


def score_images(data: TrainingData, model: Tree, images: Images, augmentations: int) -> np.ndarray:
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


def _validation_loss(data: TrainingData, model: Tree, validation: np.ndarray) -> np.float32:
    """Mean negative log probability of images' true classes; infinite if it is not finite."""
    scores = score_images(data, model, data.images.take(validation), 1)[:, 0]
    labels = data.folds.labels[validation]
    of_truth = scores[np.arange(len(validation)), labels]
    loss = np.float32(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())
    return loss if np.isfinite(loss) else np.float32(np.inf)
