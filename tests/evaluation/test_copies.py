"""What accuracy becomes without copies in training: of the models, and of heads fitted anew."""

import numpy as np
import pytest

from histojax.datasets import copies as sets_of_copies
from histojax.datasets.folds import TRAIN_ONLY, Folds
from histojax.evaluation import copies
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.inspection import split_pairs
from histojax.inspection.near_duplicates import COPY, Pair
from histojax.inspection.similarity import Similarity
from histojax.learners import ridge
from histojax.report import copies as words

DRAWS = 200


def split_of(labels, fold_of, groups=None) -> Folds:
    names = tuple(f"i{i:03d}" for i in range(len(labels)))
    return Folds(names, np.array(labels), np.array(fold_of), ("a", "b"), groups)


def pairs_of(places) -> list[Pair]:
    return [Pair(*place, COPY, Similarity(), 9, 0.9, (1.0, 1.0)) for place in places]


def noise_with_copies(rng, originals: int = 40) -> tuple[np.ndarray, np.ndarray, list]:
    """Descriptors that say nothing of the class, each image twice, nearly, and side by side."""
    labels = np.repeat(np.arange(originals) % 2, 2)
    of_original = np.repeat(rng.normal(size=(originals, 200)), 2, axis=0)
    descriptors = of_original + 0.05 * rng.normal(size=of_original.shape)
    return descriptors, labels, [(i, i + 1) for i in range(0, 2 * originals, 2)]


def test_heads_that_know_copies_alone_fall_to_chance_without_them():
    descriptors, labels, places = noise_with_copies(np.random.default_rng(0))
    split = split_of(labels, np.arange(80) % 4)
    sets = sets_of_copies.sets_of(split.names, places)
    found = copies.of_heads(ridge.kernel([descriptors]), split, sets, DRAWS)
    assert found.as_is.value > 0.95
    assert found.grouped.value < 0.65
    assert found.change.value == pytest.approx(found.grouped.value - found.as_is.value)
    assert found.change.interval.high < -0.2
    # Were copies independent, the interval would be narrower.
    assert found.grouped.interval.high - found.grouped.interval.low > 0.1


def test_a_copy_that_is_only_trained_on_is_left_out_with_its_image():
    descriptors, labels, places = noise_with_copies(np.random.default_rng(1))
    fold_of = np.where(np.arange(80) % 2, TRAIN_ONLY, np.arange(80) // 2 % 4)
    split = split_of(labels, fold_of)
    sets = sets_of_copies.sets_of(split.names, places)
    found = copies.of_heads(ridge.kernel([descriptors]), split, sets, DRAWS)
    assert found.as_is.images == 40
    assert found.as_is.value > 0.95
    assert found.grouped.value < 0.7


def test_the_change_is_of_copies_not_of_patients_that_the_folds_divide():
    rng = np.random.default_rng(2)
    patient = np.arange(80) // 8
    labels = patient % 2
    descriptors = rng.normal(size=(10, 200))[patient] + 0.3 * rng.normal(size=(80, 200))
    groups = tuple(f"p{p}" for p in patient)
    inner = ridge.kernel([descriptors])
    sets = sets_of_copies.sets_of([f"i{i:03d}" for i in range(80)], [(0, 1)])
    divided = copies.of_heads(inner, split_of(labels, np.arange(80) % 4, groups), sets, DRAWS)
    assert divided.as_is.value > 0.95
    assert divided.grouped.value > 0.95
    kept = copies.of_heads(inner, split_of(labels, patient // 2 % 4, groups), sets, DRAWS)
    assert kept.grouped.value < 0.7


def test_folds_that_cannot_keep_copies_together_are_told():
    descriptors, labels, _ = noise_with_copies(np.random.default_rng(3))
    split = split_of(labels, np.arange(80) % 4)
    chain = sets_of_copies.sets_of(split.names, [(i, i + 1) for i in range(70)])
    two = split_of(np.r_[np.zeros(71, int), np.ones(9, int)], np.arange(80) % 4)
    found = copies.of_heads(ridge.kernel([descriptors]), two, chain, DRAWS)
    assert found.as_is is None
    assert found.why_not.startswith("no folds keep copies together here: ")


def test_heads_say_nothing_of_too_few_patients_and_sets():
    descriptors, labels, _ = noise_with_copies(np.random.default_rng(4))
    for number, is_told in ((9, False), (10, True)):
        split = split_of(labels, np.arange(80) % 4, tuple(f"p{i % number}" for i in range(80)))
        sets = sets_of_copies.sets_of(split.names, [(0, number)])
        found = copies.of_heads(ridge.kernel([descriptors]), split, sets, DRAWS)
        assert (found.change is not None) == is_told
        assert is_told == (not found.why_not)
    split = split_of(labels, np.arange(80) % 4)
    chain = sets_of_copies.sets_of(split.names, [(i, i + 1) for i in range(79)])
    found = copies.of_heads(ridge.kernel([descriptors]), split, chain, DRAWS)
    assert found.why_not.endswith("single images are 1 in all, fewer than 10")


def predictions_of(split: Folds, right: np.ndarray) -> LabelledPredictions:
    predicted = np.where(right, split.labels, 1 - split.labels)
    return LabelledPredictions(split.names, split.classes, split.labels, predicted)


def test_accuracy_of_images_without_a_copy_in_training_stands_beside_that_of_all():
    # Images 0 .. 39 are pairs in two folds; every one of them is right, and half of the others.
    count = 100
    right = np.array([i < 40 or i % 2 == 0 for i in range(count)])
    split = split_of(np.arange(count) % 2, np.arange(count) % 4)
    places = [(i, i + 1) for i in range(0, 40, 2)]
    in_split = split_pairs.pairs_in_split(pairs_of(places), split)
    order = np.random.default_rng(0).permutation(count)[:90]  # Some were not predicted.
    predictions = predictions_of(split.take(order), right[order])
    found = copies.study(predictions, in_split, split, None, draws=DRAWS)
    known = order[order >= 40]
    assert found.models.all.value == pytest.approx(right[order].mean())
    assert (found.models.without.value, found.models.without.images) == (
        pytest.approx(right[known].mean()),
        len(known),
    )
    assert found.models.crossing.value == 1
    assert found.models.images == found.models.crossing.images == 90 - len(known)
    lines = words.text_lines(found)
    assert lines[0].startswith(f"Of 90 images held out, {90 - len(known)} have a copy, or a field")
    assert f"  the models, images without a copy in training ({len(known)}): " in lines[2]
    assert lines[-1].endswith("the folder of descriptors is not known: pass --descriptors.")
    assert copies.study(predictions, (), split, None) is None


def test_of_too_few_images_nothing_is_claimed():
    split = split_of(np.arange(60) % 2, np.arange(60) % 3)
    # Thirty copies of one image, in three folds, are one unit.
    places = [(0, i) for i in range(1, 30)]
    in_split = split_pairs.pairs_in_split(pairs_of(places), split)
    found = copies.study(predictions_of(split, np.ones(60, bool)), in_split, split, None)
    assert found.models.crossing is None
    assert found.models.without.images == 30
    assert any(
        "with a copy in training the accuracy cannot be told" in x for x in words.notes(found)
    )
    every = split_pairs.pairs_in_split(pairs_of([(i, i + 1) for i in range(59)]), split)
    found = copies.study(predictions_of(split, np.ones(60, bool)), every, split, None)
    assert found.models.without is None
