"""Manifests: read back as they were written, and descriptors of two protocols are never mixed."""

import dataclasses

import numpy as np
import pytest

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.extraction import crop_errors, manifests, mixing, store
from histojax.features.feature_sets import Source
from histojax.features.recipes import Recipe
from histojax.utils import files

DESCRIPTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
MANIFEST = {"protocol": {"crops": 20, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "ab"}}

OTHER = Extraction(
    encoders=("VGG", "ResNet"),
    views=(View(0.5, 96), View(1.0, 160)),
    augmentations=7,
    crops=3,
    gain_low=0.9,
    gain_high=1.1,
    p=2.0,
    seed=5,
    weights="random",
    weights_seed=4,
    resnet_variant="keras2018",
    crop_mode="hybrid",
    pool_crops=30,
    gain_nodes=4,
    precision="tf32",
    target_mpp=0.84,
    stain_normalizer="none",
    stain_augmentation="none",
)


FILE = {"file": "my.pth", "file_sha256": "5e1f" * 16}
OF_FILES = Extraction(
    encoders=("ResNet", "VGG", "TorchVGG"),
    weights=(("ResNet", "random"), ("VGG", "c" * 64), ("TorchVGG", "imagenet")),
    weights_seed=3,
)


def weights_of(extraction, encoder):
    """(source, SHA-256 of the variables, file) as they are recorded."""
    word = extraction.weights_of(encoder)
    if word == "random":
        return manifests.source_of_random(extraction.weights_seed), "ab", {}
    return (word, "ab", {}) if word == "imagenet" else ("file", word, FILE)


def manifests_of(extraction):
    return {
        extraction.configuration(encoder, view): manifests.of(
            extraction, encoder, view, *weights_of(extraction, encoder)
        )
        for encoder in extraction.encoders
        for view in extraction.views
    }


@pytest.mark.parametrize("extraction", [Extraction(), OTHER, OF_FILES])
def test_a_protocol_is_read_back_as_it_was_written(extraction):
    assert manifests.extraction_of(manifests_of(extraction), "models") == extraction


def test_the_defaults_of_later_options_are_not_recorded():
    protocol = manifests_of(Extraction())["ResNet-0.5-400"]["protocol"]
    assert list(protocol) == [
        "encoder",
        "scale",
        "crop_size",
        "crop_mode",
        "augmentations",
        "crops",
        "gain_low",
        "gain_high",
        "p",
        "seed",
        "resnet_variant",
    ]
    later = ["precision", "target_mpp", "stain_normalizer", "stain_augmentation"]
    assert list(manifests_of(OTHER)["VGG-0.5-96-hybrid"]["protocol"])[-4:] == later


def test_models_of_the_crop_mode_shared_are_refused_by_name():
    made = manifests_of(Extraction(encoders=("VGG",)))
    for manifest in made.values():
        manifest["protocol"]["crop_mode"] = "shared"
    with pytest.raises(InputError, match="old.histojax was trained on .* --crop_mode=shared"):
        manifests.extraction_of(made, "old.histojax")


@pytest.mark.parametrize("version", range(1, manifests.HYBRID))
def test_descriptors_of_another_version_of_crop_mode_hybrid_are_not_mixed_nor_predicted(
    version, tmp_path
):
    """Folders of before there were versions are of the first."""
    made = manifests_of(Extraction(encoders=("VGG",), crop_mode="hybrid"))
    for name, manifest in made.items():
        protocol = manifest["protocol"] | {"hybrid": version}
        if version == 1:
            del protocol["hybrid"]
        old = manifest | {"protocol": protocol}
        files.write_json(tmp_path / name / "manifest.json", old)
        store.write(tmp_path, name, "image", np.ones((1, 1), np.float32))
        message = f"protocol.hybrid: found {version}, expected {manifests.HYBRID}"
        with pytest.raises(InputError, match=message):
            mixing.claim(tmp_path, name, manifest)
        made[name] = old
    message = f"models was trained on descriptors of version {version} of crop mode hybrid"
    with pytest.raises(InputError, match=message):
        manifests.extraction_of(made, "models")


def test_the_error_of_crop_mode_hybrid_is_told_and_decides_nothing():
    hybrid = Extraction(encoders=("VGG",), crop_mode="hybrid")
    made = manifests_of(hybrid)
    assert crop_errors.text([*manifests_of(Extraction()).values(), None]) == ""
    assert "was not measured" in crop_errors.text(made.values())
    for error, manifest in zip((0.021, 0.014), made.values(), strict=True):
        tap = {"largest_error": error, "mean_error": 0.01, "between_augmentations": 10 * error}
        manifest["crop_error"] = {"images": 3, "taps": {"block5_conv3": tap}}
    text = "within 2.1 % of exact crops (the worst tap of 3 images); two augmentations"
    assert text in crop_errors.text(made.values())
    assert "differ by 14.0 to 21.0 %" in crop_errors.text(made.values())
    for manifest in made.values():
        tap = {"largest_error": 0.0004, "mean_error": 0.0003, "between_augmentations": None}
        manifest["crop_error"] = {"images": 1, "taps": {"block5_conv3": tap}}
    assert crop_errors.text(made.values()).endswith(
        "within 0.1 % of exact crops (the worst tap of 1 image)"
    )
    without = manifests_of(hybrid)
    for name, manifest in made.items():
        assert manifests.differences(manifest, without[name]) == []
    assert manifests.extraction_of(made, "models") == hybrid


