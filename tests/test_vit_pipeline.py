"""A vision transformer of its own width from images to heat maps, command by command.

Its weights are random, so this shows that the parts fit, and nothing of what they find.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from histojax.prediction import bundle, pixel_sizes
from tests import running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_vgg")]

PROTOCOL = ("--encoders=VGG,Lunit-S16", "--weights=random", "--augmentations=2", "--crops=3")


@pytest.fixture(scope="module")
def images(shared_data, tmp_path_factory) -> Path:
    """A table of 16 real images of four groups, and a list of two of another."""
    folder, source = tmp_path_factory.mktemp("images"), shared_data / "ucsb_breast"
    with (source / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    *known, new = sorted({row["group"] for row in rows})[:5]
    chosen = [
        row
        for group in known
        for label in ("benign", "malignant")
        for row in [r for r in rows if (r["group"], r["label"]) == (group, label)][:2]
    ]
    with (folder / "data.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "group"))
        for row in chosen:
            path = source / row["label"] / row["image"]
            writer.writerow((path, row["label"], row["group"]))
    of_new = [row for row in rows if row["group"] == new][::3]
    paths = [str(source / row["label"] / row["image"]) for row in of_new]
    (folder / "new.txt").write_text("\n".join(paths))
    return folder


def done(script: str, *flags: object) -> str:
    """What a script prints; it must succeed."""
    result = running.run(script, *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_from_images_to_maps_with_a_network_of_each_kind(images, tmp_path, in_this_process):
    run, data, new = f"--run={tmp_path}", images / "data.csv", images / "new.txt"
    views = "--views=1.0-224"
    done("inspect_data", data, run, *PROTOCOL, views)
    done("extract", f"--data={data}", run, *PROTOCOL, views)
    done("train", f"--data={data}", run, "--folds=2", "--seeds=1")
    said = done("evaluate", run)
    assert "untrained" in said
    report = (tmp_path / "report" / "report.html").read_text()
    assert "Lunit-S16-1.0-224" in report
    assert "MiB, identity" in done("bundle", f"--data={data}", run)
    card = (tmp_path / "bundle.md").read_text()
    assert "Encoders: VGG, Lunit-S16, frozen" in card
    done("predict", f"--images={new}", run)
    said = done("heatmap", f"--images={new}", run, "--augmentations=1")
    assert "2 images mapped" in said
    for path in (tmp_path / "heatmaps").glob("*/grid.json"):
        settings = json.loads(path.read_text())
        assert settings["crop_by_crop"] == ["Lunit-S16"]
        assert np.isfinite(np.load(path.with_name("grid.npy"))).any()
        page = path.with_name("overview.html").read_text()
        assert "windows of one pass over the field do not apply" in page
        assert "Untrained encoders" in page


def test_native_views_in_a_grid_by_one_command(images, tmp_path, in_this_process):
    """At the pixel size that the network was published with, all crops that tile an image."""
    said = done(
        "mine",
        *(images / "data.csv", images / "new.txt"),
        *("--encoders=Lunit-S16", "--views=native", "--crop_layout=grid", "--stain=augment"),
        *("--mpp=0.35", "--weights=random", "--augmentations=1", "--folds=2", "--seeds=1"),
        f"--run={tmp_path}",
    )
    assert "Lunit-S16-0.5mpp-224; 1 augmentation of all crops that tile the image" in said
    assert "heat maps: 2 images mapped" in said
    made = bundle.load(tmp_path / "bundle.histojax")
    assert made.about[pixel_sizes.KEY] == [0.35, 0.35]
    card = (tmp_path / "bundle.md").read_text()
    assert "Lunit-S16: class token of each crop, resized to 224 px (bicubic)" in card
    assert "pooled over crops by their mean" in card
    report = (tmp_path / "report" / "report.html").read_text()
    assert "The pipeline cannot be shown" not in report  # The pixel sizes were recorded.
    for path in (tmp_path / "heatmaps").glob("*/grid.json"):
        settings = json.loads(path.read_text())
        assert settings["views_mpp"] == [0.5]
        assert settings["resampled_by"] == pytest.approx(0.7)
