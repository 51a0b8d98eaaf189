"""Where the published file of an encoder is found, and what is said where it is not."""

from pathlib import Path

import pytest

from histojax import encoders
from histojax.encoders.weight_files import published_files
from histojax.errors import InputError

UNI2 = encoders.get("UNI2-h")


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    "place",
    [
        "UNI2-h/pytorch_model.bin",
        "uni2-H/model.safetensors",
        "MahmoodLab/UNI2-h/pytorch_model.bin",
        "UNI2-h.bin",
        "UNI2-h.safetensors",
        "models--MahmoodLab--UNI2-h/snapshots/0ab1/pytorch_model.bin",
    ],
)
def test_a_file_is_found_in_the_folder_of_weights(place, no_cache, tmp_path):
    put(tmp_path / "w" / place, tmp_path / "w" / "UNI" / "pytorch_model.bin")
    found = published_files.find(UNI2, tmp_path / "w")
    assert found.path == tmp_path / "w" / place
    kept = "MahmoodLab/UNI2-h/pytorch_model.bin" if "snapshots" in place else place
    assert found.name == kept
    assert published_files.in_place_of(UNI2, tmp_path / "w") == found
    assert published_files.in_place_of(UNI2, found.path.parent).path == found.path


@pytest.mark.parametrize(
    ("place", "warned"),
    [
        ("Lunit-S16/model.safetensors", True),
        ("models--owkin--phikon/snapshots/0ab1/model.safetensors", True),
        ("h-optimus-0.bin", True),
        ("UNI/UNI2-h.bin", False),
        ("mine/weights.bin", False),
    ],
)
def test_a_file_that_is_called_as_another_encoder_is_taken_with_a_warning(
    place, warned, tmp_path, caplog
):
    put(tmp_path / place)
    with caplog.at_level("WARNING", logger="absl"):
        assert published_files.in_place_of(UNI2, tmp_path / place).path == tmp_path / place
    assert ("taken for UNI2-h, as --weights says" in caplog.text) == warned


def test_a_cache_of_hugging_face_is_read_as_its_main_reference_says(no_cache, tmp_path):
    folder = no_cache / "models--mahmoodlab--uni2-h"
    put(folder / "snapshots/aa/pytorch_model.bin", folder / "snapshots/bb/config.json")
    assert published_files.find(UNI2).path == folder / "snapshots/aa/pytorch_model.bin"
    put(folder / "snapshots/cc/pytorch_model.bin")
    with pytest.raises(InputError, match="2 files of weights of UNI2-h: .*aa.*, .*cc.*UNI2-h=FILE"):
        published_files.find(UNI2)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("cc\n")
    assert published_files.require(UNI2).path == folder / "snapshots/cc/pytorch_model.bin"
    for other in (b"bb", b"\xff"):  # Without the file; damaged.
        (folder / "refs" / "main").write_bytes(other)
        with pytest.raises(InputError, match="2 files of weights"):
            published_files.find(UNI2)
    assert published_files.find(encoders.get("UNI")) is None


def test_one_file_of_two_names_is_no_question(no_cache, tmp_path):
    snapshots, blob = no_cache / "models--MahmoodLab--UNI2-h" / "snapshots", tmp_path / "blob"
    put(blob)
    for commit in ("aa", "bb"):  # As Hugging Face's tools keep a file that did not change.
        (snapshots / commit).mkdir(parents=True)
        (snapshots / commit / "pytorch_model.bin").symlink_to(blob)
    assert published_files.find(UNI2).path.resolve() == blob


def test_a_folder_may_be_called_as_the_repository(no_cache, tmp_path):
    put(tmp_path / "dinov2-small" / "model.safetensors")
    found = published_files.find(encoders.get("DINOv2-S"), tmp_path)
    assert found.name == "dinov2-small/model.safetensors"


def test_the_cache_is_where_the_variables_of_hugging_face_say(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert published_files.hub_cache() == tmp_path / ".cache" / "huggingface" / "hub"
    for name, expected in (  # Each goes before those above it.
        ("XDG_CACHE_HOME", "1/huggingface/hub"),
        ("HF_HOME", "2/hub"),
        ("HUGGINGFACE_HUB_CACHE", "3"),
        ("HF_HUB_CACHE", "4"),
    ):
        monkeypatch.setenv(name, f"~/{expected[0]}")
        assert published_files.hub_cache() == tmp_path / expected


def test_a_folder_that_may_not_be_read_is_named(no_cache, monkeypatch):
    no_cache.mkdir()

    def refused(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(InputError, match="hub cannot be searched for .*: Permission denied"):
        published_files.find(UNI2)


def test_where_no_file_is_the_message_says_what_was_looked_for_and_how_to_get_one(
    no_cache, tmp_path
):
    with pytest.raises(InputError) as refused:
        published_files.require(UNI2, tmp_path)
    for text in (
        "looked for pytorch_model.bin or model.safetensors in",
        f"{tmp_path} (in UNI2-h/, MahmoodLab/UNI2-h/, or as UNI2-h.*)",
        f"{no_cache} (Hugging Face's cache)",
        "https://huggingface.co/MahmoodLab/UNI2-h and put it at FOLDER/UNI2-h/pytorch_model.bin",
        "CC BY-NC-ND 4.0 (non-commercial, no derivatives); access is granted on request",
        "--weights_dir=FOLDER",
        "--weights=UNI2-h=FILE",
    ):
        assert text in str(refused.value)
    with pytest.raises(InputError, match="holds neither pytorch_model.bin nor model.safetensors"):
        published_files.in_place_of(UNI2, tmp_path)
    for row in (UNI2, encoders.get("VGG")):
        with pytest.raises(InputError, match=f"typo.pt does not exist: .* weights of {row.name}"):
            published_files.in_place_of(row, tmp_path / "typo.pt")