def test_configurations_of_two_protocols_have_none_in_common():
    made = manifests_of(Extraction())
    made["VGG-0.5-400"] = made["VGG-0.5-400"] | {"weights": {"source": "random, seed 0"}}
    made["VGG-0.5-650"]["protocol"]["crops"] = 3
    with pytest.raises(InputError, match="models differ in crops, weights: predict with each"):
        manifests.extraction_of(made, "models")


@pytest.mark.parametrize(
    "weights",
    [
        {"source": "random, seed 4", "sha256": "ab"},
        {"source": "file", "sha256": "cd"} | FILE,
        {"source": "imagenet", "sha256": "ab"},
    ],
)
def test_an_encoder_has_one_set_of_weights_and_there_is_one_seed(weights):
    made = manifests_of(OF_FILES)
    name = "VGG-0.5-400" if weights["source"] != "random, seed 4" else "TorchVGG-0.5-400"
    made[name] = made[name] | {"weights": weights}
    with pytest.raises(InputError, match="models differ in weights: predict with each"):
        manifests.extraction_of(made, "models")


def test_weights_of_a_file_are_told_by_its_name_and_its_variables_decide(tmp_path):
    made = manifests_of(OF_FILES)["VGG-0.5-400"]
    assert made["weights"] == {"source": "file", "sha256": "c" * 64} | FILE
    text = "weights: my.pth (SHA-256 5e1f5e1f5e1f5e1f...) and random, seed 3"
    found = manifests.weights_text([made, manifests_of(OF_FILES)["ResNet-0.5-400"]])
    assert found == f"{text} ({manifests.UNTRAINED})"
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    mixing.claim(tmp_path / "named", "VGG-0.5-400", made)
    renamed = made | {"weights": made["weights"] | {"file": "other.h5", "file_sha256": "0"}}
    imagenet = made | {"weights": {"source": "imagenet", "sha256": "c" * 64}}
    for same in (renamed, imagenet):
        assert manifests.differences(made, same) == []
    other = made | {"weights": made["weights"] | {"sha256": "d" * 64}}
    assert manifests.differences(made, other) == [
        f"weights.sha256: found {'c' * 64}, expected {'d' * 64}"
    ]


def test_encoders_of_one_folder_may_have_weights_from_different_sources_and_each_only_one(tmp_path):
    for name, made in manifests_of(OF_FILES).items():
        mixing.claim(tmp_path, name, made)
        store.write(tmp_path, name, "a", DESCRIPTORS)
    view = View(0.25, 200)
    other = manifests.of(OF_FILES, "VGG", view, "file", "d" * 64, FILE)
    with pytest.raises(InputError, match="weights.sha256: found c+, expected d+"):
        mixing.claim(tmp_path, OF_FILES.configuration("VGG", view), other)


def test_without_a_manifest_the_protocol_is_unknown():
    with pytest.raises(InputError, match=r"unknown protocol \(VGG-0.5-400\)"):
        manifests.extraction_of({"VGG-0.5-400": None}, "models")


def test_another_version_of_the_numerics_is_refused_and_none_is_the_first(tmp_path, monkeypatch):
    folder = tmp_path / "VGG-0.5-400"
    store.write(tmp_path, folder.name, "a", DESCRIPTORS)
    files.write_json(folder / manifests.MANIFEST, MANIFEST | {"versions": {"histojax": "0.1.0"}})
    mixing.claim(tmp_path, folder.name, MANIFEST)
    made = manifests_of(Extraction())
    monkeypatch.setattr(manifests, "NUMERICS", 2)
    with pytest.raises(InputError, match="versions.numerics: found 1, expected 2"):
        mixing.claim(tmp_path, folder.name, MANIFEST)
    with pytest.raises(InputError, match="version 1 of the preprocessing .* computes version 2"):
        manifests.extraction_of(made, "models")
    mixing.claim(tmp_path / "new", folder.name, MANIFEST)
    assert manifests.read(tmp_path / "new", folder.name)["versions"]["numerics"] == 2


