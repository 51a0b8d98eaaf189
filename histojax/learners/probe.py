"""Heads on frozen descriptors, beside the trees: the same folds, and scores of the same form.

The training images of a fold fall into parts, one of which decides when to stop; channels are standardised by the rows
a model is fitted to. The descriptors are on the device once, and as many models are trained at a time as fit beside
them, by one compiled program (`fitting`). What is written, and where, is `ensembles`' to say.

M models, C configurations, N images, A augmentations, R = N A rows, D channels of the widest configuration, K classes.
"""

import dataclasses
import datetime
import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from histojax.config import Probe
from histojax.datasets import folds as splits
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import devices as hardware
from histojax.learners import ensembles, heads, probe_fit
from histojax.learners.probe_fit import Fitted, Model
from histojax.utils.progress import Progress

# What a model in training has in memory at once, a bound: arrays of the size of its batches, of its weights, and of
# one number a row.
BATCHES_HELD, WEIGHTS_HELD, ROWS_HELD = 3, 12, 8
# Bytes that models trained at a time may take on a CPU: more are no faster, and are saved the later.
ROOM_ON_CPU = 2**28

Name = tuple[str, int, int]  # Configuration, seed, fold.


class Moments(NamedTuple):
    """Mean and variance of each image over its augmentations, float64 [N, D]."""

    mean: np.ndarray
    variance: np.ndarray


def train(
    descriptors_root: Path,
    models: Path,
    folds: Folds,
    configurations: Iterable[str],
    probe: Probe,
    devices: Sequence[jax.Device] | None = None,
) -> int:
    """Trains what is still missing of the ensemble; returns the number of models trained now.

    Args:
      descriptors_root: the folder `extract` wrote, or the authors' files.
      models: where models go, with `folds.csv` already there.
      devices: by default all.

    Raises:
      InputError: descriptors are missing or damaged, or of different augmentations; the folder holds models of other
        data or parameters; the training images cannot be split; or training diverges.
    """
    begun = time.monotonic()
    devices = devices or jax.devices()
    ensembles.record_ensemble(models, folds, probe.head, dataclasses.asdict(probe), probe.seeds)
    found = {
        name: ensembles.load_training_descriptors(models, name, descriptors_root, folds)
        for name in configurations
    }
    missing = [
        (name, seed, fold)
        for name in found
        for seed in range(probe.seeds)
        for fold in range(folds.count)
        if not ensembles.is_finished(ensembles.model_path(models, name, seed, fold, probe.head))
    ]
    with Progress("train", len(missing), "models") as bar:
        if not missing:
            return 0
        wanted = {name for name, _, _ in missing}
        work = prepare(folds, {name: each for name, each in found.items() if name in wanted}, probe)
        del found  # They are in `work`, side by side.
        try:
            fit_all(work, models, missing, devices, bar)
        finally:
            record(models, bar.done, begun, devices)
    return len(missing)


def record(models: Path, trained: int, begun: float, devices: Sequence[jax.Device]) -> None:
    """Adds a row to times.csv if any model was trained, also where the run was stopped."""
    if trained:
        today, seconds = datetime.date.today().isoformat(), f"{time.monotonic() - begun:.1f}"
        ensembles.record_training_time(
            models, (today, trained, seconds, len(devices), devices[0].device_kind)
        )


