"""One LightGBM model: its parameters, the binning of its rows, its training and its scores.

N images, A augmentations, D channels, K classes; every augmentation of an image is a row.
"""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import tree_text
from histojax.utils import files

# LightGBM's min_data_in_leaf, unless there are few rows; with fewer than twice that no tree grows.
LEAF_ROWS = 20
# A leaf holds at most one row in so many, and a round draws so many times LEAF_ROWS, or all.
_LEAVES = 20
_FAST_FRACTION = 0.1
# What --boost=fast changes in the paper's parameters. Quantised gradients are left out: with so few
# bins they gain little, and LightGBM 4.7 fails on some data with them ("Check failed:
# best_split_info.left_count > 0").
_FAST = {
    # Half a byte a value, and a seventeenth of the thresholds to try.
    "max_bin": 15,
    # Rows are drawn anew for each round, which the paper's frequency of 0 never does; few will do,
    # since an image has 50 rows that are nearly the same.
    "bagging_freq": 1,
    "bagging_fraction": _FAST_FRACTION,
    # Of each tree; channels are as alike as rows are.
    "feature_fraction": 0.2,
    # Columns that could share a histogram are looked for while rows are binned; there are none
    # among descriptors, which are hardly ever zero.
    "enable_bundle": False,
}
# What changes no tree of the paper, and is not in its models' text: each key's second value, which
# is LightGBM's own, is written there. Sums of float32 gradients are exact in float64, in any order,
# unless the gradients span more than four orders of magnitude.
_INERT = {
    # Otherwise LightGBM times two layouts of the data and keeps whichever was faster that time.
    "force_col_wise": (True, "0"),
    # MiB of histograms that a worker holds, instead of one for each of num_leaves (1.5 GiB at 2,048
    # channels). LightGBM computes missing ones anew.
    "histogram_pool_size": (256, "-1"),
}


def parameters(boosting: Boosting, classes: int, seed: int, fold: int, rows: int) -> dict[str, Any]:
    """LightGBM's parameters for one model; the seeds are those of the paper's code.

    Args:
      boosting: the learner's parameters.
      classes: K.
      seed, fold: of the model.
      rows: that it is trained on; if they are few, they decide some parameters of --boost=fast.
    """
    feature_seed = 1 + 10 * seed + fold
    paper = {
        "objective": "multiclass",
        "num_class": classes,
        "learning_rate": boosting.learning_rate,
        "num_leaves": boosting.num_leaves,
        "max_depth": boosting.max_depth,
        "feature_fraction": boosting.feature_fraction,
        "bagging_fraction": boosting.bagging_fraction,
        "bagging_freq": boosting.bagging_freq,
        "feature_fraction_seed": feature_seed,
        "bagging_seed": feature_seed + 1,
        "num_threads": 1,
        "verbosity": -1,
    } | {name: value for name, (value, _) in _INERT.items()}
    return paper | _FAST | for_few_rows(rows) if boosting.boost == "fast" else paper


def training_rows(folds: np.ndarray, fold: int, augmentations: int) -> int:
    """The rows that a fold's models are trained on: folds of images, int [N], a fold, and A."""
    return int((folds != fold).sum()) * augmentations


def drawn_fraction(rows: int) -> float:
    """The share of the rows that a round of fast trees draws: a tenth, but 400 rows or all."""
    return max(_FAST_FRACTION, min(1.0, _LEAVES * LEAF_ROWS / rows))


