"""Descriptors are checked when they are written and when they are read."""

from pathlib import Path

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.extraction import store
from histojax.utils import files

DESCRIPTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
MANIFEST = {"protocol": {"crops": 20, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "ab"}}


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b"):
        store.write(tmp_path, "VGG-0.5-400", name, DESCRIPTORS)
    return tmp_path


def test_descriptors_have_the_authors_layout(root):
    path = root / "VGG-0.5-400" / "a.npy"
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), DESCRIPTORS)
    np.testing.assert_array_equal(
        store.read(root, "VGG-0.5-400", ["b", "a"]), np.stack([DESCRIPTORS] * 2)
    )
    assert store.configurations(root) == ("VGG-0.5-400",)
    assert store.image_names(root, "VGG-0.5-400") == ("a", "b")
    assert store.is_done(root, "VGG-0.5-400", "a", (3, 5))
    assert not store.is_done(root, "VGG-0.5-400", "c", (3, 5))


def test_descriptors_of_images_that_share_a_file_name_lie_in_subfolders(tmp_path):
    names = ("benign/p.1/x", "malignant/x.png", "y")
    for name in names[:2]:
        store.write(tmp_path, "VGG-0.5-400", name, DESCRIPTORS)
    assert (tmp_path / "VGG-0.5-400" / "malignant" / "x.png.npy").exists()
    assert store.configurations(tmp_path) == ("VGG-0.5-400",)
    store.write(tmp_path, "VGG-0.5-400", names[2], DESCRIPTORS)
    assert store.configurations(tmp_path) == ("VGG-0.5-400",)
    assert store.image_names(tmp_path, "VGG-0.5-400") == names
    assert store.read(tmp_path, "VGG-0.5-400", names).shape == (3, 3, 5)


def test_descriptors_are_written_again_whole_and_in_any_memory_order(root):
    for array in (
        np.ones((1, 4), np.float32),
        np.asfortranarray(DESCRIPTORS),
        DESCRIPTORS[::-1, ::2],
    ):
        store.write(root, "VGG-0.5-400", "a", array)
        np.testing.assert_array_equal(store.read(root, "VGG-0.5-400", ["a"])[0], array)
    assert sorted(path.name for path in (root / "VGG-0.5-400").iterdir()) == ["a.npy", "b.npy"]


def test_configurations_are_in_the_papers_order(root):
    for name in ("ResNet-0.5-650", "Inception-0.5-400", "ResNet-0.5-400", "Another-1"):
        store.write(root, name, "a", DESCRIPTORS)
    (root / "empty").mkdir()
    assert store.configurations(root) == (
        "ResNet-0.5-400",
        "ResNet-0.5-650",
        "Inception-0.5-400",
        "VGG-0.5-400",
        "Another-1",
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_descriptors_that_are_not_finite_are_not_written(tmp_path, value):
    spoilt = DESCRIPTORS.copy()
    spoilt[1, 2] = value
    with pytest.raises(InputError, match="VGG-0.5-400 gave descriptors of a that are not finite"):
        store.write(tmp_path, "VGG-0.5-400", "a", spoilt)
    assert list(tmp_path.rglob("*")) == []


def pickled(path):
    np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:150])


def archive(path):
    with open(path, "wb") as file:
        np.savez(file, a=DESCRIPTORS)


def broken_archive(path):
    path.write_bytes(b"PK\x03\x04garbage")


def empty(path):
    path.write_bytes(b"")


def doubles(path):
    np.save(path, DESCRIPTORS.astype(np.float64))


def vector(path):
    np.save(path, DESCRIPTORS[0])


def wide(path):
    np.save(path, np.ones((3, 6), np.float32))


def spoilt(path):
    array = DESCRIPTORS.copy()
    array[2, 4] = np.nan
    np.save(path, array)


def endless(path):
    array = DESCRIPTORS.copy()
    array[0, 0] = -np.inf
    np.save(path, array)


def text(path):
    path.write_text("not an array")


def folder(path):
    path.unlink()
    path.mkdir()


