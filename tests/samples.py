"""A small protocol, images of tissue, an ensemble, and predictions with the published figures."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from histojax import datasets
from histojax.config import BACH_CLASSES, Boosting, Extraction, View
from histojax.datasets import folds
from histojax.datasets.folds import TRAIN_ONLY, Folds
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import extract, store
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.ops import crops, stain

SMALL = Extraction(
    encoders=("VGG",),
    views=(View(0.5, 48), View(1.0, 64)),
    augmentations=3,
    crops=3,
    weights="random",
    seed=4,
)
# What `train_small` trains on.
TRAINED = Extraction(
    encoders=("VGG",),
    views=(View(0.5, 32), View(0.5, 40)),
    augmentations=5,
    crops=1,
    weights="random",
)


def tissue(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = (
        rng.gamma(2, 0.4, (height // 8 + 1, width // 8 + 1, 2))
        .repeat(8, 0)
        .repeat(8, 1)[:height, :width]
    )
    return np.clip(240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(
        np.uint8
    )


def write_descriptors(
    root: Path, names, labels, widths: dict[str, int], augmentations: int, spread: float
) -> None:
    """Descriptors without manifests, like the authors': normal about a mean of their class."""
    rng = np.random.default_rng(0)
    for configuration, width in widths.items():
        means = rng.normal(size=(max(labels) + 1, width))
        for name, label in zip(names, labels, strict=True):
            drawn = rng.normal(means[label], spread, (augmentations, width)).astype(np.float32)
            store.write(root, configuration, name, drawn)


def grouped_split() -> Folds:
    """36 images in three folds, with two groups of each class in each.

    Image 8 is of unknown group, and image 35 is only trained on.
    """
    images = np.arange(36)
    labels, member = images % 4, images // 4
    held_out = np.where(images == 35, TRAIN_ONLY, member % 3)
    groups = tuple("" if i == 8 else f"{labels[i]}-{held_out[i]}-{member[i] // 6}" for i in images)
    return Folds(tuple(f"image{i:02d}" for i in images), labels, held_out, BACH_CLASSES, groups)


def draw_window(data: st.DataObject, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a window inside an image."""
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    return top, left, rows, columns


def published_predictions() -> LabelledPredictions:
    """Made-up predictions of 400 images that have every figure that the paper printed of its own.

    These are the errors of each fold in four classes and in two; 9 in situ and 5 invasive
    carcinomas missed of 200 at set-point 0.50, and 7 at 0.33; 11 and 24 false alarms; and scores
    spread so that the ROC curve has the printed area.
    """
    wrong, across = [3, 7, 5, 5, 5, 4, 6, 5, 5, 6], [1, 4, 2, 3, 2, 1, 3, 3, 3, 3]
    rng = np.random.default_rng(0)
    truth, folds = np.arange(400) // 100, np.arange(400) % 10
    predicted = truth.copy()
    # Classes of the images on the wrong side.
    mistaken = rng.permutation([2] * 9 + [3] * 5 + [1] * 8 + [0] * 3)
    is_wrong = np.zeros(400, bool)
    for fold in range(10):
        start = sum(across[:fold])
        for of_class in mistaken[start : start + across[fold]]:
            image = np.flatnonzero((folds == fold) & (truth == of_class) & ~is_wrong)[0]
            predicted[image], is_wrong[image] = (of_class + 2) % 4, True
        for i in range(wrong[fold] - across[fold]):
            image = np.flatnonzero((folds == fold) & (truth == i % 4) & ~is_wrong)[0]
            # The other class of the same side.
            predicted[image] = truth[image] ^ 1
            is_wrong[image] = True
    truly, called = truth >= 2, predicted >= 2
    score = np.empty(400)
    low, high = truly & ~called, ~truly & called
    score[truly & called] = np.linspace(0.55, 0.99, 186)
    score[high] = np.linspace(0.55, 0.70, 11)
    score[low] = [*np.linspace(0.1, 0.3, 7), *np.linspace(0.34, 0.49, 7)]
    score[~truly & ~called] = [*np.linspace(0.01, 0.3, 176), *np.linspace(0.34, 0.49, 13)]
    scores = np.empty((400, 4))
    for side, total in ((slice(0, 2), 1 - score), (slice(2, 4), score)):
        scores[:, side] = total[:, None] / 3  # The larger of a side has twice the smaller's.
    rows = np.arange(400)
    scores[rows, predicted] *= 2
    other = np.where(called, 0, 2)
    scores[rows, other] *= 2
    names = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in range(1, 101))
    return LabelledPredictions(names, BACH_CLASSES, truth, predicted, scores, folds, None, (2, 3))


@contextlib.contextmanager
def trees_in_this_process() -> Iterator[None]:
    """Trees are trained in this process until the end of the block."""

    def run_tasks(tasks: list[boost.Task], workers: int) -> None:
        for task in tasks:
            boost.run_task(task)

    with mock.patch.object(boost, "run_tasks", run_tasks):
        yield


def train_small(root: Path) -> Path:
    """An ensemble of two classes: images/, descriptors/, models/, and new/ without labels."""
    for label, dark in (("benign", 0.3), ("malignant", 0.7)):
        (root / "images" / label).mkdir(parents=True)
        for i in range(9):
            Image.fromarray(darker(i, dark)).save(root / "images" / label / f"{label}{i}.png")
    (root / "new").mkdir()
    for i in range(3):
        Image.fromarray(darker(100 + i, 0.3 + 0.2 * i)).save(root / "new" / f"test{i}.tif")
    data = datasets.load(root / "images")
    extract.run(data.images, TRAINED, root / "descriptors")
    models, boosting = root / "models", Boosting(folds=3, seeds=2, rounds=8)
    split = folds.load_or_make(models / ensembles.FOLDS, data, boosting.folds, boosting.fold_seed)
    job = TrainingJob(root / "descriptors", models, split, TRAINED.configurations)
    with tempfile.TemporaryDirectory() as folder:
        for name, missing in job.start("trees", boosting).items():
            for task in boost.prepare_tasks(job, name, missing, boosting, Path(folder)):
                boost.run_task(task)  # Without a process of its own, whose start takes longer.
    return root


def darker(seed: int, dark: float) -> np.ndarray:
    """Tissue with more or less hematoxylin, in coarser or finer grains."""
    rng, grain = np.random.default_rng(seed), 4 if dark > 0.5 else 8
    amounts = (
        rng.gamma(2, [dark, 0.4], (104 // grain, 120 // grain, 2)).repeat(grain, 0).repeat(grain, 1)
    )
    return np.clip(240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(
        np.uint8
    )


@functools.partial(jax.jit, static_argnames="size")
def random_crop(image, key, augmentation, crop, size):
    """A crop as extraction draws it: [H, W, 3] -> [size, size, 3] of the image's dtype."""
    corner, turn = crops.corner_and_turn(key, augmentation, crop, jnp.array(image.shape[:2]), size)
    return jnp.moveaxis(crops.cut(jnp.moveaxis(image, -1, 0), corner, turn, size), 0, -1)
