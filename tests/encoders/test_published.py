"""The encoders of pathology: their rows, how files name their arrays, where files are found."""

import csv
import dataclasses
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.encoders.weight_files import published_files
from histojax.encoders.weight_files.layouts import Layout
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, manifests, mixing, store
from histojax.utils.array_files.stored import StoredArray
from tests.encoders import made_files
from tests.running import ROOT, python, run

# A row of each way that files name arrays, with another MLP, other registers and positions.
LAYOUTS = {
    "timm": "Virchow2",
    "timm without scale": "Lunit-S16",
    "Hugging Face's ViT": "Phikon",
    "Hugging Face's DINOv2": "DINOv2-S-reg",
    "Hugging Face's DINOv2, SwiGLU": "Hibou-B",
    "DINOv2's own": "DINOv2-g-reg",
}
ATTENTION = "encoder.layer.0.attention.attention"  # Of Hugging Face's, where queries and keys are.
# In GB, of files of float32 as their pages say; what the names of arrays take does not count.
SIZES = {
    "Lunit-S8": 0.0867,
    "kaiko-B16": 0.343,
    "kaiko-L14": 1.22,
    "Phikon-v2": 1.21,
    "Hibou-B": 0.343,
    "H-optimus-0": 4.54,
}


def tiny(name: str, **changes) -> encoders.Encoder:
    """A row with a network of width 8 and two blocks, for images of 28 px."""
    row = encoders.get(name)
    module = row.module.clone(width=8, depth=2, heads=2, hidden=12, patch=7, grid=4, **changes)
    outputs = tuple(dataclasses.replace(tap, channels=8) for tap in row.outputs)
    native = dataclasses.replace(row.native, crop_size=28, input_size=28, resized=0)
    return dataclasses.replace(row, module=module, outputs=outputs, native=native)


@pytest.fixture
def rows(monkeypatch):
    """Tiny encoders in place of the large ones."""
    table = {name: tiny(name) for name in LAYOUTS.values()}
    monkeypatch.setattr(encoders, "ENCODERS", {"VGG": encoders.ENCODERS["VGG"]} | table)
    return table


