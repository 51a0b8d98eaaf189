"""Label tables as laboratories keep them: their columns, their names of files, their labels.

Tests tables.py, columns.py, lookup.py and labels.py.
"""

from pathlib import Path

import openpyxl
import pytest

from histojax import datasets
from histojax.datasets import groups, labels
from histojax.datasets.columns import group_notice
from histojax.errors import InputError

FILES = ("benign/b1.png", "benign/b2.png", "malignant/m1.png", "malignant/m2.png")


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def table(root: Path, header: str, *cells: str, name: str = "t.csv") -> Path:
    """A table of the four files: a line each, of its file, its label, and what is passed."""
    lines = [f"{file},{file.split('/')[0]},{cell}" for file, cell in zip(FILES, cells, strict=True)]
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root / name


@pytest.mark.parametrize(
    ("heading", "noun"),
    [
        ("group", "group"),
        ("Group", "group"),
        ("patient", "patient"),
        ("Patient_ID", "patient"),
        ("PATIENT ID", "patient"),
        ("patient-no.", "patient"),
        ("case", "case"),
        ("Case ID", "case"),
        ("subject", "subject"),
        ("Slide", "slide"),
        ("slide_id", "slide"),
        ("Pat.-Nr.", "patient"),
        ("Fallnummer", "case"),
        ("Donor", "donor"),
    ],
)
def test_a_column_of_patients_or_slides_is_taken_and_told(root, heading, noun):
    loaded = datasets.load(table(root, f"image,label,{heading}", "p", "q", "q", ""))
    assert loaded.groups == ("p", "q", "q", "")
    assert loaded.notices == (
        f"column {heading} keeps images of one {noun} together: 2 {noun}s, 3 images; 1 image of "
        f"unknown {noun}",
    )


def test_groups_in_two_spellings_are_refused(root):
    path = table(root, "image,label,patient", "p1", "P 1", "q", "")
    with pytest.raises(InputError, match="zeros alone would be kept apart .*: 'P 1' and 'p1'"):
        datasets.load(path)
    path = table(root, "image,label,patient", "0", "case 1 12", "case 11 2", "")
    assert datasets.load(path).groups == ("0", "case 1 12", "case 11 2", "")
    with pytest.raises(InputError, match="'007' and '7'"):
        datasets.load(table(root, "image,label,patient", "7", "007", "q", ""))
    path = table(root, "image,label,patient", "p1", "P 1", "q", "")
    with pytest.raises(InputError, match="'P 1' and 'p1'"):
        groups.read(path, datasets.load(path, group_column="none").names)


def test_groups_of_one_image_are_told_to_keep_nothing_together():
    assert "Each has one image, so nothing is kept together" in group_notice("x", "case", "abcd")


def test_any_other_column_is_named_with_what_uses_it(root):
    path = table(root, "image,label,Stainer", "s", "s", "t", "t")
    loaded = datasets.load(path)
    assert loaded.groups is None
    assert loaded.notices == (
        "column Stainer is not used, in t.csv; to keep images of one value together, as of one "
        "patient, pass --group_column=NAME",
    )
    assert datasets.load(path, group_column="stainer").groups == ("s", "s", "t", "t")
    without = datasets.load(path, with_groups=False)
    assert (without.groups, without.notices) == (None, ())


def test_several_columns_of_groups_are_a_question_that_the_caller_answers(root):
    path = table(root, "image,label,patient,slide", "p,1", "p,2", "q,3", "q,4")
    with pytest.raises(InputError, match="several columns .*: patient, slide. .*--group_column="):
        datasets.load(path)
    assert datasets.load(path, group_column="Slide").groups == ("1", "2", "3", "4")
    assert datasets.load(path, group_column="none").groups is None
    with pytest.raises(InputError, match="no column called block: name one of patient, slide"):
        datasets.load(path, group_column="block")
    path = table(root, "image,label,patient,group", "p,1", "p,1", "q,2", "q,2")
    with pytest.raises(InputError, match="several columns .*: patient, group. "):
        datasets.load(path)  # Groups of one's own may be parts of a split.
    assert datasets.load(path, group_column="group").groups == ("1", "1", "2", "2")


@pytest.mark.parametrize("header", ["File,Class,note", "diagnosis is third,path,Diagnosis"])
def test_columns_of_images_and_labels_may_have_other_headings(root, header):
    path = table(root, header, "x", "x", "y", "y")
    if header.startswith("diagnosis"):
        lines = [f"{i},{file},{file[0]}" for i, file in enumerate(FILES)]
        path.write_text("\n".join([header, *lines]))
    loaded = datasets.load(path)
    image, label = ("File", "Class") if header.startswith("File") else ("path", "Diagnosis")
    assert loaded.notices[:2] == (
        f"column {image} holds the images",
        f"column {label} holds the labels",
    )
    assert loaded.labels == (0, 0, 1, 1)


