"""Descriptors do not depend on how the work is cut up, and a run can be stopped and gone on with."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from histojax import crops, encoders, extract, pooling, resize, stain, store, weights
from histojax.config import Extraction, View
from histojax.errors import InputError

SMALL = Extraction(
    encoders=("VGG",), views=(View(0.5, 48), View(1.0, 64)), augmentations=3, crops=3, weights="random", seed=4
)


def tissue(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2, 0.4, (height // 8 + 1, width // 8 + 1, 2)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(240 * np.exp(-amounts @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"image{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(tissue(i, 130 + 10 * i, 140)).save(file)
    return files


@pytest.fixture(scope="module")
def described(paths, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("descriptors")
    extract.run(paths, SMALL, root, crops_per_step=4)
    return root


def assert_same(one: Path, other: Path, paths: list[Path]) -> None:
    for configuration in SMALL.configurations:
        for path in paths:
            a, b = (np.load(store.file_of(root, configuration, path.stem)) for root in (one, other))
            assert a.dtype == b.dtype == np.float32
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a), (configuration, path.stem)


def test_a_descriptor_is_the_protocol_step_by_step(paths, described):
    variables = weights.random("VGG", 0)
    for path in paths[:2]:
        rgb = np.array(Image.open(path))
        for view in SMALL.views:
            normalized = stain.normalize(resize.downscale(rgb, view.scale))
            key = crops.image_key(SMALL.seed, path.stem)
            rows = []
            for a in range(SMALL.augmentations):
                # As the protocol tells it: the whole image is augmented first and cropped then.
                augmented = stain.augment(normalized, crops.gains(key, a, 0.7, 1.3))
                squares = [crops.random_crop(augmented, key, a, c, view.crop_size) for c in range(SMALL.crops)]
                descriptors = encoders.ENCODERS["VGG"].descriptors(variables, np.stack(squares))
                rows.append(np.asarray(pooling.pnorm(descriptors, 3.0)))
            expected = np.stack(rows)
            found = np.load(store.file_of(described, f"VGG-{view.name}", path.stem))
            assert found.shape == (3, 1408)
            assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("step", [2, 20])
def test_descriptors_do_not_depend_on_the_batch_size(paths, described, tmp_path, step):
    extract.run(paths, SMALL, tmp_path, crops_per_step=step)
    assert_same(described, tmp_path, paths)


def test_descriptors_do_not_depend_on_the_order_of_images(paths, described, tmp_path):
    extract.run(paths[::-1], SMALL, tmp_path, crops_per_step=4)
    assert_same(described, tmp_path, paths)


def test_descriptors_do_not_depend_on_the_number_of_devices(paths, described, tmp_path):
    assert len(jax.local_devices()) == 2
    extract.run(paths, SMALL, tmp_path, crops_per_step=3, devices=jax.local_devices()[:1])
    assert_same(described, tmp_path, paths)


def test_augmentations_and_crops_differ(described, paths):
    descriptors = np.load(store.file_of(described, "VGG-0.5-48", paths[0].stem))
    assert len({row.tobytes() for row in descriptors}) == SMALL.augmentations


def test_a_killed_run_goes_on_at_the_first_missing_image(paths, described, tmp_path):
    command = [sys.executable, "-m", "experiments.extract", f"--images={paths[0].parent}", f"--descriptors={tmp_path}"]
    command += [
        "--encoders=VGG",
        "--views=0.5-48,1.0-64",
        "--augmentations=3",
        "--crops=3",
        "--weights=random",
        "--seed=4",
    ]
    root = Path(__file__).parents[1]
    first = store.file_of(tmp_path, "VGG-1.0-64", paths[0].stem)
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        for _ in range(600):
            if first.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finished = {path.stem for path in tmp_path.glob("VGG-1.0-64/*.npy")}
    assert paths[0].stem in finished
    before = first.stat().st_mtime_ns
    outcome = extract.run(paths, SMALL, tmp_path, crops_per_step=4)
    assert outcome.done_before >= 1
    assert first.stat().st_mtime_ns == before
    assert_same(described, tmp_path, paths)
    qc = store.read_stain_qc(tmp_path)
    assert {image for image, _ in qc} == {path.stem for path in paths}


def test_a_second_run_does_nothing(paths, described):
    times = {path: path.stat().st_mtime_ns for path in described.rglob("*.npy")}
    outcome = extract.run(paths, SMALL, described)
    assert (outcome.described, outcome.done_before) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in described.rglob("*.npy")} == times


@pytest.mark.parametrize(
    ("change", "shown"),
    [({"crops": 4}, "protocol.crops"), ({"p": 2.0}, "protocol.p"), ({"weights_seed": 1}, "weights.source")],
)
def test_another_protocol_in_the_same_folder_is_refused_with_the_difference(paths, described, change, shown):
    with pytest.raises(InputError, match=shown):
        extract.run(paths, dataclasses.replace(SMALL, **change), described)


def test_another_protocol_beside_it_is_refused_too_but_another_view_is_not(paths, tmp_path):
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1], augmentations=1, crops=1)
    extract.run(paths[:1], extraction, tmp_path)
    extract.run(paths[:1], dataclasses.replace(extraction, views=SMALL.views[1:]), tmp_path)
    other = dataclasses.replace(extraction, views=(View(0.5, 40),), crops=2)
    with pytest.raises(InputError, match="protocol.crops: there 1, wanted 2"):
        extract.run(paths[:1], other, tmp_path)


def test_an_image_that_the_quality_table_does_not_know_is_described_anew(paths, tmp_path):
    extraction = dataclasses.replace(SMALL, views=SMALL.views[:1], augmentations=1, crops=1)
    extract.run(paths[:1], extraction, tmp_path)
    (tmp_path / store.STAIN_QC).unlink()
    assert extract.run(paths[:1], extraction, tmp_path).described == 1
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
    manifest = json.loads((described / "VGG-0.5-48" / store.MANIFEST).read_text())
    assert manifest["protocol"]["crop_size"] == 48
    assert manifest["weights"] == {"source": "random, seed 0", "sha256": weights.checksum(weights.random("VGG", 0))}
    assert {"histojax", "jax", "flax", "numpy"} <= set(manifest["versions"])


def test_an_all_white_image_is_flagged_and_not_an_error(tmp_path):
    white = tmp_path / "white.png"
    Image.new("RGB", (140, 130), "white").save(white)
    outcome = extract.run([white], SMALL, tmp_path / "out")
    assert outcome.fallbacks == ("white",)
    rows = store.read_stain_qc(tmp_path / "out")
    assert rows["white", "0.5"][6] == "fallback: too little tissue"
    assert np.isfinite(np.load(tmp_path / "out" / "VGG-0.5-48" / "white.npy")).all()


def test_an_encoder_that_the_crops_do_not_fit_is_refused_before_any_work(paths, tmp_path):
    extraction = Extraction(encoders=("Inception",), views=(View(0.5, 48),), weights="random")
    with pytest.raises(InputError, match="at least 75 x 75 px"):
        extract.run(paths, extraction, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.npy"))