@pytest.mark.parametrize("image", ["a", "p1/a"])
def test_a_folder_is_claimed_once_and_kept_for_its_protocol(image, tmp_path):
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", image, DESCRIPTORS)
    written = (tmp_path / "VGG-0.5-400" / manifests.MANIFEST).read_text()
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    assert (tmp_path / "VGG-0.5-400" / manifests.MANIFEST).read_text() == written
    assert set(manifests.read(tmp_path, "VGG-0.5-400")) == {"protocol", "weights", "versions"}
    other = {"protocol": {"crops": 6, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "cd"}}
    with pytest.raises(InputError) as refusal:
        mixing.claim(tmp_path, "VGG-0.5-400", other)
    assert "protocol.crops: found 20, expected 6" in str(refusal.value)
    assert "weights.sha256: found ab, expected cd" in str(refusal.value)
    assert "protocol.p" not in str(refusal.value)


def test_a_manifest_without_descriptors_claims_nothing(tmp_path):
    """A run that was stopped before its first image does not bind the next one."""
    other = MANIFEST | {"protocol": MANIFEST["protocol"] | {"crops": 3}}
    mixing.claim(tmp_path, "VGG-0.5-400", other)
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    assert manifests.read(tmp_path, "VGG-0.5-400")["protocol"] == MANIFEST["protocol"]


def test_a_claimed_folder_is_filled_and_claimed_again_whatever_the_versions(tmp_path):
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST | {"versions": {"jax": "0"}})
    assert manifests.read(tmp_path, "VGG-0.5-400")["versions"] == manifests.versions()


def test_a_value_that_only_one_protocol_has_is_told(tmp_path):
    mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    wanted = {"protocol": {"crops": 20, "gain": 1.1}, "weights": MANIFEST["weights"]}
    with pytest.raises(InputError) as refusal:
        mixing.claim(tmp_path, "VGG-0.5-400", wanted)
    assert [line.strip() for line in str(refusal.value).splitlines()[1:]] == [
        "protocol.gain: found None, expected 1.1",
        "protocol.p: found 3.0, expected None",
    ]


def test_a_default_that_is_not_recorded_is_told_by_its_value():
    normalised, raw = (
        manifests_of(Extraction(stain_normalizer=name))["VGG-0.5-400"]
        for name in ("macenko", "none")
    )
    line = "protocol.stain_normalizer: found none, expected macenko"
    assert manifests.differences(raw, normalised) == [line]
    assert manifests.differences(normalised, raw) == [
        "protocol.stain_normalizer: found macenko, expected none"
    ]


def test_a_damaged_manifest_is_refused_by_name(tmp_path):
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    files.write_text(tmp_path / "VGG-0.5-400" / manifests.MANIFEST, '{"protocol": ')
    with pytest.raises(InputError, match=r"manifest\.json cannot be read as JSON"):
        mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)


def test_descriptors_of_unknown_protocol_are_not_added_to(tmp_path):
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    with pytest.raises(InputError, match="without manifest.json"):
        mixing.claim(tmp_path, "VGG-0.5-400", MANIFEST)


def test_where_the_weights_came_from_is_said():
    random = {"weights": {"source": "random, seed 0"}}
    assert "UNTRAINED" in manifests.weights_text([random])
    assert manifests.weights_text([{"weights": {"source": "imagenet"}}] * 2) == "weights: imagenet"
    assert manifests.weights_text([None]) == "weights: not recorded"


def test_imported_descriptors_are_not_mixed_with_computed_ones_or_with_other_draws(tmp_path):
    source = Source("uni_v1", "TRIDENT", "tile", 5, magnification=20, patch_px=256, overlap_px=0)
    recipe = Recipe(source, "mean", draws=3, tiles=10)
    made = recipe.manifest()
    assert manifests.is_imported(made)
    assert not manifests.is_imported(None)
    assert not manifests.is_imported(manifests_of(OTHER)["VGG-0.5-96-hybrid"])
    assert source.configuration == "uni_v1-20x-256px"
    mixing.claim(tmp_path, source.configuration, made)
    store.write(tmp_path, source.configuration, "slide", DESCRIPTORS)
    recorded = manifests.read(tmp_path, source.configuration)
    assert Recipe.from_manifest(recorded) == recipe

    other = dataclasses.replace(source, encoder="resnet50", format="CLAM", channels=1024)
    assert not mixing.refuse_mixing(
        tmp_path, "resnet50", dataclasses.replace(recipe, source=other, pooling="p-norm").manifest()
    )
    with pytest.raises(InputError, match="protocol.draws: found 3, expected 1"):
        mixing.claim(tmp_path, "resnet50", Recipe(other, "mean").manifest())
    with pytest.raises(InputError, match="protocol.pooling: found mean, expected p-norm"):
        mixing.claim(
            tmp_path,
            source.configuration,
            dataclasses.replace(recipe, pooling="p-norm", p=3.0).manifest(),
        )
    for name, computed in manifests_of(Extraction()).items():
        with pytest.raises(InputError, match="holds imported descriptors: computed ones need"):
            mixing.claim(tmp_path, name, computed)
