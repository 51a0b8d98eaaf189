"""Extraction: descriptors do not depend on how the work is cut, and a stopped run continues.

Tests pending.py and loaded_encoders.py too.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import (
    crop_errors,
    dry_run,
    encoding,
    extract,
    hybrid,
    image_extraction,
    loaded_encoders,
    manifests,
    programs,
    store,
)
from histojax.images.padding import bucket
from histojax.images.resampling import NO_RESAMPLING
from histojax.ops import crops, pooling, resize, stain
from tests.running import run
from tests.samples import SMALL, random_crop, tissue

pytestmark = pytest.mark.usefixtures("narrow_vgg")

FOUR = Runtime(crops_per_step=4)


@pytest.fixture(scope="module")
def described(paths, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("descriptors")
    extract.run(paths, SMALL, root, runtime=FOUR)
    return root


def assert_same(one: Path, other: Path, paths: list[Path]) -> None:
    for configuration in SMALL.configurations:
        for path in paths:
            a, b = (np.load(store.file_of(root, configuration, path.stem)) for root in (one, other))
            assert a.dtype == b.dtype == np.float32
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a), (configuration, path.stem)


def test_a_descriptor_is_the_protocol_step_by_step(paths, described):
    variables = weights.random("VGG", 0)
    for path, view in zip(paths[:2], SMALL.views, strict=True):
        rgb = np.array(Image.open(path))
        normalized = stain.normalize(resize.downscale(rgb, view.scale))
        key = crops.image_key(SMALL.seed, path.stem)
        rows = []
        for a in range(SMALL.augmentations):
            # As the protocol tells it: the whole image is augmented first and cropped then.
            augmented = stain.augment(normalized, crops.gains(key, a, 0.7, 1.3))
            squares = [
                random_crop(augmented, key, a, c, view.crop_size) for c in range(SMALL.crops)
            ]
            descriptors = encoders.ENCODERS["VGG"].descriptors(variables, np.stack(squares))
            rows.append(np.asarray(pooling.pnorm(descriptors, 3.0)))
        expected = np.stack(rows)
        found = np.load(store.file_of(described, f"VGG-{view.name}", path.stem))
        assert found.shape == (3, encoders.ENCODERS["VGG"].width)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("step", [2, 20])
def test_descriptors_do_not_depend_on_the_batch_size(paths, described, tmp_path, step):
    extract.run(paths, SMALL, tmp_path, runtime=Runtime(crops_per_step=step))
    assert_same(described, tmp_path, paths)


def test_descriptors_do_not_depend_on_the_order_of_images(paths, described, tmp_path):
    extract.run(paths[::-1], SMALL, tmp_path, runtime=FOUR)
    assert_same(described, tmp_path, paths)


def test_descriptors_do_not_depend_on_the_number_of_devices(paths, described, tmp_path):
    assert len(jax.local_devices()) == 2
    extract.run(
        paths,
        SMALL,
        tmp_path,
        runtime=Runtime(crops_per_step=3, devices=tuple(jax.local_devices()[:1])),
    )
    assert_same(described, tmp_path, paths)


def test_augmentations_and_crops_differ(described, paths):
    descriptors = np.load(store.file_of(described, "VGG-0.5-48", paths[0].stem))
    assert len({row.tobytes() for row in descriptors}) == SMALL.augmentations


def test_a_killed_run_goes_on_at_the_first_missing_image(paths, described, tmp_path):
    with start(paths, tmp_path, killed_after=2) as process:
        assert process.wait(120) == -signal.SIGKILL
    assert {path.stem for path in tmp_path.glob("VGG-1.0-64/*.npy")} == {paths[0].stem}
    first = store.file_of(tmp_path, "VGG-1.0-64", paths[0].stem)
    before = first.stat().st_mtime_ns
    outcome = extract.run(paths, SMALL, tmp_path, runtime=FOUR)
    assert outcome.done_before_count == 1
    assert first.stat().st_mtime_ns == before
    assert_same(described, tmp_path, paths)
    qc = store.read_stain_qc(tmp_path)
    assert {image for image, _ in qc} == {path.stem for path in paths}


def test_a_second_run_does_nothing(paths, described):
    times = {path: path.stat().st_mtime_ns for path in described.rglob("*.npy")}
    outcome = extract.run(paths, SMALL, described)
    assert (outcome.extracted, outcome.done_before_count) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in described.rglob("*.npy")} == times


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"crops": 4}, "protocol.crops"),
        ({"p": 2.0}, "protocol.p"),
        ({"weights_seed": 1}, "weights.source"),
    ],
)
def test_another_protocol_in_the_same_folder_is_refused_with_the_difference(
    paths, described, change, shown
):
    with pytest.raises(InputError, match=shown):
        extract.run(paths, dataclasses.replace(SMALL, **change), described)


def test_another_protocol_beside_it_is_refused_too_but_another_view_is_not(paths, tmp_path):
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1], augmentations=1, crops=1)
    extract.run(paths[:1], extraction, tmp_path)
    extract.run(paths[:1], dataclasses.replace(extraction, views=SMALL.views[1:]), tmp_path)
    other = dataclasses.replace(extraction, views=(View(0.5, 40),), crops=2)
    with pytest.raises(InputError, match="protocol.crops: found 1, expected 2"):
        extract.run(paths[:1], other, tmp_path)


def test_an_image_that_the_quality_table_does_not_know_is_described_anew(paths, tmp_path):
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1], augmentations=1, crops=1)
    extract.run(paths[:1], extraction, tmp_path)
    (tmp_path / store.STAIN_QC).unlink()
    assert extract.run(paths[:1], extraction, tmp_path).extracted == 1
    assert len(store.read_stain_qc(tmp_path)) == 1


def test_one_file_under_two_names_is_told(paths, tmp_path, caplog):
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1], augmentations=1, crops=1)
    with caplog.at_level("WARNING", logger="absl"):
        extract.run([paths[0], copy], extraction, tmp_path / "out")
    assert "copy, image0 are one file under several names" in caplog.text


def test_another_image_of_the_same_name_is_refused(paths, described, tmp_path):
    other = tmp_path / paths[0].name
    Image.fromarray(tissue(9, 150, 150)).save(other)
    with pytest.raises(InputError, match="is not the file"):
        extract.run([other], SMALL, described)


def test_the_manifest_records_protocol_weights_and_versions(described):
    manifest = json.loads((described / "VGG-0.5-48" / manifests.MANIFEST).read_text())
    assert manifest["protocol"]["crop_size"] == 48
    assert manifest["weights"] == {
        "source": "random, seed 0",
        "sha256": weights.checksum(weights.random("VGG", 0)),
    }
    assert {"histojax", "jax", "flax", "numpy"} <= set(manifest["versions"])


def test_an_all_white_image_is_flagged_and_not_an_error(tmp_path):
    white = tmp_path / "white.png"
    Image.new("RGB", (140, 130), "white").save(white)
    outcome = extract.run([white], SMALL, tmp_path / "out")
    assert outcome.fallbacks == ("white",)
    rows = store.read_stain_qc(tmp_path / "out")
    assert rows["white", "0.5"].status == "fallback: too little tissue"
    assert np.isfinite(np.load(tmp_path / "out" / "VGG-0.5-48" / "white.npy")).all()


def test_an_encoder_that_the_crops_do_not_fit_is_refused_before_any_work(paths, tmp_path):
    extraction = Extraction(encoders=("Inception",), views=(View(0.5, 48),), weights="random")
    with pytest.raises(InputError, match="at least 75 x 75 px"):
        extract.run(paths, extraction, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.npy"))


@contextlib.contextmanager
def watched_traces():
    """A list that gets part and views of each program that is traced in the block."""
    traced = []

    def watched(program, *arguments):
        workload = arguments[-1].workload
        traced.append([workload.part.value, *(view.name for view in workload.views)])
        return program(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        for module, name in ((programs, "_encode_crops"), (hybrid, "encode_windows")):
            patched.setattr(module, name, functools.partial(watched, getattr(module, name)))
        yield traced


def test_one_trace_per_configuration_however_many_images_come_and_of_whatever_sizes(tmp_path):
    views = View(0.5, 32), View(0.5, 40), View(1.0, 32)
    extraction = Extraction(("VGG",), views, augmentations=1, crops=1, weights="random", seed=77)
    names = iter(range(26))
    with watched_traces() as traced:
        for count in (21, 5):
            folder = tmp_path / str(count)
            folder.mkdir()
            for i in range(count):
                Image.fromarray(tissue(i, 120 - 2 * (i % 4), 128 - 3 * (i % 3))).save(
                    folder / f"image{next(names)}.png"
                )
            outcome = extract.run(sorted(folder.iterdir()), extraction, tmp_path / "out")
            assert outcome.extracted == count
    assert sorted(traced) == [["exact", view.name] for view in views]


def test_images_of_many_sizes_go_into_few_buckets():
    sides = range(32, 4096)
    assert all(side <= bucket(side) < 1.25 * side + 32 for side in sides)
    assert len({bucket(side) for side in sides}) < 40
    for side in (
        512,
        768,
        896,
        1024,
        1536,
        2048,
    ):  # BACH's, UCSB's and other common sides are not padded.
        assert bucket(side) == side


def test_a_descriptor_does_not_depend_on_the_other_images_of_the_run(paths, tmp_path):
    large = tmp_path / "large.png"
    Image.fromarray(tissue(5, 400, 300)).save(large)
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1])
    extract.run([paths[0]], extraction, tmp_path / "alone")
    extract.run([paths[0], large], extraction, tmp_path / "together")
    alone, together = (
        np.load(tmp_path / run / "VGG-0.5-48" / "image0.npy") for run in ("alone", "together")
    )
    assert np.linalg.norm(alone - together) <= 1e-5 * np.linalg.norm(alone)


HYBRID = dataclasses.replace(
    SMALL, crop_mode="hybrid", pool_crops=4, gain_nodes=2, views=(View(0.5, 48), View(0.5, 40))
)


@pytest.fixture(scope="module")
def in_hybrid(paths, tmp_path_factory, narrow_vgg):
    """Descriptors of crop mode hybrid, and what the run says of them."""
    root = tmp_path_factory.mktemp("hybrid")
    with watched_traces() as traced:
        summary = extract.run(paths, HYBRID, root)
    # Three images of three sizes: one trace of each program.
    assert len({NO_RESAMPLING.size(path) for path in paths}) == 3
    views = ["0.5-40", "0.5-48"]
    each = [[part, view] for part in ("checked", "pool") for view in views]
    assert sorted(traced) == [*each, ["windows", *reversed(views)]]
    return root, summary


def test_hybrid_crops_have_folders_of_their_own_and_are_not_mixed_with_exact_ones(
    paths, described, in_hybrid
):
    root, _ = in_hybrid
    assert {path.name for path in root.iterdir() if path.is_dir()} == {*HYBRID.configurations}
    assert store.configurations(root) == ("VGG-0.5-40-hybrid", "VGG-0.5-48-hybrid")
    protocol = manifests.read(root, "VGG-0.5-48-hybrid")["protocol"]
    assert (protocol["pool_crops"], protocol["gain_nodes"]) == (4, 2)
    assert extract.run(paths, HYBRID, root).extracted == 0
    with pytest.raises(InputError, match="protocol.crop_mode: found hybrid, expected exact"):
        extract.run(paths, SMALL, root)
    with pytest.raises(InputError, match="protocol.crop_mode"):
        extract.run(paths, HYBRID, described)
    with pytest.raises(InputError, match="protocol.pool_crops: found 4, expected 5"):
        extract.run(paths, dataclasses.replace(HYBRID, pool_crops=5), root)


def test_a_dry_run_tells_what_a_hybrid_run_takes_and_writes_nothing(
    paths, in_hybrid, tmp_path, monkeypatch
):
    root, _ = in_hybrid
    assemble = encoding.assemble

    def slowly(*arguments):
        time.sleep(0.2)
        return assemble(*arguments)

    monkeypatch.setattr(encoding, "assemble", slowly)
    told = dry_run.run(paths, HYBRID, tmp_path / "out")
    assert told.by_configuration["VGG-0.5-48+0.5-40"] > 0.2
    assert told.images == 3
    assert told.seconds > told.compiling > 0
    assert told.memory > 0
    assert set(told.by_configuration) == {"VGG-0.5-48+0.5-40"}
    assert not (tmp_path / "out").exists()
    assert told.disk == sum(path.stat().st_size for path in root.rglob("*.npy"))
    assert dry_run.run(paths, HYBRID, root).images == 0


def test_a_protocol_that_hybrid_saves_nothing_of_is_told_who_chooses_it(
    paths, tmp_path, notices, monkeypatch
):
    monkeypatch.setattr(extract, "_run_job", lambda *_: extract.ExtractionSummary(0, 0, ()))
    few = dataclasses.replace(HYBRID, augmentations=2, crops=3)
    encoder_set = loaded_encoders.load_encoders(few)
    listener = extract.Listener(done=print, failed=print)  # As of predict, which has no choice.
    images = {path.stem: path for path in paths[:1]}
    for heard in (None, listener):
        extract.extract_images(images, encoder_set, tmp_path / "few", listener=heard)
    (notice,) = [text for text in notices if "operations of exact crops here" in text]
    # Of each size 4 x 4 crops for 2 x 3, and four times the whole image of 80 x 80 px.
    whole = 4 * 80 * 80 / (2 * 3 * (48**2 + 40**2))
    assert f"takes {16 / 6 + whole:.3g} times the operations of exact crops here, 2 augm" in notice


def test_a_run_measures_its_error_and_the_manifest_has_it(in_hybrid):
    root, summary = in_hybrid
    assert set(summary.crop_errors) == {*HYBRID.configurations}
    for name, measured in summary.crop_errors.items():
        assert measured["images"] == 3
        assert manifests.read(root, name)["crop_error"] == measured
        assert (root / name / crop_errors.FOLDER / "image1.json").exists()
        for tap in measured["taps"].values():
            assert 0 < tap["mean_error"] <= tap["largest_error"] < 0.5
            assert tap["between_augmentations"] > 0


@pytest.mark.parametrize("lost", ["everything", "one view"])
def test_a_hybrid_run_that_was_stopped_goes_on_to_the_same_descriptors(
    lost, paths, in_hybrid, tmp_path, capsys
):
    root = tmp_path / "resumed"
    shutil.copytree(in_hybrid[0], root)
    first, other = (root / name / "image1.npy" for name in HYBRID.configurations)
    before, stamp = np.load(first), other.stat().st_mtime_ns
    for path in [first, other] if lost == "everything" else [first]:
        path.unlink()
    shutil.rmtree(root / first.parent.name / crop_errors.FOLDER)
    capsys.readouterr()
    again = extract.run(list(reversed(paths)), HYBRID, root, runtime=Runtime(crops_per_step=4))
    assert again.extracted == 1
    # Nodes of one pass, two pools of crops four times, and an exact augmentation of each.
    assert f"extract: {4 + 2 * 4 * 4 + 2 * 3} crops and whole images" in capsys.readouterr().err
    assert np.linalg.norm(np.load(first) - before) <= 1e-5 * np.linalg.norm(before)
    if lost == "one view":
        assert other.stat().st_mtime_ns == stamp
    assert again.crop_errors[first.parent.name]["images"] == 1


def test_a_hybrid_descriptor_does_not_depend_on_the_process(paths, in_hybrid, tmp_path, notices):
    with watched_traces() as traced:
        for process in range(2):
            done = extract.run(
                list(reversed(paths)),
                HYBRID,
                tmp_path / "out",
                process=process,
                processes=2,
                runtime=Runtime(checked=0),
            )
            assert not done.crop_errors
    assert not traced  # Runs of other images of these shapes take the traces there are.
    # Nothing is left to extract now, so nothing can be measured.
    assert extract.run(paths, HYBRID, tmp_path / "out").crop_errors == {}
    (notice,) = [text for text in notices if "--checked=0.05" in text]
    assert "and those of the images to check were before" in notice
    for name in HYBRID.configurations:
        for path in paths:
            one, other = (
                np.load(root / name / f"{path.stem}.npy")
                for root in (in_hybrid[0], tmp_path / "out")
            )
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one)


def test_a_stain_step_of_many_gains_is_refused_in_crop_mode_hybrid(paths, tmp_path, monkeypatch):
    many = dataclasses.replace(stain.HEMATOXYLIN_EOSIN, gains=8)
    monkeypatch.setitem(stain.AUGMENTATIONS, "many", many)
    extraction = dataclasses.replace(HYBRID, stain_augmentation="many", gain_nodes=9)
    with pytest.raises(InputError, match=r"takes 8 random gains, .* 9 \*\* 8 = 43046721 nodes"):
        extract.run(paths, extraction, tmp_path)


@pytest.mark.parametrize("lost", ["hybrid", "exact"])
def test_what_is_not_finite_is_refused_before_an_error_is_written(lost, tmp_path):
    job = SimpleNamespace(root=tmp_path, encoder_set=SimpleNamespace(extraction=HYBRID))
    loaded = SimpleNamespace(encoder=encoders.ENCODERS["VGG"])
    both = {"hybrid": np.ones((2, 3)), "exact": np.ones(3)}
    both[lost][..., 1] = np.nan
    with pytest.raises(InputError, match="VGG-0.5-48-hybrid gave .* of image that are not finite"):
        image_extraction._write_crop_error(job, "image", loaded, HYBRID.views[0], *both.values())
    assert not [*tmp_path.iterdir()]


def test_another_precision_is_another_protocol(paths, described):
    with pytest.raises(InputError, match="protocol.precision: found float32, expected bfloat16"):
        extract.run(paths, dataclasses.replace(SMALL, precision="bfloat16"), described)


def test_the_fused_kernel_gives_the_same_descriptors(paths, described, tmp_path):
    extract.run(paths, SMALL, tmp_path, runtime=Runtime(pooling="pallas"))
    assert_same(described, tmp_path, paths)
    with pytest.raises(InputError, match="--pooling=pallas is for --crop_mode=exact"):
        extract.run(paths, HYBRID, tmp_path / "hybrid", runtime=Runtime(pooling="pallas"))


def test_an_image_that_is_damaged_further_down_stops_the_run_and_what_was_finished_stays(
    paths, tmp_path
):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())
    last = folder / "image2.png"
    last.write_bytes(last.read_bytes()[: -last.stat().st_size // 3])
    with pytest.raises(InputError, match="image2.png is damaged"):
        extract.run(sorted(folder.iterdir()), SMALL, tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out" / "VGG-1.0-64").glob("*.npy")} == {
        "image0",
        "image1",
    }


PROGRAM = """
import os, runpy, signal, sys
from histojax.extraction import store
from tests import narrow
write, left = store.write, int(sys.argv.pop(1))
def write_and_die(*arguments):
    global left
    write(*arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
store.write = write_and_die
with narrow.vgg():
    runpy.run_module("experiments.extract", run_name="__main__", alter_sys=True)
"""


def start(paths: list[Path], out: Path, *more: str, killed_after: int = 0) -> subprocess.Popen:
    """A process that describes the images, and is killed after so many files."""
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(killed_after),
        f"--images={paths[0].parent}",
        f"--descriptors={out}",
    ]
    command += [
        "--encoders=VGG",
        "--views=0.5-48,1.0-64",
        "--augmentations=3",
        "--crops=3",
        "--weights=random",
    ]
    return subprocess.Popen(
        [*command, "--seed=4", *more],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two(port: int) -> list[list[str]]:
    """The flags of two processes that share a run."""
    return [
        [f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={i}"]
        for i in (0, 1)
    ]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def assert_same_store(found: Path, expected: Path, paths: list[Path]) -> None:
    """The same descriptors, and the same manifests and table of stain quality to the byte."""
    assert_same(expected, found, paths)
    assert {path.name for path in found.iterdir()} == {path.name for path in expected.iterdir()}
    assert (found / store.STAIN_QC).read_bytes() == (expected / store.STAIN_QC).read_bytes()
    for configuration in SMALL.configurations:
        ours, theirs = (
            (root / configuration / manifests.MANIFEST).read_text() for root in (found, expected)
        )
        assert ours == theirs


def test_two_shares_one_unfinished_and_gone_on_with_give_the_store_of_one(
    paths, described, tmp_path, monkeypatch
):
    """As below, one after the other in this process."""
    out, write = tmp_path / "out", store.write

    def write_or_die(root, configuration, name, descriptors):
        if (configuration, name) == ("VGG-1.0-64", "image2"):
            raise RuntimeError("killed")
        write(root, configuration, name, descriptors)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", write_or_die)
        # Process 0 has image0 and image2.
        with pytest.raises(RuntimeError, match="killed"):
            extract.run(paths, SMALL, out, process=0, processes=2, runtime=FOUR)
    assert extract.run(paths, SMALL, out, process=1, processes=2, runtime=FOUR).extracted == 1
    assert (out / "VGG-1.0-64" / "image1.npy").exists()
    assert not (out / "VGG-1.0-64" / "image2.npy").exists()
    for process, expected in ((0, 1), (1, 0)):
        summary = extract.run(paths, SMALL, out, process=process, processes=2, runtime=FOUR)
        assert summary.extracted == expected
    assert_same_store(out, described, paths)


@pytest.mark.slow
def test_two_processes_one_killed_and_gone_on_with_give_the_store_of_one(
    paths, described, tmp_path
):
    out = tmp_path / "out"
    first, second = two(free_port())
    # Process 0 has image0 and image2; it is killed after its first file.
    workers = [start(paths, out, *first, killed_after=1), start(paths, out, *second)]
    workers[0].communicate(timeout=120)
    assert workers[0].returncode == -signal.SIGKILL
    told = workers[1].communicate(timeout=120)
    assert workers[1].returncode == 0, told  # It finishes, though the process they met at is dead.
    assert (out / "VGG-1.0-64" / "image1.npy").exists()
    assert not (out / "VGG-1.0-64" / "image2.npy").exists()

    for worker in [start(paths, out, *flags) for flags in two(free_port())]:
        told = worker.communicate(timeout=120)
        assert worker.returncode == 0, told
    assert_same_store(out, described, paths)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--coordinator=localhost:1"], "go together"),
        (["--num_processes=2", "--process_id=1"], "go together"),
        (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "they count from 0"),
    ],
)
def test_half_told_processes_are_refused(paths, tmp_path, flags, shown):
    done = run("extract", f"--images={paths[0].parent}", f"--descriptors={tmp_path}", *flags)
    assert done.returncode == 1
    assert shown in done.stderr


def test_new_images_are_described_in_the_mode_and_precision_the_models_were_trained_on(
    paths, tmp_path
):
    extraction = dataclasses.replace(HYBRID, precision="tf32")
    loaded = loaded_encoders.fold_encoders(extraction)["VGG"]
    made_with = {
        extraction.configuration("VGG", view): loaded.manifest(extraction, view)
        for view in extraction.views
    }
    assert manifests.extraction_of(made_with, "models") == extraction
    for made in made_with.values():
        del made["protocol"]["precision"]  # As manifests are where it is float32.
    assert manifests.extraction_of(made_with, "models") == dataclasses.replace(
        extraction, precision="float32"
    )
