"""Images to folds, by class and group; what is too little to be divided is refused."""

import collections
import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from histojax.datasets import Dataset, copies
from histojax.errors import InputError

TRAIN_ONLY = -1  # The fold of images that are never held out.


def fill_unknown(dataset: Dataset, unknown_groups: str) -> np.ndarray:
    """A group for every image, object [N]; empty for those that are only trained on."""
    # No table can name a group that starts with a null character.
    substitutes = {
        "own": [f"\0{name}" for name in dataset.names],
        "together": ["\0"] * len(dataset.names),
        "train_only": [""] * len(dataset.names),
    }[unknown_groups]
    # Copies do not tell the patient that is to be kept out.
    is_unknown = copies.is_unknown if unknown_groups != "own" else lambda group: not group
    pairs = zip(dataset.groups, substitutes, strict=True)
    filled = [substitute if is_unknown(group) else group for group, substitute in pairs]
    return np.array(filled, object)


def require_enough(
    labels: np.ndarray,
    classes: tuple[str, ...],
    count: int,
    groups: np.ndarray | None,
    unknown_left_out: bool,
    flag: str,
) -> None:
    """Raises InputError where there are too few images of a class, or groups, for `count` folds.

    `labels` and `groups` are of the images that may be held out; `unknown_left_out` says whether
    these are not all.
    """
    sizes = collections.Counter(labels.tolist())
    number = len(labels) if groups is None else len(set(groups))
    if groups is not None and number < 2:
        raise InputError(
            "all images are of one group (patient or slide), so none can be held out while others "
            "are trained on: name smaller groups"
        )
    if few := [f"{name} ({sizes[k]})" for k, name in enumerate(classes) if sizes[k] < count]:
        known = " of known group (--unknown_groups=train_only holds out no others)"
        most = min(number, *(sizes[k] for k in range(len(classes))))
        remedy = f"pass --{flag}={most}, or add images" if most > 1 else "add images, or groups"
        raise InputError(
            f"fewer images{known if unknown_left_out else ''} than the {count} {flag} in class "
            f"{', '.join(few)}, so some {flag} would lack it: {remedy}"
        )
    if number < count:
        raise InputError(
            f"{number} groups (patients or slides) cannot fill {count} {flag}, for a group is "
            f"never divided: pass --{flag}={number}"
        )


def classes_lacking(
    labels: np.ndarray, folds: np.ndarray, classes: tuple[str, ...]
) -> tuple[str, ...]:
    """The classes that some fold's training images lack.

    Raises:
      InputError: the training images of a fold are all of one class.
    """
    present = [{*labels[folds != fold].tolist()} for fold in np.unique(folds[folds != TRAIN_ONLY])]
    lacking = tuple(name for k, name in enumerate(classes) if not all(k in of for of in present))
    if min(map(len, present)) < 2:
        raise InputError(
            f"all images of class {', '.join(lacking)} fall into one fold, as where they are of "
            "one group, so that models would be trained on a single class: add patients (or "
            "slides) of it. If the groups are not what they should be, name their column by "
            "--group_column; --fold_maker=stratified splits without them"
        )
    return lacking


def stratified_folds(
    labels: np.ndarray, groups: np.ndarray | None, count: int, seed: int
) -> np.ndarray:
    """The fold of each image by scikit-learn's (Grouped)StratifiedKFold, int [N], 0 .. F - 1."""
    if groups is None:
        splits = StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels)
    else:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        splits = splitter.split(labels, labels, groups)
    folds = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # Fewer groups of a class than folds: not every fold can have the class, and no split is
        # better.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splits):
            folds[held_out] = fold
    return folds
