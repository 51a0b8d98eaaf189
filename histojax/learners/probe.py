"""Training of heads on frozen descriptors: linear, or with a hidden layer, instead of trees.

One part of a fold's training images decides when to stop (see `training`), and channels are
standardised by the rows a model is fitted to. The descriptors are put on the devices once, and as
many models as fit beside them are trained at a time, by one compiled program (see `probe_fit`).

M models, C configurations, N images, A augmentations, R = N A rows, D channels of the widest
configuration, K classes.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from histojax.config import Probe
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import devices as hardware
from histojax.learners import ensembles, heads, probe_fit, training
from histojax.learners.probe_fit import Fitted, Model
from histojax.learners.training import TrainingJob
from histojax.utils.progress import Progress

# The most that a model in training has in memory at once: arrays of the size of its batches, of its
# weights, and of one number a row.
_BATCHES_HELD = 3
_WEIGHTS_HELD = 12
_ROWS_HELD = 8
# Bytes that models trained at a time may take on a CPU: more would be no faster, and saved later.
_BYTES_ON_CPU = 2**28

_Place = tuple[str, int, int]  # Configuration, seed, fold.


class _Moments(NamedTuple):
    """Mean and variance of each image over its augmentations, float64 [N, D]."""

    mean: np.ndarray
    variance: np.ndarray


def train(job: TrainingJob, probe: Probe, devices: Sequence[jax.Device] | None = None) -> int:
    """Trains the missing models of an ensemble, and returns how many there were.

    Args:
      job: descriptors, folds, and the folder for models.
      probe: the learner's parameters.
      devices: all by default.

    Raises:
      InputError: descriptors are missing or damaged, or of different augmentations; the folder
        holds models of other data or parameters; the training images cannot be split; or training
        diverges.
    """
    devices = devices or jax.devices()
    missing = job.start(probe.head, probe)
    paths = {
        (name, *place): path for name, models in missing.items() for place, path in models.items()
    }
    machine = devices[0].device_kind
    with training.record_time(job.models, paths.values(), len(devices), machine):
        descriptors = {name: job.load_descriptors(name) for name in missing}
        used = {name: descriptors[name] for name, models in missing.items() if models}
        del descriptors
        with Progress("train", len(paths), "models") as bar:
            if paths:
                data = _prepare(job.folds, used, probe)
                del used  # They are in `data`, side by side.
                _fit_all(data, paths, devices, bar)
    return len(paths)


@dataclasses.dataclass(frozen=True)
class _ProbeData:
    """What models are trained on, on the host.

    Attributes:
      folds: images, labels and folds.
      probe: the learner's parameters.
      splits: training and validation images, bool [N] each, of every (seed, fold), whether it is
        trained now or not.
      descriptors: float32 [C, R, D].
      channels: D of each configuration by itself.
      moments: of each configuration.
    """

    folds: Folds
    probe: Probe
    splits: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]
    descriptors: np.ndarray
    channels: dict[str, int]
    moments: dict[str, _Moments]

    @property
    def augmentations(self) -> int:
        """A."""
        return self.descriptors.shape[1] // len(self.folds.names)

    @property
    def batches(self) -> tuple[int, int]:
        """Minibatches that hold the training rows of any model, and its validation rows.

        They do not depend on which models are trained now, so that neither do the models.
        """
        images = np.array([[part.sum() for part in split] for split in self.splits.values()])
        steps, checks = -(-images.max(axis=0) * self.augmentations // self.probe.batch_rows)
        return int(steps), int(checks)

    def model(self, place: _Place) -> Model:
        """One model to train."""
        configuration, seed, fold = place
        training_images, validation_images = self.splits[seed, fold]
        mean, scale = _standardisation(self.moments[configuration], training_images)
        channels = self.channels[configuration]
        padding = (0, self.descriptors.shape[-1] - channels)
        index = list(self.channels).index(configuration)
        return Model(
            *np.array([index, seed, fold, channels], np.int32),
            training_images,
            validation_images,
            np.pad(mean, padding),
            np.pad(scale, padding),
        )


def _prepare(folds: Folds, descriptors: dict[str, np.ndarray], probe: Probe) -> _ProbeData:
    """Splits the training images, and puts descriptors [N, A, D] of configurations side by side.

    Raises:
      InputError: their augmentations differ, or the training images cannot be split.
    """
    augmentations = {array.shape[1] for array in descriptors.values()}
    if len(augmentations) > 1:
        raise InputError(
            f"the configurations have {' and '.join(map(str, sorted(augmentations)))} "
            "augmentations; heads of all configurations are trained together, so these must have "
            "equally many: name --configurations that agree"
        )
    channels = {name: array.shape[-1] for name, array in descriptors.items()}
    rows = len(folds.names) * augmentations.pop()
    together = np.zeros((len(descriptors), rows, max(channels.values())), np.float32)
    for index, array in enumerate(descriptors.values()):
        together[index, :, : array.shape[-1]] = array.reshape(rows, -1)
    return _ProbeData(
        folds,
        probe,
        training.validation_splits(folds, probe.seeds, probe.validation_parts),
        together,
        channels,
        {name: _image_moments(array) for name, array in descriptors.items()},
    )


def _image_moments(descriptors: np.ndarray) -> _Moments:
    """Moments of descriptors [N, A, D]; image by image, so that no float64 copy of all is made."""
    moments = [
        (image.mean(axis=0, dtype=np.float64), image.var(axis=0, dtype=np.float64))
        for image in descriptors
    ]
    return _Moments(*map(np.stack, zip(*moments, strict=True)))


def _standardisation(moments: _Moments, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / deviation of the rows of some images (bool [N]): float32 [D] each.

    The second is 0 for channels that are constant there.
    """
    means = moments.mean[images]
    mean = means.mean(axis=0)
    deviation = np.sqrt((moments.variance[images] + (means - mean) ** 2).mean(axis=0))
    return mean.astype(np.float32), heads.inverse_deviation(mean, deviation)


