"""What pairs of copies, and of fields that overlap, do to a split, and how it is said."""

from pathlib import Path

import numpy as np

from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.images.names import name_images
from histojax.inspection import near_duplicates, split_pairs
from histojax.inspection.near_duplicates import COPY, OVERLAP, SAME_FILE
from histojax.inspection.similarity import Similarity


def pair(first: int, second: int, kind: str = COPY) -> near_duplicates.Pair:
    return near_duplicates.Pair(first, second, kind, Similarity(0.5, 30.0), 12, 0.9, (1.0, 0.8))


SPLIT = Folds(tuple("abcde"), np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, -1, -1]), ("x", "y"))


def test_pairs_are_told_apart_by_what_they_do_to_a_split():
    pairs = [pair(*places) for places in ((0, 1), (0, 2), (1, 2), (3, 4), (0, 3))]
    in_split = split_pairs.pairs_in_split(pairs, SPLIT)
    assert [(p.pair.first, p.pair.second, p.leaks, p.conflict) for p in in_split] == [
        (0, 3, True, True),
        (0, 1, False, False),
        (0, 2, False, True),
        (1, 2, False, True),
        (3, 4, False, False),
    ]
    text = split_pairs.summary_lines(in_split, SPLIT, 2)
    assert text[0] == (
        "5 pairs of copies of one image, 0 of them the same file (5 images): 1 pair in two folds "
        "(one is trained on while the other is predicted), 3 of two classes"
    )
    assert text[1] == (
        "  a (x, fold 1) and d (y, only trained on): a copy, turned by 30°, 2.00 times as large, "
        "correlation 0.90, LEAK, LABEL CONFLICT"
    )
    assert text[2:] == [
        "  a (x, fold 1) and b (x, fold 1): a copy, turned by 30°, 2.00 times as large, "
        "correlation 0.90",
        "  and 3 more",
    ]
    # All are copies of d, which is only trained on itself, as is e.
    assert split_pairs.crossing(in_split, SPLIT).tolist() == [True, True, True, False, False]
    assert split_pairs.counts(in_split) == {
        "pairs": 5,
        "same_file": 0,
        "copies": 5,
        "images_with_copies": 5,
        "overlaps": 0,
        "images_with_overlaps": 0,
        "in_two_folds": 1,
        "copies_in_two_folds": 1,
        "overlaps_in_two_folds": 0,
        "of_two_classes": 3,
    }
    assert split_pairs.summary_lines((), SPLIT, 2) == [split_pairs.NONE]


def test_overlapping_fields_are_told_from_copies_of_one_image():
    pairs = [pair(0, 1, SAME_FILE), pair(1, 3, OVERLAP), pair(2, 3, OVERLAP)]
    in_split = split_pairs.pairs_in_split(pairs, SPLIT)
    text = split_pairs.summary_lines(in_split, SPLIT, 9)
    assert text[:2] == [
        "1 pair of copies of one image, 1 of them the same file (2 images): 0 pairs in two folds "
        "(one is trained on while the other is predicted), 0 of two classes",
        "2 pairs of fields that overlap (3 images): 2 pairs in two folds (one is trained on while "
        "the other is predicted), 1 of two classes",
    ]
    # Fields of one slide may be of two classes: neither label need be wrong.
    assert text[2].endswith("LEAK, two classes")
    number = split_pairs.counts(in_split)
    assert (number["copies"], number["overlaps"], number["overlaps_in_two_folds"]) == (1, 2, 2)


def test_copies_of_a_copy_cross_folds_and_overlaps_of_an_overlap_do_not():
    fold_of = np.array([0, 0, 1, 0, 0])
    split = Folds(tuple("abcde"), np.zeros(5, int), fold_of, ("x", "y"))

    def crossing(*pairs) -> list[bool]:
        return split_pairs.crossing(split_pairs.pairs_in_split(pairs, split), split).tolist()

    assert crossing(pair(0, 1), pair(1, 2)) == [True, True, True, False, False]
    overlaps = pair(0, 1, OVERLAP), pair(1, 2, OVERLAP)
    assert crossing(*overlaps) == [False, True, True, False, False]
    # A copy of what overlaps overlaps, too.
    assert crossing(*overlaps, pair(1, 3)) == [False, True, True, True, False]


def test_before_a_split_contradictions_are_named():
    images = name_images([Path(f"{name}.png") for name in SPLIT.names])
    dataset = Dataset(images, tuple(SPLIT.labels.tolist()), SPLIT.classes)
    said = split_pairs.found_lines([pair(0, 1), pair(1, 2), pair(1, 4, OVERLAP)], dataset)
    assert said[0] == (
        "2 pairs of copies of one image, 0 of them the same file (3 images); 1 pair of fields that "
        "overlap (2 images)"
    )
    assert len(said) == 2
    assert said[1].startswith("WARNING: LABEL CONFLICT: b (x) and c (y): a copy, turned by 30°")
    many = split_pairs.found_lines([pair(0, 2)] * 23, dataset)
    assert many[-1] == "WARNING: and 3 more: histojax audit lists them"
    assert split_pairs.found_lines([], dataset) == [split_pairs.NONE]
