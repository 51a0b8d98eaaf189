"""One XGBoost model: its parameters, its training and its scores, as `trees` has LightGBM's.

N images, A augmentations, D channels, K classes; every augmentation of an image is a row. Needs
requirements-xgboost.txt. A model is XGBoost's JSON, which runs no code.
"""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from histojax.config import Boosting
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import trees, xgboost_json

if TYPE_CHECKING:
    import xgboost

DEVICES = ("cpu", "cuda")
# What --boost=xgboost takes in place of the paper's values, as --boost=fast does. The rows that a
# round draws are those of fast trees.
SETTINGS = {"tree_method": "hist", "max_bin": 16, "colsample_bytree": 0.2}
# What the check of a damaged model raises.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_OBJECTIVE = "multi:softprob"


def require(device: str = "cpu") -> ModuleType:
    """The package; InputError where it is missing, or cannot train on the device."""
    try:
        package = importlib.import_module("xgboost")
    except ImportError as error:
        raise InputError(
            "models of --boost=xgboost need a package that is missing: pip install -r "
            "requirements-xgboost.txt or, without that file, pip install 'xgboost-cpu>=3.0,<4' "
            "(on a Mac 'xgboost>=3.0,<4')"
        ) from error
    if device == "cuda" and not package.build_info().get("USE_CUDA"):
        raise InputError(
            f"--tree_device=cuda needs an XGBoost built for CUDA, this one ({package.__version__}) "
            "is not: pip uninstall xgboost-cpu, then pip install 'xgboost>=3,<4'"
        )
    return package


def parameters(
    boosting: Boosting, classes: int, seed: int, fold: int, rows: int, device: str = "cpu"
) -> dict[str, Any]:
    """XGBoost's parameters for one model; arguments as for `trees.parameters`."""
    return SETTINGS | {
        "subsample": trees.drawn_fraction(rows),
        "objective": _OBJECTIVE,
        "num_class": classes,
        "eta": boosting.learning_rate,
        "max_leaves": boosting.num_leaves,
        "max_depth": max(0, boosting.max_depth),  # LightGBM's -1, without limit, is 0 here.
        "seed": 1 + 10 * seed + fold,
        "device": device,
        "nthread": 1,
    }


def decided(folds: Folds, shape: tuple[int, ...], device: str) -> dict[str, Any]:
    """What --boost=xgboost is, for a manifest; arguments as for `trees.decided`."""
    rows = [trees.training_rows(folds.folds, fold, shape[1]) for fold in range(folds.count)]
    drawn = [trees.drawn_fraction(count) for count in rows]
    return {"xgboost": SETTINGS | {"subsample_by_fold": drawn, "device": device}}


def fit(
    descriptors: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    parameters: dict[str, Any],
    rounds: int,
) -> tuple[str, np.ndarray]:
    """Trains on the images that are not held out, and scores those that are.

    Args:
      descriptors: float32 [N, A, D], which may be memory-mapped.
      held_out: bool [N].
      labels: int [N].
      parameters, rounds: of the model.

    Returns:
      The model as XGBoost's JSON, and float64 [held out, A, K].
    """
    package = require(parameters["device"])
    rows = descriptors[~held_out].reshape(-1, descriptors.shape[-1])
    row_labels = np.repeat(labels[~held_out], descriptors.shape[1])
    bins = {"max_bin": parameters["max_bin"], "nthread": parameters["nthread"]}
    data = package.QuantileDMatrix(rows, row_labels, **bins)
    text = package.train(parameters, data, rounds).save_raw("json").decode()
    return text, score(parse(text.encode(), "the model"), descriptors[held_out])


def parse(content: bytes, name: str | Path) -> "xgboost.Booster":
    """A model from the content of its file; `name` is for messages.

    Raises:
      InputError: it is damaged, or the package is missing.
    """
    package = require()
    try:
        model = json.loads(content)
        xgboost_json.check(model, _OBJECTIVE)
        booster = package.Booster({"nthread": 1})
        # Written anew, since the two may read what is no plain JSON in different ways.
        booster.load_model(bytearray(json.dumps(model, allow_nan=False), "ascii"))
        return booster
    except (*_DAMAGE, package.core.XGBoostError) as error:
        raise InputError(
            f"{name} is not a complete XGBoost model: remove it and train again"
        ) from error


def channels(booster: "xgboost.Booster") -> int:
    """D."""
    return booster.num_features()


def score(booster: "xgboost.Booster", descriptors: np.ndarray) -> np.ndarray:
    """Class probabilities of each augmentation of each image: [N, A, D] -> float64 [N, A, K]."""
    rows = descriptors.reshape(-1, descriptors.shape[-1])
    odds = booster.inplace_predict(rows).astype(np.float64)
    return (odds / odds.sum(axis=-1, keepdims=True)).reshape(*descriptors.shape[:2], -1)