def drawn(encoder: encoders.Encoder) -> weights.Flat:
    """Variables by flat name, none alike."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=s).astype("f") for name, s in weights.shapes(encoder).items()}


def as_file(way: str, flat: weights.Flat) -> dict[str, np.ndarray]:
    """As the library or publisher of a layout names and lays out arrays."""
    file = {}
    for name, array in flat.items():
        block, _, rest = name.removeprefix("params/").partition("/")
        number = block.removeprefix("block") if block[:5] == "block" else None
        path = name.removeprefix("params/") if number is None else rest
        layer, _, leaf = path.rpartition("/")
        if leaf not in ("kernel", "bias", "scale"):
            layer, leaf = path, ""
        if leaf == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if path.endswith(("_token", "_tokens", "position_embedding")):
            array = array[None]
        for theirs, part in NAMES[way](layer, array):
            ending = {"kernel": ".weight", "scale": ".weight", "bias": ".bias", "": ""}[leaf]
            file[theirs.replace("*", number or "") + ending] = part
    return file


def _timm(layer, array, renamed=lambda name: name):
    own = {
        "patch_embedding": "patch_embed.proj",
        "class_token": "cls_token",
        "register_tokens": "reg_token",
        "position_embedding": "pos_embed",
        "norm": "norm",
        "norm1": "blocks.*.norm1",
        "norm2": "blocks.*.norm2",
        "attention/qkv": "blocks.*.attn.qkv",
        "attention/projection": "blocks.*.attn.proj",
        "layer_scale1": "blocks.*.ls1.gamma",
        "layer_scale2": "blocks.*.ls2.gamma",
        "mlp/in": "blocks.*.mlp.fc1",
        "mlp/out": "blocks.*.mlp.fc2",
    }
    return [(renamed(own[layer]), array)]


def _dinov2(layer, array):
    names = {"reg_token": "register_tokens"}
    names |= {"blocks.*.mlp.fc1": "blocks.*.mlp.w12", "blocks.*.mlp.fc2": "blocks.*.mlp.w3"}
    return _timm(layer, array, lambda name: names.get(name, name))


def _hugging_face(mlp, norms):
    own = {
        "patch_embedding": "embeddings.patch_embeddings.projection",
        "class_token": "embeddings.cls_token",
        "register_tokens": "embeddings.register_tokens",
        "position_embedding": "embeddings.position_embeddings",
        "norm": "layernorm",
        "norm1": f"encoder.layer.*.{norms[0]}",
        "norm2": f"encoder.layer.*.{norms[1]}",
        "attention/projection": "encoder.layer.*.attention.output.dense",
        "layer_scale1": "encoder.layer.*.layer_scale1.lambda1",
        "layer_scale2": "encoder.layer.*.layer_scale2.lambda1",
        "mlp/in": f"encoder.layer.*.{mlp[0]}",
        "mlp/out": f"encoder.layer.*.{mlp[1]}",
    }

    def names(layer, array):
        if layer != "attention/qkv":
            return [(own[layer], array)]
        parts = zip(("query", "key", "value"), np.split(array, 3), strict=True)
        return [(f"encoder.layer.*.attention.attention.{name}", part) for name, part in parts]

    return names


NAMES = {
    "timm": _timm,
    "timm without scale": _timm,
    "Hugging Face's ViT": _hugging_face(
        ("intermediate.dense", "output.dense"), ("layernorm_before", "layernorm_after")
    ),
    "Hugging Face's DINOv2": _hugging_face(("mlp.fc1", "mlp.fc2"), ("norm1", "norm2")),
    "Hugging Face's DINOv2, SwiGLU": _hugging_face(
        ("mlp.weights_in", "mlp.weights_out"), ("norm1", "norm2")
    ),
    "DINOv2's own": _dinov2,
}
# What such files have beside the network, and we do not need.
BESIDE = {
    "timm": "head.weight",
    "timm without scale": "head.bias",
    "Hugging Face's ViT": "pooler.dense.weight",
    "Hugging Face's DINOv2": "embeddings.mask_token",
    "Hugging Face's DINOv2, SwiGLU": "embeddings.mask_token",
    "DINOv2's own": "mask_token",
}


@pytest.mark.parametrize(("way", "name"), LAYOUTS.items(), ids=list(LAYOUTS))
def test_a_file_of_each_layout_loads_or_is_refused_by_the_names_of_what_does_not_fit(
    way, name, rows, tmp_path
):
    flat = drawn(rows[name])
    file = as_file(way, flat) | {BESIDE[way]: np.zeros((1, 8), "f")}
    wanted = weights.checksum(weights.to_variables(flat))
    writers = {"a.safetensors": made_files.safetensors, "a.bin": made_files.pytorch}
    lost = next(key for key in file if ".query." in key or ".qkv." in key)
    short = next(key for key in file if key.endswith("layernorm.bias") or key == "norm.bias")
    changed = {key: array for key, array in file.items() if key != lost}
    changed |= {"blocks.9.norm1.bias": np.zeros(8, "f"), short: np.zeros(9, "f")}
    for file_name, write in writers.items():
        path = tmp_path / file_name
        path.write_bytes(write(file))
        assert weights.checksum(weights.load(name, path)) == wanted
        path.write_bytes(write(changed))
        with pytest.raises(InputError) as refused:
            weights.load(name, path)
        header, *lines = str(refused.value).splitlines()
        assert "(1 missing, 1 extra, 1 misshapen), so none of it was used" in header
        kind = "weight" if lost.endswith("weight") else "bias"
        ours = "params/block0/attention/qkv/" + {"weight": "kernel", "bias": "bias"}[kind]
        shape = flat[ours].shape
        of = f"{lost}, of " if ".query." in lost else ""
        assert lines == [
            f"  missing: {of}{ours} {shape}",
            "  extra: blocks.9.norm1.bias (8,)",
            "  misshapen: params/norm/bias: (9,), expected (8,)",
        ]


@pytest.mark.parametrize(
    ("way", "changed", "problem"),
    [
        (
            "Hugging Face's ViT",
            {f"{ATTENTION}.key.weight": np.zeros((8, 9), "f")},
            "params/block0/attention/qkv/kernel: (8, 8) and (8, 9) and (8, 8), expected (8, 24)",
        ),
        (
            "Hugging Face's ViT",  # Of 24 rows together.
            {
                f"{ATTENTION}.query.weight": np.zeros((7, 8), "f"),
                f"{ATTENTION}.key.weight": np.zeros((9, 8), "f"),
            },
            "params/block0/attention/qkv/kernel: (7, 8) and (9, 8) and (8, 8), expected (8, 24)",
        ),
        (
            "Hugging Face's ViT",
            {f"{ATTENTION}.key.bias": np.zeros(8, "i8")},
            "params/block0/attention/qkv/bias: (24,) of whole numbers, expected (24,)",
        ),
        (
            "timm",
            {"pos_embed": np.zeros((2, 21, 8), "f")},
            "params/position_embedding: (2, 21, 8), expected (21, 8)",
        ),
    ],
    ids=["width", "heights", "whole numbers", "two images"],
)
def test_parts_that_differ_and_tokens_of_two_images_are_misshapen(way, changed, problem, rows):
    encoder = rows[LAYOUTS[way]]
    file = as_file(way, drawn(encoder))
    assert file.keys() >= changed.keys()
    arrays = {
        name: StoredArray(a.shape, a.dtype, lambda: None) for name, a in (file | changed).items()
    }
    assert list(weights.fits(encoder, arrays)[0].lines()) == [f"  misshapen: {problem}"]


def test_another_square_grid_of_positions_is_taken_and_resampled(rows, tmp_path, notices):
    encoder = rows["Virchow2"]
    wide = drawn(encoder)
    rng = np.random.default_rng(0)
    for tokens, taken in ((5 + 36, True), (5 + 37, False), (5, False), (4, False)):
        wide["params/position_embedding"] = rng.normal(size=(tokens, 8)).astype("f")
        path = tmp_path / f"{tokens}.safetensors"
        path.write_bytes(made_files.safetensors(as_file("timm", wide)))
        if taken:
            variables = weights.load("Virchow2", path)
            images = np.full((1, 28, 28, 3), 99, np.uint8)
            assert np.isfinite(encoder.descriptors(variables, images)).all()
        else:
            with pytest.raises(InputError, match="misshapen: params/position_embedding"):
                weights.load("Virchow2", path)
    text = "is (41, 8), where Virchow2 is expected to have (21, 8): it is resampled"
    assert [notice for notice in notices if text in notice]


def test_rows_have_the_arrays_that_timm_and_transformers_give_the_same_networks():
    """Names and shapes at depth 2, made by tests/encoders/make_vit_names.py."""
    text = (Path(__file__).parent / "vit_names.json").read_text()
    for name, shapes in json.loads(text).items():
        row = encoders.get(name)
        row = dataclasses.replace(row, module=row.module.clone(depth=2))
        arrays = {n: StoredArray(tuple(s), np.dtype("f4"), lambda: None) for n, s in shapes.items()}
        fit = weights.fits(row, arrays)[0]
        assert not fit.problems, (name, list(fit.lines()))
        assert fit.layout in row.layouts


def test_rows_have_the_parameters_of_the_published_files():
    for name, gigabytes in SIZES.items():
        shapes = weights.shapes(encoders.get(name))
        held = 4 * sum(map(math.prod, shapes.values())) / 1e9
        assert held == pytest.approx(gigabytes, rel=0.004), name
    published = [row for row in encoders.ENCODERS.values() if row.published]
    assert len({row.published.repository for row in published}) == len(published) == 27
    for row in published:
        assert row.native.input_size % row.module.patch == 0
        assert all(tap.signed and not tap.stride for tap in row.outputs)
        assert all(isinstance(layout, Layout) for layout in row.layouts)
        assert len(weights.shapes(row)) == len(set(weights.shapes(row)))


def test_the_guide_has_the_table():
    page = (ROOT / "docs" / "guide" / "encoders.md").read_text()
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    published = {row.name: row for row in encoders.ENCODERS.values() if row.published}
    assert list(lines) == list(published)
    gates = {"": "", "access is granted on request": "on request"}
    for name, row in published.items():
        millions = sum(map(math.prod, weights.shapes(row).values())) / 1e6
        tokens = {1: "class", 2: "class, mean of patches"}[len(row.outputs)]
        cells = [cell.strip() for cell in lines[name].split("|")[2:-1]]
        assert f"]({row.published.address}), `{row.published.files[0]}`" in cells[0]
        assert ("NC" in cells[1]) == bool(row.published.terms)
        assert cells[2] == gates.get(row.published.gate, "conditions")
        assert cells[3:5] == [f"{millions:.0f}", f"{row.width}: {tokens}"]
        assert cells[5].startswith("224")
        assert cells[5].endswith(row.native.resize_filter)


def test_the_row_of_the_guide_is_one_of_uni():
    page = (ROOT / "docs" / "guide" / "encoders.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    row = dataclasses.replace(names["ENCODER"], name="UNI", outputs=encoders.get("UNI").outputs)
    assert row.module == encoders.get("UNI").module
    assert row.layouts == encoders.get("UNI").layouts
    assert row.last_block == encoders.get("UNI").last_block


@pytest.mark.slow
def test_a_large_file_loads_within_twice_its_size(tmp_path):
    """In a process of its own, whose other memory is not counted."""
    row = encoders.get("kaiko-B16")
    shapes = weights.shapes(row)
    flat = {name: np.full(shape, 0.5, "f") for name, shape in shapes.items()}
    file = as_file("timm", flat)
    for name, write in (("a.safetensors", made_files.safetensors), ("a.bin", made_files.pytorch)):
        (tmp_path / name).write_bytes(write(file))
        program = (
            "import resource, sys; from histojax.encoders import weights\n"
            "peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "weights.random('Lunit-S16', 0); before = peak()\n"
            f"weights.load('kaiko-B16', {str(tmp_path / name)!r}); print(peak() - before)"
        )
        done = python("-c", program)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 1.5 * (tmp_path / name).stat().st_size


# Where files are


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """Hugging Face's cache, empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


