"""Folds of a cross-validation: stratified by class, groups kept whole, saved as CSV and reused.

folds.csv     image,label,fold(,group)(,copies): folds count from 1, 0 is an image that is never
              held out; copies is the set of copies that an image is in, empty for none
folds.json    how the split was made
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histojax.datasets import Dataset, copies, stratification
from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.words import quantity

TRAIN_ONLY = stratification.TRAIN_ONLY
stratified_folds = stratification.stratified_folds
_COLUMNS = ("image", "label", "fold")
_GROUP, _COPIES = "group", "copies"
_GIVEN = "given (folds.csv was there)"


@dataclasses.dataclass(frozen=True)
class Folds:
    """N images with their class and fold.

    Attributes:
      names: image names.
      labels: int [N], class indices.
      folds: int [N], 0 .. F - 1, or TRAIN_ONLY for images that are never held out.
      classes: K class names.
      groups: the patient or slide of each image, empty where unknown; None if no groups are known.
      origin: how the split was made, in words.
      copies: the set of copies that each image is in (see `datasets.copies`), which `groups` are
        joined by; None where copies were not kept together.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    origin: str = _GIVEN
    copies: tuple[str, ...] | None = None

    @property
    def count(self) -> int:
        """F, the number of folds."""
        return int(self.folds.max()) + 1

    @property
    def sha256(self) -> str:
        """The identity of the split."""
        rows = "\n".join(f"{name},{label},{fold}" for name, label, fold in _rows(self))
        return hashlib.sha256(rows.encode()).hexdigest()

    def held_out(self) -> "Folds":
        """The images that are held out once, in the same order: all but those only trained on."""
        kept = np.flatnonzero(self.folds != TRAIN_ONLY)
        return self if len(kept) == len(self.names) else self.take(kept)

    def take(self, indices: np.ndarray) -> "Folds":
        """The images at these indices, in that order."""
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in indices),
            labels=self.labels[indices],
            folds=self.folds[indices],
            groups=self.groups and tuple(self.groups[i] for i in indices),
            copies=self.copies and tuple(self.copies[i] for i in indices),
        )


def _rows(folds: Folds) -> list[tuple[str, str, int]]:
    """Image, label and fold, counted from 1 as in the paper's table."""
    return [
        (name, folds.classes[label], int(fold) + 1)
        for name, label, fold in zip(folds.names, folds.labels, folds.folds, strict=True)
    ]


def make(
    dataset: Dataset,
    count: int,
    seed: int,
    method: str | None = None,
    unknown_groups: str = "own",
    flag: str = "folds",
) -> Folds:
    """Splits a data set into folds.

    Args:
      dataset: the images; an empty group is unknown.
      count: F, the number of folds.
      seed: of the shuffle.
      method: `stratified` by class; or `grouped`, by class and with no group in two folds. By
        default grouped where groups are known.
      unknown_groups: how to treat images of unknown group: each as a group of its `own`, all
        `together` as one group, or `train_only`, never held out.
      flag: the flag that `count` was passed by, as messages name it.

    Raises:
      InputError: a class has fewer images than there are folds, or there are too few groups.
    """
    method = method or ("stratified" if dataset.groups is None else "grouped")
    if method == "grouped" and dataset.groups is None:
        raise InputError(
            "to split by group, name groups: a column `patient` in --data, or --groups=TABLE"
        )
    try:
        return _make(dataset, count, seed, method, unknown_groups, flag)
    except InputError as error:
        raise InputError(f"{error}{_of_copies(dataset)}") from None


def _of_copies(dataset: Dataset) -> str:
    """What a refusal of groups adds where copies were joined."""
    images, sets = copies.quantities(dataset.copies or ())
    if not images:
        return ""
    group, size = collections.Counter(filter(None, dataset.groups)).most_common(1)[0]
    return (
        f". --group_copies joined {images} images in {quantity(sets, 'set')} of copies or overlaps "
        f"with their groups; the largest group, {group}, has {size} of {len(dataset.groups)} images"
    )


