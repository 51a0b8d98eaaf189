"""Files of features: known by what is in them, read as users have them, and refused by name."""

import io
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from histojax.errors import InputError
from histojax.features import feature_sets
from histojax.features.feature_sets import Source
from tests import made_features
from tests.encoders import made_files
from tests.made_features import TILES, job


def test_folders_of_clam_and_stamp_are_known_by_their_files(tmp_path, caplog):
    for name, values in TILES.items():
        made_features.clam(tmp_path / "clam", name, np.abs(values))
        (tmp_path / "clam" / "pt_files").mkdir(exist_ok=True)
        (tmp_path / "clam" / "pt_files" / f"{name}.pt").write_bytes(b"the same once more")
        made_features.stamp(tmp_path / "stamp", name, values.astype(np.float16), "chief-ctp!")
    (tmp_path / "clam" / "process_list.csv").write_text("slide_id,status\nslide0,done\n")
    with pytest.raises(
        InputError, match=r"\(CLAM, 4 channels\) does not say which encoder.*--name"
    ):
        feature_sets.find([tmp_path / "clam"])
    with pytest.raises(InputError, match="--name is 'a/b', expected letters"):
        feature_sets.find([tmp_path / "clam"], "a/b")
    (clam,) = feature_sets.find([tmp_path / "clam"], "resnet50")
    assert clam.source == Source("resnet50", "CLAM", "tile", 4)
    assert list(clam.slides) == list(TILES)
    assert "left out" not in caplog.text
    alone = tmp_path / "clam" / "pt_files" / "alone.pt"
    alone.write_bytes(b"of this slide there is no h5")
    feature_sets.find([tmp_path / "clam"], "resnet50")
    assert "left out 1 slides that are in pt_files and not in h5_files: alone." in caplog.text
    (tmp_path / "clam").rename(tmp_path / "features_resnet50")
    assert feature_sets.find([tmp_path])[0].source == clam.source
    (stamp,) = feature_sets.find([tmp_path / "stamp"])
    assert stamp.source == Source("chief-ctp_", "STAMP", "tile", 4, patch_px=224, mpp=1.1429)
    with pytest.raises(InputError, match="is of encoder chief-ctp!, so --name=x is not needed"):
        feature_sets.find([tmp_path / "stamp"], "x")
    (block,) = stamp.slides["slide0"].contents.blocks()
    np.testing.assert_array_equal(block, TILES["slide0"].astype(np.float16).astype(np.float32))