def _bytes_per_model(data: _ProbeData) -> int:
    """The most memory that a model in training takes beside the descriptors, bytes."""
    probe = data.probe
    _, rows, width = data.descriptors.shape
    classes = len(data.folds.classes)
    weights = width * classes if probe.head == "linear" else (width + classes) * probe.hidden_units
    batches = probe.batch_rows * width
    return 4 * (_BATCHES_HELD * batches + _WEIGHTS_HELD * weights + _ROWS_HELD * rows)


def _models_at_a_time(data: _ProbeData, missing: int, devices: Sequence[jax.Device]) -> int:
    """How many models to train at a time: equal shares for all devices that fit in memory."""
    free = hardware.memory(devices) - data.descriptors.nbytes
    if devices[0].platform == "cpu":
        free = min(free, _BYTES_ON_CPU)
    per_device = max(free // _bytes_per_model(data), 1)
    shares = math.ceil(missing / (len(devices) * per_device))
    return math.ceil(missing / (shares * len(devices))) * len(devices)


def _fit_all(
    data: _ProbeData, paths: dict[_Place, Path], devices: Sequence[jax.Device], bar: Progress
) -> None:
    """Fits models, as many at a time as fit in memory, and saves them before the next."""
    mesh = Mesh(np.array(devices), ("models",))
    steps, checks = data.batches
    sizes = {"classes": len(data.folds.classes), "steps": steps, "checks": checks}
    program = probe_fit.compiled(partial(probe_fit.fit, probe=data.probe, **sizes), mesh)
    labels = np.repeat(data.folds.labels, data.augmentations).astype(np.int32)
    on_devices = jax.device_put((data.descriptors, labels), NamedSharding(mesh, P()))
    count = _models_at_a_time(data, len(paths), devices)
    still_improving = 0
    all_places = list(paths)
    for begin in range(0, len(all_places), count):
        places = all_places[begin : begin + count]
        # The last share is smaller, but has the same shape, so that there is one program.
        filled = places + [places[-1]] * (count - len(places))
        models = jax.tree.map(lambda *leaves: np.stack(leaves), *map(data.model, filled))
        models_on_devices = jax.device_put(models, NamedSharding(mesh, P("models")))
        fitted = jax.device_get(program(models_on_devices, *on_devices))
        for i, place in enumerate(places):
            model, fitted_model = jax.tree.map(lambda leaf, i=i: leaf[i], (models, fitted))
            _save(data, paths[place], place, model, fitted_model)
            still_improving += int(fitted_model.best_epoch == data.probe.epochs)
        bar.add(len(places))
    if still_improving:
        logging.warning(
            "%d of %d heads were best in the last of %d epochs: with more --epochs they would "
            "improve further",
            still_improving,
            len(paths),
            data.probe.epochs,
        )


def _save(data: _ProbeData, path: Path, place: _Place, model: Model, fitted: Fitted) -> None:
    """Writes a head, and its scores of held-out images; InputError if training diverged."""
    configuration, _, fold = place
    if fitted.best_epoch == 0:
        raise InputError(f"{path} would not be finite, training diverged: lower --learning_rate")
    channels = data.channels[configuration]
    (kernel, bias), *rest = fitted.layers
    layers = ((kernel[:, :channels].T, bias), *((kernel.T, bias) for kernel, bias in rest))
    mean, scale = model.mean[:channels], model.scale[:channels]
    head = heads.fold_standardisation(data.probe.head, layers, mean, scale)
    shape = (len(data.folds.names), data.augmentations, -1)
    descriptors = data.descriptors[model.configuration].reshape(shape)
    held_out = descriptors[data.folds.folds == fold, :, :channels]
    ensembles.save_model(path, head, heads.score(head, held_out))
