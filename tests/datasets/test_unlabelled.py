"""Images without labels from folders, single files and lists."""

import pytest
from PIL import Image

from histojax.datasets.unlabelled import find, find_images
from histojax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b.png", "a.tif", "in/c.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_folders_images_and_lists(folder):
    (folder / "list.txt").write_text("in/c.jpg\n\n  b.png \n")
    (folder / "list.csv").write_text("number,image\n1,a.tif\n2,gone.png\n")
    a, b, c = folder / "a.tif", folder / "b.png", folder / "in" / "c.jpg"
    assert find_images([folder / "in"]) == find_images([str(folder / "in")]) == {"c": c}
    assert find_images([b]) == {"b": b}
    assert list(find_images([folder / "list.txt"]).items()) == [("c", c), ("b", b)]
    # An image that is not there is reported when it is read.
    assert find_images([folder / "list.csv"]) == {"a": a, "gone": folder / "gone.png"}
    assert find_images([folder / "in", b]) == {"c": c, "b": b}


def test_hidden_and_other_files_in_a_folder_are_ignored(folder):
    for junk in ("in/.a.png", "in/Thumbs.db", "in/a.txt"):
        (folder / junk).touch()
    found = find([folder / "in"])
    assert found.images == {"c": folder / "in" / "c.jpg"}
    assert found.notices == (f"left out below {folder / 'in'}, since they are no images: 1 .txt",)


def test_images_in_folders_below_a_folder_are_found_and_told(folder):
    found = find([folder])
    assert list(found.images) == ["a", "b", "c"]
    assert found.notices == (f"1 of 3 images lie in folders below {folder}, such as in",)
    (folder / "in" / "a.tif").touch()
    (folder / "in" / "scan.vsi").touch()
    assert list(find_images([folder])) == ["a", "b", "in/a", "c", "scan"]


def test_a_list_may_be_a_table_as_windows_writes_it(folder):
    (folder / "list.csv").write_text("No;Filename\r\n1;in\\c.jpg\r\n", encoding="utf-16")
    assert find_images([folder / "list.csv"]) == {"c": folder / "in" / "c.jpg"}


def test_images_of_one_name_are_told_apart_and_a_file_is_named_once(folder):
    (folder / "a.tif").rename(folder / "b.tif")
    assert set(find_images([folder])) >= {"b.png", "b.tif"}
    with pytest.raises(InputError, match="are named more than once: .*b.png"):
        find_images([folder, folder / "b.png"])


def test_what_holds_no_image_is_refused(folder):
    (folder / "empty").mkdir()
    (folder / "blank.txt").write_text("\n")
    (folder / "other.csv").write_text("width\na.tif\n")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    refusals = {
        "empty": "holds no image",
        "gone": "is not there",
        "blank.txt": "names no image",
        "other.csv": "expected also image",
        "binary.txt": "is no text",
    }
    for name, message in refusals.items():
        with pytest.raises(InputError, match=message):
            find_images([folder / name])
    (folder / "a.json").touch()
    with pytest.raises(InputError, match="no folder, image or list"):
        find_images([folder / "a.json"])
