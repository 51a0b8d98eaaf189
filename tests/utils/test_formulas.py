"""No cell of CSV is a formula to a spreadsheet, and every text is read back as it was."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from histojax.datasets import sheets
from histojax.utils import files, formulas

STARTS = "=+-@＝＋－＠"
NAMES = st.text(st.sampled_from([*STARTS, *"'; \t\r\na,\"1.e"]), max_size=12) | st.text(max_size=9)


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may compute what stands in a cell."""
    try:
        float(cell)
    except ValueError:
        return cell.lstrip().startswith(tuple(STARTS))
    return False


@given(NAMES)
@example("''=1")
@example("'")
@example(" \t=1")
def test_a_text_is_read_back_as_it_was_and_is_no_formula(name):
    cell = formulas.inert(name)
    assert formulas.original(cell) == name
    assert not is_formula(cell)


@given(NAMES)
@example('a;=HYPERLINK("http://x")')
@example('a\n@SUM(1)"')
def test_no_cell_is_a_formula_wherever_a_spreadsheet_splits_the_line(name):
    line = files.to_csv([["image", name, 0.5]])
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(line, newline=""), delimiter=delimiter):
            assert not any(map(is_formula, row))


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4))
def test_rows_of_tables_are_read_back_as_they_were(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "formulas.csv"
    files.write_csv(path, rows, ["=name", "+group"])
    read = files.read_csv(path, ["=name"])
    assert read == [{"=name": name, "+group": group} for name, group in rows]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\t'=1"),
        ("'=1", "''=1"),
        ("a-b", "a-b"),
        ("-0.25", "-0.25"),
        ("+1e-05", "+1e-05"),
        (-0.25, "-0.25"),
        (float("-inf"), "-inf"),
        (-3, "-3"),
        (None, ""),
    ],
)
def test_text_is_marked_and_numbers_are_not(value, cell):
    ((written, _),) = csv.reader(io.StringIO(files.to_csv([[value, "x"]]), newline=""))
    assert written == cell


def test_a_table_of_labels_that_histojax_wrote_has_its_names_again(tmp_path):
    files.write_csv(tmp_path / "labels.csv", [["-1 a.png", "=x"]], ["image", "label"])
    assert b"'-1 a.png,'=x" in (tmp_path / "labels.csv").read_bytes()
    rows = sheets.read(tmp_path / "labels.csv").rows[""]
    assert rows == [["image", "label"], ["-1 a.png", "=x"]]
