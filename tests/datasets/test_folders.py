"""Class folders with folders of patients in them, or with a table of patients beside them."""

from pathlib import Path

import pytest

from histojax import datasets
from histojax.datasets import folds, positive
from histojax.errors import InputError
from histojax.inspection import discovery


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


PATIENTS = ("benign/p1/1.png", "benign/p1/2.png", "benign/p2/1.png", "malignant/p3/1.png")


def test_folders_in_class_folders_are_patients_and_told(tmp_path):
    loaded = datasets.load(folders(tmp_path, *PATIENTS))
    assert loaded.names == ("benign/p1/1", "benign/p2/1", "2", "malignant/p3/1")
    assert loaded.groups == ("p1", "p2", "p1", "p3")
    assert loaded.notices == (
        "the folder below the class folder (p1, p2, p3) keeps images of one patient together: "
        "3 patients, 4 images",
    )
    assert datasets.load(tmp_path, group_column="none").groups is None
    assert datasets.load(tmp_path, with_groups=False).groups is None
    assert discovery.discover(tmp_path).groups == ("p1", "p1", "p2", "p3")


@pytest.mark.parametrize("between", ["40X", "images", "Tiles"])
def test_folders_of_magnifications_or_of_kinds_of_files_are_no_patients(tmp_path, between):
    names = (f"a/{between}/1.png", f"b/{between}/2.png")
    loaded = datasets.load(folders(tmp_path, *names))
    assert (loaded.names, loaded.groups) == (("1", "2"), None)
    assert loaded.notices[0].startswith(
        f"2 images in folders below the class folders ({between}) read with the others"
    )
    other = folders(tmp_path / "more", f"a/p1/{between}/1.png", f"b/p2/{between}/2.png")
    assert datasets.load(other).groups == ("p1", "p2")


def test_several_levels_that_may_be_patients_are_a_question(tmp_path):
    folders(tmp_path, "a/p1/s1/1.png", "a/p1/s2/2.png", "b/p2/s3/3.png")
    with pytest.raises(InputError, match=r"2 levels .*1: p1, p2; 2: s1, s2, s3.*--group_column=1"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, group_column="1").groups == ("p1", "p1", "p2")
    assert datasets.load(tmp_path, group_column="2").groups == ("s1", "s2", "s3")
    for column, message in {"3": "has 2 levels of folders", "x": "no table beside the"}.items():
        with pytest.raises(InputError, match=f"--group_column={column}: .*{message}"):
            datasets.load(tmp_path, group_column=column)


def test_images_at_several_depths_are_all_read_and_told(tmp_path):
    folders(tmp_path, "a/1.png", "a/p1/2.png", "b/3.png", "c.png", "notes.docx", "b/scan.vsi")
    loaded = datasets.load(tmp_path)
    assert (loaded.names, loaded.groups) == (("1", "2", "3"), None)
    told = "\n".join(loaded.notices)
    assert f"since they are in no class folder: 1 images, such as {tmp_path}/c.png" in told
    assert f"may be meant as images: 1 files, such as {tmp_path}/b/scan.vsi, which is a sl" in told
    assert "left out, since they are no images: 1 .docx" in told
    assert "1 image in folders below the class folders (p1) read with the others" in told
    assert datasets.load(tmp_path, group_column="1").groups == ("", "p1", "")


def test_a_table_beside_the_class_folders_gives_groups(tmp_path):
    folders(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / "patients.csv").write_text("File;Patient ID\n1.png;7\n2;7\n3.png;8\n")
    (tmp_path / "readme.csv").write_text("something,else\n1,2\n")
    loaded = datasets.load(tmp_path)
    assert loaded.groups == ("7", "7", "8")
    assert "column Patient ID of patients.csv, beside the class folders, keeps" in loaded.notices[0]
    (tmp_path / "more.csv").write_text("image,case\n1.png,7\n2.png,6\n")
    with pytest.raises(InputError, match="more.csv, patients.csv. Name a table by --groups=TABLE"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, group_column="none").groups is None
    (tmp_path / "more.csv").write_text("image,scanner\n1.png,7\n2.png,6\n")
    assert (
        "more.csv names images of the data, but says by no heading"
        in datasets.load(tmp_path).notices[0]
    )


def test_folders_and_a_table_that_both_know_patients_are_a_question(tmp_path):
    folders(tmp_path, *PATIENTS)
    (tmp_path / "t.csv").write_text("image,patient\nbenign/p1/1.png,7\n2.png,7\n")
    with pytest.raises(InputError, match="t.csv, the folders in the class folders"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, group_column="1").groups == ("p1", "p2", "p1", "p3")
    assert datasets.load(tmp_path, group_column="patient").groups == ("7", "", "7", "")
    (tmp_path / "t.csv").write_text("image,patient\n1.png,7\n2.png,7\n")
    with pytest.raises(InputError, match="1.png, which may be benign/p1/1 or benign/p2/1 or"):
        datasets.load(tmp_path, group_column="patient")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/1.png", "a/masks/1.png", "b/2.png"), "images in a/masks, whose names say that they"),
        (("a/1.png", "b/2.png", "masks/1.png"), "folder masks, .* pass --classes=a,b,masks$"),
        (("a/1.png", "a/1_mask.png", "b/2.png"), r"1 image named .* beside it \(a/1_mask.png\)"),
        (
            ("train/a/1.png", "test/a/2.png"),
            "test, train, the parts of a split rather than classes: pass .*/train$",
        ),
        (("InSitu/1.png", "Invasiv/2.png"), r"not expected: Invasiv; .* Did you mean Invasive\?"),
    ],
)
def test_folders_that_mean_something_else_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        datasets.load(folders(tmp_path, *names))


def test_an_image_may_be_called_nothing_but_mask(tmp_path):
    root = folders(tmp_path, "a/_mask.png", "b/2.png")
    assert len(datasets.load(root).images) == 2


def test_a_class_may_be_called_masks_and_a_file_so_without_the_image_beside_it(tmp_path):
    root = folders(tmp_path, "a/1_mask.png", "masks/2.png")
    assert datasets.load(root, ("a", "masks")).labels == (0, 1)


def test_real_images_as_a_laboratory_keeps_them_are_split_as_they_are(shared_data, tmp_path):
    """Other names of classes, patients by heading or by folder: the same folds, labels, groups."""
    original = datasets.load(shared_data / "ucsb_breast" / "groups.csv")
    classes = {"benign": "normal", "malignant": "cancer"}  # Sorted, disease comes first.
    lines = ["sep=;", "File name;Diagnosis;Patient_ID"]
    for path, label, group in zip(original.paths, original.labels, original.groups, strict=True):
        name = classes[original.classes[label]]
        for target in (tmp_path / "scans" / group, tmp_path / "folders" / name / group):
            target.mkdir(parents=True, exist_ok=True)
            (target / path.name).symlink_to(path)
        lines.append(f"scans\\{group}\\{path.name};{name};{group}")
    (tmp_path / "table.csv").write_text("\r\n".join(lines), encoding="utf-16")
    made = folds.make(original, 5, seed=0)
    for place in (tmp_path / "table.csv", tmp_path / "folders"):
        loaded = datasets.load(place)
        assert loaded.classes == ("cancer", "normal")
        assert positive.choose(loaded.classes).names == ("cancer",)
        assert any("10 patients, 58 images" in notice for notice in loaded.notices)
        split = folds.make(loaded, 5, seed=0)
        here = zip(split.names, split.labels, split.groups, split.folds, strict=True)
        there = zip(made.names, 1 - made.labels, made.groups, made.folds, strict=True)
        assert sorted(here) == sorted(there)
