"""Manifests: read back as they were written, and descriptors of two protocols are never mixed."""

import numpy as np
import pytest

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.extraction import manifests, store
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
    crop_mode="shared",
    precision="tf32",
    target_mpp=0.84,
    stain_normalizer="none",
    stain_augmentation="none",
)


def manifests_of(extraction):
    source = manifests.source_of(extraction)
    return {
        extraction.configuration(encoder, view): manifests.of(
            extraction, encoder, view, source, "ab"
        )
        for encoder in extraction.encoders
        for view in extraction.views
    }


@pytest.mark.parametrize("extraction", [Extraction(), OTHER])
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
    assert list(manifests_of(OTHER)["VGG-0.5-96-shared"]["protocol"])[-4:] == later


def test_configurations_of_two_protocols_have_none_in_common():
    made = manifests_of(Extraction())
    made["VGG-0.5-400"] = made["VGG-0.5-400"] | {"weights": {"source": "random, seed 0"}}
    made["VGG-0.5-650"]["protocol"]["crops"] = 3
    with pytest.raises(InputError, match="models differ in crops, weights: predict with each"):
        manifests.extraction_of(made, "models")


def test_without_a_manifest_the_protocol_is_unknown():
    with pytest.raises(InputError, match=r"unknown protocol \(VGG-0.5-400\)"):
        manifests.extraction_of({"VGG-0.5-400": None}, "models")


def test_another_version_of_the_numerics_is_refused_and_none_is_the_first(tmp_path, monkeypatch):
    folder = tmp_path / "VGG-0.5-400"
    store.write(tmp_path, folder.name, "a", DESCRIPTORS)
    files.write_json(folder / manifests.MANIFEST, MANIFEST | {"versions": {"histojax": "0.1.0"}})
    manifests.claim(tmp_path, folder.name, MANIFEST)
    made = manifests_of(Extraction())
    monkeypatch.setattr(manifests, "NUMERICS", 2)
    with pytest.raises(InputError, match="versions.numerics: found 1, expected 2"):
        manifests.claim(tmp_path, folder.name, MANIFEST)
    with pytest.raises(InputError, match="version 1 of the preprocessing .* computes version 2"):
        manifests.extraction_of(made, "models")
    manifests.claim(tmp_path / "new", folder.name, MANIFEST)
    assert manifests.read(tmp_path / "new", folder.name)["versions"]["numerics"] == 2


def test_a_folder_is_claimed_once_and_kept_for_its_protocol(tmp_path):
    manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    written = (tmp_path / "VGG-0.5-400" / manifests.MANIFEST).read_text()
    manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    assert (tmp_path / "VGG-0.5-400" / manifests.MANIFEST).read_text() == written
    assert set(manifests.read(tmp_path, "VGG-0.5-400")) == {"protocol", "weights", "versions"}
    other = {"protocol": {"crops": 6, "p": 3.0}, "weights": {"source": "imagenet", "sha256": "cd"}}
    with pytest.raises(InputError) as refusal:
        manifests.claim(tmp_path, "VGG-0.5-400", other)
    assert "protocol.crops: found 20, expected 6" in str(refusal.value)
    assert "weights.sha256: found ab, expected cd" in str(refusal.value)
    assert "protocol.p" not in str(refusal.value)


def test_a_claimed_folder_is_filled_and_claimed_again_whatever_the_versions(tmp_path):
    manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST | {"versions": {"jax": "0"}})
    assert manifests.read(tmp_path, "VGG-0.5-400")["versions"] == manifests.versions()


def test_a_value_that_only_one_protocol_has_is_told(tmp_path):
    manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    wanted = {"protocol": {"crops": 20, "gain": 1.1}, "weights": MANIFEST["weights"]}
    with pytest.raises(InputError) as refusal:
        manifests.claim(tmp_path, "VGG-0.5-400", wanted)
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
        manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)


def test_descriptors_of_unknown_protocol_are_not_added_to(tmp_path):
    store.write(tmp_path, "VGG-0.5-400", "a", DESCRIPTORS)
    with pytest.raises(InputError, match="without manifest.json"):
        manifests.claim(tmp_path, "VGG-0.5-400", MANIFEST)


def test_where_the_weights_came_from_is_said():
    random = {"weights": {"source": "random, seed 0"}}
    assert "UNTRAINED" in manifests.weights_text([random])
    assert manifests.weights_text([{"weights": {"source": "imagenet"}}] * 2) == "weights: imagenet"
    assert manifests.weights_text([None]) == "weights: not recorded"
