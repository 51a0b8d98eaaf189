"""Class folders, label tables and BACH as unzipped become the same data set.

Tests datasets/__init__.py, dataset.py, folders.py, tables.py and bach/__init__.py.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histojax import datasets
from histojax.config import BACH_CLASSES
from histojax.datasets import bach
from histojax.errors import InputError

FOLDERS = {"Normal": "n", "Benign": "b", "InSitu": "is", "Invasive": "iv"}


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), 200, np.uint8)).save(path)
    return path


def challenge(root: Path, per_class: int = 2) -> Path:
    """BACH's folder as it comes from the zip."""
    photos = root / "ICIAR2018_BACH_Challenge" / "Photos"
    rows = []
    for label, prefix in FOLDERS.items():
        for i in range(1, per_class + 1):
            rows.append(f"{image(photos / label / f'{prefix}{i:03d}.tif').name},{label}")
    (photos / "microscopy_ground_truth.csv").write_text("\n".join(rows) + "\n")
    return photos


def test_class_folders_are_alphabetical_and_other_files_are_left_out(tmp_path):
    for name in ("tumour/b.png", "stroma/a.jpg", "stroma/c.TIF"):
        image(tmp_path / name.lower().replace(".tif", ".tif")).rename(tmp_path / name)
    for junk in ("stroma/Thumbs.db", "stroma/.hidden.png", "stroma/notes.txt"):
        (tmp_path / junk).touch()
    (tmp_path / ".git").mkdir()
    dataset = datasets.load(tmp_path)
    assert dataset.classes == ("stroma", "tumour")
    assert dataset.names == ("a", "c", "b")
    assert dataset.labels == (0, 0, 1)
    assert dataset.groups is None
    assert datasets.load(str(tmp_path)) == dataset


@pytest.mark.parametrize("classes", [FOLDERS, ["Normal", "Benign", "InSitu", "Invasive", ".cache"]])
def test_bachs_class_folders_under_another_name_have_bachs_order(tmp_path, classes):
    for name in classes:
        image(tmp_path / "mine" / name / f"{name}1.png")
    dataset = datasets.load(tmp_path / "mine")
    assert (dataset.classes, dataset.labels) == (BACH_CLASSES, (0, 1, 2, 3))


def test_normal_and_benign_alone_are_not_bach(tmp_path):
    image(tmp_path / "Normal" / "1.png")
    image(tmp_path / "Benign" / "2.png")
    assert datasets.load(tmp_path).classes == ("Benign", "Normal")


@pytest.mark.parametrize("where", [".", "..", "../.."])
@pytest.mark.parametrize("truth", [True, False])
def test_bach_is_found_at_photos_and_above(tmp_path, where, truth):
    photos = challenge(tmp_path)
    for junk in ("Thumbs.db", "._n001.tif"):
        (photos / "Normal" / junk).touch()
    if not truth:
        (photos / bach.GROUND_TRUTH).unlink()
    dataset = datasets.load((photos / where).resolve())
    assert dataset.classes == BACH_CLASSES
    assert dataset.names == ("n001", "n002", "b001", "b002", "is001", "is002", "iv001", "iv002")
    assert dataset.labels == (0, 0, 1, 1, 2, 2, 3, 3)


def test_bachs_ground_truth_is_a_label_table_as_it_comes(tmp_path):
    photos = challenge(tmp_path)
    assert datasets.load(photos / "microscopy_ground_truth.csv") == datasets.load(photos)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "b001.tif,Benign",
            "b001.tif,InSitu",
            "1 images(.|\n)*b001.tif: table InSitu, folder Benign",
        ),
        ("b001.tif,Benign\n", "", "1 images(.|\n)*b001.tif: table None, folder Benign"),
        (
            "b001.tif,Benign",
            "b001.tif,Benign\nb009.tif,Benign",
            "1 images(.|\n)*b009.tif: table Benign, folder None",
        ),
        ("b001.tif,Benign", "iv001.tif,Benign", "more than once: iv001.tif"),
        ("b001.tif,Benign", "b001.tif", "row 3: no label"),
    ],
)
def test_a_ground_truth_that_differs_from_the_folders_is_refused(tmp_path, old, new, message):
    photos = challenge(tmp_path)
    table = photos / "microscopy_ground_truth.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        datasets.load(tmp_path)


