"""Folds are stratified, keep groups whole, survive a round trip, and refuse to be mixed up."""

import collections
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.datasets import Dataset, folds
from histojax.errors import InputError
from histojax.images.names import name_images


def dataset(labels: list[int], groups: list[str] | None = None) -> Dataset:
    paths = tuple(Path(f"image{i:03d}.png") for i in range(len(labels)))
    classes = tuple(f"class{k}" for k in range(max(labels) + 1))
    return Dataset(
        name_images(paths), tuple(labels), classes, None if groups is None else tuple(groups)
    )


PLAIN = dataset([0] * 10 + [1] * 12 + [2] * 7)


@given(
    st.lists(st.integers(5, 25), min_size=2, max_size=5),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_every_class_is_spread_evenly_over_the_folds(sizes, count, seed):
    made = folds.make(
        dataset([label for label, size in enumerate(sizes) for _ in range(size)]), count, seed
    )
    assert made.count == count
    assert set(made.folds.tolist()) == set(range(count))
    assert made.labels.tolist() == [label for label, size in enumerate(sizes) for _ in range(size)]
    for label in range(len(sizes)):
        of_class = np.bincount(made.folds[made.labels == label], minlength=count)
        assert of_class.max() - of_class.min() <= 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_no_group_is_in_two_folds(seed, count):
    rng = np.random.default_rng(seed)
    groups = [f"g{g}" for g in rng.integers(0, 12, 60)]
    made = folds.make(dataset([i % 2 for i in range(60)], groups), count, seed)
    folds_of = collections.defaultdict(set)
    for group, fold in zip(groups, made.folds, strict=True):
        folds_of[group].add(int(fold))
    assert all(len(numbers) == 1 for numbers in folds_of.values())
    assert set(made.folds.tolist()) == set(range(count))


def test_a_class_may_have_fewer_groups_than_there_are_folds():
    groups = [f"g{i // 5}" for i in range(20)] + ["rare"] * 5
    made = folds.make(dataset([0, 2] * 10 + [1] * 5, groups), 4, seed=0)
    assert len(set(made.folds[20:].tolist())) == 1
    assert set(made.folds.tolist()) == set(range(4))
    assert made.origin.endswith("; all images of class1 are in one fold, whose models never see it")


def test_folds_that_would_train_on_a_single_class_are_refused():
    groups = [f"g{i // 5}" for i in range(20)] + ["only"] * 5
    with pytest.raises(InputError, match="all images of class class1 fall into one fold"):
        folds.make(dataset([0] * 20 + [1] * 5, groups), 4, seed=0)
    with pytest.raises(InputError, match="class class0, class1 fall into one fold"):
        folds.make(dataset([0] * 5 + [1] * 5, ["benign"] * 5 + ["malignant"] * 5), 2, seed=0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_saved_folds_are_loaded_as_they_were(tmp_path_factory, seed, count):
    paths = tuple(Path(f'a, "b" \u00fc{i}.png') for i in range(15))
    made = folds.make(
        Dataset(name_images(paths), (0, 1, 2) * 5, ("a,b", "\u00e9", "c d")), count, seed
    )
    path = tmp_path_factory.mktemp("folds") / "folds.csv"
    folds.save(made, path)
    read = folds.load(path, made.classes)
    assert (read.names, read.classes, read.count, read.sha256) == (
        made.names,
        made.classes,
        count,
        made.sha256,
    )
    np.testing.assert_array_equal(read.folds, made.folds)
    np.testing.assert_array_equal(read.labels, made.labels)


def test_the_identity_of_a_split_tells_one_moved_image():
    made = folds.make(PLAIN, 3, seed=0)
    moved = made.folds.copy()
    moved[0] = (moved[0] + 1) % 3
    assert folds.Folds(made.names, made.labels, moved, made.classes).sha256 != made.sha256


def test_the_seed_decides_the_split():
    one, same, other = (folds.make(PLAIN, 3, seed).folds for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_folds_are_saved_and_reused(tmp_path):
    made = folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=0)
    lines = (tmp_path / "folds.csv").read_text().splitlines()
    assert lines[0] == "image,label,fold"
    assert lines[1] == f"image000,class0,{made.folds[0] + 1}"
    again = folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=99)
    assert np.array_equal(made.folds, again.folds)
    assert made.sha256 == again.sha256


def test_a_split_that_is_there_has_its_origin_wherever_the_run_that_made_it_was_stopped(
    tmp_path, monkeypatch
):
    write_csv = folds.files.write_csv

    def write_and_stop(*given):
        write_csv(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(folds.files, "write_csv", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        folds.load_or_make(tmp_path / "folds.csv", PLAIN, 2, 0)
    kept = folds.load_or_make(tmp_path / "folds.csv", PLAIN, 2, 0)
    assert kept.origin == "stratified, 2 folds, seed 0"


def test_saved_folds_may_be_in_another_order(tmp_path):
    made = folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=0)
    header, *rows = (tmp_path / "folds.csv").read_text().splitlines()
    (tmp_path / "folds.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    again = folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=0)
    assert again.names == made.names
    assert (tmp_path / "folds.csv").read_text().splitlines() == [header, *rows]
    assert np.array_equal(again.folds, made.folds)


def test_too_few_images_or_groups_are_refused():
    with pytest.raises(
        InputError, match=r"fewer images than the 8 folds in class class2 \(7\), so .*--folds=7,"
    ):
        folds.make(PLAIN, 8, 0)
    with pytest.raises(InputError, match=r"2 groups .* cannot fill 3 folds, .* pass --folds=2$"):
        folds.make(dataset([0, 1] * 6, ["a", "b"] * 6), 3, 0)


def test_refused_folds_are_not_saved(tmp_path):
    with pytest.raises(InputError, match="pass --folds=7"):
        folds.load_or_make(tmp_path / "folds.csv", PLAIN, 8, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("image000,", "other,"), "differ in 2 images"),
        (lambda text: text.replace("image000,class0", "image000,class1"), "differ in 1 images"),
        (lambda text: text.replace("class0", "class9"), "class9"),
        (lambda text: text.replace(",3\n", ",2\n"), "has 2 folds, asked for 3"),
        (lambda text: text.replace(",3\n", ",4\n"), "whole numbers from 1"),
        (lambda text: text.replace(",3\n", ",x\n"), "whole numbers from 1"),
        (lambda text: text.replace("image001,", "image000,"), "twice"),
        (lambda text: text.replace("image,label,fold", "image,label"), "expected also fold"),
        (lambda text: text[: text.index("image010") + len("image010")], "rows of another length"),
        (lambda text: text[: text.index("image010")], "differ in 19 images"),
        (
            lambda text: text.replace("image010,class1,", "image010,class1,,"),
            "rows of another length",
        ),
        (lambda text: text.replace(",3\n", ",-1\n"), "whole numbers from 1"),
        (lambda text: text.replace(",3\n", ",1.5\n"), "whole numbers from 1"),
        (lambda text: text.replace(",1\n", ",2\n").replace(",3\n", ",2\n"), "whole numbers from 1"),
        (lambda text: text + "new,class0,1\n", r"differ in 1 images .*\(new\)"),
        (lambda text: "image,label,fold\n", "whole numbers from 1"),
        (lambda text: "", "expected also image, label, fold"),
    ],
)
def test_saved_folds_that_do_not_fit_are_refused(tmp_path, change, message):
    path = tmp_path / "folds.csv"
    folds.load_or_make(path, PLAIN, 3, seed=0)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        folds.load_or_make(path, PLAIN, 3, seed=0)


def test_folds_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "folds.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="folds.csv cannot be read as CSV"):
        folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=0)


