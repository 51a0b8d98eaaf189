"""The splits of eva and THUNDER by BACH's file names, and refusals of what is not BACH."""

import collections
import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from histojax.config import BACH_CLASSES
from histojax.datasets.bach.published_protocols import PROTOCOLS
from histojax.datasets.dataset import Dataset
from histojax.encoders import ENCODERS
from histojax.errors import InputError
from tests.made_bach import bach_dataset

EVA, THUNDER = PROTOCOLS["eva-bach"], PROTOCOLS["thunder-bach"]
THIRD_PARTY = Path(__file__).parents[2] / "third_party"


def names(dataset: Dataset, places: np.ndarray) -> set[str]:
    return {dataset.names[i] for i in places}


def by_class(dataset: Dataset, places: np.ndarray) -> list[int]:
    """Of Benign, InSitu, Invasive and Normal."""
    counts = collections.Counter(dataset.classes[dataset.labels[i]] for i in places)
    return [counts[name] for name in sorted(BACH_CLASSES)]


def numbered(prefix: str, *ends: tuple[int, int]) -> set[str]:
    return {f"{prefix}{i:03d}" for first, last in ends for i in range(first, last + 1)}


def test_eva_reports_these_132_photos_of_each_class_whatever_the_order_of_the_images():
    in_order = bach_dataset()
    mixed = np.random.default_rng(0).permutation(400)
    dataset = dataclasses.replace(
        in_order,
        images={in_order.names[i]: in_order.paths[i] for i in mixed},
        labels=tuple(in_order.labels[i] for i in mixed),
    )
    split = EVA.split(dataset)
    assert names(dataset, split.reported) == {
        *numbered("b", (42, 59), (61, 90)),
        *numbered("is", (40, 69)),
        *numbered("iv", (41, 58), (61, 73)),
        *numbered("n", (46, 68)),
    }
    assert by_class(dataset, split.reported) == [48, 30, 31, 23]
    assert np.array_equal(split.chosen, split.reported)
    assert EVA.chosen_on_reported
    assert len(split.fitted) == 268
    assert {*split.fitted, *split.reported} == {*range(400)}


def test_thunder_chooses_by_fifty_photos_of_those_that_eva_fits_to():
    dataset = bach_dataset()
    split, of_eva = THUNDER.split(dataset), EVA.split(dataset)
    assert [len(part) for part in split] == [218, 50, 132]
    assert names(dataset, split.chosen) == {
        *numbered("b", (16, 25)),
        *numbered("is", (11, 20)),
        *numbered("iv", (1, 10)),
        *numbered("n", (6, 15), (81, 90)),
    }
    assert by_class(dataset, split.fitted) == [42, 60, 59, 57]
    assert {*split.fitted, *split.chosen} == {*of_eva.fitted}
    assert np.array_equal(split.reported, of_eva.reported)
    assert not THUNDER.chosen_on_reported
    assert len({*split.fitted} | {*split.chosen} | {*split.reported}) == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda images: {k: v for k, v in images.items() if k not in ("is007", "n100")},
            r"398 .* 2 \(is007 of InSitu, n100 of Normal\) missing, none not expected",
        ),
        (
            lambda images: images | {"test0": "Benign"},
            r"401 .* none missing, 1 \(test0 of Benign\) not expected",
        ),
        (
            lambda images: images | {"b003": "Normal"},
            r"400 .* 1 \(b003 of Benign\) missing, 1 \(b003 of Normal\) not expected",
        ),
        (
            lambda images: {f"image{i}": label for i, label in enumerate(images.values())},
            r"400 \(b001 of Benign, .*b008 of Benign, ...\) missing, 400 \(image0 of",
        ),
    ],
)
def test_what_is_not_bach_is_refused_with_what_is_missing_and_extra(change, message):
    made = bach_dataset()
    labels = (BACH_CLASSES[label] for label in made.labels)
    changed = change(dict(zip(made.names, labels, strict=True)))
    dataset = Dataset(
        {name: Path(name) for name in changed},
        tuple(map(BACH_CLASSES.index, changed.values())),
        BACH_CLASSES,
    )
    with pytest.raises(InputError, match=message):
        EVA.split(dataset)


def test_the_published_figures_are_the_same_in_both_places():
    with open(THIRD_PARTY / "bach_encoders.csv") as file:
        rows = [(r["protocol"], r["encoder"], float(r["value"])) for r in csv.DictReader(file)]
    assert rows == [
        (name, encoder, value)
        for name, protocol in PROTOCOLS.items()
        for encoder, value in protocol.figures.items()
    ]
    assert {encoder for _, encoder, _ in rows} <= {*ENCODERS}
