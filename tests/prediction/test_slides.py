"""A folder of slides: each is predicted as its pixels would be from any other file, or listed."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from histojax.extraction import store
from histojax.images import resampling
from tests import running, samples, slides

pytestmark = pytest.mark.usefixtures("narrow_vgg")


def read(path):
    with path.open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_a_folder_of_slides_and_others_is_predicted_or_listed(trained, tmp_path, monkeypatch):
    rgb, folder, out = samples.darker(7, 0.7), tmp_path / "new", tmp_path / "out"
    slides.dicom(folder, slides.pyramid(rgb, 2), "1.2")
    slides.aperio(folder / "a.svs", [rgb], compression=slides.JPEG2000["RGB"])
    slides.aperio(folder / "large.svs", [np.tile(rgb, (2, 2, 1))])
    Image.fromarray(rgb).save(folder / "plain.png")
    for name in ("c.vsi", "d.mrxs", "notes.txt"):
        (folder / name).write_bytes(b"?")
    monkeypatch.setattr(resampling, "LARGEST_FIELD", 2 * rgb.size // 3)
    done = running.run(
        "predict", f"--models={trained}/models", f"--images={folder}", f"--out={out}"
    )
    assert done.returncode == 3
    assert "3 images could not be predicted" in done.stdout
    assert set(read(out / "predictions.csv")) == {"1.2-0", "a", "plain"}
    causes = {name: row["cause"] for name, row in read(out / "failures.csv").items()}
    assert set(causes) == {"large.svs", "c.vsi", "d.mrxs"}
    assert "map it with histojax heatmap" in causes["large.svs"]
    assert "export it as a tiled TIFF" in causes["c.vsi"]
    assert "is no slide (3DHISTECH)" in causes["d.mrxs"]
    # The stain step saw the same pixels in all three.
    rows = store.read_stain_qc(out / "descriptors").values()
    measures = [dataclasses.replace(row, image="", file_sha256="") for row in rows]
    assert len(measures) == 3
    assert measures[0] == measures[1] == measures[2]
