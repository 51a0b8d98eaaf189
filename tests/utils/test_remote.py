"""Images, data sets and descriptors at gs:// paths, in a stand-in for Google's object store."""

import dataclasses
import io

import fsspec
import numpy as np
import pytest
import tifffile
from etils.epath import backend
from fsspec.registry import _registry, known_implementations
from PIL import Image

from histojax import datasets
from histojax.datasets import folds, unlabelled
from histojax.errors import InputError
from histojax.extraction import manifests, mixing, store
from histojax.images import reader
from histojax.utils import files

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
DESCRIPTORS = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
MANIFEST = {"protocol": {"crops": 20}, "weights": {"source": "imagenet", "sha256": "ab"}}
ROW = store.StainQCRow("a", "0.5", 0.3, None, 1.0, 0.5, "ok", "00")


class Upload(io.BytesIO):
    """An object that appears when it is closed, even by an error, as fsspec's do."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def close(self) -> None:
        if not self.closed:
            ObjectStore.objects[self.name] = self.getvalue()
        super().close()


class ObjectStore(fsspec.AbstractFileSystem):
    """Behaves as gcsfs: no real folders, objects that appear when closed, cached listings."""

    protocol = ("gs", "gcs")
    objects: dict[str, bytes] = {}
    opened: list[io.BytesIO] = []

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        if path not in self.dircache:
            prefix = f"{path}/" if path else ""
            listed = {}
            for name, content in self.objects.items():
                if name == path or name.startswith(prefix):
                    below = (
                        name if name == path else prefix + name.removeprefix(prefix).split("/")[0]
                    )
                    kind = "file" if below == name else "directory"
                    listed[below] = {
                        "name": below,
                        "type": kind,
                        "size": len(content) if kind == "file" else 0,
                    }
            if not listed:
                raise FileNotFoundError(path)
            self.dircache[path] = list(listed.values())
            return list(listed.values()) if detail else list(listed)
        return self.dircache[path] if detail else [entry["name"] for entry in self.dircache[path]]

    def _open(self, path, mode="rb", **kwargs):
        if mode == "rb" and path not in self.objects:
            raise FileNotFoundError(path)
        self.opened.append(io.BytesIO(self.objects[path]) if mode == "rb" else Upload(path))
        return self.opened[-1]

    def cp_file(self, path1, path2, **kwargs):
        source, target = map(self._strip_protocol, (path1, path2))
        self.objects[target] = self.objects[source]

    def _rm(self, path):
        del self.objects[self._strip_protocol(path)]


@pytest.fixture
def bucket(monkeypatch):
    """gs://bucket, empty; every file opened in it must be closed at the end."""

    def forget():
        backend.fsspec_backend._get_filesystem.cache_clear()
        ObjectStore.clear_instance_cache()

    for name in ObjectStore.protocol:
        monkeypatch.setitem(_registry, name, ObjectStore)
    monkeypatch.setattr(fsspec.config, "conf", {})
    monkeypatch.setattr(ObjectStore, "objects", {})
    monkeypatch.setattr(ObjectStore, "opened", [])
    forget()
    yield files.as_path("gs://bucket")
    assert all(file.closed for file in ObjectStore.opened)
    forget()


def put(path, **options):
    """Puts an image there."""
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, format="TIFF" if path.suffix == ".tif" else "PNG", **options)
    path.write_bytes(content.getvalue())
    return path


