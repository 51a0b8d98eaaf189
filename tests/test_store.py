"""Files are written whole or not at all, descriptors are checked on both ways, protocols are not mixed."""

import numpy as np
import pytest

from histojax import files, store
from histojax.errors import InputError

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
    np.testing.assert_array_equal(store.read(root, "VGG-0.5-400", ["b", "a"]), np.stack([DESCRIPTORS] * 2))
    assert store.configurations(root) == ("VGG-0.5-400",)
    assert store.image_names(root, "VGG-0.5-400") == ("a", "b")
    assert store.is_done(root, "VGG-0.5-400", "a", (3, 5))
    assert not store.is_done(root, "VGG-0.5-400", "c", (3, 5))


def test_descriptors_that_are_not_finite_are_not_written(tmp_path):
    spoilt = DESCRIPTORS.copy()
    spoilt[1, 2] = np.inf
    with pytest.raises(InputError, match="not finite"):
        store.write(tmp_path, "VGG-0.5-400", "a", spoilt)
    assert list(tmp_path.rglob("*")) == []


def pickled(path):
    np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:150])


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


def absent(path):
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "cannot be read"),
        (cut, "cannot be read"),
        (empty, "cannot be read"),
        (doubles, "float64"),
        (vector, "expected float32"),
        (wide, r"has shape \(3, 6\)"),
        (spoilt, "NaN"),
        (absent, "lacks the descriptors of 1 of 2"),
    ],
)
def test_damaged_descriptors_are_refused_by_name(root, spoil, message):
    spoil(root / "VGG-0.5-400" / "b.npy")
    with pytest.raises(InputError, match=message) as refusal:
        store.read(root, "VGG-0.5-400", ["a", "b"])
    assert "b.npy" in str(refusal.value)


def test_a_file_of_another_shape_is_not_taken_for_done(root):
    with pytest.raises(InputError, match="another protocol"):
        store.is_done(root, "VGG-0.5-400", "a", (50, 5))


def test_a_folder_is_claimed_once_and_kept_for_its_protocol(tmp_path):
    store.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    written = (tmp_path / "VGG-0.5-400" / store.MANIFEST).read_text()
    store.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    assert (tmp_path / "VGG-0.5-400" / store.MANIFEST).read_text() == written
    assert set(store.read_manifest(tmp_path, "VGG-0.5-400")) == {"protocol", "weights", "versions"}
    other = {"protocol": {"crops": 6, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "cd"}}
    with pytest.raises(InputError) as refusal:
        store.claim(tmp_path, "VGG-0.5-400", other)
    assert "protocol.crops: there 20, wanted 6" in str(refusal.value)
    assert "weights.sha256: there ab, wanted cd" in str(refusal.value)
    assert "protocol.p" not in str(refusal.value)


def test_descriptors_of_unknown_protocol_are_not_added_to(root):
    with pytest.raises(InputError, match="without manifest.json"):
        store.claim(root, "VGG-0.5-400", MANIFEST)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def fail():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("below", ["file/folder", "file"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        files.require_writable(tmp_path / below)


def test_stain_quality_survives_a_round_trip(tmp_path):
    row = ["a", "0.5", "0.3000", "", "1.0000", "0.5000", "ok", "00"]
    store.write_stain_qc(tmp_path, {("a", "0.5"): row})
    assert store.read_stain_qc(tmp_path) == {("a", "0.5"): row}