@dataclasses.dataclass(frozen=True)
class Work:
    """What models are trained on, on the host.

    Attributes:
      folds, probe: images and parameters.
      parts: (training, validation), bool [N] each, of every seed and fold, trained now or not.
      descriptors: float32 [C, R, D].
      channels: D of each configuration by itself.
      moments: of each configuration.
    """

    folds: Folds
    probe: Probe
    parts: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]
    descriptors: np.ndarray
    channels: dict[str, int]
    moments: dict[str, Moments]

    @property
    def augmentations(self) -> int:
        """A."""
        return self.descriptors.shape[1] // len(self.folds.names)

    @property
    def batches(self) -> tuple[int, int]:
        """Minibatches that hold the training rows of any model, and the validation rows; a model comes out the same
        whichever others are trained with it."""
        rows = (
            np.array([[part.sum() for part in parts] for parts in self.parts.values()])
            * self.augmentations
        )
        steps, checks = -(-rows.max(axis=0) // self.probe.batch_rows)
        return int(steps), int(checks)

    def model(self, name: Name) -> Model:
        """One model to train."""
        configuration, seed, fold = name
        training, validation = self.parts[seed, fold]
        mean, scale = standardisation(self.moments[configuration], training)
        pad = (0, self.descriptors.shape[-1] - self.channels[configuration])
        place = list(self.channels).index(configuration)
        numbers = np.array([place, seed, fold, self.channels[configuration]], np.int32)
        return Model(*numbers, training, validation, np.pad(mean, pad), np.pad(scale, pad))


def prepare(folds: Folds, found: dict[str, np.ndarray], probe: Probe) -> Work:
    """Splits the training images, and lays the descriptors [N, A, D] of configurations side by side.

    Raises:
      InputError: their augmentations differ, or the training images cannot be split.
    """
    augmentations = {each.shape[1] for each in found.values()}
    if len(augmentations) > 1:
        raise InputError(
            f"the configurations have {' and '.join(map(str, sorted(augmentations)))} augmentations; heads are trained "
            "side by side, so need as many in all: name --configurations that agree"
        )
    parts = {
        (seed, fold): split(folds, fold, seed, probe.validation_parts)
        for seed in range(probe.seeds)
        for fold in range(folds.count)
    }
    channels = {name: each.shape[-1] for name, each in found.items()}
    rows = len(folds.names) * augmentations.pop()
    descriptors = np.zeros((len(found), rows, max(channels.values())), np.float32)
    for place, each in enumerate(found.values()):
        descriptors[place, :, : each.shape[-1]] = each.reshape(rows, -1)
    return Work(
        folds,
        probe,
        parts,
        descriptors,
        channels,
        {name: moments(each) for name, each in found.items()},
    )


def split(folds: Folds, fold: int, seed: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The images a fold's model is fitted to and those that tell it when to stop: bool [N] each.

    Stratified by class, whole groups together; an image of unknown group is one of its own.

    Raises:
      InputError: too few images or groups for that.
    """
    there = np.flatnonzero(folds.folds != fold)
    labels, groups = folds.labels[there], None
    if folds.groups is not None:
        groups = np.array([folds.groups[i] or f"\0{folds.names[i]}" for i in there], object)
    rng = np.random.default_rng((seed, fold))
    if np.bincount(labels).max() >= parts:
        part = splits.stratified_folds(labels, groups, parts, int(rng.integers(2**32)))
        for chosen in rng.permutation(
            parts
        ):  # scikit-learn puts the largest group into the first part, always.
            if (part == chosen).any() and set(labels[part != chosen]) == set(labels):
                masks = np.zeros((2, len(folds.names)), bool)
                masks[0, there[part != chosen]], masks[1, there[part == chosen]] = True, True
                return masks[0], masks[1]
    raise InputError(
        f"the {len(there)} training images of fold {fold + 1} do not fall into {parts} parts, one of them to decide "
        "when to stop, with every class in the rest: lower --validation_parts, or add images or groups"
    )


def moments(descriptors: np.ndarray) -> Moments:
    """Of descriptors [N, A, D]; image by image, so that no copy of all in float64 is made."""
    each = [
        (image.mean(axis=0, dtype=np.float64), image.var(axis=0, dtype=np.float64))
        for image in descriptors
    ]
    return Moments(*map(np.stack, zip(*each, strict=True)))


def standardisation(moments: Moments, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / deviation of the rows of these images (bool [N]), float32 [D]; 0 for what is constant there."""
    means = moments.mean[images]
    mean = means.mean(axis=0)
    deviation = np.sqrt((moments.variance[images] + (means - mean) ** 2).mean(axis=0))
    return mean.astype(np.float32), heads.scale_of(mean, deviation)


def held(work: Work) -> int:
    """Bytes that a model in training takes beside the descriptors, at most."""
    probe, (_, rows, width), classes = work.probe, work.descriptors.shape, len(work.folds.classes)
    weights = width * classes if probe.head == "linear" else (width + classes) * probe.hidden_units
    return 4 * (BATCHES_HELD * probe.batch_rows * width + WEIGHTS_HELD * weights + ROWS_HELD * rows)


def together(work: Work, missing: int, devices: Sequence[jax.Device]) -> int:
    """How many models to train at a time, a multiple of the devices: equal shares, each as large as has room."""
    room = hardware.memory(devices) - work.descriptors.nbytes
    room = min(room, ROOM_ON_CPU) if devices[0].platform == "cpu" else room
    shares = math.ceil(missing / (len(devices) * max(room // held(work), 1)))
    return math.ceil(missing / (shares * len(devices))) * len(devices)


def fit_all(
    work: Work, models: Path, missing: Sequence[Name], devices: Sequence[jax.Device], bar: Progress
) -> None:
    """Fits the missing models, as many at a time as fit, and saves those before the next."""
    mesh = Mesh(np.array(devices), ("models",))
    steps, checks = work.batches
    program = probe_fit.compiled(
        partial(
            probe_fit.fit,
            probe=work.probe,
            classes=len(work.folds.classes),
            steps=steps,
            checks=checks,
        ),
        mesh,
    )
    labels = np.repeat(work.folds.labels, work.augmentations).astype(np.int32)
    data = jax.device_put((work.descriptors, labels), NamedSharding(mesh, P()))
    width, still_improving = together(work, len(missing), devices), 0
    for begin in range(0, len(missing), width):
        names = missing[begin : begin + width]
        filled = [
            *names,
            *[names[-1]] * (width - len(names)),
        ]  # The last share is smaller: one shape, one program.
        lanes = jax.tree.map(lambda *each: np.stack(each), *map(work.model, filled))
        fitted = jax.device_get(
            program(jax.device_put(lanes, NamedSharding(mesh, P("models"))), *data)
        )
        for i, name in enumerate(names):
            model, one = jax.tree.map(lambda each, i=i: each[i], (lanes, fitted))
            save(work, models, name, model, one)
            still_improving += int(one.best_epoch == work.probe.epochs)
        bar.add(len(names))
    if still_improving:
        logging.warning(
            "%d of %d heads were best in the last of %d epochs: with more --epochs they would go on improving",
            still_improving,
            len(missing),
            work.probe.epochs,
        )


def save(work: Work, models: Path, name: Name, model: Model, fitted: Fitted) -> None:
    """Writes a head, and the scores that it gives to the images it never saw.

    Raises:
      InputError: training diverged.
    """
    configuration, seed, fold = name
    path = ensembles.model_path(models, configuration, seed, fold, work.probe.head)
    if fitted.best_epoch == 0:
        raise InputError(f"{path} would not be finite, training diverged: lower --learning_rate")
    channels = work.channels[configuration]
    (kernel, bias), *rest = fitted.layers
    mean, scale = model.mean[:channels], model.scale[:channels]
    head = heads.folded(
        work.probe.head,
        ((kernel[:, :channels].T, bias), *((kernel.T, bias) for kernel, bias in rest)),
        mean,
        scale,
    )
    held_out = work.descriptors[model.configuration].reshape(
        len(work.folds.names), work.augmentations, -1
    )
    ensembles.save_model(
        path, head, heads.score(head, held_out[work.folds.folds == fold, :, :channels])
    )
