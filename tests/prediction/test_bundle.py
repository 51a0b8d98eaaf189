"""A bundle predicts what its ensemble predicts, and is refused once anything in it changed."""

import dataclasses
import hashlib
import json
import re
import shutil
import zipfile

import numpy as np
import pytest

from histojax import encoders
from histojax.config import Runtime
from histojax.encoders import Published, weights
from histojax.errors import InputError
from histojax.extraction import store
from histojax.prediction import bundle, bundled_encoders, learned, model_card, predict, uncertainty
from histojax.prediction.uncertainty import PredictionOptions
from histojax.utils import archive, files
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
    root = trained / "descriptors"
    names = store.image_names(root, of.configurations[0])
    scored = predict.score_stored(of, root, names, names, store.read_stain_qc(root))
    return uncertainty.assess(of.uncertainty, scored, PredictionOptions(0.7))


def parts_of(path) -> dict[str, bytes]:
    with archive.open_verified(path, bundle.KIND, bundle.FORMAT_VERSION) as opened:
        return {name: opened.read(name) for name in opened.names}


def repacked(path, folder, change):
    """The bundle with other parts, written as if they were its own."""
    parts = parts_of(path)
    change(parts)
    archive.write(folder / "other", bundle.KIND, bundle.FORMAT_VERSION, parts)
    return folder / "other"


def write_unsorted(path, parts):
    """Writes parts as the first release did, whose contents table is not sorted."""
    table = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    contents = {"kind": "histojax bundle", "version": 1, "parts": table}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("contents.json", json.dumps(contents, indent=2) + "\n")
        for name, part in parts.items():
            file.writestr(name, part)
        file.comment = bytes(64)
    whole = path.read_bytes()[:-64]
    path.write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())


def test_a_bundle_predicts_what_its_ensemble_does(made, packed, trained, tmp_path):
    alone = tmp_path / "moved"  # It needs nothing beside it.
    shutil.copy(packed, alone)
    loaded = bundle.load(str(alone))
    assert (loaded.classes, loaded.positive) == (made.classes, (1,))
    assert loaded.extraction == samples.TRAINED
    assert loaded.configurations == made.configurations
    assert loaded.threshold == made.threshold
    for one, other in zip(predictions(made, trained), predictions(loaded, trained), strict=True):
        assert one == other


def test_a_bundle_is_identified_by_its_contents_table(made, packed, trained, tmp_path):
    table = zipfile.ZipFile(packed).read("contents.json")
    identity = bundle.load(packed).identity
    assert identity == hashlib.sha256(table).hexdigest() != made.identity
    models = trained / "models"
    again = bundle.from_models(models, descriptors=trained / "descriptors")
    assert again.identity == made.identity  # Whatever else is said about the data.
    other_card = bundle.write(tmp_path / "other", made, models, "another card", {})
    assert other_card == bundle.load(tmp_path / "other").identity != identity


def test_a_bundle_of_the_first_release_is_read_and_verified(packed, trained, tmp_path):
    path = tmp_path / "old"
    write_unsorted(path, dict(reversed(parts_of(packed).items())))
    assert list(json.loads(zipfile.ZipFile(path).read("contents.json"))) != sorted(
        json.loads(zipfile.ZipFile(packed).read("contents.json"))
    )
    old, new = bundle.load(path), bundle.load(packed)
    assert old.identity == new.identity
    assert predictions(old, trained) == predictions(new, trained)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="was altered after it was written"):
        bundle.load(path)


def test_models_that_learned_nothing_are_warned_of(trained, made, monkeypatch, caplog):
    cases = made.uncertainty.out_of_fold
    cases = dataclasses.replace(
        cases, scores=np.full_like(cases.scores, 0.5), predicted=np.zeros_like(cases.truth)
    )
    monkeypatch.setattr(learned, "from_ensemble", lambda *_: learned.learn(cases, 0.95))
    with caplog.at_level("WARNING", "absl"):
        bundle.from_models(trained / "models")
    assert "do not tell the classes apart" in caplog.text


def test_descriptors_that_changed_after_training_are_warned_of(trained, tmp_path, caplog):
    shutil.copytree(trained / "descriptors", tmp_path / "new")
    changed = min((tmp_path / "new" / "VGG-0.5-40").glob("*.npy"))
    np.save(changed, np.load(changed) + np.float32(0.5))
    with caplog.at_level("WARNING", "absl"):
        bundle.from_models(trained / "models", descriptors=trained / "descriptors")
        assert "has other descriptors" not in caplog.text
        bundle.from_models(trained / "models", descriptors=tmp_path / "new")
    assert caplog.text.count("has other descriptors") == 1
    assert f"{changed.parent} has other descriptors than the models of" in caplog.text


