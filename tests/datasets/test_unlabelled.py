"""Images without labels from folders, single files and lists."""

import pytest
from PIL import Image

from histojax.datasets.unlabelled import find_images
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
    for junk in (".a.png", "Thumbs.db", "a.txt"):
        (folder / junk).touch()
    assert find_images([folder]) == {"a": folder / "a.tif", "b": folder / "b.png"}


def test_images_of_one_name_are_told_apart_and_a_file_is_named_once(folder):
    (folder / "a.tif").rename(folder / "b.tif")
    assert set(find_images([folder])) >= {"b.png", "b.tif"}
    with pytest.raises(InputError, match="are named more than once: .*b.png"):
        find_images([folder, folder / "b.png"])


def test_what_holds_no_image_is_refused(folder):
    (folder / "empty").mkdir()
    (folder / "blank.txt").write_text("\n")
    (folder / "other.csv").write_text("name\na.tif\n")
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