def test_a_uri_becomes_a_remote_path_and_all_else_a_local_one(bucket, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert str(files.as_path("~/a")) == "/home/anna/a"
    assert files.is_local(files.as_path("a/b"))
    assert str(files.as_path("gs://bucket/a") / "b.png") == "gs://bucket/a/b.png"
    assert not files.is_local(bucket)


def test_a_uri_of_an_unknown_file_system_is_refused():
    with pytest.raises(
        InputError, match="expected a local path, or one that starts with gs://, s3://"
    ):
        files.as_path("ftp://host/a")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(known_implementations, "gcs", {"class": "absent.Absent", "err": "none"})
    monkeypatch.delitem(_registry, "gcs", raising=False)
    with pytest.raises(
        InputError, match=r"gs://bucket/a needs .* missing: pip install 'etils\[epath\]' gcsfs"
    ):
        files.as_path("gs://bucket/a")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_images_are_read_exactly(bucket, name):
    path = put(bucket / "images" / name)
    np.testing.assert_array_equal(reader.read(path), RGB)
    assert reader.size(path) == (40, 50)
    assert files.sha256(path) == files.sha256(put(bucket / "copy" / name))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_tiff_of_every_compression_is_read_exactly(bucket, compression):
    np.testing.assert_array_equal(reader.read(put(bucket / "a.tif", compression=compression)), RGB)


def two_pages():
    content = io.BytesIO()
    tifffile.imwrite(content, np.stack([RGB, RGB]), photometric="rgb")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[:3000], "damaged or cut short"),
        (lambda whole: b"text", "no TIFF, PNG, JPEG, BMP or WebP"),
        (lambda whole: b"", "no TIFF, PNG, JPEG, BMP or WebP"),
        (lambda whole: two_pages(), "2 pages"),
        (None, "is not there"),
    ],
)
def test_other_files_are_refused_by_name(bucket, content, message):
    path = put(bucket / "a.png")
    if content:
        path.write_bytes(content(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(InputError, match=f"gs://bucket/a.png.*{message}"):
        reader.read(path)


def test_class_folders_are_read(bucket):
    for name in ("benign/b2", "benign/b1", "cancer/c1", ".trash/x", "cancer/.hidden"):
        put(bucket / "data" / f"{name}.png")
    (bucket / "data" / "cancer" / "notes.txt").write_bytes(b"")
    dataset = datasets.load(bucket / "data")
    assert (dataset.classes, dataset.names, dataset.labels) == (
        ("benign", "cancer"),
        ("b1", "b2", "c1"),
        (0, 0, 1),
    )
    assert str(dataset.paths[0]) == "gs://bucket/data/benign/b1.png"
    assert list(unlabelled.find_images([bucket / "data" / "benign"])) == ["b1", "b2"]


def test_a_single_image_may_be_named_and_what_is_not_there_is_refused(bucket):
    image = put(bucket / "a.png")
    assert unlabelled.find_images([image]) == {"a": image}
    with pytest.raises(InputError, match="gs://bucket/absent is not there"):
        unlabelled.find_images([bucket / "absent"])
    for name in ("absent", "a.png"):
        with pytest.raises(InputError, match=f"gs://bucket/{name}"):
            datasets.load(bucket / name)


def test_bach_as_unzipped_is_found(bucket):
    photos = bucket / "ICIAR2018_BACH_Challenge" / "Photos"
    for folder, name in (
        ("Normal", "n001"),
        ("Benign", "b001"),
        ("InSitu", "is001"),
        ("Invasive", "iv001"),
    ):
        put(photos / folder / f"{name}.tif")
    truth = "n001.tif,Normal\nb001.tif,Benign\nis001.tif,InSitu\niv001.tif,Invasive\n"
    (photos / "microscopy_ground_truth.csv").write_bytes(truth.encode())
    assert datasets.load(bucket).names == ("n001", "b001", "is001", "iv001")
    (photos / "microscopy_ground_truth.csv").write_bytes(truth.replace("Benign", "Normal").encode())
    with pytest.raises(InputError, match="b001.tif: table Normal, folder Benign"):
        datasets.load(bucket)


def test_a_label_table_finds_its_images_beside_below_and_above(bucket):
    for name in ("tables/a", "tables/deep/down/b", "other/c", "tables/d"):
        put(bucket / f"{name}.png")
    table = bucket / "tables" / "labels.csv"
    table.write_bytes(
        '\ufeffimage,label,group\r\na.png,x,"1,\u00fc"\r\nb.png,y,2\r\n../other/c.png,y,3\r\n'.encode()
    )
    dataset = datasets.load(table)
    assert [str(path) for path in dataset.paths] == [
        "gs://bucket/tables/a.png",
        "gs://bucket/tables/deep/down/b.png",
        "gs://bucket/other/c.png",
    ]
    assert dataset.groups == ("1,\u00fc", "2", "3")
    table.write_bytes(b"image,label\na.png,x\ne.png,y\n")
    with pytest.raises(InputError, match=r"e\.png \(not found\)"):
        datasets.load(table)


def test_folds_are_saved_and_found_again(bucket):
    labelled = {bucket / f"{label}{i}.png": label for label in "ab" for i in range(4)}
    dataset = datasets.dataset.build(labelled)
    made = folds.load_or_make(bucket / "models" / "folds.csv", dataset, 2, 0)
    assert folds.load_or_make(bucket / "models" / "folds.csv", dataset, 2, 1).sha256 == made.sha256


def test_descriptors_are_written_found_and_read(bucket):
    root = bucket / "descriptors"
    files.require_writable(root)
    assert ObjectStore.objects == {}
    assert store.read_stain_qc(root) == {}
    mixing.claim(root, "VGG-0.5-400", MANIFEST)
    assert manifests.read(root, "VGG-0.5-400")["versions"] == manifests.versions()
    assert not store.is_done(root, "VGG-0.5-400", "a", (3, 5))
    for name in ("a", "b[1]*"):  # Which fsspec would take for a pattern.
        store.write(root, "VGG-0.5-400", name, DESCRIPTORS)
    assert store.is_done(root, "VGG-0.5-400", "a", (3, 5))
    np.testing.assert_array_equal(
        store.read(root, "VGG-0.5-400", ["b[1]*", "a"]), np.stack([DESCRIPTORS] * 2)
    )
    assert store.configurations(root) == ("VGG-0.5-400",)
    assert store.image_names(root, "VGG-0.5-400") == ("a", "b[1]*")
    store.write(root, "VGG-0.5-650", "benign/a", DESCRIPTORS)
    assert store.configurations(root) == ("VGG-0.5-400", "VGG-0.5-650")
    assert store.image_names(root, "VGG-0.5-650") == ("benign/a",)
    mixing.claim(root, "VGG-0.5-400", MANIFEST)
    with pytest.raises(InputError, match="holds descriptors without manifest.json"):
        mixing.claim(root, "VGG-0.5-650", MANIFEST)
    with pytest.raises(InputError, match="protocol.crops: found 20, expected 6"):
        mixing.claim(
            root, "VGG-0.5-400", {"protocol": {"crops": 6}, "weights": MANIFEST["weights"]}
        )
    with pytest.raises(InputError, match="lacks the descriptors of 1 of 2"):
        store.read(root, "VGG-0.5-400", ["a", "c"])
    assert {name.split("/")[-1] for name in ObjectStore.objects} == {
        "a.npy",
        "b[1]*.npy",
        "manifest.json",
    }


@pytest.mark.parametrize("cut", [0, 50, 150])
def test_damaged_descriptors_are_refused_by_name(bucket, cut):
    store.write(bucket, "VGG-0.5-400", "a", DESCRIPTORS)
    path = store.file_of(bucket, "VGG-0.5-400", "a")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.npy cannot be read"):
        store.read(bucket, "VGG-0.5-400", ["a"])


def test_a_pickle_is_never_run(bucket):
    content = io.BytesIO()
    np.save(content, np.array([[{"code": 1}]], dtype=object), allow_pickle=True)
    store.file_of(bucket, "VGG-0.5-400", "a").write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"a\.npy cannot be read"):
        store.is_done(bucket, "VGG-0.5-400", "a", (1, 1))


def test_stain_quality_is_merged_from_its_parts(bucket):
    root = bucket / "descriptors"
    rows = {
        (name, "0.5"): dataclasses.replace(ROW, image=name) for name in ("a", "b", "\u00fc,\"'")
    }
    for process, (key, row) in enumerate(rows.items()):
        store.write_stain_qc(root, {key: row}, process, 3)
    assert store.read_stain_qc(root) == rows
    store.merge_stain_qc(root)
    assert list(ObjectStore.objects) == ["bucket/descriptors/stain_qc.csv"]
    assert store.read_stain_qc(root) == rows


def test_what_another_process_writes_is_seen(bucket):
    store.write_stain_qc(bucket, {("a", "0.5"): ROW}, 0, 2)
    assert len(store.read_stain_qc(bucket)) == 1
    part = ObjectStore.objects["bucket/stain_qc-1of2.csv"]
    ObjectStore.objects["bucket/stain_qc-2of2.csv"] = part.replace(b"\na,", b"\nb,")
    assert sorted(store.read_stain_qc(bucket)) == [("a", "0.5"), ("b", "0.5")]


def test_a_write_that_fails_leaves_the_old_object_and_nothing_else(bucket):
    files.write_text(bucket / "a.txt", "old")

    def fail():
        with files.atomic_write(bucket / "a.txt") as temporary, temporary.open("wb") as out:
            out.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ObjectStore.objects == {"bucket/a.txt": b"old"}


def test_a_bucket_that_cannot_be_written_is_named(bucket, monkeypatch):
    def forbid(self, path, mode="rb", **kwargs):
        raise RuntimeError("Anonymous caller does not have storage.objects.create access")

    monkeypatch.setattr(ObjectStore, "_open", forbid)
    with pytest.raises(
        InputError, match=r"gs://bucket/out cannot be written to: Anonymous caller .* access\. Name"
    ):
        files.require_writable(bucket / "out")
