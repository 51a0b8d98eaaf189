"""Kather's tiles and BACH's photos: fetched, checked, unpacked; what was published beside ours."""

import csv
import dataclasses
import gc
import hashlib
import json
import shlex
import zipfile

import numpy as np
import pytest

from histojax import datasets
from histojax.config import View
from histojax.datasets import kather, published
from histojax.datasets.bach import challenge
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.inspection import recommend
from histojax.utils import download
from tests import made_bach, made_kather, serving
from tests.running import ROOT, run

PER_CLASS = 12


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return made_kather.write(tmp_path_factory.mktemp("published"), PER_CLASS)


@pytest.fixture
def zenodo(archive, monkeypatch):
    """Zenodo on this machine, with the small zip in the place of Kather's."""
    file = dataclasses.replace(published.FILES["crc"], md5=download.md5(archive))
    monkeypatch.setitem(published.FILES, "crc", file)
    path = f"/records/53169/files/{file.name}"
    with serving.server({path: archive.read_bytes()}) as server:
        monkeypatch.setattr(published, "ZENODO", server.address)
        yield server


@pytest.fixture(autouse=True)
def what_is_left_open_shows():
    gc.freeze()  # What was there before needs no search.
    yield
    gc.collect()


def flags_of_run_sh() -> list[str]:
    """What ./run.sh crc passes to histojax mine."""
    script = (ROOT / "run.sh").read_text().replace("\\\n", " ")
    line = next(line for line in script.splitlines() if "mine downloads/crc/labels.csv" in line)
    return shlex.split(line)[3:-1]


def rows(labels) -> list[dict[str, str]]:
    with open(labels) as file:
        return list(csv.DictReader(file))


def test_tiles_are_fetched_after_a_stop_and_loaded_by_slide(zenodo, tmp_path):
    zenodo.cut = 50_000
    stopped = run("fetch", "crc", f"--downloads={tmp_path}", "--tiles=10")
    assert (stopped.returncode, stopped.stderr.count("error:")) == (1, 1), stopped.stderr
    assert "50,000 bytes are kept" in stopped.stderr
    assert f"/records/53169 by other means and put it into {tmp_path}" in stopped.stderr
    assert "licence: CC BY 4.0; cite Kather et al. 2016" in stopped.stdout
    done = run("fetch", "crc", f"--downloads={tmp_path}", "--tiles=10")
    assert done.returncode == 0, done.stderr
    assert zenodo.asked == [None, "bytes=50000-"]
    labels = tmp_path / "crc" / "labels.csv"
    assert f"data: {labels}\nlicence: CC BY 4.0; cite Kather et al. 2016" in done.stdout
    command = done.stdout.splitlines()[-1].removeprefix("next: histojax ")
    assert shlex.split(command)[:2] == ["mine", str(labels)]
    assert shlex.split(command)[2:] == flags_of_run_sh()
    dataset = datasets.load(labels)
    assert dataset.classes == kather.CLASSES
    assert dataset.labels.count(0) == dataset.labels.count(7) == 10
    assert {*dataset.groups} == {f"CRC-Prim-HE-{slide:02d}" for slide in range(1, 6)}
    for path, group in zip(dataset.paths, dataset.groups, strict=True):
        assert group in path.name
    ten = {row["image"] for row in rows(labels)}

    (tmp_path / published.FILES["crc"].name).unlink()
    again = run("fetch", "crc", f"--downloads={tmp_path}", "--tiles=10")
    assert (again.returncode, len(zenodo.asked)) == (0, 2)
    tile = dataset.paths[0]
    tile.unlink()
    gone = run("fetch", "crc", f"--downloads={tmp_path}", "--tiles=10")
    assert (gone.returncode, len(zenodo.asked), tile.exists()) == (0, 3, True)
    more = run("fetch", "crc", f"--downloads={tmp_path}", f"--tiles={PER_CLASS}")
    assert (more.returncode, len(zenodo.asked)) == (0, 3)
    assert ten < {row["image"] for row in rows(labels)}
    assert len(rows(labels)) == 8 * PER_CLASS
    fewer = run("fetch", "crc", f"--downloads={tmp_path}", "--tiles=10")
    assert (fewer.returncode, {row["image"] for row in rows(labels)}) == (0, ten)


def test_a_zip_that_lacks_tiles_and_one_that_is_not_there_are_told(zenodo, tmp_path):
    few = run("fetch", "crc", f"--downloads={tmp_path}", f"--tiles={PER_CLASS + 1}")
    assert "has 12 tiles of 01_TUMOR, expected at least 13: remove" in few.stderr
    assert not (tmp_path / "crc").exists()
    zenodo.files.clear()
    absent = run("fetch", "crc", f"--downloads={tmp_path / 'other'}")
    assert "failed: HTTP Error 404" in absent.stderr
    idle = run("fetch", "bach", "--tiles=20", f"--downloads={tmp_path}")
    assert "--tiles goes with crc: bach is taken whole" in idle.stderr


