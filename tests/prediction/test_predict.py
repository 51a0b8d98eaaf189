"""Predicting images and descriptors: the predictions, what fails, and runs that are continued.

The files are tested in test_outputs, uncertainty in test_uncertainty.
"""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histojax import datasets
from histojax.datasets import unlabelled
from histojax.errors import InputError
from histojax.evaluation import calibration, metrics
from histojax.extraction import store
from histojax.prediction import bundle, bundled_encoders, outputs, pixel_sizes, predict, uncertainty
from histojax.prediction.predict import ImageFiles
from histojax.prediction.uncertainty import PredictionOptions

pytestmark = pytest.mark.usefixtures("narrow_vgg")

OPTIONS = PredictionOptions(coverage=0.7)


@pytest.fixture(scope="module")
def made(trained, narrow_vgg) -> bundle.Bundle:
    return bundle.from_models(trained / "models", descriptors=trained / "descriptors")


@pytest.fixture(scope="module")
def encoder_set(made):
    return bundled_encoders.load(made)


@pytest.fixture(scope="module")
def new(trained):
    return tuple(unlabelled.find_images([trained / "new"]).values())


@pytest.fixture(scope="module")
def out(made, encoder_set, new, tmp_path_factory):
    """A whole run on three images, one that is cut short, and a blank one."""
    folder = tmp_path_factory.mktemp("predicted")
    (folder / "cut.png").write_bytes((new[0].read_bytes())[:500])
    Image.new("RGB", (120, 104), "white").save(folder / "blank.png")
    paths = (*new, folder / "cut.png", folder / "blank.png")
    summary = predict.predict_images(
        made, paths, folder / "out", options=OPTIONS, encoder_set=encoder_set
    )
    assert set(summary.failed) == {"cut.png"}
    return folder / "out"


def test_mpp_far_from_the_pixel_sizes_of_the_training_images_is_doubted(
    made, new, tmp_path, caplog
):
    trained_at = dataclasses.replace(made, about=made.about | {pixel_sizes.KEY: [0.25, 0.25]})
    (tmp_path / "file").touch()
    with caplog.at_level("WARNING", logger="absl"), pytest.raises(InputError):
        predict.predict_images(trained_at, ImageFiles({"new": new[0]}, 2.5), tmp_path / "file")
    assert "--mpp=2.5 is far from" in caplog.text


