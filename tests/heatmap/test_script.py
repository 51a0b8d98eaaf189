"""The script: what it says and how it ends where images fail, and what predict says of the rest."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from histojax.errors import InputError
from histojax.extraction import store
from histojax.heatmap import answers, heatmap
from histojax.prediction import bundle, model_card, predict
from tests import running, samples

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory):
    made = bundle.from_models(trained / "models", descriptors=trained / "descriptors")
    path = tmp_path_factory.mktemp("bundle") / "a.histojax"
    bundle.write(path, made, trained / "models", model_card.card(made), {})
    return path


def test_some_fail_others_are_mapped_with_what_predict_says(packed, trained, tmp_path):
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()
    shutil.copy(trained / "new" / "test0.tif", new)
    (new / "broken.png").write_text("no image")
    Image.fromarray(np.full((104, 120, 3), 245, np.uint8)).save(new / "blank.png")
    flags = (f"--bundle={packed}", f"--images={new}", f"--out={out}", "--augmentations=1")
    done = running.run("heatmap", *flags)
    assert done.returncode == 3
    assert "2 images mapped, 1 could not be" in done.stdout
    assert "no tissue: 1 of 2 images (blank.png)" in done.stdout
    assert "typicality unknown" in done.stdout
    assert (out / "failures.csv").read_text().splitlines()[1].startswith("broken.png,")
    with (out / "predictions" / "predictions.csv").open() as file:
        causes = {row["image"]: row["causes"] for row in csv.DictReader(file)}
    assert "too little tissue" in causes["blank"]
    for name, text in causes.items():
        about = json.loads((out / name / "regions.geojson").read_text())["properties"]
        assert about["abstain"] == [cause for cause in text.split("; ") if cause]
        assert about["share_of_tissue_far_from_training"] is None


def test_if_none_can_be_mapped_the_exit_code_is_one(packed, tmp_path):
    image = tmp_path / "broken.png"
    image.write_text("no image")
    done = running.run(
        "heatmap", f"--bundle={packed}", f"--images={image}", f"--out={tmp_path / 'out'}"
    )
    assert done.returncode == 1
    assert "error: no image could be mapped: " in done.stderr
    assert "failures.csv lists 1; the first: " in done.stderr
    assert (tmp_path / "out" / "failures.csv").exists()


def test_ctrl_c_ends_it_and_says_how_to_go_on(packed, trained, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(heatmap, "_map_field", interrupted)
    flags = (f"--bundle={packed}", f"--images={trained / 'new'}", f"--out={tmp_path}")
    done = running.run("heatmap", *flags, "--nopredict")
    assert done.returncode == 1
    assert "stopped; run the same command again to go on from here" in done.stderr


def test_the_options_of_stored_predictions_are_used_if_the_same_models_made_them(tmp_path):
    class Models:
        identity = "abc"

    assert answers.options_of(tmp_path, Models) == predict.PredictionOptions()
    wishes = {"coverage": 0.8, "sensitivity": 0.9, "largest_set": 1}
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"models": "abc", "wishes": wishes}))
    assert answers.options_of(tmp_path, Models) == predict.PredictionOptions(**wishes)
    run.write_text(json.dumps({"models": "another", "wishes": wishes}))
    assert answers.options_of(tmp_path, Models) == predict.PredictionOptions()


def test_a_field_that_cannot_be_predicted_is_told_of_not_lost(tmp_path, monkeypatch, notices):
    def refuse(*_, **__):
        raise InputError("none of 1 images could be predicted; the first: too large")

    class Models:
        extraction = samples.TRAINED

    monkeypatch.setattr(predict, "predict_images", refuse)
    images = predict.ImageFiles({"a": tmp_path / "a.svs"})
    summary = answers.predict_fields(Models, images, tmp_path, None, tmp_path / "missing")
    assert "missing is not there: the fields are predicted into" in notices[0]
    assert answers.answer(summary, "a", "a.svs") == (None, summary.failed["a.svs"])
    assert "too large" in summary.failed["a.svs"]


def test_a_field_too_large_to_be_read_whole_is_mapped_without_asking_predict(tmp_path, monkeypatch):
    class Models:
        extraction = samples.TRAINED

    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(answers, "MOST_PIXELS", 1999)
    monkeypatch.setattr(predict, "predict_images", lambda *_, **__: pytest.fail("predicted"))
    images = predict.ImageFiles({"a": tmp_path / "a.png"})
    summary = answers.predict_fields(Models, images, tmp_path, None)
    prediction, cause = answers.answer(summary, "a", "a.png")
    assert prediction is None
    assert "predict reads a field whole" in cause


def test_a_bundle_takes_places_from_the_training_images_alone(trained, tmp_path):
    for label in ("benign", "malignant"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for path in sorted((trained / "images" / label).iterdir())[:8]:
            shutil.copy(path, tmp_path / "data" / label)
    done = running.run(
        "bundle",
        *(f"--{name}={trained / name}" for name in ("models", "descriptors")),
        f"--data={tmp_path / 'data'}",
        f"--out={tmp_path / 'a.histojax'}",
    )
    assert done.returncode == 1
    assert "--data lacks 2 of the 18 images that the models of" in done.stderr
    assert "(benign8, malignant8): pass the training images" in done.stderr
    assert not (tmp_path / "a.histojax").exists()


def test_a_bundle_refuses_another_pixel_size_than_images_were_described_at(trained, tmp_path):
    descriptors = tmp_path / "descriptors"
    shutil.copytree(trained / "descriptors", descriptors)
    rows = store.read_stain_qc(descriptors)
    sized = {
        key: dataclasses.replace(row, file_sha256=f"{row.file_sha256}@0.5um")
        for key, row in rows.items()
    }
    store.write_stain_qc(descriptors, sized)
    done = running.run(
        "bundle",
        *(f"--models={trained / 'models'}", f"--descriptors={descriptors}", "--mpp=0.25"),
        *(f"--data={trained / 'images'}", f"--out={tmp_path / 'a.histojax'}"),
    )
    assert done.returncode == 1
    assert "--mpp=0.25, but images were described at 0.5 um per pixel in" in done.stderr
