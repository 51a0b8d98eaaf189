"""HDF5 of TRIDENT, CLAM and STAMP: what attributes say, and what is refused in it."""

import h5py
import numpy as np
import pytest

from histojax.errors import InputError
from histojax.features import feature_sets, hdf5
from tests import made_features
from tests.made_features import TILES

X = TILES["slide1"]


def test_features_of_other_tiles_than_the_coordinates_are_refused(tmp_path):
    path = made_features.clam(tmp_path, "a", X)
    with h5py.File(path, "a") as file:
        file["coords"].resize(7, axis=0)
    with pytest.raises(InputError, match="features of 8 tiles, and coordinates of 7"):
        feature_sets.find([path], "x")


def test_attributes_that_are_no_numbers_are_not_taken_for_them(tmp_path):
    path = made_features.trident(tmp_path, "a", X, overlap=np.nan, patch_size=np.inf)
    (found,) = feature_sets.find([path], "x")
    assert found.source.configuration == "x-20x"


@pytest.mark.parametrize(("kind", "level"), [("patient", "slide"), ("tile", "tile")])
def test_stamp_says_what_one_row_is(tmp_path, kind, level):
    path = made_features.stamp(tmp_path, "a", X[:1])
    with h5py.File(path, "a") as file:
        file.attrs["feat_type"] = kind
    (found,) = feature_sets.find([path])
    assert found.source.level == level


def test_what_needs_a_program_to_be_unpacked_is_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=X, chunks=X.shape, compression="lzf")
    monkeypatch.setattr(hdf5, "_FILTERS", (1, 2))
    with pytest.raises(InputError, match=r"compressed by a plug-in of HDF5 \(number 32000\)"):
        feature_sets.find([tmp_path / "a.h5"], "x")


def test_texts_of_stamp_are_read_from_a_sound_heap_that_no_number_is_taken_for(tmp_path):
    path = made_features.stamp(tmp_path, "a", np.zeros((4, 32), np.float16))
    heap = path.read_bytes().index(b"GCOL")
    like_a_reference = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float16)
    like_a_reference[2:6] = np.array([heap], "<u8").view(np.float16)
    features = np.tile(like_a_reference, (4, 4))
    content = made_features.stamp(tmp_path, "a", features).read_bytes()
    assert content.index(b"GCOL") == heap
    assert content.count(like_a_reference.tobytes()) == 16
    (found,) = feature_sets.find([path])
    assert found.source.encoder == "virchow2"
    path.write_bytes(content[: heap + 8] + b"\x07" + content[heap + 9 :])
    with pytest.raises(InputError, match="a heap of its texts is damaged"):
        feature_sets.find([path])