def test_what_was_published_stands_beside_these_data_alone(archive, tmp_path):
    labels = kather.unpack(archive, tmp_path, PER_CLASS)
    listed = rows(labels)
    names = tuple(row["image"] for row in listed)
    classes = np.array([kather.CLASSES.index(row["label"]) for row in listed])
    slides = np.array([int(row["slide"][-2:]) for row in listed])
    by_slide = Folds(names, classes, slides % 3, kather.CLASSES)
    said = kather.published(by_slide)
    assert "87.4 %" in said
    assert said.endswith("no slide is in training and test at once.")
    # Groups that are not the slides keep nothing of them apart.
    by_image = dataclasses.replace(by_slide, folds=np.arange(len(names)) % 3, groups=names)
    assert kather.published(by_image) == said.removesuffix(
        " Here, no slide is in training and test at once."
    )
    unknown = dataclasses.replace(by_slide, names=("tile1", *names[1:]))
    others = dataclasses.replace(by_slide, classes=kather.CLASSES[::-1])
    assert kather.published(unknown) == kather.published(others) == ""
    assert f"{kather.PUBLISHED_ACCURACY} %" in (ROOT / "third_party/README.md").read_text()


def test_tiles_are_chosen_by_the_sha256_of_their_names(archive, tmp_path):
    chosen = [row["image"].split("/")[1] for row in rows(kather.unpack(archive, tmp_path, 3))][:3]
    of_class = [made_kather.name(0, index) for index in range(PER_CLASS)]
    assert chosen == sorted(of_class, key=lambda name: hashlib.sha256(name.encode()).digest())[:3]


def test_a_damaged_zip_is_downloaded_again(zenodo, archive, tmp_path, notices):
    file = published.FILES["crc"]
    (tmp_path / file.name).write_bytes(b"damaged")
    assert published.fetch(file, tmp_path).read_bytes() == archive.read_bytes()
    assert "is damaged" in notices[0]


def unpack_tiles_of(folder, content: bytes):
    """The table of a zip with a tile of each class, whose names tell no slide."""
    with zipfile.ZipFile(folder / "tiles.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for label in kather.CLASSES:
            made.writestr(f"{label}/a.tif", content)
    return kather.unpack(folder / "tiles.zip", folder / "tiles", 1)


def test_a_tile_that_tells_no_slide_has_an_empty_cell(tmp_path):
    assert [row["slide"] for row in rows(unpack_tiles_of(tmp_path, b"a tile"))] == [""] * 8


def test_a_tile_that_is_far_too_large_is_not_unpacked(tmp_path):
    with pytest.raises(InputError, match="a.tif has 2000000 bytes, expected 1138576 at most"):
        unpack_tiles_of(tmp_path, bytes(2_000_000))
    assert not list(tmp_path.glob("tiles/*/*"))


def test_the_views_of_the_tiles():
    suited = recommend.recommend([(150, 150)], [kather.MPP])
    assert suited.views == (View(1.0, 96), View(1.0, 128))


def test_photos_of_bach_are_unpacked_without_their_slides(tmp_path, monkeypatch):
    size = (made_bach.HEIGHT, made_bach.WIDTH)
    for name, made in (
        (made_bach.TRAINING, made_bach.training()),
        (made_bach.TEST, made_bach.unlabelled()),
    ):
        made_bach.write_zip(tmp_path, name, made)
    photos = challenge.unpack(tmp_path, size)
    (tmp_path / f"{made_bach.TRAINING}.zip").unlink()
    dataset = datasets.load(tmp_path / made_bach.TRAINING)
    assert (len(dataset.labels), dataset.classes[0]) == (400, "Normal")
    assert photos == tmp_path / made_bach.TRAINING / "Photos"
    assert not (photos.parent / "WSI").exists()
    assert len(list(challenge.unpack_test(tmp_path, size).glob("test*.tif"))) == 100
    there = run("fetch", "bach", f"--downloads={tmp_path}")  # The zip is not needed any more.
    assert (there.returncode, there.stderr) == (0, "")
    assert f"data: {photos}\nlicence: CC BY-NC-ND 4.0" in there.stdout


def test_an_unknown_checksum_is_asked_of_zenodo(tmp_path, monkeypatch):
    content, file = b"a zip", published.FILES["bach_test"]
    md5 = "5a1c2e3f"  # Not that of the content.
    entries = [{"key": file.name, "checksum": f"md5:{md5}"}]
    replies = {"/api/records/3632035": json.dumps({"files": entries}).encode()}
    replies[f"/records/3632035/files/{file.name}"] = content
    with serving.server(replies) as server:
        monkeypatch.setattr(published, "ZENODO", server.address)
        with pytest.raises(InputError, match=f"expected {md5}: not used"):
            published.fetch(file, tmp_path)
        (tmp_path / "is").write_bytes(content)
        entries[0]["checksum"] = f"md5:{download.md5(tmp_path / 'is')}"
        server.files["/api/records/3632035"] = json.dumps({"files": entries}).encode()
        assert published.fetch(file, tmp_path).read_bytes() == content
        server.files["/api/records/3632035"] = b"[]"
        assert published.fetch(file, tmp_path).read_bytes() == content
        with pytest.raises(InputError, match="does not give the checksum.*put it into"):
            published.fetch(file, tmp_path / "other")
