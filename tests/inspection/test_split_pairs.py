"""What pairs of copies do to a split, and how it is said."""

import numpy as np

from histojax.datasets.folds import Folds
from histojax.inspection import near_duplicates, split_pairs
from histojax.inspection.near_duplicates import COPY
from histojax.inspection.similarity import Similarity


def test_pairs_are_told_apart_by_what_they_do_to_a_split():
    pairs = [
        near_duplicates.Pair(*places, COPY, Similarity(0.5, 30.0), 12, 0.9, (1.0, 0.8))
        for places in ((0, 1), (0, 2), (1, 2), (3, 4), (0, 3))
    ]
    split = Folds(
        tuple("abcde"), np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, -1, -1]), ("x", "y")
    )
    in_split = split_pairs.pairs_in_split(pairs, split)
    assert [(p.pair.first, p.pair.second, p.leaks, p.conflict) for p in in_split] == [
        (0, 3, True, True),
        (0, 1, False, False),
        (0, 2, False, True),
        (1, 2, False, True),
        (3, 4, False, False),
    ]
    text = split_pairs.summary_lines(in_split, split, 2)
    assert text[0].startswith(
        "5 pairs of near-duplicate images, 0 of them the same file: 1 in two folds"
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
    assert split_pairs.counts(in_split) == {
        "pairs": 5,
        "same_file": 0,
        "in_two_folds": 1,
        "of_two_classes": 3,
    }
    assert split_pairs.summary_lines((), split, 2) == ["No near-duplicate images"]
