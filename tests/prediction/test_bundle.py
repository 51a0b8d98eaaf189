"""A bundle predicts what its ensemble predicts, says what it is, and is refused where it is not what was written."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, store
from histojax.prediction import bundle, model_card, predict, uncertainty
from histojax.prediction.uncertainty import PredictionOptions
from histojax.utils import archive
from tests import samples

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.fixture(scope="module")
def made(trained, narrow_vgg) -> bundle.Bundle:
    return bundle.from_models(
        trained / "models", descriptors=trained / "descriptors", about={"data_licence": "ours"}
    )


@pytest.fixture(scope="module")
def packed(made, trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "small.histojax"
    bundle.write(path, made, trained / "models", model_card.card(made), {})
    return path


def predictions(of, trained):
    names = store.image_names(trained / "descriptors", of.configurations[0])
    rows = store.read_stain_qc(trained / "descriptors")
    return predict.predict(of, trained / "descriptors", names, names, rows, PredictionOptions(0.7))


def repacked(path, folder, change):
    """The bundle with other parts, sealed as if it had been written so."""
    with archive.open_verified(path, bundle.KIND, bundle.VERSION) as part:
        parts = {name: part(name) for name in archive.names(path)}
    change(parts)
    archive.write(folder / "other", bundle.KIND, bundle.VERSION, parts)
    return folder / "other"


def test_a_bundle_predicts_what_its_ensemble_does(made, packed, trained, tmp_path):
    alone = tmp_path / "moved"  # It needs nothing beside it.
    shutil.copy(packed, alone)
    found = bundle.load(alone)
    assert (found.classes, found.positive, found.extraction) == (
        made.classes,
        (1,),
        samples.TRAINED,
    )
    assert found.configurations == made.configurations
    assert found.threshold == made.threshold
    for one, other in zip(predictions(made, trained), predictions(found, trained), strict=True):
        assert one == other
    assert found.identity == archive.seal(packed) != made.identity


def test_models_that_learned_nothing_are_told_of(trained, made, monkeypatch, caplog):
    cases = dataclasses.replace(
        made.uncertainty.cases, scores=np.full_like(made.uncertainty.cases.scores, 0.5)
    )
    monkeypatch.setattr(uncertainty, "of_ensemble", lambda *_: uncertainty.learn(cases, 0.95))
    with caplog.at_level("WARNING", "absl"):
        bundle.from_models(trained / "models")
    assert "say nothing of the class" in caplog.text


def test_nothing_in_it_names_an_image_or_a_group(made, packed, trained):
    names = [path.stem for path in (trained / "images").rglob("*.png")]
    with archive.open_verified(packed, bundle.KIND, bundle.VERSION) as part:
        for name in archive.names(packed):
            assert not any(image.encode() in part(name) for image in names), name
    assert {"bundle.json", "MODEL_CARD.md", "out_of_fold.npz", "typical.npz"} <= set(
        archive.names(packed)
    )
    assert sum(name.startswith("models/") for name in archive.names(packed)) == 12


def test_the_card_says_what_it_is_not_for_and_what_is_known(made):
    card = model_card.card(made)
    assert "**Not for diagnosis.**" in card
    assert "encoders are untrained" in card
    assert "benign 9, malignant 9" in card
    assert "Source and licence of the images: ours." in card
    assert made.made_with["VGG-0.5-32"]["weights"]["sha256"] in card
    right = np.mean(made.uncertainty.cases.predicted == made.uncertainty.cases.truth)
    assert f"| Accuracy | {right:.3f} |" in card
    thresholds = dict(re.findall(r"\| (0\.9\d?) \| (\d\.\d{4}) \|", card))
    assert thresholds["0.95"] == f"{made.threshold:.4f}"
    sets = re.search(r"\| 0\.8 \| (\d\.\d+) \| (\d\.\d+) \|", card)
    assert float(sets[1]) >= 0.8
    assert 1 <= float(sets[2]) <= 2


@pytest.fixture(scope="module")
def as_if(made) -> bundle.Bundle:
    """The same as if its weights were ImageNet's, which have no seed to be drawn from."""
    sources = {
        name: each["weights"] | {"source": "imagenet"} for name, each in made.made_with.items()
    }
    return dataclasses.replace(
        made,
        made_with={
            name: each | {"weights": sources[name]} for name, each in made.made_with.items()
        },
    )


