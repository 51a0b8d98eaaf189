"""Images are named by their stems, and by their paths where stems are shared."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.errors import InputError
from histojax.images.names import by_name, file_label, name_images, require_inside

ROOT = Path("/data")


def names_of(*paths: str) -> list[str]:
    return list(name_images([ROOT / path for path in paths], ROOT))


def test_unique_stems_are_names_whatever_their_folder():
    assert names_of("benign/b2.png", "malignant/p1/m1.tif", "x.1.png") == ["b2", "m1", "x.1"]


def test_images_that_share_a_stem_have_their_paths_and_the_others_do_not():
    assert names_of("benign/1.png", "malignant/1.png", "2.png") == ["benign/1", "malignant/1", "2"]
    assert names_of("a/1.png", "a/1.tif", "b/1.png") == ["a/1.png", "a/1.tif", "b/1"]
    assert names_of("1.png", "1.tif") == ["1.png", "1.tif"]


def test_names_are_relative_to_the_deepest_common_folder_by_default():
    paths = [Path("/lab/data/a/1.png"), Path("/lab/data/b/c/1.png")]
    assert list(name_images(paths)) == ["a/1", "b/c/1"]
    assert list(name_images([*paths, Path("/other/1.png")], ROOT)) == [
        "lab/data/a/1",
        "lab/data/b/c/1",
        "other/1",
    ]


def test_no_file_is_lost_that_lies_outside_the_folder():
    paths = [ROOT / "a/x.png", Path("/a/x.png"), ROOT / "b/x.png"]
    assert list(name_images(paths, ROOT).values()) == paths


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a/", "a/b/"]), st.sampled_from("xy"))
        .map("".join)
        .flatmap(lambda path: st.sampled_from([f"{path}.png", f"{path}.tif", f"{path}.png.tif"])),
        unique=True,
    )
)
@settings(max_examples=60, deadline=None)
def test_names_are_unique_and_lead_to_their_files(paths):
    images = name_images([ROOT / path for path in paths], ROOT)
    assert list(images.values()) == [ROOT / path for path in paths]


STEPS = st.sampled_from(["", "a/", "a/../", "../", "../../", "/", "/data/", "/data/../"])


@given(st.lists(st.tuples(STEPS, st.sampled_from(["x", ".", "..", "..."])), unique=True))
@settings(max_examples=100, deadline=None)
def test_no_name_leads_out_of_the_folder_that_its_files_are_put_in(parts):
    paths = {str(Path(os.path.abspath(ROOT / step))): ROOT / step for step, _ in parts}
    paths = [folder / f"{stem}.png" for folder in paths.values() for stem in {s for _, s in parts}]
    images = name_images(paths, ROOT)
    assert list(images.values()) == paths
    for name in images:
        for file in (f"{name}.npy", f"{name}/overview.html"):
            found = os.path.normpath(f"/out/{file}")
            assert found.startswith("/out/")
            assert len(found) > len("/out/overview.html") or not file.endswith("html")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "", ".", "a/..", "x\0y"])
def test_names_that_are_given_are_refused_where_they_lead_out(name):
    with pytest.raises(InputError, match="leads out of the folder"):
        by_name({name: Path("x.png")})
    with pytest.raises(InputError, match="leads out of the folder"):
        require_inside(name)


def test_a_file_that_is_named_twice_is_refused():
    with pytest.raises(InputError, match="named more than once: /data/a.png"):
        names_of("b/../a.png", "a.png")
    with pytest.raises(InputError, match="named more than once: /data/a.png"):
        names_of("a.png", "a.png")


def test_images_that_have_names_keep_them():
    assert by_name({"mine": "x/1.png"}) == {"mine": Path("x/1.png")}
    assert by_name(["x/1.png"]) == {"1": Path("x/1.png")}


def test_a_files_label_shows_the_folder_that_its_name_has():
    for path, label in {"a/1.png": "a/1.png", "b/1.png": "b/1.png", "2.tif": "2.tif"}.items():
        images = name_images([ROOT / "a/1.png", ROOT / "b/1.png", ROOT / "2.tif"], ROOT)
        name = next(name for name, file in images.items() if file == ROOT / path)
        assert file_label(name, ROOT / path) == label
