"""Who is in which fold: stratified by class, whole groups together where they are known; saved as CSV and reused."""

import collections
import dataclasses
import hashlib
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from histojax import files
from histojax.datasets import Dataset
from histojax.errors import InputError

COLUMNS = ("image", "label", "fold")


@dataclasses.dataclass(frozen=True)
class Folds:
    """N images with their class and fold.

    Attributes:
      names: image names.
      labels: int [N], class indices.
      folds: int [N], 0 .. F - 1.
      classes: K class names.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]

    @property
    def count(self) -> int:
        """F."""
        return int(self.folds.max()) + 1

    @property
    def sha256(self) -> str:
        """The identity of the split."""
        rows = "\n".join(f"{name},{label},{fold}" for name, label, fold in rows_of(self))
        return hashlib.sha256(rows.encode()).hexdigest()


def rows_of(folds: Folds) -> list[tuple[str, str, int]]:
    """Rows image, label, fold; the fold is counted from 1, as in the paper's table."""
    labels = [folds.classes[label] for label in folds.labels]
    return [(name, label, int(fold) + 1) for name, label, fold in zip(folds.names, labels, folds.folds, strict=True)]


def make(dataset: Dataset, count: int, seed: int) -> Folds:
    """Splits a data set into `count` folds, stratified by class; by group too where groups are known.

    Raises:
      InputError: a class has fewer images than there are folds, or there are fewer groups than folds.
    """
    labels = np.array(dataset.labels)
    sizes = collections.Counter(dataset.labels)
    if few := [f"{dataset.classes[label]} ({sizes[label]})" for label in sorted(sizes) if sizes[label] < count]:
        raise InputError(f"fewer images than the {count} folds in class {', '.join(few)}: lower --folds or add images")
    if dataset.groups is None:
        splits = StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels)
    else:
        groups = len(set(dataset.groups))
        if groups < count:
            raise InputError(f"{groups} groups cannot fill {count} folds: lower --folds to {groups} or less")
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        splits = splitter.split(labels, labels, dataset.groups)
    folds = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # Fewer groups of a class than folds: not every fold can have the class, and no split is better.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splits):
            folds[held_out] = fold
    if empty := set(range(count)) - set(folds.tolist()):
        raise InputError(f"{len(empty)} of {count} folds stay empty, the groups are too uneven: lower --folds")
    return Folds(dataset.names, labels, folds, dataset.classes)


def save(folds: Folds, path: Path) -> None:
    """Writes image,label,fold."""
    files.write_csv(path, rows_of(folds), COLUMNS)


def load(path: Path, classes: tuple[str, ...]) -> Folds:
    """Reads image,label,fold.

    Raises:
      InputError: the file is damaged, holds an unknown class, an image twice, or folds that are not 1 .. F.
    """
    rows = files.read_csv(path, COLUMNS)
    if unknown := sorted({row["label"] for row in rows} - set(classes)):
        raise InputError(f"{path} has classes {', '.join(unknown)}; expected {', '.join(classes)}")
    names = tuple(row["image"] for row in rows)
    if len(set(names)) < len(names):
        raise InputError(f"{path} names an image twice: {collections.Counter(names).most_common(1)[0][0]}")
    numbers = [int(row["fold"]) if row["fold"].isdecimal() else 0 for row in rows]
    if len(set(numbers)) < 2 or set(numbers) != set(range(1, max(numbers) + 1)):
        raise InputError(f"{path} has folds {sorted({row['fold'] for row in rows})}; expected whole numbers from 1 on")
    labels = np.array([classes.index(row["label"]) for row in rows])
    return Folds(names, labels, np.array(numbers) - 1, classes)


def load_or_make(path: Path, dataset: Dataset, count: int, seed: int) -> Folds:
    """The folds saved at `path`, which must fit the data set, or new ones, saved there.

    Raises:
      InputError: the saved folds are of other images, labels or another number, or split a group.
    """
    if not path.exists():
        folds = make(dataset, count, seed)
        save(folds, path)
        return folds
    folds = load(path, dataset.classes)
    there = dict(zip(folds.names, folds.labels.tolist(), strict=True))
    here = dict(zip(dataset.names, dataset.labels, strict=True))
    if differing := sorted(name for name in there | here if there.get(name) != here.get(name)):
        raise InputError(
            f"{path} and the data differ in {len(differing)} images or their labels ({', '.join(differing[:5])}): "
            "remove the file to split anew, or name the data it was made for"
        )
    if folds.count != count:
        raise InputError(f"{path} has {folds.count} folds, asked for {count}: pass --folds={folds.count} or remove it")
    if dataset.groups is not None:
        fold_of = dict(zip(folds.names, folds.folds.tolist(), strict=True))
        seen = collections.defaultdict(set)
        for name, group in zip(dataset.names, dataset.groups, strict=True):
            seen[group].add(fold_of[name])
        if split := sorted(group for group, found in seen.items() if len(found) > 1):
            raise InputError(f"{path} splits groups over folds ({', '.join(split[:5])}): remove it to split by group")
    place = {name: i for i, name in enumerate(folds.names)}
    order = [place[name] for name in dataset.names]
    ordered = Folds(dataset.names, folds.labels[order], folds.folds[order], dataset.classes)
    if ordered.names != folds.names:
        save(ordered, path)  # Scores are kept in the order of this file.
    return ordered
