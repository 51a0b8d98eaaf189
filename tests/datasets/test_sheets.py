"""Tables as spreadsheets write them are read as rows of text, and what is no table is refused."""

import openpyxl
import pytest

from histojax.datasets import sheets
from histojax.errors import InputError
from histojax.utils import files

ROWS = [["image", "label"], ["a.png", "gutartig, groß"], ["b.png", "bösartig"]]


def text_of(separator: str) -> str:
    lines = (separator.join(f'"{cell}"' if separator in cell else cell for cell in r) for r in ROWS)
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_dialect_of_excel_has_the_same_cells(tmp_path, separator, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(text_of(separator).encode(encoding))
    content = sheets.read(path)
    assert content.rows == {"": ROWS}
    if encoding == "cp1252":
        assert content.notices == (
            f"{path} is not UTF-8: read as Windows-1252, as Excel writes it",
        )
    else:
        assert content.notices == ()
        assert [list(row.values()) for row in files.read_csv(path, ROWS[0])] == ROWS[1:]


@pytest.mark.parametrize("start", ["sep=;\r\n", '"sep=;"\r\n', "\ufeffsep=;\r\n"])
def test_excels_first_line_names_the_separator(tmp_path, start):
    (tmp_path / "t.csv").write_text(start + "a,b;c\r\n1;2\r\n", encoding="utf-8")
    assert sheets.read(tmp_path / "t.csv").rows == {"": [["a,b", "c"], ["1", "2"]]}


def test_empty_last_columns_empty_rows_and_blanks_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text("image, label,,\n\n,,,\n a.png ,x,,\nb.png,,,\n")
    assert sheets.read(tmp_path / "t.csv").rows[""] == [
        ["image", "label"],
        ["a.png", "x"],
        ["b.png", ""],
    ]


def test_a_workbook_has_its_sheets(tmp_path):
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append([*row, None])
    book.create_sheet("more").append([1, 2.5])
    book.save(tmp_path / "T.XLSX")
    assert sheets.read(tmp_path / "T.XLSX").rows == {"Sheet": ROWS, "more": [["1", "2.5"]]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "workbook of an old Excel .* save it as .xlsx"),
        ("t.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "workbook of an old Excel"),
        ("t.csv", "image".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("t.csv", b"\x89PNG\r\n\0\0", "cannot be read as CSV"),
        ("t.xlsx", b"image,label\n", "cannot be read as a spreadsheet"),
        ("t.csv", None, "cannot be read as CSV: .*No such file[^.]*t.csv'$"),
        ("t.xlsx", None, "is not there"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        sheets.read(tmp_path / name)