def test_nothing_in_it_names_an_image_or_a_group(packed, trained):
    names = [path.stem for path in (trained / "images").rglob("*.png")]
    parts = parts_of(packed)
    for name, part in parts.items():
        assert not any(image.encode() in part for image in names), name
    assert {"bundle.json", "MODEL_CARD.md", "out_of_fold.npz", "typical.npz"} <= set(parts)
    assert sum(name.startswith("models/") for name in parts) == 12


@pytest.fixture(scope="module")
def of_imagenet(made) -> bundle.Bundle:
    """The same bundle, as if its encoders had ImageNet weights, which no seed can draw."""
    sources = {
        name: each["weights"] | {"source": "imagenet"} for name, each in made.made_with.items()
    }
    return dataclasses.replace(
        made,
        made_with={
            name: each | {"weights": sources[name]} for name, each in made.made_with.items()
        },
    )


def test_weights_go_in_and_are_used_from_there(made, of_imagenet, trained, tmp_path, monkeypatch):
    assert bundled_encoders.variables(made) == {}  # Random ones are drawn again.
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 0))
    inside = bundled_encoders.variables(of_imagenet)
    assert inside.keys() == {"VGG"}
    bundle.write(
        tmp_path / "whole",
        of_imagenet,
        trained / "models",
        model_card.card(of_imagenet, inside),
        inside,
    )
    assert "VGG: weights in the bundle, SHA-256" in model_card.card(of_imagenet, inside)
    assert "CC BY 4.0" in model_card.card(of_imagenet, inside)
    monkeypatch.setattr(
        weights, "imagenet", lambda *_: pytest.fail("weights were looked for elsewhere")
    )
    encoder_set = bundled_encoders.load(bundle.load(tmp_path / "whole"))
    recorded = of_imagenet.made_with["VGG-0.5-32"]
    assert encoder_set.made_with()["VGG-0.5-32"] == {
        part: recorded[part] for part in ("protocol", "weights")
    }


def test_without_them_the_same_files_must_be_there(of_imagenet, trained, tmp_path, monkeypatch):
    bundle.write(tmp_path / "small", of_imagenet, trained / "models", "card", {})
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 0))
    bundled_encoders.load(bundle.load(tmp_path / "small"))
    monkeypatch.setattr(weights, "imagenet", lambda *_: weights.random("VGG", 1))
    for use in (bundled_encoders.load, bundled_encoders.variables):
        with pytest.raises(
            InputError, match="weights of VGG here have SHA-256 .*: name the same weight files"
        ):
            use(bundle.load(tmp_path / "small"))


@pytest.fixture
def of_file(made, tmp_path) -> tuple[bundle.Bundle, Runtime]:
    """The same bundle, as if its encoder's weights came from a file; and that file."""
    path = tmp_path / "mine.npz"
    files.write_arrays(path, weights.to_flat(weights.random("VGG", 0)))
    source = {"source": "file", "file": path.name, "file_sha256": files.sha256(path)}
    made_with = {
        name: each | {"weights": each["weights"] | source} for name, each in made.made_with.items()
    }
    runtime = Runtime(weight_files=(("VGG", path),))
    return dataclasses.replace(made, made_with=made_with), runtime


def test_weights_of_a_file_go_in_and_their_licence_is_not_made_up(of_file, trained, tmp_path):
    made, runtime = of_file
    inside = bundled_encoders.variables(made, runtime)
    card = model_card.card(made, inside)
    assert "its weights came from the file mine.npz (SHA-256 `" in card
    assert "their licence is not known here" in card
    assert not any(word in card for word in ("Oxford", "CC BY 4.0", "ImageNet", "UNTRAINED"))
    bundle.write(tmp_path / "whole", made, trained / "models", card, inside)
    encoder_set = bundled_encoders.load(bundle.load(tmp_path / "whole"))
    recorded = made.made_with["VGG-0.5-32"]
    expected = {part: recorded[part] for part in ("protocol", "weights")}
    assert encoder_set.made_with()["VGG-0.5-32"] == expected


def test_without_them_the_file_is_asked_for_by_name(of_file, trained, tmp_path):
    made, runtime = of_file
    bundle.write(tmp_path / "small", made, trained / "models", "card", {})
    small = bundle.load(tmp_path / "small")
    for use in (bundled_encoders.load, bundled_encoders.variables):
        with pytest.raises(InputError, match="from the file mine.npz .*: pass --weights=VGG=mine"):
            use(small)
    bundled_encoders.load(small, runtime)
    (_, path), *_ = runtime.weight_files
    files.write_arrays(path, weights.to_flat(weights.random("VGG", 1)))
    for use in (bundled_encoders.load, bundled_encoders.variables):
        with pytest.raises(InputError, match="holds other weights of VGG than those asked for"):
            use(small, runtime)


