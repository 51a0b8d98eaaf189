"""The split into training and validation images; jobs and times are tested with each learner."""

import dataclasses

import numpy as np
import pytest

from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.learners import training
from tests import samples

N = 36


@pytest.fixture(scope="module")
def split() -> Folds:
    return samples.grouped_split()


def test_validation_images_are_neither_held_out_nor_trained_on_and_split_no_group(split):
    validated = set()
    for seed in range(3):
        for fold in range(3):
            fitted, validation = training.validation_split(split, fold, seed, 3)
            assert not (fitted & validation).any()
            np.testing.assert_array_equal(fitted | validation, split.folds != fold)
            assert validation.any()
            assert set(split.labels[fitted]) == {0, 1, 2, 3}
            sides = {
                (split.groups[i], bool(validation[i])) for i in np.flatnonzero(fitted | validation)
            }
            known = [group for group, _ in sides if group]
            assert len(known) == len(set(known))
            again = training.validation_split(split, fold, seed, 3)
            np.testing.assert_array_equal(validation, again[1])
            validated.add(validation.tobytes())
    assert len(validated) > 3  # Seeds differ, and not by the fold alone.


def test_without_groups_the_part_is_stratified(split):
    plain = dataclasses.replace(split, groups=None, folds=np.arange(N) // 4 % 3)
    _, validation = training.validation_split(plain, 0, 0, 3)
    np.testing.assert_array_equal(np.bincount(plain.labels[validation]), [2, 2, 2, 2])


def test_an_image_of_unknown_group_is_a_group_of_its_own(split):
    unknown = dataclasses.replace(split, groups=("",) * N)
    fitted, validation = training.validation_split(unknown, 0, 0, 3)
    assert fitted.any()
    assert validation.any()


def test_too_few_images_or_groups_are_refused(split):
    with pytest.raises(InputError, match="lower --validation_parts"):
        training.validation_split(split, 0, 0, 12)
    three = dataclasses.replace(split, groups=tuple(f"p{i % 3}" for i in range(N)))
    with pytest.raises(InputError, match="of 3 groups, cannot be split into 6 parts"):
        training.validation_split(three, 0, 0, 6)
    lumped = dataclasses.replace(split, groups=tuple(str(label) for label in split.labels))
    with pytest.raises(InputError, match="with every class in the rest"):
        training.validation_split(lumped, 0, 0, 3)