def for_few_rows(rows: int) -> dict[str, Any]:
    """What few rows change in the parameters of --boost=fast; nothing from 4,000 rows on.

    A leaf holds a twentieth of the rows that are drawn: a leaf of LightGBM's 20 rows leaves trees
    without a single split where fewer than 40 rows are drawn.
    """
    drawn = drawn_fraction(rows)
    if drawn == _FAST_FRACTION:
        return {}
    leaf = min(LEAF_ROWS, max(1, rows // _LEAVES))
    few = {"bagging_fraction": drawn} if drawn < 1 else {"bagging_freq": 0}
    return few | {"min_data_in_leaf": leaf, "min_data_in_bin": min(leaf, 3)}


def decided(boosting: Boosting, folds: Folds, shape: tuple[int, ...]) -> dict[str, Any]:
    """What --boost=fast is and what the rows decide of it, for a manifest; empty for the paper's.

    Args:
      boosting: the learner's parameters.
      folds: the split.
      shape: (N, A, D) of the descriptors.
    """
    if boosting.boost != "fast":
        return {}
    rows = [training_rows(folds.folds, fold, shape[1]) for fold in range(folds.count)]
    changed = [for_few_rows(count) for count in rows]
    if not any(changed):
        return {"fast": _FAST}
    leaves = [parameters.get("min_data_in_leaf", LEAF_ROWS) for parameters in changed]
    return {"fast": _FAST, "min_data_in_leaf_by_fold": leaves}


def _bin_rows(
    images: Sequence[np.ndarray], labels: np.ndarray, parameters: dict[str, Any]
) -> lgb.Dataset:
    """Bins every augmentation of every image, without copying them: N times [A, D], int [N]."""
    row_labels = np.repeat(labels, [len(image) for image in images])
    return lgb.Dataset(list(images), row_labels, params=parameters).construct()


def fit(
    descriptors: np.ndarray, labels: np.ndarray, parameters: dict[str, Any], rounds: int
) -> lgb.Booster:
    """Trains on every augmentation of every image: float32 [N, A, D], int [N]."""
    rows = _bin_rows(descriptors, labels, parameters)
    return lgb.train(parameters, rows, num_boost_round=rounds)


def write_bins(
    path: Path,
    descriptors: np.ndarray,
    training: np.ndarray,
    labels: np.ndarray,
    parameters: dict[str, Any],
) -> None:
    """Bins the rows of training images into a file of at most a byte a value.

    Descriptors are float32 [N, A, D], which may be memory-mapped; `training` is bool [N], labels
    are int [N].
    """
    images = [descriptors[i] for i in np.flatnonzero(training)]
    rows = _bin_rows(images, labels[training], parameters)
    with files.atomic_write(path) as temporary:
        try:
            rows.save_binary(temporary)
        except lgb.basic.LightGBMError as error:
            _check_memory(error)
            cause = "not written whole, as on a full disk"
            raise OSError(errno.ENOSPC, cause, str(path)) from error


def fit_bins(
    path: Path, held_out: np.ndarray, parameters: dict[str, Any], rounds: int
) -> tuple[str, np.ndarray]:
    """Trains on a file of binned rows and scores held-out images, float32 [N, A, D].

    Returns:
      The model as LightGBM's text, as if it had been left to choose what changes no tree, and
      float64 [N, A, K].
    """
    data = lgb.Dataset(path, params=parameters)
    booster = lgb.train(parameters, data, num_boost_round=rounds)
    return _as_by_default(booster.model_to_string()), score(booster, held_out)


def _as_by_default(text: str) -> str:
    """A model's text with LightGBM's own values of what changes no tree."""
    for name, (value, default) in _INERT.items():
        text = text.replace(f"[{name}: {value:d}]", f"[{name}: {default}]")
    return text


def parse(content: bytes, name: str | Path) -> lgb.Booster:
    """A model from the content of its file; `name` is for messages.

    Raises:
      InputError: it is damaged.
    """
    try:
        text = content.decode()
        tree_text.check(text)
        return lgb.Booster(model_str=text)
    except (ValueError, KeyError, OverflowError, lgb.basic.LightGBMError) as error:
        _check_memory(error)
        raise InputError(
            f"{name} is not a complete LightGBM model: remove it and train again"
        ) from error


def _check_memory(error: Exception) -> None:
    """Raises MemoryError where LightGBM failed for want of memory, which it says as C++ does."""
    if "bad_alloc" in str(error):
        raise MemoryError("LightGBM has no memory left") from error


def has_split(content: bytes) -> bool:
    """Whether any tree of a model, as the content of its file, has more than one leaf."""
    return re.search(rb"^num_leaves=(?!1$)", content, re.MULTILINE) is not None


def parameter(content: bytes, name: str) -> float:
    """A number that a model was trained with, by the content of its file.

    Raises:
      InputError: the file does not have it.
    """
    found = re.search(rf"^\[{name}: ([-+.\de]+)\]$".encode(), content, re.MULTILINE)
    try:
        return float(found[1])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a model has no {name} among its parameters: it is damaged, remove it and train again"
        ) from error


def channels(booster: lgb.Booster) -> int:
    """D."""
    return booster.num_feature()


def score(booster: lgb.Booster, descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    return booster.predict(rows, num_threads=1).reshape(*descriptors.shape[:2], -1)