def test_saved_folds_that_split_a_group_are_refused(tmp_path):
    folds.load_or_make(tmp_path / "folds.csv", PLAIN, 3, seed=0)
    grouped = dataset(list(PLAIN.labels), ["same"] * 15 + [f"g{i}" for i in range(14)])
    with pytest.raises(InputError, match=r"\(same\): name another folder, or remove it with the"):
        folds.load_or_make(tmp_path / "folds.csv", grouped, 3, seed=0)


UNKNOWN = dataset([i % 2 for i in range(40)], [f"p{i // 4}" if i < 24 else "" for i in range(40)])


def folds_by_group(made: folds.Folds) -> dict[str, set[int]]:
    folds_of = collections.defaultdict(set)
    for name, group, fold in zip(made.names, made.groups, made.folds.tolist(), strict=True):
        folds_of[group or name].add(fold)
    return folds_of


def test_images_of_unknown_group_are_on_their_own():
    made = folds.make(UNKNOWN, 4, seed=0, unknown_groups="own")
    assert made.groups == UNKNOWN.groups
    assert all(len(numbers) == 1 for numbers in folds_by_group(made).values())
    assert len(set(made.folds[24:].tolist())) > 1
    assert made.origin == "grouped, 4 folds, seed 0; 16 images of unknown group: own"