UNI2 = encoders.get("UNI2-h")


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
        "https://huggingface.co/MahmoodLab/UNI2-h and put it to FOLDER/UNI2-h/pytorch_model.bin",
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


def test_the_script_lists_encoders_their_terms_and_where_files_are(no_cache, tmp_path):
    path = tmp_path / "w" / "UNI2-h" / "pytorch_model.bin"
    put(path)
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


# Loaded


def test_the_published_file_is_taken_its_licence_told_and_its_recipe_recorded(
    rows, no_cache, tmp_path, notices, monkeypatch
):
    encoder, flat = rows["Virchow2"], drawn(rows["Virchow2"])
    path = tmp_path / "w" / "Virchow2" / "pytorch_model.bin"
    put(path)
    path.write_bytes(made_files.pytorch(as_file("timm", flat)))
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
    row = tiny("Virchow2")
    alone = dataclasses.replace(row, outputs=row.outputs[:1])
    recorded, other, of_another = (
        loaded_encoders.LoadedEncoder(encoder, {}, "file", "0" * 64).manifest(extraction, view)
        for encoder in (row, alone, tiny("UNI"))
    )
    mixing.claim(tmp_path, "Virchow2-0.5-28", recorded)
    store.write(tmp_path, "Virchow2-0.5-28", "a", np.zeros((1, 16), "f"))
    mixing.claim(tmp_path, "Virchow2-0.5-28", recorded)
    mixing.claim(tmp_path, "UNI-0.5-28", of_another)
    with pytest.raises(InputError, match=r"recipe\.taps: found \['class_token', 'patch_mean'\]"):
        mixing.claim(tmp_path, "Virchow2-0.5-28", other)
