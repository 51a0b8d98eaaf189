"""Feature files that have changed since they were imported are told from those that have not."""

import hashlib
import os

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.extraction import store
from histojax.features import sources
from tests import made_features
from tests.made_features import TILES, UNI, imported_all, job


def test_what_is_there_stays_and_what_has_changed_is_told(tmp_path):
    folder = job(tmp_path / "job") / "20x_256px_0px_overlap" / "features_uni_v1"
    root, uni = tmp_path / "out", UNI.configuration
    imported_all([tmp_path / "job"], root)
    before = {path: path.stat().st_mtime_ns for path in root.glob("*/*.npy")}
    made_features.trident(folder, "slide9", TILES["slide0"])
    os.utime(folder / "slide1.h5", (1, 1))  # Copied: the features are the same.
    (done,) = imported_all([tmp_path / "job"], root)
    assert (done.kept, len(done.names)) == (3, 4)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = sources.read(root, uni)
    digests = [row.features_sha256 for row in rows.values()]
    assert digests[0] == digests[3] == hashlib.sha256(TILES["slide0"].tobytes()).hexdigest()
    made_features.trident(folder, "slide1", TILES["slide1"] + 1)
    with pytest.raises(
        InputError, match="features of 1 of 4 slides have changed.*remove slide1.npy"
    ):
        imported_all([tmp_path / "job"], root)
    with pytest.raises(InputError, match="protocol.pooling: found mean, expected none"):
        imported_all([folder / "slide0.h5"], root, pooling="none")
    (root / uni / "slide1.npy").unlink()
    imported_all([tmp_path / "job"], root)
    mean = TILES["slide1"].mean(axis=0) + 1
    np.testing.assert_allclose(store.read(root, uni, ["slide1"])[0, 0], mean, rtol=1e-5)


def test_other_files_of_the_same_size_and_time_are_not_taken_for_those_imported(tmp_path):
    for folder, values in (("old", TILES["slide0"]), ("new", TILES["slide0"] + 1)):
        path = made_features.clam(tmp_path / folder, "s", values)
        os.utime(path, (1e9, 1e9))
    (done,) = imported_all([tmp_path / "old"], tmp_path / "out", "resnet50")
    with pytest.raises(InputError, match="features of 1 of 1 slides have changed"):
        imported_all([tmp_path / "new"], tmp_path / "out", "resnet50")


def test_a_slide_that_has_no_tiles_any_more_does_not_keep_its_descriptors_unnoticed(tmp_path):
    made_features.clam(tmp_path / "job", "s", TILES["slide0"])
    made_features.clam(tmp_path / "job", "t", TILES["slide1"])
    imported_all([tmp_path / "job"], tmp_path / "out", "resnet50")
    made_features.clam(tmp_path / "job", "s", np.zeros((0, 4)))
    with pytest.raises(InputError, match="remove s.npy"):
        imported_all([tmp_path / "job"], tmp_path / "out", "resnet50")


def test_without_the_record_what_can_be_is_imported_again_and_the_rest_kept(tmp_path):
    made_features.clam(tmp_path / "a", "s", TILES["slide0"])
    made_features.clam(tmp_path / "b", "t", TILES["slide1"])
    imported_all([tmp_path / "a", tmp_path / "b"], tmp_path / "out", "resnet50")
    (tmp_path / "out" / "resnet50" / "sources.csv").unlink()
    (done,) = imported_all([tmp_path / "b"], tmp_path / "out", "resnet50")
    assert (done.names, done.kept) == (("t",), 0)
    assert store.image_names(tmp_path / "out", "resnet50") == ("s", "t")
    assert [*sources.read(tmp_path / "out", "resnet50")] == ["t"]
    imported_all([tmp_path / "a"], tmp_path / "out", "resnet50")
    assert [*sources.read(tmp_path / "out", "resnet50")] == ["s", "t"]
    record = tmp_path / "out" / "resnet50" / "sources.csv"
    record.write_text(record.read_text().replace(",5,", ",five,"))
    with pytest.raises(InputError, match="sources.csv is damaged: .*'five'.*import anew"):
        imported_all([tmp_path / "a"], tmp_path / "out", "resnet50")
