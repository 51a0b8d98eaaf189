"""stain_qc.csv and its parts, and a store that several processes write at once (store.py)."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from histojax.config import STAIN_TOO_LITTLE_TISSUE
from histojax.errors import InputError
from histojax.extraction import manifests, mixing, store

DESCRIPTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
MANIFEST = {"protocol": {"crops": 20, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "ab"}}


def test_stain_quality_survives_a_round_trip(tmp_path):
    store.write_stain_qc(tmp_path, qc("a"))
    assert (tmp_path / "stain_qc.csv").read_text().splitlines() == [
        "image,scale,tissue_fraction,stain_angle_degrees,max_hematoxylin,max_eosin,status,"
        "file_sha256",
        "a,0.5,0.3000,,1.0000,0.5000,fallback: too little tissue,00",
    ]
    assert store.read_stain_qc(tmp_path) == qc("a")
    measured = {
        key: dataclasses.replace(row, stain_angle_degrees=31.25) for key, row in qc("a").items()
    }
    store.write_stain_qc(tmp_path, measured)
    assert store.read_stain_qc(tmp_path) == measured


def test_a_cell_that_is_no_number_is_named(tmp_path):
    store.write_stain_qc(tmp_path, qc("a"))
    path = tmp_path / "stain_qc.csv"
    path.write_text(path.read_text().replace("0.3000", "0.3o"))
    with pytest.raises(
        InputError, match=r"row of a at scale 0\.5: could not convert .*'0\.3o'.* Remove it"
    ):
        store.read_stain_qc(tmp_path)


def qc(*names):
    return {
        (name, "0.5"): store.StainQCRow(
            name, "0.5", 0.3, None, 1.0, 0.5, STAIN_TOO_LITTLE_TISSUE, "00"
        )
        for name in names
    }


def test_a_part_wins_over_the_main_file(tmp_path):
    changed = {key: dataclasses.replace(row, file_sha256="ff") for key, row in qc("b").items()}
    store.write_stain_qc(tmp_path, qc("a", "b"))
    store.write_stain_qc(tmp_path, changed, 1, 4)
    store.write_stain_qc(tmp_path, qc("c"), 0, 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        "stain_qc.csv",
        "stain_qc-2of4.csv",
        "stain_qc-1of2.csv",
    }
    assert store.read_stain_qc(tmp_path) == qc("a", "c") | changed


def test_parts_are_merged_once(tmp_path):
    store.merge_stain_qc(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for process, name in enumerate("ba"):
        store.write_stain_qc(tmp_path, qc(name), process, 2)
    for _ in range(2):
        store.merge_stain_qc(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["stain_qc.csv"]
        assert store.read_stain_qc(tmp_path) == qc("a", "b")
    merged = (tmp_path / "stain_qc.csv").read_bytes()
    store.write_stain_qc(tmp_path, qc("a", "b"))
    assert (tmp_path / "stain_qc.csv").read_bytes() == merged


def test_a_damaged_part_is_named_and_nothing_removed(tmp_path):
    store.write_stain_qc(tmp_path, qc("a"), 0, 2)
    (tmp_path / "stain_qc-2of2.csv").write_text("image,scale\n")
    for read in (store.read_stain_qc, store.merge_stain_qc):
        with pytest.raises(
            InputError, match=r"stain_qc-2of2\.csv has columns .* Remove it: the images are then"
        ):
            read(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"stain_qc-1of2.csv", "stain_qc-2of2.csv"}


def test_a_part_that_grows_while_it_is_merged_stays(tmp_path, monkeypatch):
    store.write_stain_qc(tmp_path, qc("a"), 0, 2)
    store.write_stain_qc(tmp_path, qc("b"), 1, 2)
    merged = store._merged

    def merged_late(root, parts):
        store.write_stain_qc(root, qc("b", "c"), 1, 2)
        return merged(root, parts)

    monkeypatch.setattr(store, "_merged", merged_late)
    store.merge_stain_qc(tmp_path)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"stain_qc.csv", "stain_qc-2of2.csv"}
    assert store.read_stain_qc(tmp_path) == qc("a", "b", "c")


@pytest.mark.parametrize("before", [True, False])
def test_a_part_that_is_merged_away_while_parts_are_read_is_not_missed(
    tmp_path, monkeypatch, before
):
    store.write_stain_qc(tmp_path, qc("a"), 0, 2)
    store.write_stain_qc(tmp_path, qc("b"), 1, 2)
    read_rows = store._read_rows

    def read_late(path):
        monkeypatch.undo()
        rows = {} if before else read_rows(path)
        store.merge_stain_qc(tmp_path)
        return read_rows(path) if before else rows

    monkeypatch.setattr(store, "_read_rows", read_late)
    assert store.read_stain_qc(tmp_path) == qc("a", "b")


def test_descriptors_of_another_process_may_come_while_one_claims(tmp_path, monkeypatch):
    exists = Path.exists

    def exists_late(path):
        there = exists(path)
        if path.name == manifests.MANIFEST and not there:
            monkeypatch.undo()
            mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
            store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
        return there

    monkeypatch.setattr(Path, "exists", exists_late)
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)


TOGETHER = f"""
import dataclasses
import subprocess
import sys
import time
from pathlib import Path
import numpy as np
from histojax.extraction import manifests, mixing, store
MANIFEST = {MANIFEST!r}
root, process, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
def qc(*names):
    row = store.StainQCRow("", "0.5", 0.3, None, 1.0, 0.5, {STAIN_TOO_LITTLE_TISSUE!r}, "00")
    return {{(name, "0.5"): dataclasses.replace(row, image=name) for name in names}}