def _make(
    dataset: Dataset, count: int, seed: int, method: str, unknown_groups: str, flag: str
) -> Folds:
    """The split of `make`, of a method that goes with the data."""
    labels = np.array(dataset.labels)
    held_out = np.arange(len(labels))
    groups = None
    if method == "grouped":
        groups = stratification.fill_unknown(dataset, unknown_groups)
        held_out = np.flatnonzero(groups != "")
        groups = groups[held_out]
    some_left_out = len(held_out) < len(labels)
    stratification.require_enough(
        labels[held_out], dataset.classes, count, groups, some_left_out, flag
    )
    folds = np.full(len(labels), TRAIN_ONLY)
    folds[held_out] = stratification.stratified_folds(labels[held_out], groups, count, seed)
    if empty := set(range(count)) - set(folds.tolist()):
        raise InputError(
            f"{len(empty)} of {count} {flag} would stay empty, since some groups (patients or "
            f"slides) are much larger than others: pass fewer --{flag} than {count}"
        )
    origin = f"{method}, {count} folds, seed {seed}"
    if lacking := stratification.classes_lacking(labels, folds, dataset.classes):
        origin += f"; all images of {', '.join(lacking)} are in one fold, whose models never see it"
    if method == "grouped":
        unknown = sum(map(copies.is_unknown, dataset.groups))
        origin += f"; {unknown} images of unknown group: {unknown_groups}" if unknown else ""
    if dataset.copies is not None:
        images, sets = copies.quantities(dataset.copies)
        origin += f"; copies and overlaps kept together: {images} images in {quantity(sets, 'set')}"
    made = Folds(dataset.names, labels, folds, dataset.classes, dataset.groups, origin)
    return dataclasses.replace(made, copies=dataset.copies)


def save(folds: Folds, path: str | Path) -> None:
    """Writes folds.json, then folds.csv, which says that both are there."""
    path = files.as_path(path)
    rows, columns = _rows(folds), _COLUMNS
    for name, values in ((_GROUP, folds.groups), (_COPIES, folds.copies)):
        if values is not None:
            rows = [(*row, value) for row, value in zip(rows, values, strict=True)]
            columns = (*columns, name)
    files.write_json(
        path.with_suffix(".json"), {"origin": folds.origin, "folds_sha256": folds.sha256}
    )
    files.write_csv(path, rows, columns)


def load(path: str | Path, classes: tuple[str, ...]) -> Folds:
    """Reads folds.csv, and the origin from folds.json if that is of the same split.

    Raises:
      InputError: the file is damaged, has an unknown class, an image twice, or folds that are not
        1 .. F (or 0).
    """
    path = files.as_path(path)
    rows = files.read_csv(path, _COLUMNS)
    if unknown := sorted({row["label"] for row in rows} - set(classes)):
        raise InputError(f"{path} has classes {', '.join(unknown)}; expected {', '.join(classes)}")
    names = tuple(row["image"] for row in rows)
    if len(set(names)) < len(names):
        repeated = collections.Counter(names).most_common(1)[0][0]
        raise InputError(f"{path} names an image twice: {repeated}")
    numbers = [int(row["fold"]) if row["fold"].isdecimal() else None for row in rows]
    held_out = set(numbers) - {0}
    if None in held_out or len(held_out) < 2 or held_out != set(range(1, max(held_out) + 1)):
        raise InputError(
            f"{path} has folds {sorted({row['fold'] for row in rows})}; expected whole numbers "
            "from 1 on, at least two (and 0 for images that are never held out)"
        )
    labels = np.array([classes.index(row["label"]) for row in rows])
    groups, of_copies = (
        tuple(row[column] for row in rows) if column in rows[0] else None
        for column in (_GROUP, _COPIES)
    )
    folds = Folds(names, labels, np.array(numbers) - 1, classes, groups, copies=of_copies)
    record_path = path.with_suffix(".json")
    if record_path.exists():
        record = files.read_json(record_path, ("origin", "folds_sha256"))
        if record["folds_sha256"] == folds.sha256:
            return dataclasses.replace(folds, origin=record["origin"])
    return folds


