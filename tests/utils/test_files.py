"""Files are written whole or not at all, and damaged ones named; for buckets see test_remote.py."""

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils import files


def write_half(path) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "a[1].txt"
    files.write_text(path, "old\n")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_bytes() == b"old\n"
    assert list(path.parent.iterdir()) == [path]


def test_text_and_paths_become_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert str(files.as_path("~/a")) == "/home/anna/a"
    assert files.as_path(tmp_path) is tmp_path


def test_a_folder_lists_its_folders_and_files_by_name(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.txt").touch()
    folders, names = files.list_folder(tmp_path)
    assert folders == [tmp_path / "a", tmp_path / "b"]
    assert names == [tmp_path / "a.txt", tmp_path / "b.txt"]


def test_csv_is_read_as_it_was_written(tmp_path):
    files.write_csv(tmp_path / "a.csv", [["x", 'a,"b"\n'], [1, 0.5]], ["name", "value"])
    assert (tmp_path / "a.csv").read_bytes() == b'name,value\nx,"a,""b""\n"\n1,0.5\n'
    assert files.read_csv(tmp_path / "a.csv", ["value"]) == [
        {"name": "x", "value": 'a,"b"\n'},
        {"name": "1", "value": "0.5"},
    ]
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfname\r\nx\r\n")
    assert files.read_csv(tmp_path / "bom.csv", ["name"]) == [{"name": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as CSV: .*No such file"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
        (b"", "has columns ; expected also name"),
        (b"other\nx\n", "has columns other; expected also name"),
        (b"name,value\nx\n", "has rows of another length"),
        (b"name,value\nx,1,2\n", "has rows of another length"),
    ],
)
def test_csv_that_is_damaged_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"a.csv {message}"):
        files.read_csv(tmp_path / "a.csv", ["name"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as JSON: .*No such file"),
        (b"{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        (b"[]", r"is damaged \(no object\)"),
        (b'{"a": 1}', r"is damaged \(without b, c\)"),
    ],
)
def test_json_that_is_damaged_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=f"a.json {message}"):
        files.read_json(tmp_path / "a.json", ("a", "b", "c"))


def test_json_and_arrays_are_read_as_they_were_written(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1, None]})
    assert files.read_json(tmp_path / "a.json", ["a"]) == {"a": [1, None]}
    array = np.arange(6.0).reshape(2, 3)
    files.write_array(tmp_path / "a.npy", array)
    files.write_arrays(tmp_path / "a.npz", {"x": array})
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["x"], array)
    with pytest.raises(ValueError, match="[Oo]bject"):
        files.write_array(tmp_path / "b.npy", np.array([None]))
    assert not (tmp_path / "b.npy").exists()


def test_differences_name_each_value_of_nested_objects():
    found = {"protocol": {"crops": 20, "p": 3}, "seed": 0}
    expected = {"protocol": {"crops": 6, "p": 3}, "seed": 0, "view": "half"}
    assert files.differences(found, expected) == [
        "protocol.crops: found 20, expected 6",
        "view: found None, expected half",
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    files.require_writable(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/out cannot be written to: .*Name another one"):
        files.require_writable(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("image,label\na,b\n", ","),
        ("Cohort A, Basel 2021\nimage;label\na;b\nc;d\n", ";"),
        ("Cohort A; Basel\nimage,label\na,b\nc,d\n", ","),
        ("image;label;comment (a,b,c,d)\nx;y;\nz;y;a, b\n", ";"),
        ("image\tlabel\na\tb, c\n", "\t"),
        ("image\na\n", ","),
    ],
)
def test_the_delimiter_is_what_most_lines_have(text, delimiter):
    assert files.delimiter_of(text) == delimiter
