"""Published encoders: the list of them, their terms, and what manifests record of them."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, manifests, mixing, store
from tests.encoders import made_files, made_vits
from tests.running import run


def test_the_script_lists_encoders_their_terms_and_where_files_are(no_cache, tmp_path):
    path = tmp_path / "w" / "UNI2-h" / "pytorch_model.bin"
    path.parent.mkdir(parents=True)
    path.touch()
    names = ["VGG", *(name for name, row in encoders.ENCODERS.items() if row.published)]
    flags = f"--weights_dir={tmp_path}/w", f"--weights_cache={tmp_path}"
    listed = run("encoders", ",".join(names), *flags)
    assert listed.returncode == 0, listed.stderr
    text = listed.stdout.replace(str(path), "FILE")
    assert max(map(len, text.splitlines())) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in text.split("\n\n")[0].splitlines()}
    assert list(rows) == ["encoder", *names]
    width, millions, *_, place = rows["UNI2-h"]
    assert (width, millions, place) == ("1536", "681.4", "here")
    terms = "CC BY-NC-ND 4.0 non-commercial absent"
    assert " ".join(rows["Virchow2"]) == f"2560 631.2 224 0.5 {terms}"
    assert rows["VGG"][-3:] == ["downloaded", "at", "use"]
    assert "Here:\nUNI2-h        FILE\n\nTo get from" in text
    assert "Virchow2      pytorch_model.bin of paige-ai/Virchow2; access is granted on" in text
    some = run("encoders", "uni2-h,VGG", f"--weights=UNI2-h={path.parent}", "--csv")
    uni2, vgg = csv.DictReader(io.StringIO(some.stdout))
    assert (uni2["encoder"], uni2["found"], uni2["taps"]) == ("UNI2-h", str(path), "class_token")
    assert (vgg["parameters"], vgg["licence"], vgg["input_px"]) == ("14714688", "CC BY 4.0", "")
    assert "no encoder is called 'uni3', expected of ResNet" in run("encoders", "UNI3").stderr


def test_the_published_file_is_taken_its_licence_told_and_its_recipe_recorded(
    tiny_rows, no_cache, tmp_path, notices, monkeypatch
):
    encoder, flat = tiny_rows["Virchow2"], made_vits.drawn(tiny_rows["Virchow2"])
    path = tmp_path / "w" / "Virchow2" / "pytorch_model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(made_files.pytorch(made_vits.as_file("timm", flat)))
    extraction = Extraction(("Virchow2",), (View(0.5, 28),), 1, 1)
    runtime = Runtime(weights_dir=tmp_path / "w")
    (loaded,) = loaded_encoders.fold_encoders(extraction, runtime).values()
    assert any("Virchow2 is published under CC BY-NC-ND 4.0 (non-" in n for n in notices)
    made = loaded.manifest(extraction, View(0.5, 28))
    assert made["weights"]["source"] == "file"
    assert made["weights"]["file"] == "Virchow2/pytorch_model.bin"
    assert "CC BY-NC-ND 4.0 (non-commercial, no derivatives)" in manifests.weights_text([made])
    assert made["protocol"]["recipe"]["taps"] == ["class_token", "patch_mean"]
    sha256 = made["weights"]["sha256"]
    again = dataclasses.replace(extraction, weights=(("Virchow2", sha256),))
    assert loaded_encoders.weights_of(encoder, again, runtime).file == loaded.file
    other = dataclasses.replace(extraction, weights=(("Virchow2", "0" * 64),))
    with pytest.raises(InputError, match="holds other weights of Virchow2"):
        loaded_encoders.weights_of(encoder, other, runtime)
    both = dataclasses.replace(extraction, encoders=("Virchow2", "Phikon"))
    monkeypatch.setattr(weights, "read", pytest.fail)  # Nothing is, while another file is absent.
    with pytest.raises(InputError, match="weights of Phikon"):
        loaded_encoders.fold_encoders(both, runtime)
    random = dataclasses.replace(extraction, weights="random")
    assert loaded_encoders.weights_of(encoder, random, runtime).source == "random, seed 0"


def test_another_recipe_is_refused_in_the_same_folder(tmp_path):
    """Such as the class token alone."""
    extraction, view = Extraction(("Virchow2",)), View(0.5, 28)
    row = made_vits.tiny("Virchow2")
    alone = dataclasses.replace(row, outputs=row.outputs[:1])
    recorded, other, of_another = (
        loaded_encoders.LoadedEncoder(encoder, {}, "file", "0" * 64).manifest(extraction, view)
        for encoder in (row, alone, made_vits.tiny("UNI"))
    )
    mixing.claim(tmp_path, "Virchow2-0.5-28", recorded)
    store.write(tmp_path, "Virchow2-0.5-28", "a", np.zeros((1, 16), "f"))
    mixing.claim(tmp_path, "Virchow2-0.5-28", recorded)
    mixing.claim(tmp_path, "UNI-0.5-28", of_another)
    with pytest.raises(InputError, match=r"recipe\.taps: found \['class_token', 'patch_mean'\]"):
        mixing.claim(tmp_path, "Virchow2-0.5-28", other)
