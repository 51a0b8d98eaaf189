"""Heat maps of images: calibrated, with all settings, in folders that are not made twice."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from histojax.config import View
from histojax.errors import InputError
from histojax.heatmap import heatmap
from histojax.heatmap.heatmap import HeatmapOptions
from tests import running, samples
from tests.heatmap import tiny


@pytest.fixture
def models():
    """A bundle whose positions are positive as they are dark, and its encoder."""
    extraction = tiny.protocol(View(0.5, 32))
    return tiny.bundle(extraction, tiny.darkness), tiny.encoder_set(extraction)


def test_a_map_has_calibrated_probabilities_and_says_how_it_was_made(models):
    bundle, encoder_set = models
    rgb = np.full((192, 256, 3), (200, 150, 200), np.uint8)
    options = HeatmapOptions(stride=32, augmentations=1, sigma=0, mpp=0.5)
    result = heatmap.map_image(bundle, rgb, options, name="x", encoder_set=encoder_set)
    assert result.grid.shape == (2, 6, 8)
    assert result.grid.dtype == np.float32
    scores = tiny.scores_of(rgb, bundle.extraction, tiny.darkness, 32)
    sharpened = scores**2 / (scores**2).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(result.grid, np.moveaxis(sharpened, -1, 0), rtol=1e-2)
    np.testing.assert_allclose(result.positive_score, result.grid[1], rtol=1e-5)
    assert (result.stride, result.window, result.mpp, result.size) == (32, 64, 0.5, (192, 256))
    # A quarter of 32 px at scale 0.5.
    assert heatmap.map_image(bundle, rgb, encoder_set=encoder_set).stride == 16
    assert json.loads(json.dumps(result.made_with)) == result.made_with


def test_a_resampled_map_lies_over_the_file(models):
    bundle, encoder_set = models
    bundle.extraction = dataclasses.replace(bundle.extraction, target_mpp=1.0)
    encoder_set = dataclasses.replace(encoder_set, extraction=bundle.extraction)
    rgb = np.full((384, 512, 3), (200, 150, 200), np.uint8)
    rgb[100:200, 350:450] = (90, 40, 130)
    options = HeatmapOptions(stride=64, sigma=0, mpp=0.25)
    result = heatmap.map_image(bundle, rgb, options, encoder_set=encoder_set)
    assert result.grid.shape == (2, 6, 8)
    assert result.stride == pytest.approx(64)
    assert result.window == pytest.approx(128)
    row, column = np.unravel_index(result.grid[1].argmax(), (6, 8))
    assert abs(64 * (row + 0.5) - 150) <= 64
    assert abs(64 * (column + 0.5) - 400) <= 64


@pytest.mark.parametrize(
    "values", [{"stride": 0}, {"augmentations": 0}, {"sigma": -1.0}, {"sigma": float("nan")}]
)
def test_options_out_of_range_are_refused(models, values):
    bundle, encoder_set = models
    rgb = samples.tissue(0, 100, 100)
    with pytest.raises(InputError, match="expected a stride and augmentations of at least 1"):
        heatmap.map_image(bundle, rgb, HeatmapOptions(**values), encoder_set=encoder_set)


def test_a_run_stops_for_options_out_of_range_or_where_nothing_can_be_mapped(models, tmp_path):
    bundle, encoder_set = models
    (tmp_path / "a.png").write_text("no image")
    out = tmp_path / "out"
    for options, message in (
        (HeatmapOptions(stride=0), "--stride is 0"),
        (HeatmapOptions(), "no image could be mapped: .*failures.csv lists 1; the first: .*a.png"),
    ):
        assert not out.exists()
        with pytest.raises(InputError, match=message):
            heatmap.map_images(bundle, [tmp_path / "a.png"], out, options, encoder_set=encoder_set)
    assert "a.png" in (out / "failures.csv").read_text()


def test_a_run_writes_maps_lists_failures_and_goes_on(models, tmp_path):
    bundle, encoder_set = models
    images = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "small.png"]
    for path, (height, width) in zip(images, ((192, 256), (192, 256), (50, 200)), strict=True):
        Image.fromarray(samples.tissue(height, height, width)).save(path)
    (tmp_path / "c.png").write_text("no image")
    paths, out = [*images, tmp_path / "c.png"], tmp_path / "out"
    options = HeatmapOptions(augmentations=1)
    first = heatmap.map_images(bundle, paths, out, options, encoder_set=encoder_set)
    assert first.mapped == ("a.png", "b.png")
    assert set(first.failed) == {"small.png", "c.png"}
    assert "2 images mapped, 2 could not be" in first.text(out)
    rows = (out / "failures.csv").read_text().splitlines()
    assert rows[0] == "image,cause"
    assert "smaller than the 32 px crop" in rows[1]
    assert {path.name for path in (out / "a").iterdir()} == {
        "grid.npy",
        "grid.json",
        "1-benign.png",
        "2-malignant.png",
        "positive.png",
        "classes.png",
        "overview.html",
        "regions.geojson",
    }
    settings = json.loads((out / "a" / "grid.json").read_text())
    grid = np.load(out / "a" / "grid.npy", allow_pickle=False)
    assert grid.shape == (2, *settings["rows_columns"])
    assert settings["size_px"] == [192, 256]
    assert settings["first_place_px"] == [8, 8]
    assert json.loads((out / "a" / "regions.geojson").read_text())["type"] == "FeatureCollection"

    again = heatmap.map_images(bundle, map(str, paths), str(out), options, encoder_set=encoder_set)
    assert (again.mapped, again.done_before) == ((), ("a.png", "b.png"))
    other = dataclasses.replace(options, stride=32)
    assert heatmap.map_images(bundle, paths[:1], out, other, encoder_set=encoder_set).mapped == (
        "a.png",
    )
    with pytest.raises(InputError, match="smaller than the 32 px crop"):
        heatmap.map_images(bundle, paths[2:], out, options, encoder_set=encoder_set, strict=True)


def test_the_script_ends_with_a_code_of_its_own_where_some_images_have_no_map(
    models, tmp_path, monkeypatch
):
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.vsi").write_bytes(b"?")
    Image.fromarray(samples.tissue(0, 60, 70)).save(images / "b.png")

    def map_images(bundle, images, out, *args, **kwargs):
        assert set(images) == {"a", "b"}
        return heatmap.HeatmapSummary(("b.png",), (), {"a.vsi": "not read"})

    monkeypatch.setattr(heatmap, "map_images", map_images)
    monkeypatch.setattr("histojax.prediction.bundle.load", lambda path: models[0])
    monkeypatch.setattr("histojax.prediction.bundled_encoders.load", lambda *_: models[1])
    paths = [f"--bundle={tmp_path}/x", f"--images={images}", f"--out={tmp_path}/out"]
    done = running.run("heatmap", *paths, "--nopredict")
    assert done.returncode == 3
    assert "1 image mapped, 1 could not be" in done.stdout
