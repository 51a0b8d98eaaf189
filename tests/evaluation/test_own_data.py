"""Images and descriptors that are not those trained on are refused, or named."""

from pathlib import Path

import numpy as np
import pytest

from histojax.config import STAIN_OK
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import own_data
from histojax.extraction import store
from histojax.extraction.store import StainQCRow
from histojax.utils import files

NAMES, CLASSES = ("a", "b", "c", "d"), ("benign", "malignant")
FOLDS = Folds(NAMES, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), CLASSES)
DATA, DESCRIPTORS = Path("data"), Path("descriptors")


def data_of(names, labels, classes=CLASSES, folder=DATA) -> Dataset:
    return Dataset({name: folder / f"{name}.png" for name in names}, labels, classes)


def rows_of(*names: str, digest: str = "") -> dict:
    return {
        (name, "0.5"): StainQCRow(name, "0.5", 0.5, 30.0, 1.0, 1.0, STAIN_OK, digest)
        for name in names
    }


def test_the_models_own_images_pass_whatever_their_order_and_that_of_the_classes():
    assert own_data.check_images(FOLDS, data_of(NAMES, (0, 0, 1, 1)), DATA) == []
    turned = data_of(NAMES[::-1], (0, 0, 1, 1), CLASSES[::-1])
    assert own_data.check_images(FOLDS, turned, DATA) == []


def test_labels_that_contradict_the_models_are_refused():
    with pytest.raises(InputError) as error:
        own_data.check_images(FOLDS, data_of(NAMES, (0, 1, 1, 0)), DATA)
    assert str(error.value) == (
        "the labels of data contradict those that the models were trained with for 2 of 4 images "
        "(b is malignant, the models say benign, d is benign, the models say malignant): pass the "
        "labels that were trained with or, if these are right, train again with them"
    )


def test_other_images_are_refused_and_some_of_them_named():
    with pytest.raises(InputError, match=r"data holds none of the 4 images .*theirs: a, b, c, d"):
        own_data.check_images(FOLDS, data_of("xyz", (0, 1, 1)), DATA)
    assert own_data.check_images(FOLDS, data_of("abx", (0, 0, 1)), DATA) == [
        "Missing from --data (2): c, d.",
        "In --data, but not trained on (1): x.",
    ]


def test_descriptors_of_other_images_are_refused_and_missing_ones_named():
    with pytest.raises(InputError, match=r"descriptors.stain_qc.csv has none of the 4 images"):
        own_data.check_descriptors(FOLDS, {"x", "y"}, DESCRIPTORS / "stain_qc.csv")
    assert own_data.check_descriptors(FOLDS, {"a", "b", "d"}, DESCRIPTORS) == [
        "Missing from --descriptors (1): c."
    ]
    assert own_data.check_descriptors(FOLDS, NAMES, DESCRIPTORS) == []


def test_other_files_of_the_same_names_are_named(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    dataset = data_of(NAMES, (0, 0, 1, 1), folder=tmp_path)
    rows = {
        key: row
        for name in NAMES
        for key, row in rows_of(name, digest=files.sha256(tmp_path / f"{name}.png")).items()
    }
    assert own_data.check_files(dataset, rows, DESCRIPTORS) == []
    (tmp_path / "c.png").write_bytes(b"another image")
    assert own_data.check_files(dataset, rows, DESCRIPTORS) == [
        "Not the files that descriptors were computed from (1 of 4 compared, by SHA-256): c."
    ]
    store.write_stain_qc(tmp_path, rows)
    with pytest.raises(InputError, match=r"by SHA-256\): c\. Extract descriptors from these"):
        own_data.require_same_files(dataset, tmp_path)
    (tmp_path / "c.png").write_bytes(b"c")
    own_data.require_same_files(dataset, tmp_path)
    own_data.require_same_files(dataset, tmp_path / "without a table")
