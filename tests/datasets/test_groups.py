"""Tables of patients, as people make them, give images their groups; nothing is guessed."""

import logging
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from histojax import datasets
from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset, groups
from histojax.errors import InputError
from histojax.images.names import name_images

NAMES = ("n001", "n002", "b001", "b002", "is001", "iv001")
BACH = Dataset({name: Path(f"{name}.tif") for name in NAMES}, (0, 0, 1, 1, 2, 3), BACH_CLASSES)


def sheet(path: Path, *sheets: list[list], merged: str = "") -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        made = book.create_sheet(f"Sheet{number + 1}")
        for row in rows:
            made.append(row)
        if merged:
            made.merge_cells(merged)
    book.save(path)
    return path


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def of(path: Path, column: str | None = None, data: Dataset = BACH) -> tuple[str, ...]:
    return groups.add_groups(data, path, column).groups


ROWS = [
    ["Patient", "Histology"],
    [12, "n001.tif"],
    [12.0, "N002.TIF "],
    ["12", "b001"],
    [3, " b002.tif"],
    [None, "is001.tif"],
]
EXPECTED = ("12", "12", "12", "3", "", "")


def test_a_spreadsheet_gives_its_groups(tmp_path):
    assert of(sheet(tmp_path / "t.xlsx", ROWS)) == EXPECTED