def absent(path):
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "cannot be read"),
        (cut, "cannot be read"),
        (empty, "cannot be read"),
        (archive, "cannot be read"),
        (broken_archive, "cannot be read"),
        (doubles, "float64"),
        (vector, "expected float32"),
        (wide, r"has shape \(3, 6\)"),
        (spoilt, "NaN"),
        (endless, "infinity"),
        (text, "cannot be read"),
        (folder, "cannot be read"),
        (absent, "lacks the descriptors of 1 of 2"),
    ],
)
def test_damaged_descriptors_are_refused_by_name(root, spoil, message):
    spoil(root / "VGG-0.5-400" / "b.npy")
    with pytest.raises(InputError, match=message) as refusal:
        store.read(root, "VGG-0.5-400", ["a", "b"])
    assert "b.npy" in str(refusal.value)


def test_descriptors_cut_anywhere_are_refused(root):
    path = root / "VGG-0.5-400" / "b.npy"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="b.npy cannot be read"):
            store.read(root, "VGG-0.5-400", ["b"])


def test_a_pickle_is_never_run(root):
    ran = root / "ran"

    class Trap:
        def __reduce__(self):
            return Path.touch, (ran,)

    path = root / "VGG-0.5-400" / "b.npy"
    np.save(path, np.array([[Trap()]], dtype=object), allow_pickle=True)
    for read in (
        lambda: store.read(root, "VGG-0.5-400", ["b"]),
        lambda: store.is_done(root, "VGG-0.5-400", "b", (1, 1)),
    ):
        with pytest.raises(InputError, match="b.npy cannot be read"):
            read()
    assert not ran.exists()


def test_a_file_of_another_shape_is_not_taken_for_done(root):
    with pytest.raises(InputError, match="another protocol"):
        store.is_done(root, "VGG-0.5-400", "a", (50, 5))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def fail():
        with files.atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def rows_that_fail():
    yield ("a", "b")
    raise RuntimeError


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda path: files.write_csv(path, rows_that_fail()), RuntimeError),
        (lambda path: files.write_json(path, {"a": object()}), TypeError),
        (lambda path: files.write_text(path, "\ud800"), UnicodeEncodeError),
        (lambda path: files.write_array(path, np.array([{}], dtype=object)), ValueError),
    ],
)
@pytest.mark.parametrize("old", ["old", None])
def test_every_writer_writes_whole_or_not_at_all(tmp_path, write, error, old):
    path = tmp_path / "file"
    if old:
        path.write_text(old)
    with pytest.raises(error):
        write(path)
    assert [found.read_text() for found in tmp_path.iterdir()] == ([old] if old else [])


def test_a_file_is_replaced_at_the_end_only_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    files.write_text(path, "old")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert (path.read_text(), temporary.parent) == ("old", path.parent)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("below", ["file/folder", "file"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to") as refusal:
        files.require_writable(tmp_path / below)
    assert str(tmp_path / below) in str(refusal.value)


def test_a_place_that_the_system_forbids_is_named():
    with pytest.raises(InputError, match="/proc/absent/folder cannot be written to"):
        files.require_writable(Path("/proc/absent/folder"))


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    files.require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,c\n1,2\n", "has columns a, c; expected also b"),
        (b"a,b\n1\n", "rows of another length"),
        (b"a,b\n1,2,3\n", "rows of another length"),
        (b"\xff\xfea", "cannot be read as CSV"),  # UTF-16, cut short.
        (b"\xff\xfe", "expected also a, b"),
        (b"", "expected also a, b"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_damaged_csv_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        files.read_csv(path, ("a", "b"))
    assert str(path) in str(refusal.value)


def test_csv_survives_a_round_trip(tmp_path):
    cells = ["plain", "a,b", 'a "b"', "two\nlines", "", "\u00fc"]
    files.write_csv(tmp_path / "a.csv", [(cell, "x") for cell in cells], ("a", "b"))
    assert [row["a"] for row in files.read_csv(tmp_path / "a.csv", ("a", "b"))] == cells