def load_or_make(
    path: str | Path,
    dataset: Dataset,
    count: int,
    seed: int,
    method: str | Folds | None = None,
    unknown_groups: str = "own",
) -> Folds:
    """The folds saved at `path`, which must fit the data set, or new ones, saved there.

    Args:
      path: of folds.csv.
      dataset: the images.
      count: F, the number of folds.
      seed: of the shuffle.
      method: as for `make`; or a ready split, to save or to find saved already.
      unknown_groups: as for `make`.

    Raises:
      InputError: the saved folds are of other images, labels or number, split a group, or are not
        the ready split.
    """
    path = files.as_path(path)
    ready = method if isinstance(method, Folds) else None
    if not path.exists():
        folds = ready or make(dataset, count, seed, method, unknown_groups)
        _require_count(folds, count, ready.origin if ready else path)
        save(folds, path)
        return folds
    folds = _load_saved(path, dataset, count, "paper" if ready else method)
    if ready and not np.array_equal(folds.folds, ready.folds):
        raise InputError(
            f"{path} is another split than {ready.origin}: remove it, or name another folder"
        )
    return folds


def _require_count(folds: Folds, count: int, source: Path | str) -> None:
    """Raises InputError where a split has another number of folds."""
    if folds.count != count:
        raise InputError(
            f"{source} has {folds.count} folds, asked for {count}: pass --folds={folds.count} or "
            "remove it"
        )


def _load_saved(path: Path, dataset: Dataset, count: int, method: str | None) -> Folds:
    """The folds saved at `path` in the order of the data set; saved again where that differs."""
    saved = load(path, dataset.classes)
    folds = match_dataset(saved, dataset, path)
    _require_count(folds, count, path)
    if method in (None, "grouped") and (divided := divided_groups(folds)):
        use = "pass --fold_maker=stratified"
        if dataset.copies is not None:
            use = "leave out --group_copies"
        raise InputError(
            f"{path} splits groups over folds ({', '.join(divided[:5])}): name another "
            f"folder, or remove it with the models beside it, to split by group; or {use} to use "
            "it as it is"
        )
    if (folds.names, folds.groups, folds.copies) != (saved.names, saved.groups, saved.copies):
        save(folds, path)  # Scores are kept in the order of this file.
    return folds


def match_dataset(folds: Folds, dataset: Dataset, path: Path) -> Folds:
    """Folds loaded from `path`, in the order of the data set and with its groups, if it has any.

    The sets of copies that the folds were made with join these groups, too.

    Raises:
      InputError: the folds are of other images or labels.
    """
    saved = dict(zip(folds.names, folds.labels.tolist(), strict=True))
    labels = dict(zip(dataset.names, dataset.labels, strict=True))
    if differing := sorted(name for name in saved | labels if saved.get(name) != labels.get(name)):
        raise InputError(
            f"{path} and the data differ in {len(differing)} images or their labels "
            f"({', '.join(differing[:5])}): train in another folder, since models and scores in "
            "this one are of the old data; or name the data that it was made for"
        )
    index = {name: i for i, name in enumerate(folds.names)}
    ordered = folds.take(np.array([index[name] for name in dataset.names]))
    groups = ordered.groups if dataset.groups is None else dataset.groups
    sets = ordered.copies if dataset.copies is None else dataset.copies
    return dataclasses.replace(ordered, groups=copies.join(groups, ordered.copies), copies=sets)


def recorded_copies(path: str | Path, names: Sequence[str]) -> tuple[str, ...] | None:
    """The sets of copies in a folds.csv, of these images; None where it has none, or is not there.

    Raises:
      InputError: the file is damaged.
    """
    path = files.as_path(path)
    rows = files.read_csv(path, _COLUMNS) if path.exists() else []
    if not rows or _COPIES not in rows[0]:
        return None
    of_image = {row["image"]: row[_COPIES] for row in rows}
    return tuple(of_image.get(name, "") for name in names)


def divided_groups(folds: Folds) -> list[str]:
    """The known groups with images in more than one fold, sorted."""
    folds_of = collections.defaultdict(set)
    for group, fold in zip(folds.groups or (), folds.folds.tolist(), strict=False):
        folds_of[group].add(fold)
    return sorted(group for group, several in folds_of.items() if group and len(several) > 1)
