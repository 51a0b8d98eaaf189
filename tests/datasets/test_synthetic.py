"""Synthetic tissue is reproducible, looks like H&E, and is written as a data set."""

import csv

import numpy as np
import pytest
from PIL import Image

from histojax import datasets
from histojax.config import STAIN_STATUS
from histojax.datasets import synthetic, unlabelled
from histojax.errors import InputError
from histojax.ops import stain


@pytest.fixture(scope="module", params=synthetic.CLASSES)
def field(request) -> np.ndarray:
    return synthetic.render(request.param, 3)


def test_a_field_is_uint8_rgb_of_the_size_asked_for(field):
    assert field.dtype == np.uint8
    assert field.shape == (384, 512, 3)
    assert synthetic.render("Benign", 0, 96, 130).shape == (96, 130, 3)


def test_a_field_depends_on_class_and_seed_alone():
    one = synthetic.render("InSitu", 5, 96, 128)
    assert np.array_equal(one, synthetic.render("InSitu", 5, 96, 128))
    assert not np.array_equal(one, synthetic.render("InSitu", 6, 96, 128))
    assert not np.array_equal(one, synthetic.render("Invasive", 5, 96, 128))


def test_tissue_is_pink_and_its_nuclei_bluer(field):
    rgb = field.reshape(-1, 3).astype(float)
    assert rgb[:, 0].mean() > rgb[:, 1].mean() + 20
    dark = rgb[rgb[:, 0] <= np.percentile(rgb[:, 0], 1)]
    density, nuclear = (-np.log((pixels + 1) / 240).mean(axis=0) for pixels in (rgb, dark))
    assert nuclear[0] / nuclear[1] > density[0] / density[1] + 0.1


def test_tissue_has_a_stain_plane_like_that_of_h_and_e(field):
    quality = stain.normalize_with_quality(field)[1]
    assert STAIN_STATUS[int(quality.status)] == "ok"
    assert 10 < float(quality.stain_angle) < 60


def test_classes_differ_in_layout_and_overlap_in_colour():
    means = {
        label: np.array([synthetic.render(label, seed, 192, 256).mean() for seed in range(6)])
        for label in synthetic.CLASSES
    }
    assert means["Normal"].min() < means["Invasive"].max()
    assert len(set(map(repr, synthetic.LAYOUTS.values()))) == 4


def test_a_folder_is_a_data_set_and_is_not_written_twice(tmp_path):
    synthetic.write_folder(tmp_path, per_class=2, unlabelled=3, height=64, width=64)
    dataset = datasets.load(tmp_path / "train")
    assert dataset.classes == synthetic.CLASSES
    assert dataset.names[:3] == ("n001", "n002", "b001")
    assert len(dataset.paths) == 8
    images = unlabelled.find_images([tmp_path / "unlabelled"])
    with open(tmp_path / "unlabelled_truth.csv") as file:
        truth = {row["image"]: row["label"] for row in csv.DictReader(file)}
    assert set(truth) == {path.name for path in images.values()}
    pixels = {np.array(Image.open(path)).tobytes() for path in (*dataset.paths, *images.values())}
    assert len(pixels) == 11
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    synthetic.write_folder(tmp_path, per_class=2, unlabelled=3, height=64, width=64)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_truth_of_another_seed_is_not_overwritten(tmp_path):
    synthetic.write_folder(tmp_path, per_class=0, unlabelled=6, height=32, width=32)
    before = (tmp_path / "unlabelled_truth.csv").read_text()
    with pytest.raises(InputError, match="empty folder"):
        synthetic.write_folder(tmp_path, per_class=0, unlabelled=6, seed=1, height=32, width=32)
    assert (tmp_path / "unlabelled_truth.csv").read_text() == before


def test_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match="Normal, Benign, InSitu, Invasive"):
        synthetic.render("Other", 0)