def test_images_of_unknown_group_stay_together():
    made = folds.make(UNKNOWN, 3, seed=0, unknown_groups="together")
    assert len(set(made.folds[24:].tolist())) == 1
    assert set(made.folds.tolist()) == {0, 1, 2}


def test_images_of_unknown_group_are_only_trained_on(tmp_path):
    made = folds.make(UNKNOWN, 3, seed=0, unknown_groups="train_only")
    assert (made.folds[24:] == folds.TRAIN_ONLY).all()
    assert set(made.folds[:24].tolist()) == {0, 1, 2}
    held_out = made.held_out()
    assert held_out.names == made.names[:24]
    assert held_out.groups == made.groups[:24]
    assert (held_out.folds >= 0).all()
    folds.save(made, tmp_path / "folds.csv")
    assert "image030,class0,0," in (tmp_path / "folds.csv").read_text()
    loaded = folds.load(tmp_path / "folds.csv", made.classes)
    np.testing.assert_array_equal(loaded.folds, made.folds)
    assert (loaded.groups, loaded.origin, loaded.count) == (made.groups, made.origin, 3)


def test_stratified_folds_may_split_groups_but_remember_them(tmp_path):
    made = folds.make(UNKNOWN, 4, seed=0, method="stratified")
    assert folds.divided_groups(made)
    assert made.groups == UNKNOWN.groups
    assert made.origin == "stratified, 4 folds, seed 0"
    path = tmp_path / "folds.csv"
    folds.save(made, path)
    with pytest.raises(InputError, match="--fold_maker=stratified to use it as it is"):
        folds.load_or_make(path, UNKNOWN, 4, 0)
    again = folds.load_or_make(path, UNKNOWN, 4, 0, method="stratified")
    np.testing.assert_array_equal(again.folds, made.folds)


def test_a_split_that_was_edited_loses_its_origin(tmp_path):
    path = tmp_path / "folds.csv"
    folds.save(folds.make(PLAIN, 2, 0), path)
    assert folds.load(path, PLAIN.classes).origin == "stratified, 2 folds, seed 0"
    lines = path.read_text().splitlines()
    lines[1], lines[2] = lines[1][:-1] + "1", lines[2][:-1] + "2"
    lines[3] = lines[3][:-1] + ("2" if lines[3][-1] == "1" else "1")
    path.write_text("\n".join(lines) + "\n")
    assert folds.load(path, PLAIN.classes).origin == "given (folds.csv was there)"


def test_groups_that_are_known_only_later_are_added(tmp_path):
    path = tmp_path / "folds.csv"
    made = folds.make(UNKNOWN, 4, seed=0)
    folds.save(folds.Folds(made.names, made.labels, made.folds, made.classes), path)
    assert folds.load_or_make(path, UNKNOWN, 4, 0).groups == UNKNOWN.groups
    assert folds.load(path, UNKNOWN.classes).groups == UNKNOWN.groups


def test_by_group_needs_groups():
    with pytest.raises(InputError, match="name groups"):
        folds.make(PLAIN, 2, 0, method="grouped")
    with pytest.raises(InputError, match=r"all images are of one group"):
        folds.make(dataset([0, 1, 0, 1], ["", "", "", ""]), 2, 0, unknown_groups="together")


def test_zero_does_not_count_as_a_fold(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("image,label,fold\na,x,0\nb,y,1\nc,x,1\n")
    with pytest.raises(InputError, match="at least two"):
        folds.load(path, ("x", "y"))
