"""The files of predictions: when they are written, what is kept, and both forms of submission."""

import csv
import dataclasses
import json
import types

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.prediction import outputs, summary
from histojax.prediction.uncertainty import Prediction, PredictionOptions

TRUTH = np.arange(20) % 2
OUT_OF_FOLD = LabelledPredictions(
    names=tuple(map(str, range(20))),
    classes=("benign", "malignant"),
    truth=TRUTH,
    predicted=TRUTH,
    scores=np.eye(2)[TRUTH],
    positive=(1,),
)
BUNDLE = types.SimpleNamespace(
    classes=OUT_OF_FOLD.classes,
    positive=OUT_OF_FOLD.positive,
    identity="a",
    made_with={},
    uncertainty=types.SimpleNamespace(out_of_fold=OUT_OF_FOLD),
)
OPTIONS = PredictionOptions(coverage=0.7)
FIRST = Prediction(
    image="one",
    file="one.png",
    predicted="benign",
    probabilities={"benign": 0.75, "malignant": 0.25},
    positive_score=0.25,
    positive=False,
    spread_augmentations=0.1,
    spread_models=0.2,
    prediction_set=("benign", "malignant"),
    stain_p=None,
    descriptors_p=0.5,
    abstain=("too little tissue", "prediction set too large"),
)
SECOND = dataclasses.replace(
    FIRST, image="two", file="two.tif", predicted="malignant", abstain=(), trained_on=True
)


def table(out):
    with (out / "predictions.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def lines(out):
    return [prediction for prediction, _ in outputs.read_lines(out / "predictions.jsonl")]


def test_models_that_are_not_shown_to_work_and_untrained_encoders_are_told():
    assert [*summary._doubts(BUNDLE)] == []
    chance = dataclasses.replace(OUT_OF_FOLD, truth=np.arange(20) // 2 % 2)
    untrained = {"weights": {"source": "random, seed 0"}, "protocol": {"encoder": "VGG"}}
    doubted = types.SimpleNamespace(
        made_with={"VGG-0.5-32": untrained}, uncertainty=types.SimpleNamespace(out_of_fold=chance)
    )
    encoders, models = summary._doubts(doubted)
    assert "UNTRAINED" in encoders
    assert models.startswith("the models are not shown to work. The scores do not differ from")


def test_each_prediction_is_on_disk_as_soon_as_it_is_made(tmp_path):
    with outputs.open_writer(BUNDLE, tmp_path, OPTIONS) as writer:
        writer.add(SECOND, "digest")
        assert lines(tmp_path) == [SECOND]
        assert list(table(tmp_path)) == ["two"]
        writer.add(FIRST, "digest")
        assert list(table(tmp_path)) == ["two", "one"]
        summary = writer.finish({"one", "two"}, {"bad.png": "damaged"})
    assert summary.predictions == (FIRST, SECOND)
    assert lines(tmp_path) == [FIRST, SECOND]
    assert list(table(tmp_path)) == ["one", "two"]
    assert (tmp_path / "failures.csv").read_text() == "image,cause\nbad.png,damaged\n"
    assert summary.text(BUNDLE).splitlines() == [
        "answers: 1 of 2 images (benign 0, malignant 1)",
        "abstained from: 1 image (too little tissue 1, prediction set too large 1)",
        "trained on: 1 of 2 images, by their SHA-256 (column trained_on); what is said of them "
        "tells nothing of new images, for which see the out-of-fold scores in the report",
        "not compared with the training images' files: 1 of 2 images, since the SHA-256 of the "
        "ones or the others are not known",
        "1 image could not be predicted: failures.csv",
    ]


def test_predictions_of_other_images_are_left_out_and_that_is_told(tmp_path, notices):
    for images in ({"one", "two"}, {"two"}):
        with outputs.open_writer(BUNDLE, tmp_path, OPTIONS) as writer:
            for prediction in (FIRST, SECOND):
                writer.add(prediction, "digest")
            writer.finish(images, {})
    assert list(table(tmp_path)) == ["two"]
    assert notices == [f"{tmp_path} held predictions of 1 other images, which are left out now"]


def test_the_names_in_the_files_are_those_of_the_documentation(tmp_path):
    with outputs.open_writer(BUNDLE, tmp_path, OPTIONS, {"one": ("benign", "p")}) as writer:
        writer.add(FIRST, "digest")
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "image,label,group,predicted,p_benign,p_malignant,positive_classes,positive_score,decision,"
        "spread_augmentations,spread_models,prediction_set,stain_p,descriptors_p,abstain,causes,"
        "trained_on,weights",
        "one,benign,p,benign,0.750000,0.250000,malignant,0.250000,negative,0.100000,0.200000,"
        "benign;malignant,,0.500000,yes,too little tissue; prediction set too large,,weights: ",
    ]
    line = json.loads((tmp_path / "predictions.jsonl").read_text())
    assert list(line) == [
        "image",
        "file",
        "predicted",
        "probabilities",
        "positive_score",
        "positive",
        "spread_augmentations",
        "spread_models",
        "prediction_set",
        "stain_p",
        "descriptors_p",
        "abstain",
        "trained_on",
        "file_sha256",
    ]
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "format": 2,
        "models": "a",
        "wishes": {"coverage": 0.7, "sensitivity": None, "largest_set": None},
    }


