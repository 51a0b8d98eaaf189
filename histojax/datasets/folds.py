"""Who is in which fold: stratified by class, whole groups together where they are known; saved as CSV and reused.

folds.csv     image,label,fold[,group]: folds are counted from 1; 0 is an image to train on that is never held out
folds.json    how the split was made
"""

import collections
import dataclasses
import hashlib
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from histojax.datasets import Dataset
from histojax.errors import InputError
from histojax.utils import files

COLUMNS = ("image", "label", "fold")
GROUP = "group"
TRAIN_ONLY = -1
GIVEN = "given (folds.csv was there)"


@dataclasses.dataclass(frozen=True)
class Folds:
    """N images with their class and fold.

    Attributes:
      names: image names.
      labels: int [N], class indices.
      folds: int [N], 0 .. F - 1, or TRAIN_ONLY.
      classes: K class names.
      groups: the patient or slide of each, empty where it is unknown; None where groups are not known at all.
      origin: how the split was made, in words.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    origin: str = GIVEN

    @property
    def count(self) -> int:
        """F."""
        return int(self.folds.max()) + 1

    @property
    def sha256(self) -> str:
        """The identity of the split."""
        rows = "\n".join(f"{name},{label},{fold}" for name, label, fold in rows_of(self))
        return hashlib.sha256(rows.encode()).hexdigest()

    def held_out(self) -> "Folds":
        """Those that are held out once, in the same order: all but the ones to train on alone."""
        kept = np.flatnonzero(self.folds != TRAIN_ONLY)
        return self if len(kept) == len(self.names) else self.take(kept)

    def take(self, order: np.ndarray) -> "Folds":
        """The images at these places."""
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in order),
            labels=self.labels[order],
            folds=self.folds[order],
            groups=self.groups and tuple(self.groups[i] for i in order),
        )


def rows_of(folds: Folds) -> list[tuple[str, str, int]]:
    """Rows image, label, fold; the fold is counted from 1, as in the paper's table."""
    labels = [folds.classes[label] for label in folds.labels]
    return [
        (name, label, int(fold) + 1)
        for name, label, fold in zip(folds.names, labels, folds.folds, strict=True)
    ]


def make(
    dataset: Dataset, count: int, seed: int, maker: str | None = None, unknown_groups: str = "own"
) -> Folds:
    """Splits a data set into `count` folds, stratified by class.

    Args:
      dataset: the images; a group that is empty is unknown.
      count: F.
      seed: of the shuffle.
      maker: stratified, or grouped: no group in two folds; by default grouped where groups are known.
      unknown_groups: what an image of unknown group is: a group of its `own`; one of a single group `together` with all
        other such images; or `train_only`, never held out.

    Raises:
      InputError: a class has fewer images than there are folds, or there are fewer groups than folds.
    """
    maker = maker or ("stratified" if dataset.groups is None else "grouped")
    if maker == "grouped" and dataset.groups is None:
        raise InputError(
            "to split by group, name groups: a column `group` in the table, or --groups=TABLE"
        )
    labels, folds = np.array(dataset.labels), np.full(len(dataset.labels), TRAIN_ONLY)
    groups = resolved(dataset, unknown_groups) if maker == "grouped" else None
    held_out = np.flatnonzero(groups != "") if groups is not None else np.arange(len(labels))
    check_sizes(
        labels[held_out], dataset.classes, count, groups[held_out] if groups is not None else None
    )
    folds[held_out] = stratified_folds(
        labels[held_out], groups[held_out] if groups is not None else None, count, seed
    )
    if empty := set(range(count)) - set(folds.tolist()):
        raise InputError(
            f"{len(empty)} of {count} folds stay empty, the groups are too uneven: lower --folds"
        )
    unknown = 0 if dataset.groups is None else dataset.groups.count("")
    origin = f"{maker}, {count} folds, seed {seed}"
    origin += (
        f"; {unknown} images of unknown group: {unknown_groups}"
        if maker == "grouped" and unknown
        else ""
    )
    return Folds(dataset.names, labels, folds, dataset.classes, dataset.groups, origin)


def resolved(dataset: Dataset, unknown_groups: str) -> np.ndarray:
    """A group for every image, str [N]; empty for those to train on alone."""
    stands_for = {
        "own": [f"\0{name}" for name in dataset.names],  # No table can name such a group.
        "together": ["\0"] * len(dataset.names),
        "train_only": [""] * len(dataset.names),
    }[unknown_groups]
    return np.array(
        [group or own for group, own in zip(dataset.groups, stands_for, strict=True)], object
    )


def check_sizes(
    labels: np.ndarray, classes: tuple[str, ...], count: int, groups: np.ndarray | None
) -> None:
    """Raises InputError where there are too few images of a class, or groups, for so many folds."""
    sizes = collections.Counter(labels.tolist())
    if few := [
        f"{name} ({sizes[label]})" for label, name in enumerate(classes) if sizes[label] < count
    ]:
        which = (
            "images"
            if groups is None
            else "images that may be held out (of known group, unless --unknown_groups=own)"
        )
        raise InputError(
            f"fewer {which} than the {count} folds in class {', '.join(few)}: lower --folds or add images"
        )
    if groups is not None and len(set(groups)) < count:
        there = len(set(groups))
        if there < 2:
            raise InputError(
                "all images are of one group: no fold can be held out without it; name smaller groups"
            )
        raise InputError(
            f"{there} groups cannot fill {count} folds: lower --folds to {there} or less"
        )