def test_a_ground_truth_may_have_a_byte_order_mark_spaces_and_blank_lines(tmp_path):
    table = challenge(tmp_path) / "microscopy_ground_truth.csv"
    table.write_text(
        "\ufeff" + table.read_text().replace(",", ", ").replace("\n", "\n\n"), encoding="utf-8"
    )
    assert len(datasets.load(tmp_path).names) == 8
    assert len(datasets.load(table).names) == 8


def test_an_unknown_class_folder_beside_bachs_is_named(tmp_path):
    image(challenge(tmp_path) / "Unsure" / "u001.tif")
    with pytest.raises(
        InputError, match="not expected: Unsure; expected Normal, Benign, InSitu, Invasive"
    ):
        datasets.load(tmp_path)


def test_a_table_gives_labels_and_groups_to_images_beside_and_below_it(tmp_path):
    image(tmp_path / "x.png")
    image(tmp_path / "deep" / "er" / "y.png")
    (tmp_path / "labels.csv").write_text(
        "\ufeffimage,label,group,note\nx.png,b,p1,-\ny.png,a,p2,-\n", encoding="utf-8"
    )
    dataset = datasets.load(tmp_path / "labels.csv")
    assert (dataset.names, dataset.classes, dataset.groups) == (
        ("y", "x"),
        ("a", "b"),
        ("p2", "p1"),
    )


def test_the_order_of_classes_can_be_chosen(tmp_path):
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "b" / "2.png")
    assert datasets.load(tmp_path, ("b", "a")).names == ("2", "1")
    assert datasets.load(tmp_path, ("b", "a")).labels == (0, 1)
    with pytest.raises(InputError, match="not expected: b; expected a, c"):
        datasets.load(tmp_path, ("a", "c"))
    with pytest.raises(InputError, match="no image of class c"):
        datasets.load(tmp_path, ("a", "b", "c"))


def test_the_order_of_bachs_own_classes_can_be_chosen_too(tmp_path):
    assert datasets.load(challenge(tmp_path), BACH_CLASSES[::-1]).names[0] == "iv001"
    with pytest.raises(InputError, match="names a class twice"):
        datasets.load(tmp_path, (*BACH_CLASSES, "Normal"))


def test_chosen_classes_replace_bachs(tmp_path):
    image(tmp_path / "InSitu" / "1.png")
    image(tmp_path / "Normal" / "2.png")
    with pytest.raises(InputError, match="no image of class Benign, Invasive"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, ("Normal", "InSitu")).names == ("2", "1")


def test_the_classes_of_a_table_can_be_chosen(tmp_path):
    path = table("image,label\nx.png,a\nd/twice.png,b\n")(tmp_path)
    assert datasets.load(path, ("b", "a")).labels == (0, 1)
    with pytest.raises(InputError, match="unknown class b; expected a, c"):
        datasets.load(path, ("a", "c"))


def test_an_image_beside_the_table_goes_before_one_below_it(tmp_path):
    path = table("image,label\nx.png,a\ntwice.png,b\n")(tmp_path)
    beside = image(tmp_path / "twice.png")
    assert datasets.load(path).paths == (tmp_path / "x.png", beside)


def test_the_real_table_is_read(shared_data):
    dataset = datasets.load(shared_data / "ucsb_breast" / "groups.csv")
    assert (len(dataset.names), dataset.classes, len(set(dataset.groups))) == (
        58,
        ("benign", "malignant"),
        10,
    )
    assert dataset.labels.count(1) == 26