def meet(name):
    (root / f"{{name}}.{{process}}").touch()
    while not all((root / f"{{name}}.{{other}}").exists() for other in range(processes)):
        time.sleep(1e-4)
"""


def run_together(root, code, processes=4):
    """Runs the code in several processes, which may `meet`; the test fails if one of them does."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER + code, root, str(process), str(processes)], stderr=-1
        )
        for process in range(processes)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert not any(process.returncode for process in started), "\n".join(errors)


def test_processes_lose_no_row_while_they_write_read_and_merge_at_once(tmp_path):
    code = """
for turn in range(15):
    folder, rows, seen = root / str(turn), {}, set()
    for i in range(8):
        rows |= qc(f"{process}-{i}")
        store.write_stain_qc(folder, rows, process, processes)
        now = store.read_stain_qc(folder)
        assert rows.items() <= now.items() and seen <= now.keys(), (turn, i)
        seen = now.keys()
    meet(f"written-{turn}")
    for _ in range(3):
        store.merge_stain_qc(folder)
        assert len(store.read_stain_qc(folder)) == 8 * processes, turn
"""
    run_together(tmp_path, code)
    for turn in range(15):
        assert [path.name for path in (tmp_path / str(turn)).iterdir()] == ["stain_qc.csv"]
        assert store.read_stain_qc(tmp_path / str(turn)) == qc(
            *(f"{p}-{i}" for p in range(4) for i in range(8))
        )


def test_a_merger_among_writers_loses_no_row(tmp_path):
    code = """
rows = {}
for i in range(300):
    if process == 0:
        store.merge_stain_qc(root)
    rows |= qc(f"{process}-{i % 100}")
    store.write_stain_qc(root, rows, process, processes)
meet("written")
store.merge_stain_qc(root)
"""
    run_together(tmp_path, code)
    assert len(store.read_stain_qc(tmp_path)) == 400


def test_processes_may_claim_at_once_and_describe(tmp_path):
    code = """
for turn in range(60):
    meet(f"turn-{turn}")
    mixing.claim(root, f"VGG-0.5-{turn}", MANIFEST)
    store.write(root, f"VGG-0.5-{turn}", f"a{process}", np.ones((1, 2), np.float32))
"""
    run_together(tmp_path, code)
    for turn in range(60):
        assert store.image_names(tmp_path, f"VGG-0.5-{turn}") == ("a0", "a1", "a2", "a3")
        assert not manifests.differences(manifests.read(tmp_path, f"VGG-0.5-{turn}"), MANIFEST)