def stratified_folds(
    labels: np.ndarray, groups: np.ndarray | None, count: int, seed: int
) -> np.ndarray:
    """The fold of each image, int [N]."""
    if groups is None:
        splits = StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels)
    else:
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(
            labels, labels, groups
        )
    folds = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # Fewer groups of a class than folds: not every fold can have the class, and no split is better.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splits):
            folds[held_out] = fold
    return folds


def save(folds: Folds, path: Path) -> None:
    """Writes image,label,fold[,group], and beside it how the split was made."""
    if folds.groups is None:
        files.write_csv(path, rows_of(folds), COLUMNS)
    else:
        rows = [(*row, group) for row, group in zip(rows_of(folds), folds.groups, strict=True)]
        files.write_csv(path, rows, (*COLUMNS, GROUP))
    files.write_json(
        path.with_suffix(".json"), {"origin": folds.origin, "folds_sha256": folds.sha256}
    )


def load(path: Path, classes: tuple[str, ...]) -> Folds:
    """Reads image,label,fold[,group].

    Raises:
      InputError: the file is damaged, holds an unknown class, an image twice, or folds that are not 1 .. F (or 0).
    """
    rows = files.read_csv(path, COLUMNS)
    if unknown := sorted({row["label"] for row in rows} - set(classes)):
        raise InputError(f"{path} has classes {', '.join(unknown)}; expected {', '.join(classes)}")
    names = tuple(row["image"] for row in rows)
    if len(set(names)) < len(names):
        raise InputError(
            f"{path} names an image twice: {collections.Counter(names).most_common(1)[0][0]}"
        )
    numbers = [int(row["fold"]) if row["fold"].isdecimal() else None for row in rows]
    held_out = set(numbers) - {0}
    if None in held_out or len(held_out) < 2 or held_out != set(range(1, max(held_out) + 1)):
        raise InputError(
            f"{path} has folds {sorted({row['fold'] for row in rows})}; expected whole numbers from 1 on, at least two "
            "(and 0 for images that are never held out)"
        )
    labels = np.array([classes.index(row["label"]) for row in rows])
    groups = tuple(row[GROUP] for row in rows) if GROUP in rows[0] else None
    folds = Folds(names, labels, np.array(numbers) - 1, classes, groups)
    made = path.with_suffix(".json")
    if (
        made.exists()
        and (said := files.read_json(made, ("origin", "folds_sha256")))["folds_sha256"]
        == folds.sha256
    ):
        return dataclasses.replace(folds, origin=said["origin"])
    return folds


def load_or_make(
    path: Path,
    dataset: Dataset,
    count: int,
    seed: int,
    maker: str | Folds | None = None,
    unknown_groups: str = "own",
) -> Folds:
    """The folds saved at `path`, which must fit the data set, or new ones as by `make`, saved there.

    Args:
      path: of folds.csv.
      dataset: the images.
      count: F.
      seed: of the shuffle.
      maker: as of `make`; or a split made elsewhere, to be saved, or found saved already.
      unknown_groups: as of `make`.

    Raises:
      InputError: the saved folds are of other images, labels or another number, split a group, or are not those given.
    """
    given = maker if isinstance(maker, Folds) else None
    if not path.exists():
        folds = given or make(dataset, count, seed, maker, unknown_groups)
        require_count(folds, count, given.origin if given else path)
        save(folds, path)
        return folds
    found = adopt(path, dataset, count, "paper" if given else maker)
    if given and not np.array_equal(found.folds, given.folds):
        raise InputError(
            f"{path} is another split than {given.origin}: remove it, or name another folder"
        )
    return found


def require_count(folds: Folds, count: int, source: Path | str) -> None:
    """Raises InputError where a split has another number of folds."""
    if folds.count != count:
        raise InputError(
            f"{source} has {folds.count} folds, asked for {count}: pass --folds={folds.count} or remove it"
        )


def match_dataset(folds: Folds, dataset: Dataset, path: Path) -> Folds:
    """Folds loaded from `path` in the order of the data set, with the groups that are known today.

    Raises:
      InputError: they are of other images or labels.
    """
    there = dict(zip(folds.names, folds.labels.tolist(), strict=True))
    here = dict(zip(dataset.names, dataset.labels, strict=True))
    if differing := sorted(name for name in there | here if there.get(name) != here.get(name)):
        raise InputError(
            f"{path} and the data differ in {len(differing)} images or their labels ({', '.join(differing[:5])}): "
            "remove the file to split anew, or name the data it was made for"
        )
    place = {name: i for i, name in enumerate(folds.names)}
    ordered = folds.take(np.array([place[name] for name in dataset.names]))
    return (
        ordered if dataset.groups is None else dataclasses.replace(ordered, groups=dataset.groups)
    )


def adopt(path: Path, dataset: Dataset, count: int, maker: str | None) -> Folds:
    """The folds saved at `path`, made to fit the data set; saved again where that changes them."""
    folds = load(path, dataset.classes)
    ordered = match_dataset(folds, dataset, path)
    require_count(folds, count, path)
    if maker in (None, "grouped") and (torn := torn_groups(ordered)):
        raise InputError(
            f"{path} splits groups over folds ({', '.join(torn[:5])}): remove it to split by group, or pass "
            "--fold_maker=stratified to use it as it is"
        )
    if ordered.names != folds.names or ordered.groups != folds.groups:
        save(ordered, path)  # Scores are kept in the order of this file.
    return ordered


def torn_groups(folds: Folds) -> list[str]:
    """The groups that are held out in more than one fold, by name."""
    seen = collections.defaultdict(set)
    for group, fold in zip(folds.groups or (), folds.folds.tolist(), strict=False):
        seen[group].add(fold)
    return sorted(group for group, found in seen.items() if group and len(found) > 1)
