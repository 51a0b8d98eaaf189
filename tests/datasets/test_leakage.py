"""The audit counts as brute force does, on BACH's published structure too; its script."""

import csv
import json
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset, folds, leakage, synthetic
from histojax.datasets.folds import Folds
from histojax.inspection import near_duplicates
from tests.running import python, run


def split_of(labels, folds, groups, classes=("a", "b")) -> Folds:
    names = tuple(f"i{i}" for i in range(len(labels)))
    return Folds(
        names,
        np.array(labels),
        np.array(folds),
        classes,
        groups and tuple(groups),
        "stratified, seed 0",
    )


def brute_force(split: Folds, fold: int) -> tuple[int, int, int]:
    """Test images of known group, those sharing it with training, those sharing their class too."""
    known = sharing = both = 0
    for i, group in enumerate(split.groups):
        if split.folds[i] != fold or not group:
            continue
        known += 1
        others = [
            j for j, other in enumerate(split.groups) if other == group and split.folds[j] != fold
        ]
        sharing += len(others) > 0
        both += any(split.labels[j] == split.labels[i] for j in others)
    return known, sharing, both


@given(st.integers(0, 2**32 - 1), st.integers(6, 60), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_counts_are_brute_force(seed, n, count):
    rng = np.random.default_rng(seed)
    folds = rng.integers(-1, count, n)
    folds[:count] = np.arange(count)
    groups = [rng.choice(["", "p1", "p2", "p3", "p4"]) for _ in range(n)]
    split = split_of(rng.integers(0, 2, n), folds, groups)
    audit = leakage.audit(split)
    for row in audit.rows:
        assert (row.known, row.sharing, row.sharing_class) == brute_force(split, row.fold - 1)
        assert row.images == np.sum(split.folds == row.fold - 1) == sum(row.by_class)
    assert audit.unknown == groups.count("")
    assert audit.train_only == np.sum(folds == -1)
    assert audit.leaks == any(row.sharing for row in audit.rows)


def test_bach_s_published_structure():
    """145 of 400 images of 29 patients: stratified folds put most of them on both sides."""
    rng = np.random.default_rng(0)
    sizes = [36] + [4] * 25 + [3] * 3
    groups = np.array([""] * 400, object)
    places = rng.permutation(400)[: sum(sizes)]
    for patient, part in enumerate(np.split(places, np.cumsum(sizes)[:-1])):
        groups[part] = f"patient{patient}"
    split = split_of(
        np.arange(400) // 100, rng.permutation(np.arange(400) % 10), groups.tolist(), BACH_CLASSES
    )
    audit = leakage.audit(split)
    assert (audit.known, audit.unknown, audit.groups, audit.largest) == (145, 255, 29, 36)
    assert audit.sharing == sum(brute_force(split, fold)[1] for fold in range(10)) > 100
    assert (
        f"{audit.sharing} of 145 test images of known group share it with training" in audit.verdict
    )
    assert "Of 255 images the group is unknown" in audit.verdict


def test_a_split_by_group_is_said_to_be_clean_and_one_without_groups_to_be_unknown():
    clean = leakage.audit(split_of([0, 1, 0, 1], [0, 0, 1, 1], ["p", "p", "q", "q"]))
    assert not clean.leaks
    assert clean.verdict == "No known group is both in training and in test."
    assert clean.mixed == 2
    nothing = leakage.audit(split_of([0, 1, 0, 1], [0, 0, 1, 1], None))
    assert nothing.unknown is None
    assert nothing.verdict == leakage.NO_GROUPS


def test_what_keeps_images_together_is_a_line_and_nothing_a_warning():
    def line(folds, groups):
        return leakage.kept_together(split_of([0, 1, 0, 1], folds, groups))

    assert line([0, 0, 1, 1], ["p", "p", "q", ""]) == (
        "kept together: 2 groups, the largest of 2 images. No known group is both in training and "
        "in test. Of 1 images the group is unknown; they may share one."
    )
    assert line([0, 0, 1, 1], None) == f"WARNING: {leakage.NO_GROUPS}"
    assert line([0, 1, 0, 1], ["p", "p", "q", "q"]).startswith("WARNING: 4 of 4 test images")
    assert line([0, 0, 1, 1], [""] * 4).startswith("WARNING: No test image is of known group")


def test_an_image_that_only_trains_counts_as_training():
    audit = leakage.audit(split_of([0, 1, 0, 1], [0, 1, -1, 0], ["p", "q", "p", "r"]))
    assert (audit.rows[0].sharing, audit.rows[0].sharing_class) == (1, 1)
    assert "1 images are trained on and never held out" in leakage.text_lines(audit)


def test_text_and_numbers_say_the_same():
    audit = leakage.audit(split_of([0, 1, 0, 1], [0, 1, 1, 0], ["p", "q", "p", ""]))
    text = "\n".join(leakage.text_lines(audit))
    numbers = json.loads(json.dumps(leakage.as_dict(audit)))
    assert "split: stratified, seed 0" in text
    assert numbers["sharing"] == audit.sharing == 2
    assert numbers["rows"][0]["images"] == 2
    assert numbers["verdict"] in text
    row = audit.rows[0]
    numbers = (row.known, row.unknown, row.groups, row.sharing, row.sharing_class)
    by_class = "+".join(map(str, row.by_class))
    assert text.splitlines()[-2].split() == [
        str(value) for value in (row.fold, row.images, by_class, *numbers)
    ]


@pytest.mark.parametrize("groups", [["", "", "", ""], ["p", "", "", ""]])
def test_unknown_groups_share_nothing(groups):
    assert not leakage.audit(split_of([0, 1, 0, 1], [0, 1, 1, 0], groups)).leaks


def test_where_images_of_unknown_group_went_is_counted():
    split = split_of([0, 1, 0, 1, 0, 1], [0, 1, 1, -1, 1, -1], ["p", "q", "", "", "", "r"])
    audit = leakage.audit(split)
    assert [row.unknown for row in audit.rows] == [0, 2]
    assert (audit.unknown, audit.unknown_train_only) == (3, 1)
    text = "\n".join(leakage.text_lines(audit))
    assert (
        "of the 3 images of unknown group 1 are only trained on, 2 are held out, in 1 of 2 folds"
        in text
    )


@pytest.mark.parametrize(
    ("policy", "only_trained", "places"),
    [("own", 0, 10), ("together", 0, 1), ("train_only", 255, 0)],
)
def test_each_policy_on_bach_s_structure_leaks_nothing_known(policy, only_trained, places):
    dataset = bach()
    audit = leakage.audit(folds.make(dataset, 10 if policy == "own" else 8, 0, "grouped", policy))
    assert not audit.leaks
    assert audit.unknown_train_only == audit.train_only == only_trained
    assert sum(row.unknown > 0 for row in audit.rows) == places
    assert f"255 images of unknown group: {policy}" in audit.origin


def test_stratified_folds_of_bach_s_structure_leak_as_the_published_ones_do():
    dataset = bach()
    split = folds.make(dataset, 10, 0, "stratified")
    audit = leakage.audit(split)
    for row in audit.rows:
        assert (row.known, row.sharing, row.sharing_class) == brute_force(split, row.fold - 1)
        assert row.by_class == (10, 10, 10, 10)
    assert audit.known == 145
    assert audit.sharing > 120
    assert audit.mixed == 10
    assert leakage.as_table(audit)[0][0][:4] == (
        1,
        40,
        audit.rows[0].known,
        40 - audit.rows[0].known,
    )


def bach() -> Dataset:
    """400 images, 145 of 29 patients: 10 in several classes, one with 36 images in 3 classes."""
    names = [f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in range(1, 101)]
    groups = [""] * 400
    for label, start in ((1, 0), (2, 0), (3, 0)):  # The large one.
        for i in range(12):
            groups[100 * label + start + i] = "patient 1"
    for patient in range(2, 11):  # Nine more in two classes: 2 + 2 images.
        for label in (patient % 4, (patient + 1) % 4):
            for i in range(2):
                groups[100 * label + 20 + 2 * patient + i] = f"patient {patient}"
    sizes = [4] * 16 + [3] * 3
    for patient, size in zip(range(11, 30), sizes, strict=True):
        for i in range(size):
            groups[100 * (patient % 4) + 45 + 5 * (patient // 4 - 2) + i] = f"patient {patient}"
    return Dataset(
        {name: Path(f"{name}.tif") for name in names},
        tuple(i // 100 for i in range(400)),
        BACH_CLASSES,
        tuple(groups),
    )


def test_nothing_is_claimed_without_test_images_of_known_group():
    audit = leakage.audit(split_of([0, 1, 0, 1], [0, 1, -1, -1], ["", "", "p", "p"]))
    assert audit.verdict.startswith(
        "No test image is of known group, so nothing is known of leakage."
    )


def run_without_jax(script: str, *arguments: object) -> subprocess.CompletedProcess:
    code = f"""
import runpy, sys
sys.modules |= dict.fromkeys(("jax", "jaxlib", "flax", "optax"))
if {script == "train"}:  # Trees are trained there, not in yet another process.
    from histojax.learners import boost
    boost.run_tasks = lambda tasks, workers: [boost.run_task(task) for task in tasks]
sys.argv = {[script, *map(str, arguments)]!r}
runpy.run_module("experiments.{script}", run_name="__main__")
"""
    return python("-c", code)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two classes of six images, patients of eight of them, and random descriptors.

    One field is in both classes, another one twice in its own.
    """
    root = tmp_path_factory.mktemp("data")
    fields = [
        synthetic.render(label, seed, 64, 96)
        for label in ("Normal", "Invasive")
        for seed in range(6)
    ]
    fields[7], fields[5] = fields[1], np.rot90(fields[4])
    (root / "descriptors" / "VGG-0.5-40").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, field in enumerate(fields):
        folder = root / "images" / ("benign" if i < 6 else "malignant")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(field)).save(folder / f"i{i:02d}.png")
        np.save(
            root / "descriptors" / "VGG-0.5-40" / f"i{i:02d}.npy",
            rng.normal(size=(2, 1408)).astype(np.float32),
        )
    rows = [
        f"i{i:02d}.png,{patient}"
        for i, patient in zip((0, 1, 2, 3, 6, 7, 8, 9), "ppqrsstq", strict=True)
    ]
    (root / "patients.csv").write_text("\n".join(["file,patient", *rows, "gone.png,u"]) + "\n")
    return root


def test_the_script_audits_a_split_and_shows_copies_side_by_side(data, tmp_path):
    by_hand = [f"i{i:02d},{'benign' if i < 6 else 'malignant'},{i % 3 + 1}" for i in range(12)]
    (tmp_path / "folds.csv").write_text("\n".join(["image,label,fold", *by_hand]) + "\n")
    before = (tmp_path / "folds.csv").read_bytes()
    arguments = [
        f"--data={data}/images",
        f"--split={tmp_path}/folds.csv",
        f"--groups={data}/patients.csv",
    ]
    done = run_without_jax("audit", *arguments, f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert "split: given (folds.csv was there)" in done.stdout
    assert (
        "6 of 8 test images of known group share it with training, 4 their class too" in done.stdout
    )
    assert "Of 4 images the group is unknown" in done.stdout
    assert "patients.csv has 1 images that are not in the data (gone.png)" in done.stderr
    assert (
        "i01 (benign, fold 2) and i07 (malignant, fold 2): the same file, LABEL CONFLICT"
        in done.stdout
    )
    assert re.search(
        r"i04 \(benign, fold 2\) and i05 \(benign, fold 3\): a copy, .*correlation 1.00, LEAK\n",
        done.stdout,
    )
    numbers = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (numbers["sharing"], numbers["sharing_class"], numbers["unknown"]) == (6, 4, 4)
    assert numbers["duplicates"] == {
        "pairs": 2,
        "same_file": 1,
        "in_two_folds": 1,
        "of_two_classes": 1,
        "copies": 2,
        "images_with_copies": 4,
        "copies_in_two_folds": 1,
        "overlaps": 0,
        "images_with_overlaps": 0,
        "overlaps_in_two_folds": 0,
    }
    with open(tmp_path / "out" / "audit.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["sharing_group"]) for row in rows) == 6
    assert [row["class_malignant"] for row in rows] == ["2", "2", "2"]
    with open(tmp_path / "out" / "duplicates.csv") as file:
        rows = list(csv.DictReader(file))
    assert [
        (row["first"], row["second"], row["leaks"], row["label_conflict"], row["kind"])
        for row in rows
    ] == [("i04", "i05", "1", "0", "copy"), ("i01", "i07", "0", "1", "same_file")]
    page = (tmp_path / "out" / "duplicates.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert not re.search("https?:", page)
    assert (tmp_path / "folds.csv").read_bytes() == before


def test_training_splits_by_the_flags_and_the_audit_finds_that_split(data, tmp_path):
    small = ["--folds=2", "--seeds=1", "--rounds=2", "--workers=1"]
    data_flags = [f"--data={data}/images", f"--groups={data}/patients.csv"]
    model_flags = [f"--descriptors={data}/descriptors", f"--models={tmp_path}/models"]
    done = run_without_jax(
        "train", *data_flags, *model_flags, *small, "--unknown_groups=train_only"
    )
    assert done.returncode == 0, done.stderr
    audited = run("audit", *data_flags, f"--models={tmp_path}/models")
    assert (
        "split: grouped, 2 folds, seed 0; 4 images of unknown group: train_only" in audited.stdout
    )
    assert "No known group is both in training and in test." in audited.stdout
    assert (
        "of the 4 images of unknown group 4 are only trained on, 0 are held out" in audited.stdout
    )


@pytest.mark.usefixtures("in_this_process")
def test_copies_are_kept_in_one_fold_and_later_runs_search_no_more(data, tmp_path, monkeypatch):
    small = ["--folds=2", "--seeds=1", "--rounds=2", "--workers=1"]
    given = [f"--data={data}/images", f"--models={tmp_path}/models"]
    train = ["train", *given, f"--descriptors={data}/descriptors", *small]
    done = run(*train, "--group_copies")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "2 pairs of copies of one image, 1 of them the same file (4 images)" in said
    conflict = "WARNING: LABEL CONFLICT: i01 (benign) and i07 (malignant): the same file."
    assert f"{conflict} One label is wrong" in said
    assert "copies: 4 images in 2 sets of copies or overlaps, each kept in one fold" in said
    table = tmp_path / "models" / "folds.csv"
    before = table.read_bytes()
    rows = {row["image"]: row for row in csv.DictReader(before.decode().splitlines())}
    for one, other in (("i01", "i07"), ("i04", "i05")):
        assert rows[one]["fold"] == rows[other]["fold"]
        assert rows[one]["copies"] == rows[other]["copies"] == one
        assert rows[one]["group"] == f"copies of {one}"
    with monkeypatch.context() as patched:
        patched.setattr(near_duplicates, "find_pairs", None)  # It is not called.
        again = run(*train)
        assert again.returncode == 0, again.stderr
        assert "0 models trained" in again.stdout
    assert table.read_bytes() == before
    refused = run(*train, "--nogroup_copies")
    assert refused.returncode == 1
    assert "folds.csv was made with --group_copies: leave out --nogroup_copies" in refused.stderr
    audited = run("audit", *given)
    assert "copies and overlaps kept together: 4 images in 2 sets" in audited.stdout
    assert "(4 images): 0 pairs in two folds" in audited.stdout
    # Without the flag they cross, and nothing is said of accuracy that too few images would tell.
    (tmp_path / "pairs.csv").write_text("first,second\ni02,i09\n")
    would = [*given[:1], "--folds=2", f"--group_copies={tmp_path}/pairs.csv"]
    assert "copies: 2 images in 1 set of copies" in run("audit", *would).stdout
    clash = run("audit", *would, "--fold_maker=stratified")
    assert "--group_copies keeps copies in one fold, --fold_maker=stratified does" in clash.stderr
    assert "pass either" in run("audit", *given, "--group_copies").stderr


def test_the_audit_says_what_accuracy_becomes_without_copies(data, tmp_path):
    by_hand = [f"i{i:02d},{'benign' if i < 6 else 'malignant'},{i % 2 + 1}" for i in range(12)]
    (tmp_path / "folds.csv").write_text("\n".join(["image,label,fold", *by_hand]) + "\n")
    flags = [f"--data={data}/images", f"--split={tmp_path}/folds.csv", f"--out={tmp_path}/out"]
    audited = run("audit", *flags, f"--descriptors={data}/descriptors")
    assert audited.returncode == 0, audited.stderr
    assert "  linear heads, fitted anew, folds as they are (12): " in audited.stdout
    assert re.search(r"  change of these heads \(12\): [+-][\d.]+ points", audited.stdout)
    numbers = json.loads((tmp_path / "out" / "audit.json").read_text())
    heads = numbers["without_copies"]["heads"]
    change = heads["grouped"]["value"] - heads["as_is"]["value"]
    assert heads["change"]["value"] == pytest.approx(change)
    assert numbers["without_copies"]["models"] is numbers["copies_kept_together"] is None


@pytest.mark.usefixtures("in_this_process")
def test_the_authors_split_is_used_by_training(data, tmp_path):
    names = [f"i{i:02d}.npy" for i in range(12)]
    labels = ["benign"] * 6 + ["malignant"] * 6
    fold_of = np.arange(12) % 3
    made = [
        {
            part: {"x": np.array(names, object)[chosen], "y": np.array(labels, object)[chosen]}
            for part, chosen in (("train", fold_of != fold), ("test", fold_of == fold))
        }
        for fold in range(3)
    ]
    (tmp_path / "folds-10.pkl").write_bytes(pickle.dumps(made, 2))
    data_flags = [
        "--fold_maker=paper",
        f"--paper_folds={tmp_path}/folds-10.pkl",
        f"--data={data}/images",
    ]
    model_flags = [
        f"--descriptors={data}/descriptors",
        f"--models={tmp_path}/models",
        "--seeds=1",
        "--rounds=2",
        "--workers=1",
    ]
    done = run("train", *data_flags, *model_flags, "--folds=3")
    assert done.returncode == 0, done.stderr
    split = folds.load(tmp_path / "models" / "folds.csv", ("benign", "malignant"))
    assert split.folds.tolist() == fold_of.tolist()
    assert split.origin.startswith("paper: the authors' own split")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split=a.csv", "--models=b"], "both name a split"),
        (["--fold_maker=paper"], "go together"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(data, arguments, message):
    done = run("audit", f"--data={data}/images", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