def test_slides_are_known_by_their_names_with_ending(tmp_path):
    data = Dataset({"s1": Path("s1.svs"), "s2": Path("s2.mrxs")}, (0, 1), ("a", "b"))
    assert of(table(tmp_path / "t.csv", "slide,patient\nS1.SVS,p\ns2.mrxs,q\n"), data=data) == (
        "p",
        "q",
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_csv_gives_its_groups_whatever_separates_its_cells(tmp_path, separator, start):
    lines = [separator.join("" if cell is None else str(cell) for cell in row) for row in ROWS]
    assert of(table(tmp_path / "t.csv", start + "\r\n".join(lines) + "\r\n")) == EXPECTED


def test_columns_are_found_wherever_they_are(tmp_path):
    rows = [
        [None, None, None, None],
        ["BACH, part A"],
        [],
        ["Diagnosis", "Patient no.", "Remark", "Image"],
    ]
    rows += [
        ["x", 4, "n001 again", "Photos/Normal/n001.tif"],
        ["y", None, None, "Photos\\Benign\\B001.tif"],
    ]
    path = sheet(tmp_path / "t.xlsx", [["Legend"], ["nothing here"]], rows)
    assert of(path) == ("4", *[""] * 5)


@pytest.mark.parametrize("cell", ["", " ", "-", "?", "NA", "n/a", "#N/A", "NaN", "None", "Unknown"])
def test_a_cell_that_says_unknown_is_no_group(tmp_path, cell):
    path = table(tmp_path / "t.csv", f"image,patient\nn001,{cell}\nn002,7\n")
    assert of(path) == ("", "7", *[""] * 4)


@pytest.mark.parametrize(
    ("cell", "group"),
    [("12.0", "12"), ("12.50", "12.50"), ("-3.00", "-3"), ("P1.0", "P1.0"), ("012", "012")],
)
def test_a_whole_number_has_no_decimals(cell, group):
    assert groups.group_name(f" {cell} ") == group


def test_merged_cells_have_one_group_and_blank_ones_below_a_group_none(tmp_path):
    rows = [["patient", "image"], [5, "n001"], [None, "n002"], [None, "b001"], [6, "b002"]]
    assert of(sheet(tmp_path / "a.xlsx", rows)) == ("5", "", "", "6", "", "")
    assert of(sheet(tmp_path / "b.xlsx", rows, merged="A2:A4")) == ("5", "5", "5", "6", "", "")


def test_the_column_can_be_named(tmp_path):
    path = table(tmp_path / "t.csv", "image,patient,slide\nn001,p,s\nn002,p,t\n")
    assert of(path, "Slide")[:2] == ("s", "t")
    assert of(path, "patient")[:2] == ("p", "p")
    with pytest.raises(
        InputError,
        match="more than one column that may be of patients.*--group_column: patient, slide",
    ):
        of(path)
    with pytest.raises(InputError, match="0 columns named block, expected one of: patient, slide"):
        of(path, "block")


@pytest.mark.parametrize(
    "header", ["Patient", "patient_id", "SLIDE", "Case No", "Group", "subject", "ID", "block id"]
)
def test_a_header_says_what_is_a_group(tmp_path, header):
    assert of(table(tmp_path / "t.csv", f"image,label,{header}\nn001,Normal,1\n"))[0] == "1"


@pytest.mark.parametrize("header", ["label", "identity", "width", "block"])
def test_any_other_header_is_no_group(tmp_path, header):
    with pytest.raises(
        InputError, match=f"no column that says it is of patients.*--group_column: {header}"
    ):
        of(table(tmp_path / "t.csv", f"image,{header}\nn001,1\n"))


def test_names_that_are_numbers_are_distinguished_from_groups_by_the_header(tmp_path):
    data = Dataset(name_images([Path("1.png"), Path("2.png")]), (0, 1), ("a", "b"))
    assert of(table(tmp_path / "t.csv", "patient,image\n1,2\n2,1\n"), data=data) == ("2", "1")
    with pytest.raises(InputError, match="names images of the data in several columns, patient, x"):
        of(table(tmp_path / "t.csv", "patient,x\n1,2\n2,1\n"), data=data)


def test_names_that_differ_in_case_alone_are_kept_apart(tmp_path):
    data = Dataset(name_images([Path("a.png"), Path("A.png")]), (0, 1), ("x", "y"))
    assert of(table(tmp_path / "t.csv", "image,group\na.png,1\nA.png,2\n"), data=data) == ("1", "2")


def test_a_cell_that_may_mean_two_names_means_neither(tmp_path):
    data = Dataset(
        name_images([Path("aB.png"), Path("Ab.png"), Path("c.png")]), (0, 1, 1), ("x", "y")
    )
    path = table(tmp_path / "t.csv", "image,group\nAB.png,1\nC.png,2\n")
    assert of(path, data=data) == ("", "", "2")


def test_a_title_above_the_header_is_no_header(tmp_path):
    rows = [[None, "Patients of the study"], ["Image", "Patient"], ["n999", 9], ["n001", 1]]
    path = sheet(tmp_path / "t.xlsx", rows)
    assert groups.read(path, NAMES) == groups.GroupTable({"n001": "1"}, "Patient", ("n999",))


def test_a_name_may_have_dots(tmp_path):
    data = Dataset(name_images([Path("a.1.png"), Path("a.2.png")]), (0, 1), ("x", "y"))
    assert of(table(tmp_path / "t.csv", "image,group\na.1,1\na.2.png,2\n"), data=data) == ("1", "2")


def test_images_that_are_not_in_the_data_are_reported(tmp_path, caplog):
    path = table(tmp_path / "t.csv", "image,group\nn001,1\nx001.tif,2\nx002.tif,3\n,4\n")
    with caplog.at_level(logging.WARNING):
        assert of(path) == ("1", "", "", "", "", "")
    assert groups.read(path, NAMES).unmatched == ("x001.tif", "x002.tif")
    assert "has 2 images that are not in the data (x001.tif, x002.tif)" in caplog.text


def test_a_table_may_start_with_images_that_are_not_in_the_data(tmp_path):
    path = table(
        tmp_path / "t.csv", "Patients of BACH\nimage,patient\nn999,patient 9\nn001,patient 1\n"
    )
    assert of(path)[0] == "patient 1"
    assert groups.read(path, NAMES).unmatched == ("n999",)
    assert groups.read(path, NAMES, "patient").column == "patient"


def test_an_image_may_be_named_twice_with_one_group_but_not_with_two(tmp_path):
    assert of(table(tmp_path / "t.csv", "image,group\nn001,1\nn001.tif,1.0\nn001,\n"))[0] == "1"
    with pytest.raises(InputError, match=r"gives images more than one group: n001 \(1, 2\)"):
        of(table(tmp_path / "t.csv", "image,group\nn001,1\nN001.tif,2\n"))


def damaged(path: Path) -> Path:
    sheet(path, ROWS)
    path.write_bytes(path.read_bytes()[:-300])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda root: table(root / "t.csv", "image,group\nx,1\n"),
            "names no image of the data, such as n001",
        ),
        (lambda root: table(root / "t.csv", ""), "names no image"),
        (lambda root: sheet(root / "t.xlsx", []), "names no image"),
        (
            lambda root: sheet(root / "t.xlsx", ROWS, ROWS),
            "names images in several sheets, Sheet1, Sheet2",
        ),
        (
            lambda root: table(root / "t.csv", "n001,1\nn002,2\n"),
            "no column that says .*--group_column: column 2",
        ),
        (
            lambda root: table(root / "t.xlsx", "image,group\nn001,1\n"),
            "cannot be read as a spreadsheet",
        ),
        (lambda root: damaged(root / "t.xlsx"), "cannot be read as a spreadsheet"),
        (lambda root: sheet(root / "t.xlsx", ROWS).rename(root / "t.csv"), "cannot be read as CSV"),
        (lambda root: root / "absent.xlsx", "is not there"),
        (lambda root: root / "absent.csv", "cannot be read as CSV: .*No such file"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        of(make(tmp_path))


def test_a_table_without_a_header_is_read_once_its_column_is_named(tmp_path):
    assert of(table(tmp_path / "t.csv", "n001,1\nn002,2\n"), "column 2")[:2] == ("1", "2")


def test_groups_of_a_table_replace_those_of_the_data(tmp_path):
    data = Dataset(BACH.images, BACH.labels, BACH_CLASSES, ("old",) * 6)
    assert of(table(tmp_path / "t.csv", "image,group\nn001,new\n"), data=data) == ("new", *[""] * 5)


def test_a_label_table_may_leave_groups_unknown(tmp_path):
    for name in ("x", "y", "z"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
    path = table(tmp_path / "labels.csv", "image,label,group\nx.png,a,12.0\ny.png,b,\nz.png,b\n")
    assert datasets.load(path).groups == ("12", "", "")
    unknown = datasets.load(table(path, "image,label,group\nx.png,a,\ny.png,b,-\n"))
    assert unknown.groups is None
    says_nothing, unnamed = unknown.notices
    assert says_nothing == "column group says of no image which group it is of"
    assert unnamed == (
        f"left out, since labels.csv does not name them: 1 image, such as {tmp_path / 'z.png'}"
    )


def test_a_column_that_is_empty_for_every_image_is_refused(tmp_path):
    (tmp_path / "groups.csv").write_text("image,patient\na.png,\nb.png,unknown\n")
    dataset = Dataset(name_images([Path("a.png"), Path("b.png")]), (0, 1), ("x", "y"))
    with pytest.raises(InputError, match="column patient is empty"):
        groups.add_groups(dataset, tmp_path / "groups.csv")