def test_weights_that_may_not_be_passed_on_or_are_large_stay_out(
    of_file, trained, tmp_path, monkeypatch
):
    made, _ = of_file
    terms = "CC BY-NC-ND 4.0", "non-commercial, no derivatives", "access is granted on request"
    vgg = encoders.ENCODERS["VGG"]
    gated = dataclasses.replace(vgg, published=Published("lab/vgg", ("vgg.bin",), *terms))
    monkeypatch.setitem(encoders.ENCODERS, "VGG", gated)
    assert bundled_encoders.variables(made) == {}  # Its file is not even asked for.
    (note,) = bundled_encoders.notes(bundled_encoders.withheld(made))
    assert "the weights of VGG stay out of the bundle" in note
    assert "CC BY-NC-ND 4.0 (non-commercial, no derivatives), access is granted on request" in note
    card = model_card.card(made, {})
    assert "VGG: weights not in the bundle" in card
    assert "their licence is not known here" in card  # The file was read as one of a user.
    licence = {"licence": gated.published.licence_text}
    made_with = {
        name: each | {"weights": each["weights"] | licence} for name, each in made.made_with.items()
    }
    of_publisher = model_card.card(dataclasses.replace(made, made_with=made_with), {})
    assert "as published they are under CC BY-NC-ND 4.0 (non-commercial, no" in of_publisher
    bundle.write(tmp_path / "small", made, trained / "models", card, {})
    with pytest.raises(InputError, match="needs the weights of VGG"):
        bundled_encoders.load(bundle.load(tmp_path / "small"))
    free = dataclasses.replace(vgg, published=Published("lab/vgg", ("vgg.bin",), "MIT"))
    monkeypatch.setitem(encoders.ENCODERS, "VGG", free)
    assert bundled_encoders.withheld(made) == {}
    monkeypatch.setattr(bundled_encoders, "_MOST_BYTES", 100)
    assert bundled_encoders.withheld(made) == {"VGG": "they take 0.0 GiB"}


def test_weights_of_a_name_with_hyphens_are_read_back(made, trained, tmp_path):
    flat = {"UNI2-h": {"params/norm/scale": np.ones(3, np.float32)}}
    bundle.write(tmp_path / "a", made, trained / "models", "card", flat)
    assert bundle.load(tmp_path / "a").weights.keys() == {"UNI2-h"}


def test_other_weights_than_it_was_trained_with_are_refused(made):
    other = {
        name: each | {"weights": {"source": "random, seed 1", "sha256": each["weights"]["sha256"]}}
        for name, each in made.made_with.items()
    }
    with pytest.raises(InputError, match="weights of VGG here have SHA-256"):
        bundled_encoders.load(dataclasses.replace(made, made_with=other))


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
            lambda parts: parts.update({"typical.npz": archive.to_npz({"a": np.ones(2)})}),
            "record of the training images",
        ),
        (
            lambda parts: parts.update({"models/VGG-0.5-40/seed0-fold01.txt": b"tree"}),
            "not a complete LightGBM model",
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
        unknown = dict.fromkeys(("stain_p", "descriptors_p", "trained_on"))
        assert dataclasses.replace(full, abstain=less.abstain, **unknown) == less
        assert full.trained_on
        assert set(less.abstain) <= {uncertainty.LARGE_SET, uncertainty.TOO_LITTLE_TISSUE}


def test_a_folder_is_no_path_of_a_bundle(made, trained, tmp_path):
    message = f"{tmp_path} is a folder: name a file in it, such as {tmp_path}/mine.histojax"
    with pytest.raises(InputError, match=re.escape(message)):
        bundle.write(tmp_path, made, trained / "models", "", {})
    assert not any(tmp_path.iterdir())


def test_why_classes_are_positive_is_in_the_file_and_older_files_have_it_not(packed, tmp_path):
    assert bundle.load(packed).positive_reason == (
        "positive class: malignant (reads as disease, against benign)"
    )

    def older(parts):
        description = json.loads(parts["bundle.json"])
        del description["positive_reason"], description["training_files"]
        parts["bundle.json"] = json.dumps(description).encode()

    loaded = bundle.load(repacked(packed, tmp_path, older))
    assert loaded.positive_reason == "positive classes: malignant (as the bundle says)"
    assert loaded.uncertainty.training_files is None