def folder_with(*names: str):
    def make(root: Path) -> Path:
        for name in names:
            image(root / name)
        return root

    return make


def with_empty_class(root: Path) -> Path:
    (image(root / "a" / "1.png").parents[1] / "b").mkdir()
    return root


def table(text: str):
    def make(root: Path) -> Path:
        image(root / "x.png")
        image(root / "d" / "twice.png")
        image(root / "e" / "twice.png")
        (root / "t.csv").write_text(text)
        return root / "t.csv"

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            folder_with(
                "Normal/1.png", "Benign/2.png", "InSitu/3.png", "Invasive/4.png", "Other/5.png"
            ),
            "Other",
        ),
        (folder_with("Normal/1.png", "InSitu/3.png", "Invasiv/4.png"), "Invasiv"),
        (folder_with("a/1.png"), "only one class"),
        (folder_with("1.png"), "no class folders"),
        (folder_with(".hidden/1.png"), "no class folders"),
        (folder_with("a/1.png", "b/.1.png"), "b holds no TIFF, PNG, JPEG, BMP or WebP"),
        (with_empty_class, "holds no TIFF, PNG, JPEG, BMP or WebP"),
        (lambda root: root / "absent", "is not there"),
        (table("image,label\nx.png,a\nz.png,b\n"), r"z.png \(not found\)"),
        (table("image,label\nx.png,a\ntwice.png,b\n"), "not just once"),
        (table("image,label\nx.png,a\nx.png,b\n"), "more than once: x.png"),
        (table("image,label\nx.png,a\nd/twice.png,a\n"), "only one class, a"),
        (table("image,label\nx.png,a\n./x.png,b\n"), "more than once, the second time as ./x.png"),
        (table("image,label\nx.png,a,b\n"), "3 cells under 2 columns"),
        (table("image,label\nx.png,\n"), "row 1: no label"),
        (table("image,label\nx.png,a\n,b\n"), "row 2: no image"),
        (table("image,label\nx.png,a\nd/twice.png\n"), "row 2: no label"),
        (table("number;mark\n1;a\n"), "starts with number, mark: expected a header with a column"),
        (table("case_id,slide_id,label\np,x,a\n"), "import these first.*import_descriptors"),
        (table("file,width\nx.png,4\n"), "starts with file, width: expected a header"),
        (table("x.png,a,p1\n"), "starts with x.png, a, p1: expected a header"),
        (lambda root: image(root / "x.png"), "x.png cannot be read as CSV"),
        (table("image,label\n"), "has no rows"),
        (table(""), "has no rows"),
    ],
)
def test_unusable_data_sets_are_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        datasets.load(make(tmp_path))


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    names = ("a/1.png", "b/1.png", "b/2.png", "b/2.jpg", "b/3.png")
    for name in names:
        image(tmp_path / name)
    dataset = datasets.load(tmp_path)
    assert dataset.names == ("a/1", "b/1", "b/2.jpg", "b/2.png", "3")
    assert dataset.labels == (0, 1, 1, 1, 1)
    (tmp_path / "labels.csv").write_text("image,label\na/1.png,x\nb/1.png,y\n")
    assert datasets.load(tmp_path / "labels.csv").names == ("a/1", "b/1")


def test_bach_is_known_by_count_classes_and_names():
    names = tuple(f"{prefix}{i:03d}" for prefix in FOLDERS.values() for i in range(1, 101))
    assert bach.is_bach(names, BACH_CLASSES)
    assert bach.is_bach(names[::-1], BACH_CLASSES)
    assert not bach.is_bach(names[:-1], BACH_CLASSES)
    assert not bach.is_bach((*names, "n001"), BACH_CLASSES)
    assert not bach.is_bach((*names[:-1], "n001"), BACH_CLASSES)
    assert not bach.is_bach((*names[:-1], "iv101"), BACH_CLASSES)
    assert not bach.is_bach(names, BACH_CLASSES[::-1])