def bfloat16_without_a_type(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")


X = np.round(TILES["slide1"] * 8) / 8  # Numbers that float16 and bfloat16 have too.


WRITERS = {
    "a.npy": lambda path, x: np.save(path, x),
    "float16.npy": lambda path, x: np.save(path, x.astype(np.float16)),
    "bfloat16.npy": lambda path, x: np.save(path, bfloat16_without_a_type(x)),
    "columns_first.npy": lambda path, x: np.save(path, np.asfortranarray(x)),
    "batch.npy": lambda path, x: np.save(path, x[None]),
    "a.npz": lambda path, x: np.savez_compressed(path, feats=x, coords=x[:, :2], other=x),
    "one.npz": lambda path, x: np.savez(path, x),
    "a.pt": lambda path, x: path.write_bytes(made_files.archive(torch_tensor(x), [x])),
    "dict.pt": lambda path, x: path.write_bytes(made_files.pytorch({"features": x, "name": "a"})),
    "a.csv": lambda path, x: np.savetxt(path, x, delimiter=","),
    "pandas.csv": lambda path, x: np.savetxt(
        path,
        np.column_stack([np.arange(len(x)), x]),
        delimiter=";",
        fmt=["%d", *["%.9g"] * 4],
        header=";0;1;2;3",
        comments="",
    ),
    "coords.csv": lambda path, x: np.savetxt(
        path,
        np.column_stack([x[:, :2], x]),
        delimiter="\t",
        header="x\ty\tf_1\tf_2\tf_3\tf_4",
        comments="",
    ),
    "gzip.h5": lambda path, x: write_hdf5(
        path, data=x, chunks=(3, 2), compression="gzip", shuffle=True
    ),
    "bfloat16.h5": lambda path, x: write_hdf5(path, data=bfloat16_without_a_type(x)),
    "batch.h5": lambda path, x: write_hdf5(path, data=x[None].astype(">f8")),
}


def torch_tensor(x):
    """The pickle of a tensor by itself, as CLAM saves it."""
    whole = made_files.pytorch({"": x})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickle = archive.read("archive/data.pkl")
    return b"\x80\x02" + pickle[pickle.index(b"ctorch._utils") : -2] + b"."


def write_hdf5(path, **dataset):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", **dataset)


@pytest.mark.parametrize("name", WRITERS)
def test_arrays_are_read_as_users_have_them(name, tmp_path):
    WRITERS[name](tmp_path / name, X)
    expected = Source("x", "arrays", "tile", 4)
    (found,) = feature_sets.find([tmp_path / name], expected=expected)
    assert found.source == expected
    assert any("as bfloat16" in text for text in found.notices) == ("bfloat16" in name)
    (slide,) = found.slides.values()
    np.testing.assert_array_equal(np.concatenate(list(slide.contents.blocks())), X)


def mixed_widths(folder):
    made_features.clam(folder, "c", np.zeros((3, 6), np.float32))


def other_magnification(folder):
    made_features.trident(folder, "c", TILES["slide0"], target_magnification=40)


def tiles_and_vectors(folder):
    np.save(folder / "a.npy", X)
    np.save(folder / "b.npy", X[0])


def in_a_moved_folder(folder):
    made_features.trident(folder / "10x_256px_0px_overlap" / "features_a", "s", X)


def two_names(folder):
    (folder / "a.csv").write_text("slide,image,f0\na,b,1\n")


def a_label_among_features(folder):
    (folder / "a.csv").write_text("slide,label,f0\na,1,1\n")


def a_name_that_leaves_the_folder(folder):
    (folder / "a.csv").write_text("slide,f0,f1\n../../a,1,2\n")


def files_of_two_kinds(folder):
    np.save(folder / "a.npy", X)
    np.savez(folder / "b.npz", X)


def our_descriptors(folder):
    np.save(folder / "a.npy", X)
    (folder / "manifest.json").write_text("{}")


def features_beside_descriptors(folder):
    np.save(folder / "a.npy", X)
    (folder / "out").mkdir()
    our_descriptors(folder / "out")


def link(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        write_hdf5(folder / "target.hdf5", data=X)
        file["features"] = h5py.ExternalLink(str(folder / "target.hdf5"), "features")
    (folder / "target.hdf5").rename(folder.parent / "target.hdf5")


def values_elsewhere(folder):
    (folder.parent / "raw").write_bytes(X.tobytes())
    with h5py.File(folder / "a.h5", "w") as file:
        external = [(str(folder.parent / "raw"), 0, X.nbytes)]
        file.create_dataset("features", X.shape, "f4", external=external)


def virtual(folder):
    write_hdf5(folder.parent / "target.h5", data=X)
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource(str(folder.parent / "target.h5"), "features", X.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("features", layout)


def claims(folder):
    write_hdf5(folder / "a.h5", shape=(2**33, 1024), dtype="f4", chunks=(1, 1024))


def claims_what_is_compressed(folder):
    write_hdf5(
        folder / "a.h5", shape=(2**33, 1024), dtype="f4", chunks=(1, 1024), compression="gzip"
    )


def large_pieces(folder):
    write_hdf5(
        folder / "a.h5", shape=(2**16, 1024), dtype="f4", chunks=(2**16, 1024), compression="gzip"
    )


def pickled(folder):
    np.save(folder / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)


REFUSED = {
    mixed_widths: r"differ in what they hold(.|\n)*channels 6: 1 \(c.h5\)\n  channels 4",
    other_magnification: r"differ in what they hold(.|\n)*magnification not stated: 1 \(s.h5\)",
    tiles_and_vectors: r"differ in what they hold(.|\n)*level slide: 1 \(b.npy\)",
    in_a_moved_folder: "s.h5 states magnification 20.0, and its folder 10.0: was it moved",
    two_names: "has columns slide, image: which of them names the slides",
    a_label_among_features: "has columns label: which of its columns are features cannot be told",
    a_name_that_leaves_the_folder: "names a slide '../../a', which is no name of a file",
    files_of_two_kinds: "holds 1 .npy, 1 .npz: which are the features",
    our_descriptors: "holds descriptors already",
    features_beside_descriptors: "set/out holds descriptors already",
    link: "features is not there, or is a link to another place",
    values_elsewhere: "features has its values in another file",
    virtual: "features has its values in another file",
    claims: "features claims 35184372088832 bytes, the file holds 0 of it",
    claims_what_is_compressed: "features claims 35184372088832 bytes",
    large_pieces: "features is compressed in pieces of 268435456 bytes",
    pickled: "a.npy cannot be read as features: a.npy holds object, expected numbers",
    lambda folder: np.save(folder / "a.npy", X): "8 rows without names: are these slides, or",
    lambda folder: (folder / "a.npy").write_bytes(b"\x93NUMPY\x01\x00"): "it is damaged",
    lambda folder: np.save(folder / "a.npy", np.zeros((0, 4))): "no slide of .*set has tiles",
    lambda folder: np.save(folder / "a.npy", X > 0): "its features are bool, expected numbers",
    lambda folder: np.save(folder / "a.npy", X[:, None]): r"have shape \(8, 1, 4\), expected",
    lambda folder: np.savez(folder / "a.npz", a=X, b=X): "it holds a, b: which of them are the",
    lambda folder: np.savez(folder / "a.npz", coords=X): "coordinates of tiles and no features",
    lambda folder: (folder / "a.pt").write_bytes(b"\x80\x02}."): "as features: it is a bare pickle",
    lambda folder: (folder / "a.csv").write_text("1,2\n3,x\n"): "row 2: could not convert.*'x'",
    lambda folder: (folder / "a.csv").write_text("1,2\n3\n"): "row 2 has 1 cells, expected 2",
    lambda folder: (folder / "a.csv").write_text("\n"): "is empty",
    lambda folder: (folder / "a.csv").write_text("slide,0\na,1\n,1\n"): "rows without a slide",
    lambda folder: (folder / "a.csv").write_text("f0,f2\n1,2\n"): "which of its columns are",
    lambda folder: (folder / "a.csv").write_text("f0,g1\n1,2\n"): "which of its columns are",
    lambda folder: (folder / "a.csv").write_text(",0,1,2\n0,1,2,3\n2,1,2,3\n"): "index of tiles",
    lambda folder: (folder / "a.txt").write_text("1,2\n3\n"): "has no features: expected .h5",
}


@pytest.mark.parametrize("write", REFUSED, ids=[getattr(w, "__name__", "") for w in REFUSED])
def test_what_cannot_be_told_or_read_is_refused_in_one_message_and_little_memory(write, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    if write in (mixed_widths, other_magnification):
        made_features.clam(folder, "s", X)
        folder = folder / "h5_files" if write is other_magnification else folder
    tracemalloc.start()
    try:
        write(folder)
        with pytest.raises(InputError, match=REFUSED[write]):
            feature_sets.find([folder], None if write is in_a_moved_folder else "x")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_files_that_share_a_name_go_by_their_folders_and_sets_of_one_source_are_one(tmp_path):
    job(tmp_path / "a")
    job(tmp_path / "b", {"slide0": TILES["slide1"], "more": TILES["slide2"]})
    (found,) = feature_sets.find([tmp_path / "a", tmp_path / "b"])
    below = "20x_256px_0px_overlap/features_uni_v1/slide0"
    assert [*found.slides] == [f"a/{below}", "slide1", "slide2", "more", f"b/{below}"]


def test_sets_of_two_kinds_do_not_share_a_configuration(tmp_path):
    for name, features in (("wide", X), ("narrow", X[:, :3])):
        made_features.clam(tmp_path / name, "s", features)
    with pytest.raises(InputError, match=r"would be called resnet50:\n.*channels': [34].*\n"):
        feature_sets.find([tmp_path / "wide", tmp_path / "narrow"], "resnet50")


def test_tables_beside_other_features_are_left_out_with_a_warning(tmp_path, caplog):
    np.save(tmp_path / "a.npy", np.ones(3, np.float32))
    (tmp_path / "._a.npy").write_bytes(b"of macOS")
    (tmp_path / "clinical.csv").write_text("slide,age\na,1\n")
    (found,) = feature_sets.find([tmp_path], "resnet50")
    assert ([*found.slides], found.failures) == (["a"], {})
    assert "left out 1 .csv beside .npy" in caplog.text