def test_images_are_recognised_by_their_endings_where_headings_do_not_say(root):
    assert datasets.load(table(root, "slide,label,patient", *"ppqq")).groups == tuple("ppqq")
    (root / "t.csv").write_text("file,name,label\n1,b1.png,a\n2,m1.png,b\n")
    assert datasets.load(root / "t.csv").names == ("b1", "m1")
    for header in ("file,name,label", "image,class,diagnosis"):
        (root / "t.csv").write_text(f"{header}\n1,2,a\n")
        with pytest.raises(InputError, match="has several columns that may .*Rename the one"):
            datasets.load(root / "t.csv")


@pytest.mark.parametrize(
    "names",
    [
        [name.replace("/", "\\") for name in FILES],
        [f"C:\\Users\\me\\data\\{name}".replace("/", "\\") for name in FILES],
        [f"/lab/data/{name}" for name in FILES],
        [Path(name).name for name in FILES],
        [Path(name).stem for name in FILES],
        [name.upper() for name in FILES],
        [name.replace(".png", ".tif") for name in FILES],
        [f"./{name}" for name in FILES],
    ],
)
def test_files_are_found_as_tables_name_them(root, names):
    lines = [f"{name},{file[0]}" for name, file in zip(names, FILES, strict=True)]
    (root / "t.csv").write_text("\n".join(["image,label", *lines]))
    loaded = datasets.load(root / "t.csv")
    assert loaded.paths == tuple(root / name for name in FILES)
    inexact = Path(names[0].replace("\\", "/")).name != "b1.png" or names[0][0] in "C/"
    assert bool(loaded.notices) == inexact


def test_a_file_of_the_same_name_in_another_folder_is_not_taken(root):
    (root / "benign/x.png").touch()
    (root / "t.csv").write_text("image,label\n/lab/malignant/x.png,a\nbenign/b1.png,b\n")
    with pytest.raises(InputError, match=r"x.png \(not found\)"):
        datasets.load(root / "t.csv")


def test_an_image_in_another_folder_than_the_table_says_is_not_found(root):
    (root / "t.csv").write_text("image,label\nbenign/b1.png,a\nbenign\\m1.png,b\n")
    with pytest.raises(InputError, match=r"benign\\m1.png \(not found\)"):
        datasets.load(root / "t.csv")


def test_a_workbook_may_have_titles_other_sheets_and_numbers(root):
    book = openpyxl.Workbook()
    book.active.append(["our study"])
    rows = [["Image", "Class", "Patient ID"], ["b1.png", 0, 7.0], ["m1.png", 1, 8]]
    sheet = book.create_sheet("images")
    for row in [["Images of the study, 2024"], *rows]:
        sheet.append(row)
    book.save(root / "t.xlsx")
    loaded = datasets.load(root / "t.xlsx")
    assert (loaded.classes, loaded.groups) == (("0", "1"), ("7", "8"))
    assert loaded.notices[:2] == (
        "sheet images is read, which has images and labels",
        "left out above the headings: 1 row",
    )
    legend = book.create_sheet("legend")
    for row in [["class", "diagnosis", "file"], ["0", "benign", "b"], ["1", "malignant", "m"]]:
        legend.append(row)
    book.save(root / "t.xlsx")
    assert datasets.load(root / "t.xlsx").groups == ("7", "8")
    for row in rows:
        book.active.append(row)
    book.save(root / "t.xlsx")
    with pytest.raises(InputError, match="in several sheets, Sheet, images"):
        datasets.load(root / "t.xlsx")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"benign": 9, "Benign": 2}, r"'Benign' \(2 images\) and 'benign' \(9 images\) differ in"),
        ({"in situ": 9, "in_situ": 9}, "differ in case or blanks alone"),
        ({"benign": 20, "bening": 1}, r"'bening' \(1 image\) is nearly spelt .*mean benign\?"),
        ({"malignant": 60, "malignat": 6}, "did you mean malignant?"),
        ({"benign": 9, "malignant": 1, "normal": 2}, None),
        ({"grade 1": 30, "grade 2": 1}, None),
        ({"benign": 9, "bening": 8}, None),
        ({"abnormal": 1, "normal": 1}, None),
        ({"abnormal": 1, "normal": 40}, None),
        ({"noninvasive": 1, "invasive": 40}, None),
        ({"grade III": 1, "grade II": 40}, None),
        ({"Stage IB": 1, "Stage IA": 40}, None),
        ({"luminal B": 1, "luminal A": 40}, None),
    ],
)
def test_classes_that_are_perhaps_one_are_a_question(counts, message):
    names = [name for name, count in counts.items() for _ in range(count)]
    if message is None:
        labels.check(names)
        return
    with pytest.raises(InputError, match=message):
        labels.check(names)


def test_a_misspelt_class_is_asked_about_unless_the_classes_are_passed(root):
    (root / "t.csv").write_text("image,label\nb1,benign\nb2,Benign\nm1,malignant\nm2,malignant\n")
    with pytest.raises(InputError, match="differ in case or blanks alone"):
        datasets.load(root / "t.csv")
    both = ("benign", "Benign", "malignant")
    assert datasets.load(root / "t.csv", both).labels == (0, 1, 2, 2)
    with pytest.raises(InputError, match=r"unknown class Benign; .* Did you mean benign\?"):
        datasets.load(root / "t.csv", ("benign", "malignant"))
