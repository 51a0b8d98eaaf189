"""Copies and groups are joined into units that no fold divides, and folds.csv keeps them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.datasets import Dataset, copies, folds, leakage
from histojax.errors import InputError
from histojax.images.names import name_images

COUNT = 12
NAMES = tuple(f"i{i:02d}" for i in range(COUNT))
INDICES = st.integers(0, COUNT - 1)
PAIRS = st.lists(st.tuples(INDICES, INDICES).filter(lambda pair: pair[0] != pair[1]), max_size=9)
GROUPS = st.lists(st.sampled_from(["", *"ABCDE", "A + B"]), min_size=COUNT, max_size=COUNT)


def dataset(groups: tuple[str, ...] | None, count: int = COUNT) -> Dataset:
    paths = [Path(f"i{i:02d}.png") for i in range(count)]
    return Dataset(name_images(paths), tuple(i % 2 for i in range(count)), ("a", "b"), groups)


def units(groups, pairs) -> list[frozenset[int]]:
    """What is tied together by known groups and pairs: a flood from each image, by hand."""
    tied = {i: {i} for i in range(COUNT)}
    for one, other in pairs:
        tied[one].add(other)
        tied[other].add(one)
    for i in range(COUNT):
        tied[i] |= {j for j in range(COUNT) if groups and groups[i] and groups[i] == groups[j]}
    found = []
    for i in range(COUNT):
        reached, waiting = set(), [i]
        while waiting:
            if (j := waiting.pop()) not in reached:
                reached.add(j)
                waiting += tied[j]
        found.append(frozenset(reached))
    return found


@given(st.none() | GROUPS, PAIRS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_joined_groups_are_the_least_units_that_hold_groups_and_copies(groups, pairs, random):
    groups = groups and tuple(groups)
    sets = copies.sets_of(NAMES, pairs)
    joined = copies.join(groups, sets)
    if not pairs:
        assert joined == groups
        return
    # Two images are of one joined group if, and only if, groups and pairs tie them.
    for i, unit in enumerate(units(groups, pairs)):
        alone = len(unit) == 1 and not (groups and groups[i])
        assert (
            joined[i] == ""
            if alone
            else {j for j in range(COUNT) if joined[j] == joined[i]} == unit
        )
    shuffled = [pair[::-1] for pair in pairs]
    random.shuffle(shuffled)
    assert copies.sets_of(NAMES, shuffled) == sets
    order = random.sample(range(COUNT), COUNT)
    of_other_order = copies.join(
        groups and tuple(groups[i] for i in order), tuple(sets[i] for i in order)
    )
    assert of_other_order == tuple(joined[i] for i in order)
    assert copies.join(joined, sets) == joined


def test_joined_groups_say_what_they_are():
    sets = copies.sets_of(NAMES, [(1, 0), (2, 3), (3, 4), (6, 5), (8, 7)])
    assert sets == ("i00", "i00", *["i02"] * 3, "i05", "i05", "i07", "i07", "", "", "")
    groups = ("A", "B", "C", "D", "E", "", "", "", "F", "", "A", "")
    joined = copies.join(groups, sets)
    both, three = "A + B", "C + 2 others"
    unnamed = "copies of i05"
    assert joined == (both, both, three, three, three, unnamed, unnamed, "F", "F", "", both, "")
    assert copies.notice(groups, sets) == (
        "copies: 9 images in 4 sets of copies or overlaps, each kept in one fold. They join "
        "groups: A and B; C and D and E"
    )
    assert copies.notice(groups, ("",) * COUNT).startswith("copies: none")
    assert copies.notice(None, sets).endswith("each kept in one fold")
    assert copies.known(joined) == {both, three, "F"}
    assert [copies.is_unknown(group) for group in (unnamed, "", "F")] == [True, True, False]


def test_a_joined_group_has_the_name_of_no_other():
    joined = copies.join(("A", "B", "A + B"), ("a", "a", ""))
    assert joined == ("A + B (joined)", "A + B (joined)", "A + B")


@given(st.none() | GROUPS, PAIRS, st.integers(2, 3), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_no_fold_divides_copies_and_a_second_run_needs_no_search(
    tmp_path_factory, groups, pairs, count, seed
):
    plain = dataset(groups and tuple(groups))
    joined = copies.with_sets(plain, copies.sets_of(NAMES, pairs))
    path = tmp_path_factory.mktemp("run") / "folds.csv"
    try:
        made = folds.load_or_make(path, joined, count, seed)
    except InputError:  # Some of these groups leave folds empty, or without a class.
        return
    assert all(made.folds[one] == made.folds[other] for one, other in pairs)
    # On another machine, without the images' pairs, and in another order.
    again = folds.load_or_make(path, plain, count, seed)
    assert (again.groups, again.copies) == (made.groups, made.copies)
    assert folds.recorded_copies(path, plain.names) == joined.copies
    assert again.folds.tolist() == made.folds.tolist()
    assert folds.load(path, ("a", "b")).groups == made.groups


def test_the_split_says_how_many_images_are_kept_together():
    joined = copies.with_sets(dataset(None), copies.sets_of(NAMES, [(0, 2), (2, 4), (1, 3)]))
    made = folds.make(joined, 2, 0)
    assert made.origin == (
        "grouped, 2 folds, seed 0; 12 images of unknown group: own; copies and overlaps kept "
        "together: 5 images in 2 sets"
    )
    nothing = copies.with_sets(dataset(None), ("",) * COUNT)
    without = folds.make(nothing, 2, 0)
    assert without.folds.tolist() == folds.make(dataset(None), 2, 0).folds.tolist()
    assert without.origin.endswith("kept together: 0 images in 0 sets")
    assert made.take(np.array([2, 1])).copies == ("i00", "i01")


@pytest.mark.parametrize("unknown_groups", ["train_only", "together"])
def test_copies_of_unknown_patients_stay_of_unknown_patients(unknown_groups):
    groups = (*"AABBCCDD", "", "", "", "")
    joined = copies.with_sets(dataset(groups), copies.sets_of(NAMES, [(8, 9), (10, 0)]))
    made = folds.make(joined, 2, 0, unknown_groups=unknown_groups)
    of_unknown = {int(made.folds[i]) for i in (8, 9, 11)}
    assert len(of_unknown) == 1
    assert (of_unknown == {folds.TRAIN_ONLY}) == (unknown_groups == "train_only")
    assert made.folds[10] == made.folds[0] != folds.TRAIN_ONLY


def test_copies_that_leave_nothing_to_hold_out_are_refused_by_name():
    chain = copies.sets_of(NAMES, [(i, i + 1) for i in range(COUNT - 1)])
    with pytest.raises(InputError) as refused:
        folds.make(copies.with_sets(dataset(None), chain), 2, 0)
    assert "all images are of one group" in str(refused.value)
    assert "the largest group, copies of i00, has 12 of 12 images" in str(refused.value)
    two = copies.sets_of(NAMES, [(i, i + 2) for i in range(COUNT - 2)])
    with pytest.raises(InputError, match="2 groups .* cannot fill 3 folds.*--group_copies joined"):
        folds.make(copies.with_sets(dataset(tuple("AB" * 6)), two), 3, 0)


def test_a_split_that_divides_copies_is_refused(tmp_path):
    path = tmp_path / "folds.csv"
    plain = dataset(None)
    made = folds.load_or_make(path, plain, 2, 0)
    pair = int(np.flatnonzero(made.folds == 0)[0]), int(np.flatnonzero(made.folds == 1)[0])
    joined = copies.with_sets(plain, copies.sets_of(NAMES, [pair]))
    with pytest.raises(InputError, match="leave out --group_copies to use it as it is"):
        folds.load_or_make(path, joined, 2, 0)
    one_fold = np.flatnonzero(made.folds == 0)[:2].tolist()
    sets = copies.sets_of(NAMES, [tuple(one_fold)])
    assert folds.load_or_make(path, copies.with_sets(plain, sets), 2, 0).copies == sets
    assert folds.load_or_make(path, plain, 2, 0).copies == sets


def test_a_table_of_pairs_is_read_and_names_what_the_data_lack(tmp_path):
    table = tmp_path / "duplicates.csv"
    table.write_text("kind,first,second\ncopy,i03,i01\noverlap,i05,i04\n")
    assert copies.read_pairs(table, NAMES) == [(3, 1), (5, 4)]
    table.write_text("first,second\ni03,gone\n")
    with pytest.raises(InputError, match=r"names 1 image not in the data \(gone\)"):
        copies.read_pairs(table, NAMES)
    table.write_text("image,label\ni03,a\n")
    with pytest.raises(InputError, match="expected also first, second"):
        copies.read_pairs(table, NAMES)


def test_groups_given_anew_are_joined_by_the_recorded_copies(tmp_path):
    path = tmp_path / "folds.csv"
    sets = copies.sets_of(NAMES, [(0, 2)])
    folds.load_or_make(path, copies.with_sets(dataset(tuple("ABCDEF" * 2)), sets), 2, 0)
    regrouped = dataclasses.replace(dataset(None), groups=("P", "", "Q", *"RSTUVWXYZ"))
    joined = folds.match_dataset(folds.load(path, ("a", "b")), regrouped, path)
    assert joined.groups == ("P + Q", "", "P + Q", *"RSTUVWXYZ")


def test_that_no_patient_is_known_is_told_though_copies_are_kept_together():
    every = copies.sets_of(NAMES, [(i, i + 2) for i in (0, 1, 4, 5, 8, 9)])
    made = folds.make(copies.with_sets(dataset(None), every), 2, 0)
    assert all(made.groups)
    checked = leakage.audit(made)
    assert checked.verdict == leakage.NO_GROUPS
    assert checked.unknown is None
    assert leakage.kept_together(made).startswith("WARNING: No groups are known")
    with_patients = copies.with_sets(dataset((*"AABBCC", *[""] * 6)), every)
    checked = leakage.audit(folds.make(with_patients, 2, 0))
    assert (checked.unknown, checked.groups) == (4, 2)
