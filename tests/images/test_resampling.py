"""Images are resampled to a pixel size as they are read, and their descriptors record it."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from histojax.errors import InputError
from histojax.extraction import extract, manifests, store
from histojax.images.resampling import NO_RESAMPLING, Resampling
from tests import samples
from tests.running import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same tissue at 0.42, 0.21 and 0.84 um/px, as TIFF that says so, and as a silent PNG."""
    root = tmp_path_factory.mktemp("mpp")
    tissue = Image.fromarray(samples.tissue(0, 160, 200))
    for name, side, mpp in (("as-is", 1, 0.42), ("fine", 2, 0.21), ("coarse", 0.5, 0.84)):
        size = (int(200 * side), int(160 * side))
        dpcm = 10_000 / mpp
        image = tissue.resize(size, Image.Resampling.BICUBIC)
        image.save(root / f"{name}.tif", resolution_unit=3, x_resolution=dpcm, y_resolution=dpcm)
    tissue.save(root / "silent.png")
    return root


def test_without_a_target_images_are_read_as_they_are(folder):
    for path in folder.iterdir():
        np.testing.assert_array_equal(NO_RESAMPLING.read(path), np.array(Image.open(path)))
        assert NO_RESAMPLING.digest_suffix(path) == ""


@pytest.mark.parametrize("name", ["as-is", "fine", "coarse"])
def test_with_the_papers_target_all_have_its_pixel_size(folder, name):
    path, resampling = folder / f"{name}.tif", Resampling(0.84)
    assert resampling.size(path) == (160, 200)
    rgb = resampling.read(path)
    assert rgb.shape == (160, 200, 3)
    difference = np.abs(rgb.astype(int) - np.array(Image.open(folder / "as-is.tif")))
    assert difference.mean() < {"as-is": 1e-9, "fine": 3, "coarse": 15}[name]
    assert Resampling(1.68).size(path) == (80, 100)


def test_the_user_overrides_what_a_file_says(folder):
    assert Resampling(0.84, 0.84).size(folder / "as-is.tif") == (320, 400)
    assert Resampling(0.84, 0.42).size(folder / "silent.png") == (160, 200)
    with pytest.raises(
        InputError, match="does not say its pixel size, which --target_mpp needs: pass --mpp"
    ):
        Resampling(0.84).size(folder / "silent.png")


def test_the_script_takes_a_target_and_a_pixel_size(folder, tmp_path, narrow_vgg):
    (tmp_path / "in").mkdir()
    shutil.copy(folder / "silent.png", tmp_path / "in")
    small = [
        "--weights=random",
        "--encoders=VGG",
        "--views=0.5-48",
        "--augmentations=1",
        "--crops=1",
    ]
    arguments = [
        f"--images={tmp_path / 'in'}",
        f"--descriptors={tmp_path / 'out'}",
        *small,
        "--target_mpp=0.84",
    ]
    done = run("extract", *arguments)
    assert done.returncode == 1
    assert "pass --mpp" in done.stderr
    done = run("extract", *arguments, "--mpp=0.5")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "stain_qc.csv").read_text().strip().endswith("@0.5um")


def test_descriptors_are_of_the_resampled_image_and_of_no_other(folder, tmp_path):
    extraction = dataclasses.replace(samples.SMALL, views=samples.SMALL.views[:1], target_mpp=0.84)
    extract.run([folder / "fine.tif"], extraction, tmp_path / "ours")
    whole = tmp_path / "fine.png"  # The image as it should have been resampled.
    Image.fromarray(Resampling(0.84).read(folder / "fine.tif")).save(whole)
    extract.run([whole], dataclasses.replace(extraction, target_mpp=0.0), tmp_path / "theirs")
    ours, theirs = (
        store.read(tmp_path / folder_name, "VGG-0.5-48", ["fine"])
        for folder_name in ("ours", "theirs")
    )
    np.testing.assert_array_equal(ours, theirs)
    assert manifests.read(tmp_path / "ours", "VGG-0.5-48")["protocol"]["target_mpp"] == 0.84
    assert "target_mpp" not in manifests.read(tmp_path / "theirs", "VGG-0.5-48")["protocol"]
    with pytest.raises(InputError, match="pixel size differs"):
        extract.run([folder / "fine.tif"], extraction, tmp_path / "ours", mpp=0.25)
    with pytest.raises(InputError, match="protocol.target_mpp: found 0.84, expected 0.0"):
        extract.run(
            [folder / "as-is.tif"],
            dataclasses.replace(extraction, target_mpp=0.0),
            tmp_path / "ours",
        )
    with pytest.raises(InputError, match=r"40 x 32 px \(0.2 of its size, by --target_mpp\)"):
        extract.run(
            [folder / "as-is.tif"],
            dataclasses.replace(extraction, target_mpp=4.2),
            tmp_path / "tiny",
        )