def test_predictions_of_the_same_bundle_and_options_alone_are_kept(tmp_path):
    def kept(bundle, options) -> bool:
        with outputs.open_writer(BUNDLE, tmp_path, OPTIONS) as writer:
            writer.add(FIRST, "digest")
        with outputs.open_writer(bundle, tmp_path, options) as writer:
            assert not writer.has("one", "of another file")
            assert not writer.has("two", "digest")
            assert bool(lines(tmp_path)) == bool(table(tmp_path)) == writer.has("one", "digest")
            return writer.has("one", "digest")

    assert kept(BUNDLE, OPTIONS)
    assert not kept(BUNDLE, PredictionOptions(coverage=0.6))
    assert not kept(types.SimpleNamespace(**vars(BUNDLE) | {"identity": "b"}), OPTIONS)


def test_half_a_line_at_the_end_is_left_out_and_a_damaged_one_before_is_refused(tmp_path):
    with outputs.open_writer(BUNDLE, tmp_path, OPTIONS) as writer:
        writer.add(FIRST, "digest")
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write('{"image": "two", "predic')  # As an interruption may leave it.
    assert lines(tmp_path) == [FIRST]
    for damaged in (json.dumps({"image": 1}), "[]", "{"):
        (tmp_path / "predictions.jsonl").write_text(damaged + "\n{}\n")
        with pytest.raises(InputError, match="line 1, is damaged"):
            outputs.read_lines(tmp_path / "predictions.jsonl")


def test_both_submission_forms(tmp_path):
    outputs.write_submissions(tmp_path, [SECOND, FIRST], BUNDLE.classes)
    assert (tmp_path / "submission.csv").read_text() == "one.png,benign\ntwo.tif,malignant\n"
    assert (tmp_path / "submission_probabilities.csv").read_text().splitlines() == [
        "case,class,P(benign),P(malignant)",
        "one,1,0.750000,0.250000",
        "two,2,0.750000,0.250000",
    ]


def test_the_test_set_of_the_challenge_is_sorted_by_number(tmp_path):
    predictions = [
        dataclasses.replace(
            FIRST,
            image=f"test{i}",
            file=f"test{i}.png",
            predicted=name,
            probabilities={"Normal": 0.1, "Benign": 0.2, "InSitu": 0.3, "Invasive": 0.4},
        )
        for i, name in ((10, "Invasive"), (9, "InSitu"))
    ]
    outputs.write_submissions(tmp_path, predictions, ("Normal", "Benign", "InSitu", "Invasive"))
    assert (tmp_path / "submission.csv").read_text().split() == [
        "test10.tif,Invasive",
        "test9.tif,InSitu",
    ]
    assert (tmp_path / "submission_probabilities.csv").read_text().splitlines() == [
        "case,class,P(Normal),P(Benign),P(In Situ),P(Invasive)",
        "9,3,0.100000,0.200000,0.300000,0.400000",
        "10,4,0.100000,0.200000,0.300000,0.400000",
    ]