def table(out):
    with (out / "predictions.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def lines(out):
    return {each.image: each for each, _ in outputs.read_lines(out / "predictions.jsonl")}


def test_probabilities_decision_and_spread_are_those_of_all_models(made, out):
    rows, predictions = table(out), lines(out)
    assert list(rows) == list(predictions) == ["blank", "test0", "test1", "test2"]
    names = ["test0", "test1", "test2"]
    scores = []  # [configurations x seeds x folds, N, A, K], by a plain loop.
    for configuration in made.configurations:
        x = store.read(out / "descriptors", configuration, names)
        for model in made.ensemble.models[configuration]:
            scores.append(model.predict(x.reshape(-1, x.shape[-1])).reshape(3, 5, 2))
    scores = np.array(scores)
    mean = scores.mean(axis=(0, 2))
    probabilities = calibration.apply_temperature(mean, made.temperature)
    for i, name in enumerate(names):
        prediction, answer = predictions[name], mean[i].argmax()
        np.testing.assert_allclose(
            list(prediction.probabilities.values()), probabilities[i], atol=1e-12
        )
        assert prediction.predicted == made.classes[answer]
        assert prediction.positive_score == pytest.approx(
            metrics.positive_score(probabilities[i : i + 1], [1])[0]
        )
        assert prediction.positive == (prediction.positive_score >= made.threshold)
        of_augmentations, of_models = (
            scores[:, i, :, answer].mean(axis=0),
            scores[:, i, :, answer].mean(axis=1),
        )
        assert prediction.spread_augmentations == pytest.approx(of_augmentations.std())
        assert prediction.spread_models == pytest.approx(of_models.std())
        assert prediction.predicted in prediction.prediction_set
        row = rows[name]
        assert row["predicted"] == prediction.predicted
        assert float(row["p_benign"]) == pytest.approx(prediction.probabilities["benign"], abs=1e-6)
        assert row["decision"] == ("positive" if prediction.positive else "negative")
        assert row["prediction_set"].split(";") == list(prediction.prediction_set)
        assert (row["abstain"] == "yes") == bool(prediction.abstain)
        assert "UNTRAINED" in row["weights"]


def test_a_blank_image_is_abstained_from_and_a_damaged_one_is_listed(out):
    assert uncertainty.TOO_LITTLE_TISSUE in lines(out)["blank"].abstain
    assert uncertainty.TOO_LITTLE_TISSUE in table(out)["blank"]["causes"]
    assert lines(out)["blank"].stain_p is None
    row = table(out)["blank"]
    blank = ("predicted", "p_benign", "p_malignant", "positive_score", "decision", "spread_models")
    assert {row[column] for column in blank} == {""}
    assert row["prediction_set"] == "benign;malignant"
    with (out / "submission.csv").open() as file:
        names = [row[0] for row in csv.reader(file)]
    assert names == ["test0.tif", "test1.tif", "test2.tif"]
    with (out / "failures.csv").open() as file:
        (failure,) = csv.DictReader(file)
    assert failure["image"] == "cut.png"
    assert "damaged or cut short" in failure["cause"]


def test_an_interrupted_run_is_continued_and_ends_the_same(
    made, encoder_set, new, out, tmp_path, monkeypatch
):
    predict.predict_images(made, new[:1], tmp_path, options=OPTIONS, encoder_set=encoder_set)
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write('{"image": "test1", "predic')  # As a kill may leave it.
    asked = []
    assess = uncertainty.assess
    monkeypatch.setattr(
        uncertainty,
        "assess",
        lambda known, images, options: asked.extend(images.names) or assess(known, images, options),
    )
    predict.predict_images(made, new, tmp_path, options=OPTIONS, encoder_set=encoder_set)
    assert sorted(asked) == ["test1", "test2"]
    for name, prediction in lines(tmp_path).items():
        assert prediction == lines(out)[name]
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    predict.predict_images(made, new, tmp_path, options=OPTIONS, encoder_set=encoder_set)
    assert sorted(asked) == ["test1", "test2"]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == whole
    predict.predict_images(
        made, new, tmp_path, options=PredictionOptions(coverage=0.6), encoder_set=encoder_set
    )  # Other options: all are predicted again.
    assert len(asked) == 5


def test_stored_descriptors_are_predicted_the_same(made, out, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_BATCH", 3)  # Two batches.
    predict.predict_descriptors(made, out / "descriptors", tmp_path, OPTIONS)
    for name, prediction in lines(tmp_path).items():
        assert dataclasses.replace(prediction, file=lines(out)[name].file) == lines(out)[name]
    assert len(lines(tmp_path)) == 4


def test_models_of_another_protocol_change_no_file(made, encoder_set, new, tmp_path):
    predict.predict_images(made, new[:1], tmp_path, options=OPTIONS, encoder_set=encoder_set)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = dataclasses.replace(
        encoder_set, extraction=dataclasses.replace(encoder_set.extraction, crops=2)
    )
    with pytest.raises(InputError, match="protocol.crops: found 1, expected 2"):
        predict.predict_images(
            dataclasses.replace(made, identity="another"),
            new,
            tmp_path,
            options=OPTIONS,
            encoder_set=other,
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_image_that_changed_is_refused_and_its_old_prediction_is_not_used(
    made, encoder_set, new, tmp_path
):
    for path in new:
        shutil.copy(path, tmp_path)
    paths = tuple(tmp_path / path.name for path in new)
    predict.predict_images(made, paths, tmp_path / "out", options=OPTIONS, encoder_set=encoder_set)
    shutil.copy(new[1], paths[0])
    summary = predict.predict_images(
        made, paths, tmp_path / "out", options=OPTIONS, encoder_set=encoder_set
    )
    assert set(summary.failed) == {"test0.tif"}
    assert list(table(tmp_path / "out")) == list(lines(tmp_path / "out")) == ["test1", "test2"]
    assert "test0" not in (tmp_path / "out" / "submission.csv").read_text()
    shutil.copy(new[2], paths[1])  # Another one; a new folder has descriptors of neither.
    predict.predict_images(
        made,
        paths,
        tmp_path / "out",
        descriptors=tmp_path / "anew",
        options=OPTIONS,
        encoder_set=encoder_set,
    )
    predict.predict_images(
        made, paths, tmp_path / "fresh", options=OPTIONS, encoder_set=encoder_set
    )
    assert lines(tmp_path / "out") == lines(tmp_path / "fresh")
    assert len(lines(tmp_path / "out")) == 3


def test_a_name_that_is_no_text_is_listed_and_stops_nothing(made, encoder_set, new, tmp_path):
    odd = Path(str(tmp_path / "bad") + "\udcff.tif")
    shutil.copy(new[0], odd)
    summary = predict.predict_images(
        made, (odd, *new), tmp_path / "out", options=OPTIONS, encoder_set=encoder_set
    )
    assert len(summary.predictions) == 3
    assert "name that is not UTF-8" in summary.failed["bad?.tif"]


def test_other_positive_classes_or_training_images_are_other_models(made, trained):
    models = trained / "models"
    same, bare, other = (
        bundle.from_models(models, positive, descriptors=descriptors)
        for positive, descriptors in (
            ((), trained / "descriptors"),
            ((), None),
            (("benign",), None),
        )
    )
    assert same.identity == made.identity
    assert len({same.identity, bare.identity, other.identity}) == 3


def test_labelled_images_may_be_of_one_class(made, new, tmp_path):
    (tmp_path / "malignant").mkdir()
    shutil.copy(new[0], tmp_path / "malignant")
    assert predict.labels_of(made, datasets.load(tmp_path, require_all_classes=False)) == {
        "test0": ("malignant", "")
    }
    with pytest.raises(InputError, match="only one class"):
        datasets.load(tmp_path)


def test_images_of_one_file_name_are_predicted_apart(made, encoder_set, new, tmp_path):
    for folder, image in (("a", new[0]), ("b", new[1])):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(image, tmp_path / "in" / folder / "x.png")
        (tmp_path / "in" / folder / "cut.png").write_bytes(image.read_bytes()[:500])
    images = unlabelled.find_images([tmp_path / "in"])
    out = tmp_path / "out"
    summary = predict.predict_images(made, images, out, options=OPTIONS, encoder_set=encoder_set)
    assert [one.image for one in summary.predictions] == ["a/x", "b/x"]
    assert set(summary.failed) == {"a/cut.png", "b/cut.png"}
    assert "a/x.png," in (out / "submission.csv").read_text()
    assert store.image_names(out / "descriptors", made.configurations[0]) == ("a/x", "b/x")
    again = predict.predict_descriptors(made, out / "descriptors", tmp_path / "again", OPTIONS)
    assert again.predictions[0].probabilities == summary.predictions[0].probabilities


def test_strict_stops_at_the_first_image_that_fails(made, encoder_set, new, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="a.png is no TIFF, PNG, JPEG, BMP or WebP"):
        predict.predict_images(
            made, (tmp_path / "a.png", *new), tmp_path / "out", encoder_set=encoder_set, strict=True
        )
    with pytest.raises(InputError, match="none of 1 images could be predicted; the first: .*a.png"):
        predict.predict_images(
            made, (tmp_path / "a.png",), tmp_path / "out", encoder_set=encoder_set
        )


def test_no_images_are_refused_and_nothing_is_written(made, tmp_path):
    for images in ((), ImageFiles({})):
        with pytest.raises(InputError, match="there are no images to predict"):
            predict.predict_images(made, images, tmp_path / "out")
    with pytest.raises(InputError, match="holds no descriptors of VGG-0.5-32, which the models of"):
        predict.predict_descriptors(made, str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_impossible_options_are_refused(made):
    for options, message in (
        (PredictionOptions(coverage=1.0), "coverage 1"),
        (PredictionOptions(largest_set=3), "^largest_set is 3, expected 1 to 2"),
    ):
        with pytest.raises(InputError, match=message):
            predict.check_options(made, options)
    with pytest.raises(InputError, match="^sensitivity is 0"):
        predict.check_options(made, PredictionOptions(sensitivity=0.0))


def test_a_coverage_out_of_reach_is_warned_of(made, notices):
    predict.check_options(made, PredictionOptions(coverage=0.9))
    assert not notices
    predict.check_options(made, PredictionOptions(coverage=0.99))  # 18 groups reach 18 / 19.
    assert "too few groups to guarantee a coverage of 0.99" in notices[0]
    assert "at most 0.94 is possible" in notices[0]


def test_known_labels_are_written_and_their_agreement_is_summarised(
    made, encoder_set, new, trained, out, tmp_path
):
    for path, label in zip(new, ("benign", "malignant", "malignant"), strict=True):
        (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "in" / label)
    data = datasets.load(tmp_path / "in")
    images = ImageFiles(data.images, labels=predict.labels_of(made, data))
    summary = predict.predict_images(
        made, images, tmp_path / "out", options=OPTIONS, encoder_set=encoder_set
    )
    rows = table(tmp_path / "out")
    assert [row["label"] for row in rows.values()] == ["benign", "malignant", "malignant"]
    right = sum(row["label"] == row["predicted"] for row in rows.values())
    used = sum(row["abstain"] == "no" for row in rows.values())
    assert f"answers: {used} of 3 images" in summary.text(made)
    assert f"{right} of 3" in summary.text(made).split("labels known: ")[1].splitlines()[0]
    held = sum(row["label"] in row["prediction_set"].split(";") for row in rows.values())
    assert f"in the prediction set: {held} of 3" in summary.text(made)
    other = dataclasses.replace(data, classes=("benign", "Invasive"))
    with pytest.raises(
        InputError, match="the data have Invasive among their classes, the models of .* know benign"
    ):
        predict.labels_of(made, other)


def test_an_error_of_scoring_is_raised_and_not_taken_for_one_of_an_image(
    made, encoder_set, new, tmp_path, monkeypatch
):
    def broken(*_):
        raise InputError("the models are broken")

    monkeypatch.setattr(uncertainty, "assess", broken)
    for number in (3, 1):  # Before the last image is described, and after it.
        with pytest.raises(InputError, match="the models are broken"):
            predict.predict_images(made, new[:number], tmp_path, encoder_set=encoder_set)
    assert not (tmp_path / "submission.csv").exists()