def test_weights_go_in_and_are_used_from_there(made, as_if, trained, tmp_path, monkeypatch):
    assert predict.encoder_variables(made) == {}  # Random ones are drawn again.
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 0))
    inside = predict.encoder_variables(as_if)
    assert inside.keys() == {"VGG"}
    bundle.write(
        tmp_path / "whole", as_if, trained / "models", model_card.card(as_if, inside), inside
    )
    assert "VGG: in the file" in model_card.card(as_if, inside)
    assert "CC BY 4.0" in model_card.card(as_if, inside)
    monkeypatch.setattr(
        weights, "imagenet", lambda *_: pytest.fail("weights were looked for elsewhere")
    )
    encoder_set = predict.load_encoders(bundle.load(tmp_path / "whole"))
    assert loaded_encoders.manifest(
        encoder_set.extraction, encoder_set.encoders["VGG"], encoder_set.extraction.views[0]
    ) == {part: as_if.made_with["VGG-0.5-32"][part] for part in store.DECISIVE}


def test_without_them_the_same_files_must_be_there(as_if, trained, tmp_path, monkeypatch):
    bundle.write(tmp_path / "small", as_if, trained / "models", "card", {})
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 0))
    predict.load_encoders(bundle.load(tmp_path / "small"))
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 1))
    for use in (predict.load_encoders, predict.encoder_variables):
        with pytest.raises(
            InputError, match="weights of VGG here have SHA-256 .*: name the same weight files"
        ):
            use(bundle.load(tmp_path / "small"))


def test_other_weights_than_it_was_trained_with_are_refused(made):
    other = {
        name: each | {"weights": {"source": "random, seed 1", "sha256": each["weights"]["sha256"]}}
        for name, each in made.made_with.items()
    }
    with pytest.raises(InputError, match="weights of VGG here have SHA-256"):
        predict.load_encoders(dataclasses.replace(made, made_with=other))


def without(key):
    def change(parts):
        description = json.loads(parts["bundle.json"])
        del description[key]
        parts["bundle.json"] = json.dumps(description).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda parts: parts.pop("models/VGG-0.5-32/seed1-fold02.txt"),
            "has no part models/VGG-0.5-32/seed1-fold02",
        ),
        (lambda parts: parts.pop("out_of_fold.npz"), "has no part out_of_fold.npz"),
        (
            lambda parts: parts.update({"out_of_fold.npz": b"PK"}),
            "out_of_fold.npz of .* cannot be read",
        ),
        (
            lambda parts: parts.update({"typical.npz": bundle.npz({"a": np.ones(2)})}),
            "record of the training images",
        ),
        (
            lambda parts: parts.update({"models/VGG-0.5-40/seed0-fold01.txt": b"tree"}),
            "no whole LightGBM model",
        ),
        (without("made_with"), "without made_with"),
        (without("classes"), "without classes"),
    ],
)
def test_a_bundle_that_lacks_or_spoils_a_part_is_refused_with_the_reason(
    packed, tmp_path, change, message
):
    with pytest.raises(InputError, match=message):
        bundle.load(repacked(packed, tmp_path, change))


def test_a_bundle_without_the_training_images_judges_less(made, trained):
    bare = bundle.from_models(trained / "models")
    for full, less in zip(predictions(made, trained), predictions(bare, trained), strict=True):
        assert less.stain_p is less.descriptors_p is None
        assert (
            dataclasses.replace(full, stain_p=None, descriptors_p=None, abstain=less.abstain)
            == less
        )
        assert set(less.abstain) <= {uncertainty.LARGE_SET, uncertainty.TOO_LITTLE_TISSUE}
